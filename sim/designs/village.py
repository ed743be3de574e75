"""Villages randomised within district, everyone in a village in the same arm (parallel cluster-randomised trial)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from pydantic_core import PydanticCustomError

from sim.designs.arms import Count, DesignPlan, Roster, apportion, deal, of_district
from sim.parts import DESIGNS, Part, refuse
from sim.quantities import Number
from sim.trial import Allocation, Names


class VillageSize(Part):
    """People per village: mean, and coefficient of variation between villages (0 = equal sizes)."""

    mean: Annotated[Number, Field(ge=2, le=10_000)]
    cv: Annotated[Number, Field(ge=0, le=2)] = 0.0


@DESIGNS.register("village")
class Village(DesignPlan):
    """Villages of each district are shared out over the arms; a trained village is trained in groups of its own.

    Format `separate` makes one training group per stratum of a village, any other format one per village. Each
    untreated village carries the dates of a trained village of its district. Sizes are gamma distributed with the
    declared mean and coefficient of variation, at least 2 people, drawn anew for each realisation. Villages are
    exchangeable, so the arms take turns over them: nothing would be gained by shuffling their numbers. Nested, more
    villages per district or more districts leave those that are there as they were; dates may differ.
    """

    kind: Literal["village"]
    villages_per_district: Count
    village_size: VillageSize
    example = {
        "kind": "village",
        "label": "Villages, 2 districts",
        "arms": {"control": {"format": "none"}, "mixed": {"format": "mixed"}},
        "contrast": "mixed - control",
        "districts": 2,
        "villages_per_district": 6,
        "village_size": {"mean": 12, "cv": 0.2},
        "start": "2027-07-05",
    }

    def contradictions(self) -> Iterator[PydanticCustomError]:
        yield from super().contradictions()
        yield from self._needs_two_arms()
        per_arm = dict(zip(self.arms, apportion(self.villages_per_district, self.weights), strict=True))
        if none := [f"'{name}'" for name, n in per_arm.items() if n == 0]:
            message = (
                f"arm {', '.join(none)} would have no village in a district; more villages_per_district are needed"
            )
            yield refuse(message, "villages_per_district")
        if one := [f"'{name}'" for name, n in per_arm.items() if n * self.districts == 1]:
            message = (
                f"arm {', '.join(one)} would have one village: with one cluster per arm the effect cannot be told from "
                "the village; at least 2 villages per arm are needed"
            )
            yield refuse(message, "villages_per_district")

    @property
    def n_planned(self) -> int:
        return round(self.districts * self.villages_per_district * self.village_size.mean)

    def allocate(self, names: Names, rng: np.random.Generator, *, nested: bool = False) -> Allocation:
        """One allocation with the village sizes that `rng` draws."""
        roster = Roster(nested=nested)
        for district in range(self.districts):
            self._allocate_district(district, names, of_district(rng, district, nested=nested), roster)
        return roster.allocation(self.arm_list, self.contrast_arms)

    def _allocate_district(self, district: int, names: Names, rng: np.random.Generator, roster: Roster) -> None:
        sizes = self._sizes(rng)
        # formats take turns, so that none is trained later than another
        arm_of = deal(self.villages_per_district, self.weights, nested=roster.nested)
        people = deal(sum(sizes), names.share, nested=roster.nested)
        strata_of = [part.tolist() for part in np.split(np.array(people), np.cumsum(sizes)[:-1])]
        order = sorted(range(len(arm_of)), key=lambda v: not self.arm_list[arm_of[v]].is_trained)
        clocks: list[int] = []  # the first training group of each trained village
        for rank, v in enumerate(order):
            arm = self.arm_list[arm_of[v]]
            separate = arm.format == "separate"
            trained_apart = sorted(set(strata_of[v])) if separate else [-1]
            groups = {s: roster.new_group(district) for s in trained_apart} if arm.is_trained else {}
            clocks += list(groups.values())[:1]
            village = district * self.villages_per_district + v
            for member, stratum in enumerate(strata_of[v]):
                group = groups[stratum if separate else -1] if groups else -1
                clock = group if groups else clocks[rank % len(clocks)]
                roster.add(
                    arm=arm_of[v], stratum=stratum, district=district, village=village, group=group, clock=clock,
                    cluster=village, member=member,
                )  # fmt: skip

    def _sizes(self, rng: np.random.Generator) -> list[int]:
        mean, cv = self.village_size.mean, self.village_size.cv
        if cv == 0:
            return [round(mean)] * self.villages_per_district
        drawn = rng.gamma(1 / cv**2, mean * cv**2, self.villages_per_district)
        return [max(2, int(n)) for n in np.rint(drawn)]
