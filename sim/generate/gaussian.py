"""Correlated normal scores: strata, districts, villages, training groups, participants and visits, with their effect.

Scores are in baseline standard deviations. Of the total variance of 1 at every visit, `icc_district` lies between
districts and, where villages are sampled as clusters, `icc_village` between villages, of which the share `cac` is the
same at every visit (the rest is a village-by-visit effect). What remains belongs to the participant, with whatever
covariance over visits makes the declared correlations true. Training groups add their variance to that, in trained
arms after the training only (partial nesting).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numba import njit
from pydantic import Field, model_validator

from sim.generate.components import FINAL, N_VISIT, VarianceInputs, components, participant_covariance
from sim.parts import MODELS, Assumption, Part, refuse
from sim.quantities import Correlation, Icc, Name, PositiveSd, Sd, Share
from sim.streams import Streams
from sim.trial import TRUTHS, Allocation, Arm, Floats, Ints, Names, Outcome, Schedule


def _exactly(value: float | str) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "example"}


class OutcomeModel(Part):
    """What differs between outcomes."""

    correlation_baseline_final: Assumption[Correlation]
    icc_village: Assumption[Icc]


@MODELS.register("gaussian")
class GaussianScores(Part):
    """Normal scores of K correlated outcomes at three visits: baseline, right after training, final."""

    n_visit: ClassVar[int | None] = N_VISIT
    can_reenact: ClassVar[bool] = True
    kind: Literal["gaussian"]
    outcomes: dict[Name, OutcomeModel] = Field(min_length=1)
    correlation_baseline_post: Assumption[Correlation]
    correlation_post_final: Assumption[Correlation]
    correlation_outcomes: Assumption[Correlation]
    """Between any two outcomes at the baseline, in every component of variance."""
    correlation_changes: Assumption[Correlation]
    """Between the changes, baseline to final, of two outcomes; mean over the pairs of outcomes. Lower than
    `correlation_outcomes`, it makes the outcomes correlate less after the baseline as well."""
    icc_district: Assumption[Icc]
    icc_training_group: Assumption[Icc]
    """Share of a trained participant's variance, within district and village, that the training group shares."""
    cac: Assumption[Annotated[Correlation, Field(ge=0)]]
    """Cluster autocorrelation: correlation of a village's effect between two visits."""
    retention: Assumption[Annotated[Share, Field(gt=0)]]
    """Share of the gain right after training that is left at the final visit."""
    untreated_change: Assumption[Sd]
    """Change from baseline to the final visit that happens with or without training."""
    baseline_difference: dict[str, Assumption[Sd]]
    """By stratum."""
    effect_modification: dict[str, Assumption[Sd]]
    """By stratum, added to the effect at the final visit."""
    format_effect: dict[str, Assumption[Sd]]
    """By format, added to the effect at the final visit."""
    sd_effect_district: Assumption[PositiveSd]
    attendance: Assumption[Share]
    """Share of trained participants who attend enough to gain; the others gain nothing."""
    contamination: Assumption[Share]
    """Share of the trained arms' effect that leaks to untreated participants."""
    demand_inflation: Assumption[Sd]
    """Added to the self-report of trained participants after the training, without any true change."""
    window_shift: dict[str, dict[str, Assumption[Sd]]] = {}
    """By window, then stratum: shift of a score measured inside the window."""
    example = {
        "kind": "gaussian",
        "outcomes": {
            "cohesion": {"correlation_baseline_final": _exactly(0.4), "icc_village": _exactly(0.10)},
            "resilience": {"correlation_baseline_final": _exactly(0.6), "icc_village": _exactly(0.05)},
        },
        "correlation_baseline_post": _exactly(0.6),
        "correlation_post_final": _exactly(0.5),
        "correlation_outcomes": _exactly(0.35),
        "correlation_changes": _exactly(0.3),
        "icc_district": _exactly(0.02),
        "icc_training_group": _exactly(0.06),
        "cac": _exactly(0.8),
        "retention": _exactly("60%"),
        "untreated_change": _exactly("0.15 SD"),
        "baseline_difference": {"survivors": _exactly("0 SD"), "released_perpetrators": _exactly("0 SD")},
        "effect_modification": {"survivors": _exactly("0 SD"), "released_perpetrators": _exactly("0 SD")},
        "format_effect": {"mixed": _exactly("0 SD"), "separate": _exactly("-0.1 SD")},
        "sd_effect_district": _exactly("0.1 SD"),
        "attendance": _exactly("90%"),
        "contamination": _exactly("5%"),
        "demand_inflation": _exactly("0.1 SD"),
        "window_shift": {
            "commemoration": {"survivors": _exactly("-0.2 SD"), "released_perpetrators": _exactly("-0.1 SD")}
        },
    }

    @model_validator(mode="after")
    def _covariances_exist(self) -> GaussianScores:
        for with_village, where in ((False, "without village clusters"), (True, "with villages as clusters")):
            given = self._declared(with_village)
            smallest = {
                name: float(np.linalg.eigvalsh(participant_covariance(given, k))[0])
                for k, name in enumerate(self.outcomes)
            }
            bad = [name for name, eigenvalue in smallest.items() if eigenvalue <= 1e-9]
            if bad:
                raise refuse(
                    f"outcome {', '.join(bad)}: the correlations over visits and the ICCs leave no positive definite "
                    f"covariance for the participants {where} (smallest eigenvalue {min(smallest.values()):.3g}): "
                    "lower the ICCs or bring the three correlations closer together",
                    "outcomes", *bad[: len(bad) == 1],
                )  # fmt: skip
            try:
                components(given)
            except np.linalg.LinAlgError:
                raise refuse(
                    f"correlation_changes {self.correlation_changes.value} cannot be had together with "
                    f"correlation_outcomes {self.correlation_outcomes.value}: bring the two closer together",
                    "correlation_changes", "value",
                ) from None  # fmt: skip
        return self

    def _declared(self, with_village: bool) -> VarianceInputs:
        return VarianceInputs(
            baseline_final=tuple(o.correlation_baseline_final.value for o in self.outcomes.values()),
            icc_village=tuple(with_village * o.icc_village.value for o in self.outcomes.values()),
            baseline_post=self.correlation_baseline_post.value,
            post_final=self.correlation_post_final.value,
            outcomes=self.correlation_outcomes.value,
            changes=self.correlation_changes.value,
            icc_district=self.icc_district.value,
            icc_training_group=self.icc_training_group.value,
            cac=self.cac.value,
        )

    def covariance(self, with_village: bool, is_trained: bool) -> Floats:
        """(K, T, K, T) covariance of one participant's scores about their expectation."""
        return np.asarray(components(self._declared(with_village)).covariance[int(is_trained)])

    # ---- means ------------------------------------------------------------------------------------------------

    def arm_effect(self, effect: Floats, arm: Arm, names: Names, stratum: int | None = None) -> Floats:
        """(K,) effect at the final visit on those of a trained arm who attend; over strata unless one is named."""
        weights = np.array(names.share) if stratum is None else np.eye(len(names.share))[stratum]
        modification = sum(w * self.effect_modification[s].value for w, s in zip(weights, names.stratum, strict=True))
        assert arm.format is not None
        return np.asarray(effect + self.format_effect[arm.format].value + modification)

    def leaked_effect(self, effect: Floats, arms: tuple[Arm, ...], names: Names) -> Floats:
        """(K,) what untreated participants gain from the trained arms around them."""
        trained = [self.arm_effect(effect, arm, names) for arm in arms if arm.is_trained]
        return np.asarray(self.contamination.value * self.attendance.value * np.mean(trained, axis=0))

    def effect_components(
        self, names: Names, effect: Floats, arm: Arm, arms: tuple[Arm, ...]
    ) -> dict[str, Floats | float]:
        """What an arm's mean at the final visit differs by from the same people untreated; see estimands."""
        if not arm.is_trained:
            return {"contamination": self.leaked_effect(effect, arms, names)}
        assert arm.format is not None
        full, by_format = self.arm_effect(effect, arm, names), self.format_effect[arm.format].value
        return {
            "planned": effect,
            "format": by_format,
            "modification": full - effect - by_format,
            "attendance": (self.attendance.value - 1) * full,
        }

    def final_change(self, names: Names) -> float:
        """Change from baseline to the final visit that happens with or without training."""
        del names
        return self.untreated_change.value

    @property
    def final_inflation(self) -> float:
        """What the self-report of the trained adds at the final visit without any true change."""
        return self.demand_inflation.value

    def _means(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T) what is expected of each participant under either truth, without any effect of training."""
        mean = self._window_shifts(names, allocation, schedule)
        mean += np.array([self.baseline_difference[s].value for s in names.stratum])[allocation.stratum, None]
        mean[:, FINAL] += self.untreated_change.value
        return mean

    def _window_shifts(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T) how far the windows shift each score that is measured inside them."""
        total = np.zeros((allocation.n_participant, N_VISIT))
        for w, window in enumerate(names.window):
            shift = np.array([self.window_shift[window][s].value for s in names.stratum])
            total += schedule.exposure[w] * shift[allocation.stratum, None]
        return total

    def window_shift_difference(self, names: Names, allocation: Allocation, schedule: Schedule) -> float:
        """Treated minus control arm in the mean final-visit shift that the windows cause; 0 without a control arm."""
        treated, control = allocation.contrast.treated, allocation.contrast.control
        if control is None:
            return 0.0
        shift = self._window_shifts(names, allocation, schedule)[:, FINAL]
        return float(shift[allocation.arm == treated].mean() - shift[allocation.arm == control].mean())

    def _gains(self, names: Names, effect: Floats, allocation: Allocation) -> tuple[Floats, Floats]:
        """(N, K) gain at the final visit of those who attend, and of the untreated (0 in the other's rows)."""
        n, k = allocation.n_participant, len(effect)
        attended, leaked = np.zeros((n, k)), np.zeros((n, k))
        leak = self.leaked_effect(effect, allocation.arms, names)
        for number, arm in enumerate(allocation.arms):
            for stratum in range(len(names.stratum)):
                rows = (allocation.arm == number) & (allocation.stratum == stratum)
                if arm.is_trained:
                    attended[rows] = self.arm_effect(effect, arm, names, stratum)
                else:
                    leaked[rows] = leak
        return attended, leaked

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
        """Scores of R replicates of one realisation under both truths. effect : (K,) planned effect at the final visit.

        The null is sharp: no gain for anyone, anywhere, and no demand inflation; training groups, districts,
        villages and windows stay as they are, and both truths share every draw.
        """
        k, n = len(self.outcomes), allocation.n_participant
        part = components(self._declared(allocation.has_villages))
        alike = part.mixing[0].T

        def units(purpose: str, name: Ints, n_draw: int) -> Floats:
            return streams.normal(purpose, replicate, np.zeros_like(name), name, n_draw)

        district = np.arange(allocation.district.max() + 1, dtype=np.int32)
        n_village = len(allocation.village_name)
        place = np.sqrt(self.icc_district.value) * units("district", district, k) @ alike
        variation = self.sd_effect_district.value * units("district effect", district, k) @ alike
        group = units("training group", allocation.group_name, k) @ alike * part.sd_training_group
        village = units("village", allocation.village_name, k * (N_VISIT + 1))
        village = village.reshape(len(replicate), n_village, N_VISIT + 1, k)
        village = village @ alike * part.sd_village
        village = np.sqrt(self.cac.value) * village[:, :, :1] + np.sqrt(1 - self.cac.value) * village[:, :, 1:]
        people = (replicate, allocation.cluster, allocation.member)
        person = streams.normal("participant", *people, k * N_VISIT)
        attended = streams.uniform("attendance", *people, 1)[..., 0] < self.attendance.value
        gain, leaked = self._gains(names, effect, allocation)
        score = np.empty((k, len(TRUTHS), len(replicate), n, N_VISIT))
        deviation = np.empty((len(replicate), n, N_VISIT))
        profile = np.array([0.0, 1 / self.retention.value, 1.0])
        _assemble(
            person, part.mixing, part.factor, place, variation, village, group, allocation.district,
            allocation.village, allocation.training_group, allocation.is_trained, attended,
            self._means(names, allocation, schedule), gain, leaked, self.demand_inflation.value, profile,
            1 / part.deviation_sd, score, deviation,
        )  # fmt: skip
        return Outcome(score, deviation, part.deviation_covariance)


