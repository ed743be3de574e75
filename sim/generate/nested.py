"""One normal outcome of a plain nested trial: any number of visits, every level of the nesting with an SD of its own.

    y_jt = mean[arm, t] + district + village + village by visit_t + training group + participant_jt

This is the linear mixed model that parallel cluster trials, individually randomised trials and partially nested trials
are analysed with (Hooper et al. 2018, doi:10.1177/0962280217748339; Roberts & Roberts 2005,
doi:10.1191/1740774505cn076oa). SDs are on the scale of the effect: where that is the baseline SD, the squares of those
of district, village, village by visit, participant and residual add up to 1.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numba import njit
from pydantic import model_validator

from sim.parts import MODELS, Assumption, Part, refuse
from sim.quantities import Name, Percentage, PositiveSd, Sd
from sim.streams import Streams
from sim.trial import TRUTHS, Allocation, Arm, Contrast, Floats, Ints, Names, Outcome, Schedule


def _exactly(value: str) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "example"}


@MODELS.register("nested")
class NestedScores(Part):
    """Normal scores of one outcome at two visits or more. A component that is left out is absent.

    Where villages are not sampled as clusters, participants are taken to come from villages of their own: the variances
    of village and village by visit are in the participant and the residual, and everyone's variance stays what it is.
    The effect is the same in every trained arm. Windows and strata make no difference to these scores.
    """

    n_visit: ClassVar[int | None] = None
    can_reenact: ClassVar[bool] = False
    kind: Literal["nested"]
    outcome: Name
    effect_profile: dict[Name, Assumption[Percentage]] = {}
    """By visit between the baseline and the final one: share of the planned effect that is there."""
    change: dict[Name, Assumption[Sd]] = {}
    """By visit after the baseline: change since the baseline that happens in every arm; left out, none."""
    sd_district: Assumption[PositiveSd] | None = None
    sd_village: Assumption[PositiveSd] | None = None
    sd_village_by_visit: Assumption[PositiveSd] | None = None
    """What a village's effect at one visit has to itself."""
    sd_training_group: Assumption[PositiveSd] | None = None
    """In trained arms, at visits after the baseline."""
    sd_participant: Assumption[PositiveSd]
    """What a participant's scores have in common over visits."""
    sd_residual: Assumption[PositiveSd]
    sd_residual_trained: Assumption[PositiveSd] | None = None
    """In trained arms, at visits after the baseline; left out, as everywhere."""
    example = {
        "kind": "nested",
        "outcome": "cohesion",
        "effect_profile": {"post": _exactly("140%")},
        "change": {"post": _exactly("0.05 SD"), "six_months": _exactly("0.1 SD")},
        "sd_district": _exactly("0.1 SD"),
        "sd_village": _exactly("0.2 SD"),
        "sd_village_by_visit": _exactly("0.15 SD"),
        "sd_training_group": _exactly("0.2 SD"),
        "sd_participant": _exactly("0.6 SD"),
        "sd_residual": _exactly("0.7 SD"),
        "sd_residual_trained": _exactly("0.8 SD"),
    }

    @model_validator(mode="after")
    def _scores_vary(self) -> NestedScores:
        for name in ("sd_residual", "sd_residual_trained"):
            if getattr(self, name) is not None and not self.sd(name) > 0:
                raise refuse("found 0 SD; it must be above 0 SD", name, "value")
        return self

    @property
    def outcomes(self) -> tuple[str]:
        return (self.outcome,)

    def sd(self, component: str) -> float:
        """The SD of a component, such as `sd_village`; 0 if it is left out."""
        given = getattr(self, component)
        return float(given.value) if given is not None else 0.0

    # ---- variances --------------------------------------------------------------------------------------------

    def participant_covariance(self, n_visit: int, with_village: bool, is_trained: bool) -> Floats:
        """(T, T) covariance over visits of what participants have to themselves."""
        village = 0.0 if with_village else self.sd("sd_village") ** 2
        by_visit = 0.0 if with_village else self.sd("sd_village_by_visit") ** 2
        residual = np.full(n_visit, self.sd("sd_residual") ** 2)
        if is_trained and self.sd_residual_trained is not None:
            residual[1:] = self.sd("sd_residual_trained") ** 2
        return self.sd("sd_participant") ** 2 + village + np.diag(residual + by_visit)

    def participant_factor(self, n_visit: int, with_village: bool) -> Floats:
        """(2, T, T) lower Cholesky factors of the participants' covariance; 0 = untreated, 1 = trained arms."""
        covariance = [self.participant_covariance(n_visit, with_village, is_trained) for is_trained in (False, True)]
        return np.asarray(np.linalg.cholesky(np.array(covariance)))

    def covariance(self, n_visit: int, with_village: bool, is_trained: bool) -> Floats:
        """(T, T) covariance of one participant's scores about their expectation."""
        after = (np.arange(n_visit) > 0) * is_trained * self.sd("sd_training_group")
        total = self.participant_covariance(n_visit, with_village, is_trained) + np.outer(after, after)
        total += self.sd("sd_district") ** 2
        if with_village:
            total += self.sd("sd_village") ** 2 + self.sd("sd_village_by_visit") ** 2 * np.eye(n_visit)
        return np.asarray(total)

    # ---- means ------------------------------------------------------------------------------------------------

    def means(self, names: Names, effect: Floats, arms: tuple[Arm, ...]) -> Floats:
        """(2, A, T) expected scores by truth, arm and visit. effect : (1,) planned effect at the final visit."""
        change = [self.change[visit].value if self.change else 0.0 for visit in names.visit[1:]]
        profile = [self.effect_profile[visit].value for visit in names.visit[1:-1]]
        mean = np.zeros((len(TRUTHS), len(arms), len(names.visit)))
        mean[:, :, 1:] = change
        mean[TRUTHS.index("alternative"), [arm.is_trained for arm in arms], 1:] += float(effect[0]) * np.array(
            [*profile, 1.0]
        )
        return mean

    def effect_components(
        self,
        names: Names,
        effect: Floats,
        arm: Arm,
        arms: tuple[Arm, ...],
        *,
        has_villages: bool = False,
        dose: Floats | None = None,
    ) -> dict[str, Floats | float]:
        """What an arm's mean at the final visit differs by from the same people untreated; see estimands."""
        del names, arms, has_villages, dose
        return {"planned": effect} if arm.is_trained else {}

    def final_change(self, names: Names) -> float:
        """Change from baseline to the final visit that happens with or without training."""
        return self.change[names.visit[-1]].value if self.change else 0.0

    @property
    def final_inflation(self) -> float:
        """Nobody's report is inflated."""
        return 0.0

    def window_shift_difference(self, names: Names, allocation: Allocation, schedule: Schedule) -> float:
        """Windows do not shift these scores."""
        del names, allocation, schedule
        return 0.0

    def buffering_difference(self, names: Names, allocation: Allocation, schedule: Schedule) -> float:
        """Nothing is shifted, so nothing is buffered."""
        del names, allocation, schedule
        return 0.0

    def expected_dose(self, allocation: Allocation, schedule: Schedule) -> Floats:
        """(A,) 1 in trained arms, where everyone attends, and 0 in the others."""
        del schedule
        return np.array([float(arm.is_trained) for arm in allocation.arms])

    def points(self) -> dict[str, tuple[float, float]]:
        """Nothing is declared in points."""
        return {}

    # ---- draws ------------------------------------------------------------------------------------------------

    def generate(
        self,
        names: Names,
        effect: Floats,
        allocation: Allocation,
        schedule: Schedule,
        streams: Streams,
        replicate: Ints,
    ) -> Outcome:
        """Scores of R replicates of one realisation under both truths. effect : (1,) planned effect at the final visit.

        The null is sharp: no effect for anyone; both truths share every draw. The draws, each a standard normal named
        by purpose, replicate and unit, absent components not at all: "district" d; "village" v, of 1 + T numbers the
        first for the village and one for each of its visits; "training group" g; "participant", T numbers z.
        Floating-point sums are taken in this order, with the products sd * draw and L the participants' factor:
        ((((mean + district) + village) + village by visit) + training group) + (L[t, 0] z[0] + L[t, 1] z[1] + ...).
        `deviation` is (score under the null - its mean) * (1 / marginal SD of the untreated).
        """
        del schedule
        n_visit, with_village = len(names.visit), allocation.has_villages
        covariance = np.array([self.covariance(n_visit, with_village, is_trained) for is_trained in (False, True)])
        sd = np.sqrt(np.diag(covariance[0]))
        score = np.empty((1, len(TRUTHS), len(replicate), allocation.n_participant, n_visit))
        deviation = np.empty(score.shape[2:])
        _assemble(
            self.means(names, effect, allocation.arms), *self._draws(allocation, streams, replicate, n_visit),
            self.participant_factor(n_visit, with_village),
            allocation.arm, allocation.district, allocation.village, allocation.training_group,
            allocation.is_trained.astype(np.int64), 1 / sd, score[0], deviation,
        )  # fmt: skip
        return Outcome(score, deviation, covariance / np.outer(sd, sd))

    def potential(
        self,
        names: Names,
        effect: Floats,
        allocation: Allocation,
        schedule: Schedule,
        streams: Streams,
        replicate: Ints,
        contrast: Contrast | None = None,
        *,
        everyone_attends: bool = False,
    ) -> Floats:
        """(2, 1, R, N, T) what everyone would score under the alternative in the control (0) and the treated arm (1).

        The draws are those of `generate`. contrast : left out, the declared one; without a control arm, 0 is untreated
        and 1 the own arm. In a trained arm a participant keeps the own training group; whoever is in none in the trial
        has none here either, and its expectation is 0. Everyone attends as it is.
        """
        del schedule, everyone_attends
        between, n_visit = contrast or allocation.contrast, len(names.visit)
        arms = (*allocation.arms, Arm("untreated", None))
        arm = np.repeat([[len(arms) - 1], [between.treated]], allocation.n_participant, axis=1).astype(np.int32)
        if between.control is None:
            arm[1] = allocation.arm
        else:
            arm[0] = between.control
        shared = self._draws(allocation, streams, replicate, n_visit)
        deviation = np.empty((len(replicate), allocation.n_participant, n_visit))
        score = np.empty((len(TRUTHS), 2, *deviation.shape))
        for version in range(2):
            is_trained = np.array([one.is_trained for one in arms])[arm[version]]
            _assemble(
                self.means(names, effect, arms), *shared, self.participant_factor(n_visit, allocation.has_villages),
                arm[version], allocation.district, allocation.village,
                np.where(is_trained, allocation.training_group, np.int32(-1)), is_trained.astype(np.int64),
                np.ones(n_visit), score[version], deviation,
            )  # fmt: skip
        return score[:, :1]

    def _draws(
        self, allocation: Allocation, streams: Streams, replicate: Ints, n_visit: int
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Effects of districts, villages (first the village, then each of its visits) and groups; people's normals."""

        def draws(purpose: str, name: Ints, sd: list[float]) -> Floats:
            """(R, U, len(sd)) effects of the units of one level."""
            if not any(sd):
                return np.zeros((len(replicate), len(name), len(sd)))
            return np.asarray(streams.normal(purpose, replicate, np.zeros_like(name), name, len(sd)) * np.array(sd))

        district = np.arange(allocation.district.max() + 1, dtype=np.int32)
        by_visit = [self.sd("sd_village_by_visit")] * n_visit
        return (
            draws("district", district, [self.sd("sd_district")]),
            draws("village", allocation.village_name, [self.sd("sd_village"), *by_visit]),
            draws("training group", allocation.group_name, [self.sd("sd_training_group")]),
            streams.normal("participant", replicate, allocation.cluster, allocation.member, n_visit),
        )


@njit(cache=True, error_model="numpy")
def _assemble(
    mean: Any, district: Any, village: Any, group: Any, person: Any, factor: Any, arm_of: Any, district_of: Any,
    village_of: Any, group_of: Any, is_trained: Any, inverse_sd: Any, score: Any, deviation: Any,
) -> None:  # fmt: skip
    """Adds means and effects up into score (2, R, N, T) and deviation (R, N, T)."""
    _, n_replicate, n_participant, n_visit = score.shape
    for r in range(n_replicate):
        for n in range(n_participant):
            a, d, v, g = arm_of[n], district_of[n], village_of[n], group_of[n]
            for t in range(n_visit):
                own = 0.0
                for s in range(t + 1):
                    own += factor[is_trained[n], t, s] * person[r, n, s]
                for truth in range(2):
                    total = mean[truth, a, t] + district[r, d, 0]
                    if v >= 0:
                        total += village[r, v, 0]
                        total += village[r, v, 1 + t]
                    if g >= 0 and t > 0:
                        total += group[r, g, 0]
                    score[truth, r, n, t] = total + own
                deviation[r, n, t] = (score[1, r, n, t] - mean[1, a, t]) * inverse_sd[t]
