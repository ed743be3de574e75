"""The mean difference between two arms at the final visit: treatment policy, over the population of districts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sim.parts import ESTIMANDS, Part
from sim.trial import Arm, Contrast, Floats, Names

COMPONENTS = ("planned", "format", "modification", "attendance", "contamination")


@dataclass(frozen=True)
class TrueValue:
    """The estimand's value and what it is made of, (K,) each, in baseline SDs.

    true_value = planned + format + modification + attendance + contamination.
    demand_inflation and untreated_change are in the observed difference (the latter only without a control arm) but
    not in the estimand; window is the difference that the commemoration windows make between the arms.
    """

    planned: Floats
    format: Floats
    modification: Floats
    attendance: Floats
    contamination: Floats
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
            true_value=nothing,
            demand_inflation=nothing,
        )


@ESTIMANDS.register("final_visit_difference")
class FinalVisitDifference(Part):
    """E[Y(treated arm)] - E[Y(control arm)] at the final visit for everyone allocated, whoever attends or is seen.

    Population: all districts, strata in their declared shares. Intercurrent events: treatment policy, so partial
    attendance and contamination are part of the effect. Demand inflation of the self-report is not: it is no change.
    Without a control arm, the difference to the same people untreated.
    """

    kind: Literal["final_visit_difference"]
    example = {"kind": "final_visit_difference"}

    def true_value(
        self, model: Any, names: Names, effect: Floats, arms: tuple[Arm, ...], contrast: Contrast, window: float
    ) -> TrueValue:
        """The value under an outcome model and a planned effect (K,); under the null every component is 0."""
        treated = arms[contrast.treated] if contrast.control is not None else None
        control = arms[contrast.control] if contrast.control is not None else None
        if treated is None:  # the mean over the arms of a study in which everyone is trained
            parts = [self._arm(model, names, effect, arm, arms) for arm in arms]
            value = {key: np.mean([p[key] for p in parts], axis=0) for key in parts[0]}
        else:
            assert control is not None
            ours, theirs = (self._arm(model, names, effect, arm, arms) for arm in (treated, control))
            value = {key: ours[key] - theirs[key] for key in ours}
        everything = np.sum(list(value.values()), axis=0)
        uncontrolled = 0.0 if control is not None else model.final_change(names)
        n_trained = int(treated is None or treated.is_trained) - int(control is not None and control.is_trained)
        return TrueValue(
            **value,
            window=np.full(len(effect), window),
            true_value=everything,
            demand_inflation=np.full(len(effect), n_trained * model.final_inflation),
            untreated_change=np.full(len(effect), uncontrolled),
        )

    def _arm(self, model: Any, names: Names, effect: Floats, arm: Arm, arms: tuple[Arm, ...]) -> dict[str, Floats]:
        """What one arm's mean differs by from the same people untreated, component by component; (K,) each."""
        found = model.effect_components(names, effect, arm, arms)
        assert set(found) <= set(COMPONENTS)
        return {name: np.zeros(len(effect)) + found.get(name, 0.0) for name in COMPONENTS}
