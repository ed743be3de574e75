"""Everyone trained and nobody to compare with: the before-after study, kept to show what a missing control costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from sim.designs.arms import ArmPlan, Count, DesignPlan, Roster, apportion, interleave
from sim.parts import DESIGNS, refuse
from sim.quantities import Name, whole_number
from sim.trial import Allocation, Names


class FormatGroup(ArmPlan):
    """One comparison group of the study: its number of participants, and its stratum if it holds only one."""

    participants: Count
    stratum: Name | None = None


@DESIGNS.register("single_arm")
class SingleArm(DesignPlan):
    """Every arm is trained, each as one training group in one district; the contrast is the change in everyone.

    The arms are the formats that the study compared: the between-participant factor of its analysis of variance.
    """

    kind: Literal["single_arm"]
    arms: dict[Name, FormatGroup] = Field(min_length=1)  # type: ignore[assignment]
    contrast: Literal["change"] = "change"
    districts: Annotated[Literal[1], BeforeValidator(whole_number)] = 1
    example = {
        "kind": "single_arm",
        "label": "Everyone trained, 30 people",
        "arms": {"mixed": {"format": "mixed", "participants": 30}},
        "start": "2023-08-01",
    }

    def contradictions(self) -> Iterator[PydanticCustomError]:
        yield from super().contradictions()
        for name, plan in self.arms.items():
            if not plan.trained_format:
                yield refuse(f"arm '{name}' is untreated: a single-arm study trains everyone", "arms", name, "format")
            if plan.participants < 3:
                message = f"arm '{name}' has {plan.participants} participants; at least 3 are needed"
                yield refuse(message, "arms", name, "participants")

    @property
    def n_planned(self) -> int:
        return sum(plan.participants for plan in self.arms.values())

    def allocate(self, names: Names, rng: np.random.Generator, *, nested: bool = False) -> Allocation:
        """One allocation; nothing is left to chance. A larger study does not contain the smaller one, nested or not."""
        del rng
        roster = Roster(nested=nested)
        member = 0
        for arm, plan in enumerate(self.arms.values()):
            group = roster.new_group(0)
            mixed = interleave(apportion(plan.participants, names.share))
            for stratum in [names.stratum.index(plan.stratum)] * plan.participants if plan.stratum else mixed:
                roster.add(
                    arm=arm, stratum=stratum, district=0, village=-1, group=group, clock=group, cluster=0, member=member
                )
                member += 1
        return roster.allocation(self.arm_list, self.contrast_arms)
