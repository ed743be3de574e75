"""What a scenario declares about correlated scores at three visits, and what of it cannot be.

Scores are in baseline standard deviations. Of the total variance of 1 at every visit, `icc_district` lies between
districts and, where villages are sampled as clusters, `icc_village` between villages, of which the share `cac` is the
same at every visit (the rest is a village-by-visit effect). What remains belongs to the participant, with whatever
covariance over visits makes the declared correlations true. Training groups and facilitators add their variance to
that, in trained arms after the training only (partial nesting).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from sim.generate.components import OwnPartImpossible, VarianceInputs, components, participant_covariance
from sim.generate.distribution import Errors, NormalErrors
from sim.generate.response import Continuous, Response
from sim.parts import Assumption, Part, refuse, refuse_all
from sim.quantities import Correlation, Icc, Name, PositiveSd, Sd, Share


def _exactly(value: float | str) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "example"}


class OutcomeModel(Part):
    """What differs between outcomes."""

    correlation_baseline_final: Assumption[Correlation]
    icc_village: Assumption[Icc]
    reliability: Assumption[Annotated[Correlation, Field(gt=0)]] | None = None
    """Of the instrument that the trial uses."""
    reliability_planned: Assumption[Annotated[Correlation, Field(gt=0)]] | None = None
    """Of the instrument to whose baseline SD the scores, effects and correlations belong."""
    response: Response = Continuous(kind="continuous")
    """The scale that people answer on."""

    @property
    def measurement_error(self) -> float:
        """Variance that the trial's instrument adds to the planned one's; below 0 if it measures better.

        The true scores have the variance `reliability_planned`; divided by the new reliability it is the variance of
        the new scores, so that planned / new - 1 comes on top of 1, independent over visits and outcomes (Spearman
        1904, doi:10.2307/1412159; Lord & Novick 1968, Statistical Theories of Mental Test Scores, section 3.4).
        """
        if self.reliability is None or self.reliability_planned is None:
            return 0.0
        return self.reliability_planned.value / self.reliability.value - 1


class DeclaredScores(Part):
    """The numbers of the outcome model; what they mean for the scores is in `GaussianScores`."""

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
    attendance: Assumption[Share] | None = None
    """Share of trained participants who attend enough to gain; the others gain nothing. Or else, day by day:"""
    attendance_per_day: Assumption[Share] | None = None
    """Probability that a trained participant attends a training day to which everyone can come."""
    attendance_correlation: Assumption[Annotated[Correlation, Field(ge=0)]] | None = None
    """Of a participant's latent attendance (probit scale) between two training days."""
    gain_by_days: dict[str, Assumption[Share]] | None = None
    """By number of days attended, from "1" to all of them: share of the gain; who attends none gains nothing."""
    contamination: Assumption[Share]
    """Share of the trained arms' effect that leaks to untreated participants of the same village or, where villages
    are not randomised, of the same district."""
    contamination_between_villages: Assumption[Share] | None = None
    """The same where villages are randomised, so that the untreated live in villages of their own; left out, as
    `contamination`."""
    demand_inflation: Assumption[Sd]
    """Added to the self-report of trained participants after the training, without any true change."""
    window_shift: dict[str, dict[str, Assumption[Sd]]] = {}
    """By window, then stratum: shift of a score measured inside the window."""
    window_buffering: Assumption[Share] | None = None
    """Share of that shift which the training takes away, from whoever attends, at visits after the training. It is an
    effect of the training, under the null there is none."""
    icc_facilitator: Assumption[Icc] | None = None
    """Share of a trained participant's variance, within district and village, that everyone trained by one team of
    facilitators shares."""
    errors: Errors = NormalErrors(kind="normal")
    """How what participants have to themselves is distributed; means and covariances do not depend on it."""
    null: Literal["sharp", "weak"] = "sharp"
    """Sharp: no effect on anyone. Weak: none on average, but it still varies between districts."""
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
    def _no_contradictions(self) -> DeclaredScores:
        if found := [*self._attendance_problems(), *self._share_problems(), *self._reliability_problems()]:
            raise refuse_all(found)
        return self

    def _attendance_problems(self) -> Iterator[PydanticCustomError]:
        """Not exactly one of the two forms, or half of one."""
        by_day = ("attendance_per_day", "attendance_correlation", "gain_by_days")
        given = [name for name in by_day if getattr(self, name) is not None]
        if self.attendance is not None and given:
            yield refuse(f"give either attendance or {', '.join(by_day)}, not both", given[0])
        elif self.attendance is None and not given:
            yield refuse(f"is missing; give it or, day by day, {', '.join(by_day)}", "attendance")
        elif self.attendance is None:
            yield from (refuse("is missing; attendance by day needs it", name) for name in by_day if name not in given)
        if self.gain_by_days is not None:
            wanted = [str(day) for day in range(1, len(self.gain_by_days) + 1)]
            if not wanted or sorted(self.gain_by_days) != sorted(wanted):
                yield refuse('the days must be "1", "2" and so on, none left out', "gain_by_days")

    def _share_problems(self) -> Iterator[PydanticCustomError]:
        """Shares and switches that contradict one another or say nothing."""
        between, facilitator = self.contamination_between_villages, self.icc_facilitator
        if between is not None and between.value > self.contamination.value:
            message = "more leaks between villages than to the neighbours: it must be at most `contamination`"
            yield refuse(message, "contamination_between_villages", "value")
        if facilitator is not None and facilitator.value + self.icc_training_group.value >= 1:
            yield refuse("with icc_training_group it must be below 1", "icc_facilitator", "value")
        if self.window_buffering is not None and not self.window_shift:
            yield refuse("has no effect: there is no window_shift to buffer", "window_buffering")
        if self.null == "weak" and self.sd_effect_district.value == 0:
            yield refuse("'weak' has no effect: sd_effect_district is 0, so that the effect varies nowhere", "null")

    def _reliability_problems(self) -> Iterator[PydanticCustomError]:
        """Half a pair, and correlations over visits that no instrument of that reliability could show."""
        over_visits = {"correlation_baseline_post": self.correlation_baseline_post.value,
                       "correlation_post_final": self.correlation_post_final.value}  # fmt: skip
        for name, outcome in self.outcomes.items():
            planned = outcome.reliability_planned
            if (planned is None) != (outcome.reliability is None):
                missing = "reliability" if planned is not None else "reliability_planned"
                yield refuse("is missing; the two reliabilities are given together or not at all",
                             "outcomes", name, missing)  # fmt: skip
            elif planned is not None:
                own = {**over_visits, "correlation_baseline_final": outcome.correlation_baseline_final.value}
                if above := [f"{key} {value:g}" for key, value in own.items() if value > planned.value]:
                    message = f"{planned.value:g} is below {', '.join(above)}: scores cannot correlate more over visits"
                    yield refuse(message, "outcomes", name, "reliability_planned", "value")

    @model_validator(mode="after")
    def _covariances_exist(self) -> DeclaredScores:
        for with_village, where in ((False, "without village clusters"), (True, "with villages as clusters")):
            given = self.declared(with_village)
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
            except OwnPartImpossible:
                cause = ["errors"] if not any(given.measurement_error) else ["outcomes"]
                raise refuse(
                    "no scores have the declared correlations together with this skewness and these reliabilities: "
                    "bring the skewness closer to 0 or the trial's reliability closer to the planned one",
                    *cause,
                ) from None
            except np.linalg.LinAlgError:
                raise refuse(
                    f"correlation_changes {self.correlation_changes.value} cannot be had together with "
                    f"correlation_outcomes {self.correlation_outcomes.value}: bring the two closer together",
                    "correlation_changes", "value",
                ) from None  # fmt: skip
        return self

    def declared(self, with_village: bool) -> VarianceInputs:
        error = [o.measurement_error for o in self.outcomes.values()]
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
            icc_facilitator=0.0 if self.icc_facilitator is None else self.icc_facilitator.value,
            measurement_error=tuple(error) if any(error) else (),
            skewness=self.errors.skewness_value,
        )
