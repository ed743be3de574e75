"""What every design shares: its arms, its contrast, and how people are dealt out evenly."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from sim.parts import Part, refuse
from sim.quantities import Number
from sim.trial import Allocation, Arm, Contrast

Count = Annotated[int, Field(ge=1, le=100_000, strict=True)]


class ArmPlan(Part):
    """One arm: its share of the allocation and the format of its training; `format: none` is the wait-list."""

    format: str
    allocation: Annotated[Number, Field(gt=0, le=20)] = 1.0

    @property
    def trained_format(self) -> str | None:
        return None if self.format == "none" else self.format


class DesignPlan(Part):
    """Fields that every design has."""

    label: str
    arms: dict[str, ArmPlan] = Field(min_length=1)
    contrast: str
    districts: Count
    start: date
    """First day of recruitment."""

    @model_validator(mode="after")
    def _contrast_names_arms(self) -> DesignPlan:
        compared = [] if self.contrast == "change" else self.contrast.split(" - ")
        for name in compared:
            if name not in self.arms:
                raise refuse(f"contrast '{self.contrast}': '{name}' is not an arm; known: {', '.join(self.arms)}")
        if len(compared) > 2 or len(set(compared)) < len(compared):
            raise refuse(f"contrast '{self.contrast}' must name two different arms, such as 'mixed - control'")
        if not any(arm.trained_format for arm in self.arms.values()):
            raise refuse("no arm is trained: give at least one arm a format other than 'none'")
        return self

    @property
    def arm_list(self) -> tuple[Arm, ...]:
        return tuple(Arm(name, plan.trained_format) for name, plan in self.arms.items())

    @property
    def contrast_arms(self) -> Contrast:
        if self.contrast == "change":
            return Contrast(0, None)
        names = list(self.arms)
        treated, *control = (names.index(name) for name in self.contrast.split(" - "))
        return Contrast(treated, control[0] if control else None)

    @property
    def weights(self) -> list[float]:
        return [plan.allocation for plan in self.arms.values()]


def apportion(n: int, weights: list[float] | tuple[float, ...]) -> list[int]:
    """n units shared out by weight, by largest remainder; sums to n exactly."""
    exact = [n * w / sum(weights) for w in weights]
    counts = [int(e) for e in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: n - sum(counts)]:
        counts[i] += 1
    return counts


def interleave(counts: list[int]) -> list[int]:
    """Labels 0, 1, ... with these counts, spread evenly: [3, 2] -> 0 1 0 1 0."""
    positions = [((i + 0.5) / n, label) for label, n in enumerate(counts) for i in range(n)]
    return [label for _, label in sorted(positions)]


class Roster:
    """Collects participants while a design deals them out, then becomes an Allocation."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int, int, int, int, int]] = []
        self.group_district: list[int] = []

    def new_group(self, district: int) -> int:
        self.group_district.append(district)
        return len(self.group_district) - 1

    def add(
        self, *, arm: int, stratum: int, district: int, village: int, group: int, clock: int, cluster: int, member: int
    ) -> None:
        self.rows.append((arm, stratum, district, village, group, clock, cluster, member))

    def allocation(self, arms: tuple[Arm, ...], contrast: Contrast) -> Allocation:
        arm, stratum, district, village, group, clock, cluster, member = np.array(self.rows, dtype=np.int32).T.copy()
        groups = np.array(self.group_district, dtype=np.int32)
        return Allocation(
            arm, stratum, district, village, group, clock, cluster, member,
            group_district=groups, arms=arms, contrast=contrast,
        )  # fmt: skip
