"""Loss that differs between arms and depends on nothing else: completely at random within an arm."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sim.missingness.mechanism import ByArmAndVisit, ByChance, by_arm_and_visit, exactly, leaves_someone
from sim.parts import MISSINGNESS
from sim.trial import Allocation, Floats, Names, Schedule


@MISSINGNESS.register("arm")
class ByArm(ByChance):
    """Every arm has losses of its own, whatever the scores: missing at random given the arm.

    A complete-case comparison stays unbiased (Bell et al. 2013, doi:10.1136/bmj.e8668: equal rates are neither needed
    nor enough).
    """

    keyed_by = {"loss": ("arm", "visit")}
    kind: Literal["arm"]
    loss: ByArmAndVisit = Field(min_length=1)
    """By arm, then visit after the baseline: share who miss it or, monotone, who have left before it."""
    monotone: bool = False
    """Whether nobody comes back."""
    example = {
        "kind": "arm",
        "loss": {
            "control": {"post": exactly("4%"), "six_months": exactly("12%")},
            "mixed": {"post": exactly("2%"), "six_months": exactly("6%")},
            "separate": {"post": exactly("3%"), "six_months": exactly("8%")},
        },
    }

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> ByArm:
        leaves_someone(self.loss, "loss")
        return self

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the stated losses of each participant's arm."""
        del schedule
        return by_arm_and_visit(self.loss, names, allocation)
