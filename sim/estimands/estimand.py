"""What every estimand has: the five attributes of ICH E9(R1), and a value in closed form or from the trial's own draws.

Intercurrent events are training not attended, contamination, and leaving for good; an estimand says what is made of
each (ICH E9(R1), 2019, addendum on estimands and sensitivity analysis in clinical trials, sections A.3.2 and A.3.3).
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.parts import Part
from sim.trial import Absence, Allocation, Arm, Contrast, Floats, Names

COMPONENTS = ("planned", "format", "modification", "attendance", "contamination")
"""What a model says of an arm; `buffering` comes from the calendars."""


@dataclass(frozen=True)
class OnAverage:
    """What the calendars of a design make of its arms, on average.

    window : treated less control arm in the final visit's shift by the windows, as it would be without training.
    buffering : what training takes away from that shift.  dose : (A,) share of the gain that each arm has by attending;
    None where everyone can come to every training day.  has_villages : whether villages are sampled as clusters.
    """

    window: float = 0.0
    buffering: float = 0.0
    dose: Floats | None = None
    has_villages: bool = False


@dataclass(frozen=True)
class TrueValue:
    """The estimand's value and what it is made of, (K,) each, in baseline SDs.

    true_value = planned + format + modification + attendance + contamination + buffering.
    demand_inflation and untreated_change are in the observed difference (the latter only without a control arm) but
    not in the estimand; window is the difference that the commemoration windows make between the arms.
    """

    planned: Floats
    format: Floats
    modification: Floats
    attendance: Floats
    contamination: Floats
    buffering: Floats
    window: Floats
    true_value: Floats
    demand_inflation: Floats
    untreated_change: Floats

    def under_null(self) -> TrueValue:
        """The same under the sharp null: nobody gains and nobody inflates; what time and windows do stays."""
        nothing = np.zeros_like(self.true_value)
        return replace(
            self,
            planned=nothing,
            format=nothing,
            modification=nothing,
            attendance=nothing,
            contamination=nothing,
            buffering=nothing,
            true_value=nothing,
            demand_inflation=nothing,
        )


def declared_weight(names: Names, allocation: Allocation) -> Floats:
    """(N,) weights with which the strata have their declared shares, whoever of them was recruited."""
    n = np.bincount(allocation.stratum, minlength=len(names.share))
    share = np.where(n > 0, names.share, 0.0)
    return np.asarray((share / np.maximum(n, 1))[allocation.stratum])


def realised_inflation(reported: Floats, score: Floats, allocation: Allocation) -> Floats:
    """(K, R) what demand inflation adds to the difference of the contrast's arms at the final visit.

    reported : (K, R, N, T) scores of the trial itself.  score : (2, K, R, N, T) potential scores without inflation; in
    the own arm, with the attendance there was, they differ from `reported` by it alone. A ceiling takes part of it.
    """
    contrast, final = allocation.contrast, reported[..., -1]
    if contrast.control is None:
        return np.asarray((final - score[1, ..., -1]).mean(axis=-1))
    treated, control = ((final - score[turn, ..., -1])[..., allocation.arm == arm].mean(axis=-1)
                        for turn, arm in ((1, contrast.treated), (0, contrast.control)))  # fmt: skip
    return np.asarray(treated - control)


class Estimand(Part, ABC):
    """A mean difference of potential scores between the contrast's treated and control arm, over everyone allocated.

    An estimand differs from others by which potential scores it takes (`everyone_attends`) and what it makes of those
    who leave (`measured`).
    """

    @property
    def attributes(self) -> dict[str, str]:
        """The five attributes of ICH E9(R1) as text, for reports."""
        return {
            "treatment": "the treated arm of the contrast against its control arm; without one, against no training",
            "population": "everyone allocated, in all districts, strata in their declared shares",
            "variable": self.variable,
            "intercurrent events": self.intercurrent_events,
            "summary": "difference of mean potential scores, in baseline standard deviations",
        }

    @property
    def variable(self) -> str:
        """What is measured on each participant."""
        return "score at the final visit"

    @property
    def intercurrent_events(self) -> str:
        """What may happen after the allocation, and the strategy for it."""
        return (
            "training not attended, contamination, leaving: treatment policy (the score as it is, whoever attends or "
            "is seen); of those who die, the score they would have had"
        )

    @property
    def everyone_attends(self) -> bool:
        """Whether the potential scores are those of full attendance."""
        return False

    def heeds_leaving(self, missingness: Any) -> bool:
        """Whether it matters to the value who would leave: here only where leavers go on to score differently."""
        return bool(missingness.shifts_unseen)

    def measured(self, score: Floats, absence: Absence | None) -> Floats:
        """(2, K, R, N) the variable, from potential scores (2, K, R, N, T) and who would leave, None if no matter."""
        final = score[..., -1]
        return np.asarray(final if absence is None else final + absence.shift[:, None, ..., -1])

    def from_draws(self, model: Any, missingness: Any) -> bool:
        """Whether the value has no closed form under this outcome model and missingness."""
        del model, missingness
        return True

    def realised_value(self, names: Names, allocation: Allocation, score: Floats, absence: Absence | None) -> Floats:
        """(K, R) the estimand's value in these very draws, under the alternative: mean over all participants.

        score : (2, K, R, N, T) potential scores in either arm, with `everyone_attends` as it is here.  absence : who
        would leave in either, None where nobody's leaving matters. The strata have their declared shares. Its mean over
        replicates is the value that estimates are compared with; under a null the value is 0.
        """
        control, treated = self.measured(score, absence)
        return np.asarray(np.average(treated - control, axis=-1, weights=declared_weight(names, allocation)))

    def true_value(
        self, model: Any, names: Names, effect: Floats, arms: tuple[Arm, ...], contrast: Contrast, average: OnAverage
    ) -> TrueValue:
        """The closed form under an outcome model and a planned effect (K,); under the null every component is 0.

        Where `from_draws`, it is what the value would be if nobody left.
        """
        treated = arms[contrast.treated] if contrast.control is not None else None
        control = arms[contrast.control] if contrast.control is not None else None
        if treated is None:  # the mean over the arms of a study in which everyone is trained
            parts = [self._arm(model, names, effect, arm, arms, average) for arm in arms]
            value = {key: np.mean([p[key] for p in parts], axis=0) for key in parts[0]}
        else:
            assert control is not None
            ours, theirs = (self._arm(model, names, effect, arm, arms, average) for arm in (treated, control))
            value = {key: ours[key] - theirs[key] for key in ours}
        everything = np.sum(list(value.values()), axis=0) + average.buffering
        uncontrolled = 0.0 if control is not None else model.final_change(names)
        n_trained = int(treated is None or treated.is_trained) - int(control is not None and control.is_trained)
        return TrueValue(
            **value,
            buffering=np.full(len(effect), average.buffering),
            window=np.full(len(effect), average.window),
            true_value=everything,
            demand_inflation=np.full(len(effect), n_trained * model.final_inflation),
            untreated_change=np.full(len(effect), uncontrolled),
        )

    def _arm(
        self, model: Any, names: Names, effect: Floats, arm: Arm, arms: tuple[Arm, ...], average: OnAverage
    ) -> dict[str, Floats]:
        """What one arm's mean differs by from the same people untreated, component by component; (K,) each."""
        found = model.effect_components(names, effect, arm, arms, has_villages=average.has_villages, dose=average.dose)
        assert set(found) <= set(COMPONENTS)
        return {name: np.zeros(len(effect)) + found.get(name, 0.0) for name in COMPONENTS}
