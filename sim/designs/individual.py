"""Individuals randomised within district, trained in groups or one by one; controls are not grouped.

Training in groups of one arm only is partial nesting (individually randomised group-treatment trial).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic_core import PydanticCustomError

from sim.designs.arms import Count, DesignPlan, Roster, apportion, deal, of_district
from sim.parts import DESIGNS, refuse
from sim.trial import Allocation, Names

Row = tuple[int, int, int, int]
"""Arm, stratum, training group and clock of one participant."""


@DESIGNS.register("individual")
class Individual(DesignPlan):
    """Participants of each district are allocated to the arms, stratified or not, and trained arms fill groups.

    A training group in format `separate` holds one stratum, in any other format all strata evenly. Controls are
    shared out over the training groups of their district and carry the dates of the one they would have had. Without
    `training_group_size` people are trained one by one, as soon as each has been recruited.
    Nested, the arms take turns over the participants of a district; more of them leave those that are there as they
    were where every training group is full and strata are not left to chance. Dates may differ.
    Reference: partial nesting, Roberts & Roberts 2005, doi:10.1191/1740774505cn076oa.
    """

    kind: Literal["individual"]
    participants_per_district: Count
    training_group_size: Count | None = None
    stratified_allocation: bool = True
    example = {
        "kind": "individual",
        "label": "Individuals, 2 districts",
        "arms": {"control": {"format": "none"}, "mixed": {"format": "mixed"}},
        "contrast": "mixed - control",
        "districts": 2,
        "participants_per_district": 60,
        "training_group_size": 15,
        "start": "2027-07-05",
    }

    def contradictions(self) -> Iterator[PydanticCustomError]:
        yield from super().contradictions()
        yield from self._needs_two_arms()
        per_arm = dict(zip(self.arms, apportion(self.participants_per_district, self.weights), strict=True))
        if few := [f"'{name}'" for name, n in per_arm.items() if n < 2]:
            message = f"arm {', '.join(few)} would have fewer than 2 participants in a district; at least 2 are needed"
            yield refuse(message, "participants_per_district")
            return
        if self.training_group_size is None:
            return
        groups = {name: self.districts * -(-n // self.training_group_size) for name, n in per_arm.items()}
        if one := [f"'{name}'" for name, plan in self.arms.items() if plan.trained_format and groups[name] < 2]:
            message = (
                f"arm {', '.join(one)} would be one training group: between-group variance cannot be estimated; "
                "at least 2 groups are needed (smaller training_group_size, more participants or districts)"
            )
            yield refuse(message, "training_group_size")

    @property
    def n_planned(self) -> int:
        return self.districts * self.participants_per_district

    def allocate(self, names: Names, rng: np.random.Generator, *, nested: bool = False) -> Allocation:
        """One allocation; `rng` is used only where strata are left to chance."""
        roster = Roster(nested=nested)
        for district in range(self.districts):
            turns = deal(self.participants_per_district, self.weights, nested=nested)
            people = self._strata_by_arm(names, turns, of_district(rng, district, nested=nested), nested=nested)
            if self.training_group_size is None:
                rows = self._one_by_one(district, people, turns, roster)
            else:
                rows = self._in_groups(district, people, roster)
            for member, (arm, stratum, group, clock) in enumerate(_in_order(rows, turns) if nested else rows):
                roster.add(
                    arm=arm, stratum=stratum, district=district, village=-1, group=group, clock=clock,
                    cluster=district, member=member,
                )  # fmt: skip
        return roster.allocation(self.arm_list, self.contrast_arms)

    def _one_by_one(self, district: int, people: list[list[int]], turns: list[int], roster: Roster) -> list[Row]:
        """Everyone on a clock of their own, arms taking turns to be recruited."""
        left = [iter(strata) for strata in people]
        return [(arm, next(left[arm]), -1, roster.new_group(district)) for arm in turns]

    def _in_groups(self, district: int, people: list[list[int]], roster: Roster) -> list[Row]:
        """The trained in their groups, then the untreated on their clocks."""
        cohorts = [
            (position, arm, strata)
            for arm, plan in enumerate(self.arm_list)
            if plan.is_trained
            for position, strata in self._fill_groups(people[arm], separate=plan.format == "separate")
        ]
        seats: list[tuple[int, int, int]] = []  # (arm, stratum, training group)
        for _, arm, strata in sorted(cohorts):
            group = roster.new_group(district)
            seats += [(arm, stratum, group) for stratum in strata]
        groups = sorted({group for _, _, group in seats})
        rows = [(arm, stratum, group, group) for arm, stratum, group in seats]
        for arm, plan in enumerate(self.arm_list):
            if not plan.is_trained:
                n = len(people[arm])
                rows += [(arm, s, -1, groups[i * len(groups) // n]) for i, s in enumerate(people[arm])]
        return rows

    def _strata_by_arm(
        self, names: Names, turns: list[int], rng: np.random.Generator, *, nested: bool
    ) -> list[list[int]]:
        """The stratum of every participant, arm by arm: exact within arm if stratified, else left to chance."""
        per_arm = [turns.count(arm) for arm in range(len(self.arms))]
        if self.stratified_allocation:
            return [deal(n, names.share, nested=nested) for n in per_arm]
        everyone = rng.permutation(deal(self.participants_per_district, names.share, nested=nested))
        return [part.tolist() for part in np.split(everyone, np.cumsum(per_arm)[:-1])]

    def _fill_groups(self, strata: list[int], *, separate: bool) -> Iterator[tuple[float, list[int]]]:
        """Strata of the members of each training group, sizes as equal as can be and at most the declared size.

        With each comes its place in the order of training, 0 to 1: sorted by it, the groups of all arms and strata take
        turns, so that no format is trained later than another. Groups are runs of the interleaved strata: dealing out
        in turn would put every second person, one stratum, into the same group.
        """
        assert self.training_group_size is not None
        pools = [[s for s in strata if s == one] for one in sorted(set(strata))] if separate else [strata]
        for pool in pools:
            n, n_group = len(pool), -(-len(pool) // self.training_group_size)
            for g in range(n_group):
                yield (g + 0.5) / n_group, pool[g * n // n_group : (g + 1) * n // n_group]


def _in_order(rows: list[Row], turns: list[int]) -> list[Row]:
    """The rows in the order in which their arms take turns, each arm's in their own order."""
    left = {arm: iter([row for row in rows if row[0] == arm]) for arm in set(turns)}
    return [next(left[arm]) for arm in turns]
