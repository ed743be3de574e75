"""The mean difference between two arms at the final visit: treatment policy, over the population of districts."""

from __future__ import annotations

from typing import Any, Literal

from sim.estimands.estimand import Estimand
from sim.parts import ESTIMANDS


@ESTIMANDS.register("final_visit_difference")
class FinalVisitDifference(Estimand):
    """E[Y(treated arm)] - E[Y(control arm)] at the final visit for everyone allocated, whoever attends or is seen.

    Population: all districts, strata in their declared shares. Intercurrent events: treatment policy, so partial
    attendance, contamination and what leaving does to scores are part of the effect. Demand inflation of the
    self-report is not: it is no change. Without a control arm, the difference to the same people untreated.
    """

    kind: Literal["final_visit_difference"]
    example = {"kind": "final_visit_difference"}

    def from_draws(self, model: Any, missingness: Any) -> bool:
        """Where scores are bounded or steps, or those of leavers shift."""
        return not getattr(model, "is_continuous", True) or missingness.shifts_unseen
