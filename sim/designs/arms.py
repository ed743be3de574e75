"""What every design shares: its arms, its contrast, and how people are dealt out evenly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from sim.parts import Part, refuse, refuse_all
from sim.quantities import Date, Name, Number
from sim.trial import Allocation, Arm, Contrast, Ints, Names

MOST_PARTICIPANTS = 200_000

Count = Annotated[int, Field(ge=1, le=100_000, strict=True)]


class ArmPlan(Part):
    """One arm: its share of the allocation and the format of its training; `format: none` is the wait-list."""

    format: Name
    allocation: Annotated[Number, Field(gt=0, le=20)] = 1.0

    @property
    def trained_format(self) -> str | None:
        return None if self.format == "none" else self.format


class DesignPlan(Part, ABC):
    """Fields that every design has."""

    label: str
    arms: dict[Name, ArmPlan] = Field(min_length=1)
    contrast: str
    districts: Count
    start: Date
    """First day of recruitment."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        errors = list(self.contradictions())
        if errors:
            raise refuse_all(errors)
        return self

    def contradictions(self) -> Iterator[PydanticCustomError]:
        """Everything in the design that cannot be together, each at its key; a design adds its own."""
        compared = [] if self.contrast == "change" else [name.strip() for name in self.contrast.split(" - ")]
        for name in compared:
            if name not in self.arms:
                hint = ", with a space on either side of the '-'" if "-" in name else ""
                message = f"'{name}' is not an arm of this design; known: {', '.join(self.arms)}{hint}"
                yield refuse(message, "contrast")
        if len(compared) > 2 or len(set(compared)) < len(compared):
            yield refuse("found '{contrast}'; it must name two different arms", "contrast", contrast=self.contrast)
        if not any(arm.trained_format for arm in self.arms.values()):
            yield refuse("no arm is trained: give at least one arm a format other than 'none'", "arms")

    def _needs_two_arms(self) -> Iterator[PydanticCustomError]:
        if len(self.arms) < 2:
            yield refuse("two arms or more are needed to randomise", "arms")
        elif " - " not in self.contrast and (self.contrast == "change" or self.contrast in self.arms):
            message = "found '{contrast}'; two arms must be compared, by a contrast such as 'mixed - control'"
            yield refuse(message, "contrast", contrast=self.contrast)

        if self.n_planned > MOST_PARTICIPANTS:
            message = f"asks for {self.n_planned:,} participants; at most {MOST_PARTICIPANTS:,} can be simulated"
            yield refuse(message, "districts")

    @property
    @abstractmethod
    def n_planned(self) -> int:
        """Planned number of participants."""

    @abstractmethod
    def allocate(self, names: Names, rng: np.random.Generator, *, nested: bool = False) -> Allocation:
        """One allocation. nested : a larger trial of the same plan contains the smaller one, for common random numbers:
        whoever is in both keeps arm, stratum, village, training group and names in the random streams.
        """

    @property
    def arm_list(self) -> tuple[Arm, ...]:
        return tuple(Arm(name, plan.trained_format) for name, plan in self.arms.items())

    @property
    def contrast_arms(self) -> Contrast:
        if self.contrast == "change":
            return Contrast(0, None)
        names = list(self.arms)
        treated, *control = (names.index(name.strip()) for name in self.contrast.split(" - "))
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


def in_turn(n: int, weights: list[float] | tuple[float, ...]) -> list[int]:
    """Labels of n units, each given to the label furthest behind its share: the first m are those of m units.

    >>> in_turn(5, [1, 2])
    [1, 0, 1, 1, 0]
    """
    counts = [0] * len(weights)
    labels = []
    for k in range(1, n + 1):
        behind = [k * w / sum(weights) - count for w, count in zip(weights, counts, strict=True)]
        label = behind.index(max(behind))
        counts[label] += 1
        labels.append(label)
    return labels


def deal(n: int, weights: list[float] | tuple[float, ...], *, nested: bool) -> list[int]:
    """Labels of n units in shares by weight: exact and spread evenly, or nested in those of more units."""
    return in_turn(n, weights) if nested else interleave(apportion(n, weights))


def of_district(rng: np.random.Generator, district: int, *, nested: bool) -> np.random.Generator:
    """The generator of one district: the next numbers of `rng`, or a stream that no other district's size moves."""
    if not nested:
        return rng
    bits = rng.bit_generator
    assert isinstance(bits, np.random.Philox | np.random.PCG64)
    return np.random.Generator(bits.jumped(district + 1))


PLACE = 40_000


def nested_names(district: Ints) -> Ints:
    """(U,) names that units keep when their district gets more of them: below PLACE a district, as districts are in
    order."""
    number = np.arange(len(district)) - np.searchsorted(district, district)
    if len(set(district)) > 1 and number.max(initial=0) >= PLACE:
        raise ValueError(f"common random numbers name at most {PLACE:,} villages or training groups a district")
    return (district * PLACE + number).astype(np.int32)


class Roster:
    """Collects participants while a design deals them out, then becomes an Allocation.

    nested : whether villages and training groups keep their names in the random streams in a larger trial.
    """

    def __init__(self, *, nested: bool = False) -> None:
        self.nested = nested
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
        village_name = np.arange(village.max() + 1, dtype=np.int32)
        group_name = np.arange(len(groups), dtype=np.int32)
        if self.nested:
            if group.max() >= 0:
                group_name = nested_names(groups)
            if village.max() >= 0:
                village_name = nested_names(district[np.unique(village, return_index=True)[1]])
                cluster = village_name[village]
        return Allocation(
            arm, stratum, district, village, group, clock, cluster, member,
            group_district=groups, village_name=village_name, group_name=group_name, arms=arms, contrast=contrast,
        )  # fmt: skip
