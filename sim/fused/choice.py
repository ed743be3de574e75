"""Which analyses of which trials are drawn and fitted in lanes, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.analyses.lmm import Lmm
from sim.analyses.matrices import cluster_terms, strata_and_districts
from sim.analyses.mixed_ancova import MixedAncova
from sim.fused.conditional import reject_probability
from sim.fused.trials import Answer, Hot, Population, Scores, at_final_visit, over_visits
from sim.generate.nested import NestedScores
from sim.missingness.dropout import Dropout
from sim.streams import Streams
from sim.trial import TRUTHS, Allocation, Fit, Floats, Ints, Names


@dataclass(frozen=True)
class Route:
    """How one analysis of one realised trial is computed.

    hot : the trial in lanes, None = scores are stored and the generic kernel fits them.  why : the reason for that.
    effect : (2,) by truth, true value of the contrast.  counted : why rejections must be counted, empty if the
    conditional probability holds.  approximate : whether it does as an approximation only.
    """

    hot: Hot | None
    why: str
    effect: Floats
    counted: str
    approximate: bool

    def analyse(self, analysis: Any, replicate: Ints, hypotheses: Any) -> tuple[Fit, Answer]:
        """The fits of both truths, (2 R,) in the order of TRUTHS, and the answer they come from.

        The effect moves scores along columns of the fixed effects: residuals, standard errors and df are the same under
        both truths, and one fit serves both.
        """
        assert self.hot is not None
        answer = self.hot.fit(replicate, analysis.df, analysis.boundary)
        twice = len(TRUTHS)
        extra = {}
        if hypotheses.estimator == "conditional" and not self.counted:
            each = [reject_probability(answer, effect, hypotheses.alpha, hypotheses.sides) for effect in self.effect]
            extra["reject_probability"] = np.concatenate(each)
        return Fit(
            (answer.estimate + self.effect[:, None]).ravel(),
            np.tile(answer.standard_error, twice),
            np.tile(answer.df, twice),
            np.tile(answer.status, twice),
            extra,
        ), answer


def choose(
    names: Names,
    model: Any,
    missingness: Any,
    effect: Floats,
    allocation: Allocation,
    holds_every_visit: bool,
    streams: Streams,
    analysis: Any,
) -> Route:
    """The route of one analysis of one realised trial.

    holds_every_visit : whether that is so on every calendar of the design: all of them take the same route.
    """
    why = _not_hot(model, missingness, allocation, analysis)
    if not why and not holds_every_visit:
        why = "appointments may be missed until the window of a visit closes"
    if why:
        return Route(None, why, np.zeros(len(TRUTHS)), why, False)
    assert allocation.contrast.control is not None  # both analyses need one
    weight = {allocation.contrast.treated: 1.0, allocation.contrast.control: -1.0}
    mean = model.means(names, effect, allocation.arms)[:, :, -1]
    value = np.array([sum(w * mean[truth, arm] for arm, w in weight.items()) for truth in range(len(TRUTHS))])
    people, scores = _people(allocation), _scores(names, model, missingness, allocation)
    if isinstance(analysis, Lmm):
        terms = set() if not allocation.has_villages else {"village"}
        if allocation.has_villages and analysis.village_by_visit:
            terms.add("village by visit")
        if analysis.has_random_districts(allocation):
            terms.add("district")
        hot = over_visits(people, scores, streams, weight, baseline=analysis.baseline, terms=frozenset(terms))
    else:
        random = "village" if allocation.has_villages else "training group"
        hot = at_final_visit(people, scores, streams, weight, random=random, by_arm=analysis.residual_by_arm)
    counted = _not_conditional(model, allocation, analysis)
    return Route(hot, "", value - value[TRUTHS.index("null")], counted, missingness.log_odds_per_sd.value != 0)


def _not_hot(model: Any, missingness: Any, allocation: Allocation, analysis: Any) -> str:
    """Why an analysis is not done in lanes; empty if it is."""
    if not isinstance(analysis, Lmm | MixedAncova):
        return f"analysis kind `{analysis.kind}` has no kernel in lanes"
    if not isinstance(model, NestedScores):
        return f"scores of model kind `{model.kind}` are stored before they are analysed"
    if not isinstance(missingness, Dropout):
        return f"missingness kind `{missingness.kind}` may be intermittent"
    if analysis.method != "reml" or analysis.df == "between-within":
        return f"method `{analysis.method}` with df `{analysis.df}` has no kernel in lanes"
    has_district = isinstance(analysis, Lmm) and analysis.has_random_districts(allocation)
    if strata_and_districts(allocation, districts=not has_district).shape[1]:
        return "strata or districts are fixed effects"
    if has_district and not allocation.has_villages:
        return "districts cross the training groups"
    terms = cluster_terms(allocation)
    if terms.shape[1] > 1:
        return "a village is trained in several training groups"
    if isinstance(analysis, MixedAncova):
        if analysis.facilitator == "random":
            return "facilitator teams cross the arms' clusters"
        return "" if terms.shape[1] else "there is no cluster"
    if analysis.baseline == "covariate":
        return "baseline `covariate` fits the later visits only"
    if terms.shape[1] and not allocation.has_villages:
        return "training groups are random from the training on, not at the baseline"
    if model.sd_residual_trained is not None:
        return "the residual variance differs between the arms"
    return ""


def _not_conditional(model: Any, allocation: Allocation, analysis: Any) -> str:
    """Why the conditional rejection probability does not hold for an analysis in lanes; empty if it does.

    Districts need no term of their own here: where they are not random there is one, which the visits' means take up.
    """
    with_village = allocation.has_villages
    if with_village and model.sd("sd_training_group") > 0:
        return "training groups vary and the analysis has no such term"
    if isinstance(analysis, Lmm):
        if with_village and model.sd("sd_village_by_visit") > 0 and not analysis.village_by_visit:
            return "villages vary by visit and the analysis has no such term"
    elif with_village and (model.sd("sd_village") > 0 or model.sd("sd_village_by_visit") > 0):
        return "given the baseline scores, villages do not vary as the analysis says"
    elif model.sd_residual_trained is not None and not analysis.residual_by_arm:
        return "the residual variance differs between the arms and the analysis has one"
    return ""


def _people(allocation: Allocation) -> Population:
    """Participants by unit: those who share district, village, training group and arm."""
    key = np.stack([allocation.district, allocation.village, allocation.training_group, allocation.arm], axis=1)
    unit, of_participant, size = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(of_participant.ravel(), kind="stable")
    district, village, group, arm = unit.T
    trained = np.array([a.is_trained for a in allocation.arms])

    def name(number: Ints, names: Ints) -> Ints:
        return np.where(number >= 0, names[number], -1) if len(names) else np.full(len(number), -1)

    return Population(
        size.astype(np.int32), arm, district, name(village, allocation.village_name),
        name(group, allocation.group_name), trained[arm], allocation.cluster[order], allocation.member[order],
    )  # fmt: skip


def _scores(names: Names, model: NestedScores, missingness: Dropout, allocation: Allocation) -> Scores:
    n_visit, with_village = len(names.visit), allocation.has_villages
    covariance = np.array([model.covariance(n_visit, with_village, is_trained) for is_trained in (False, True)])
    sd = np.sqrt(np.diag(covariance[0]))
    intercept = [missingness.intercepts(names, one / np.outer(sd, sd)) for one in covariance]
    return Scores(
        participant=np.array([model.participant_covariance(n_visit, with_village, k) for k in (False, True)]),
        sd_district=model.sd("sd_district"),
        sd_village=model.sd("sd_village") * with_village,
        sd_village_by_visit=model.sd("sd_village_by_visit") * with_village,
        sd_group=model.sd("sd_training_group"),
        intercept=np.concatenate([np.full((2, 1), -np.inf), np.array(intercept)], axis=1),
        slope=missingness.log_odds_per_sd.value,
        seen=np.array([1.0, *(1 - missingness.loss[visit].value for visit in names.visit[1:])]),
        sd=sd,
    )
