"""The scale that people answer on: continuous, or a sum of items with a floor, a ceiling and whole points.

Scores are drawn in SD units; `mean` and `sd` say which points these are: points = mean + sd * score, for the planned
instrument at the baseline, before floor, ceiling and rounding. A sum of items is rounded and cut in points and given
back in the same SD units, so that effects, estimates and true values stay comparable.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

from numba import njit
from pydantic import BeforeValidator, Discriminator, Field, model_validator

from sim.lanes import floor, where
from sim.parts import Part, refuse
from sim.quantities import Points, PositivePoints, whole_number

Count = Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=200)]
Answer = Annotated[int, BeforeValidator(whole_number), Field(ge=-1000, le=1000)]


class Continuous(Part):
    """As drawn; mean and SD in points are for reports alone."""

    kind: Literal["continuous"] = "continuous"
    mean: Points | None = None
    sd: PositivePoints | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Continuous:
        if (self.mean is None) != (self.sd is None):
            raise refuse("give mean and sd, both in points, or neither")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest possible score, in points."""
        return -math.inf, math.inf


class SumOfItems(Part):
    """The sum of `items` answers in whole points from `lowest` to `highest`."""

    kind: Literal["sum_of_items"]
    items: Count
    lowest: Answer
    highest: Answer
    mean: Points
    """Of a score of 0 SD: at the baseline, in a stratum without a baseline difference."""
    sd: PositivePoints
    """Of 1 SD, before floor, ceiling and rounding."""

    @model_validator(mode="after")
    def _mean_inside(self) -> SumOfItems:
        if not self.lowest < self.highest:
            message = "out of order: lowest {lowest} must be below highest {highest}"
            raise refuse(message, "highest", lowest=self.lowest, highest=self.highest)
        low, high = self.bounds
        if not low < self.mean < high:
            message = f"found {{mean}}; the sum of {self.items} items must lie between {low:g} and {high:g} points"
            raise refuse(message, "mean", mean=self.mean)
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest possible score, in points."""
        return float(self.items * self.lowest), float(self.items * self.highest)


Response = Annotated[Continuous | SumOfItems, Discriminator("kind")]


class AtTheBounds(NamedTuple):
    """Expected shares of scores at the floor and at the ceiling of a sum of items, 0 to 1; outside every window."""

    visit: str
    arm: str
    floor: float
    ceiling: float


def scale_row(response: Continuous | SumOfItems) -> tuple[float, float, float, float]:
    """Mean, SD, floor and ceiling as the kernel takes them; SD 0 where a score is left as drawn."""
    if isinstance(response, Continuous):
        return 0.0, 0.0, *response.bounds
    return response.mean, response.sd, *response.bounds


@njit(cache=True, error_model="numpy")
def on_scale(score: Any, scale: Any) -> Any:
    """A score in SD units, or lanes of them, as people answer it, in SD units again; scale as in `scale_row`."""
    mean, sd, lowest, highest = scale
    if sd == 0:
        return score
    points = floor(mean + sd * score + 0.5)
    points = where(points > lowest, points, lowest)
    points = where(points > highest, highest, points)
    return (points - mean) / sd
