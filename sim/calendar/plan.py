"""What a scenario says about time: recruitment, training, visits, closed periods and windows."""

from __future__ import annotations

import itertools
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from sim.parts import Assumption, Part, refuse
from sim.quantities import Days as DayCount
from sim.quantities import MonthDay, Months, Name, Number, PerWeek
from sim.trial import Days, Floats


class YearlyPeriod(Part):
    """A period that comes round every year, both days included; it may run over the new year."""

    first: MonthDay
    last: MonthDay

    def contains(self, day: Days) -> np.ndarray:
        """Whether each day (days since 1970-01-01, any shape) lies in the period."""
        month_day = _month_day(day)
        first, last = _as_number(self.first), _as_number(self.last)
        if first <= last:
            return (first <= month_day) & (month_day <= last)
        return (first <= month_day) | (month_day <= last)


class Window(YearlyPeriod):
    """A period that changes scores and attendance, with a peak inside it."""

    peak_first: MonthDay
    peak_last: MonthDay
    peak_multiplier: Assumption[Annotated[Number, Field(ge=0, le=100)]]

    @model_validator(mode="after")
    def _peak_inside(self) -> Window:
        offset = _as_number(self.first)
        first, peak_first, peak_last, last = (
            (_as_number(d) - offset) % 1300 for d in (self.first, self.peak_first, self.peak_last, self.last)
        )
        if not first <= peak_first <= peak_last <= last:
            raise refuse(
                "dates out of order: first {first}, peak_first {peak_first}, peak_last {peak_last} and last {last} "
                "must follow one another",
                "peak_first" if peak_first > last else "peak_last",
                first=self.first, peak_first=self.peak_first, peak_last=self.peak_last, last=self.last,
            )  # fmt: skip
        return self

    def exposure(self, day: Days) -> Floats:
        """0 outside, 1 inside, the peak multiplier in the peak; shaped like `day`."""
        peak = YearlyPeriod.model_construct(first=self.peak_first, last=self.peak_last)
        return np.asarray(np.where(peak.contains(day), self.peak_multiplier.value, 1.0) * self.contains(day))


class Visit(Part):
    """When a visit falls, counted from the training; give exactly one of the three."""

    before_training: DayCount | None = None
    """Days before the first training day."""
    after_training: DayCount | None = None
    """Days after the last training day."""
    months_after_training: Months | None = None
    """Calendar months after the first training day."""
    spread: DayCount = 0
    """Each participant is seen up to this many days earlier or later, all days equally likely."""

    @model_validator(mode="after")
    def _one_time(self) -> Visit:
        given = [self.before_training, self.after_training, self.months_after_training]
        if sum(value is not None for value in given) != 1:
            raise refuse("give exactly one of before_training, after_training and months_after_training")
        return self

    @property
    def order(self) -> int:
        """0 before the training, 1 some days after it, 2 some months after it."""
        return 0 if self.before_training is not None else 1 if self.after_training is not None else 2


class CalendarPlan(Part):
    """Recruitment by district, training in groups by a limited number of facilitator teams, visits on their dates."""

    recruitment_per_district: PerWeek
    facilitator_teams: Annotated[int, Field(ge=1, le=1000, strict=True)] | None = None
    """Trainings at a time; left out, as many as are needed."""
    training_days: Annotated[DayCount, Field(ge=1, le=5)] = 1
    """Consecutive working days (Monday to Friday, none of them closed) of one training."""
    visits: dict[Name, Visit]
    closed: dict[Name, YearlyPeriod] = {}
    """Periods in which nobody is trained."""
    windows: dict[Name, Window] = {}

    @model_validator(mode="after")
    def _visits_in_order(self) -> CalendarPlan:
        if len(self.visits) < 2:
            raise refuse(f"two visits or more are needed, baseline and final, found {len(self.visits)}", "visits")
        order = [visit.order for visit in self.visits.values()]
        if order != sorted(order) or order.count(0) != 1:
            raise refuse(
                "visits out of order: the first is `before_training`, then come those `after_training`, then those "
                "`months_after_training`",
                "visits",
            )
        for (before, one), (name, other) in itertools.pairwise(list(self.visits.items())[1:]):
            if self._days_between(one, other) <= one.spread + other.spread:
                message = f"visits out of order: '{name}' could fall before '{before}'"
                raise refuse(message, "visits", name)
        for name, visit in list(self.visits.items())[:2]:
            if visit.spread > self._days_from_training(visit):
                message = "the visit could fall on the wrong side of the training: make its spread smaller"
                raise refuse(message, "visits", name, "spread")
        return self

    def _days_between(self, one: Visit, other: Visit) -> int:
        """The fewest days from one visit after the training to a later one, before either is spread."""
        if one.months_after_training is not None and other.months_after_training is not None:
            return 28 * (other.months_after_training - one.months_after_training)
        return self._days_from_training(other) - self._days_from_training(one)

    def _days_from_training(self, visit: Visit) -> int:
        """The fewest days from a visit to the first training day if it comes before, from the last day if after."""
        if visit.months_after_training is not None:
            return 28 * visit.months_after_training - (self.training_days - 1)
        distance = visit.after_training if visit.before_training is None else visit.before_training
        assert distance is not None
        return distance


def _month_day(day: Days) -> np.ndarray:
    """Month and day as month * 100 + day."""
    date = np.asarray(day).astype("datetime64[D]")
    month = date.astype("datetime64[M]")
    day_of_month = (date - month.astype("datetime64[D]")).astype(np.int64) + 1
    return np.asarray((month.astype(np.int64) % 12 + 1) * 100 + day_of_month)


def _as_number(month_day: tuple[int, int]) -> int:
    return month_day[0] * 100 + month_day[1]