@njit(cache=True, error_model="numpy")
def _assemble(
    person: Any, mixing: Any, factor: Any, place: Any, variation: Any, village: Any, group: Any, district_of: Any,
    village_of: Any, group_of: Any, is_trained: Any, attended: Any, mean: Any, gain: Any, leaked: Any, demand: Any,
    profile: Any, inverse_sd: Any, score: Any, deviation: Any,
) -> None:  # fmt: skip
    """Adds draws, means and gains up into score (K, 2, R, N, T) and deviation (R, N, T)."""
    n_outcome, _, n_replicate, n_participant, n_visit = score.shape
    innovation = np.empty((n_visit, n_outcome))
    for r in range(n_replicate):
        for n in range(n_participant):
            for t in range(n_visit):
                deviation[r, n, t] = 0.0
                for k in range(n_outcome):
                    total = 0.0
                    for other in range(k + 1):
                        total += mixing[t, k, other] * person[r, n, t * n_outcome + other]
                    innovation[t, k] = total
            d, v, g = district_of[n], village_of[n], group_of[n]
            for k in range(n_outcome):
                for t in range(n_visit):
                    noise = place[r, d, k]
                    for s in range(t + 1):
                        noise += factor[k, t, s] * innovation[s, k]
                    if v >= 0:
                        noise += village[r, v, t, k]
                    if g >= 0 and t > 0:
                        noise += group[r, g, k]
                    deviation[r, n, t] += noise * inverse_sd[t] / n_outcome
                    without = mean[n, t] + noise
                    score[k, 1, r, n, t] = without
                    if t > 0:
                        without += profile[t] * leaked[n, k]
                        if is_trained[n]:
                            without += demand
                            if attended[r, n]:
                                without += profile[t] * (gain[n, k] + variation[r, d, k])
                    score[k, 0, r, n, t] = without
