"""Which days are open: for training, for visits, and how well people can come. Tables, looked up by day.

Below, a day is a number of days since the first day of the design, on which recruitment starts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import date

import numpy as np

from sim.calendar.plan import CalendarPlan, Season, Visit, Window, YearlyPeriod
from sim.errors import InvalidInput, Problem
from sim.trial import Days, Flags, Floats

LONGEST = 15 * 366
"""Days after which no training may start: a plan that takes longer cannot be satisfied."""
NEVER = 4 * 10**6
"""Later than every day there is."""
WEEKEND = {"monday to friday": 5, "monday to saturday": 6}


@dataclass(frozen=True, eq=False)
class OpenDays:
    """Tables of D days from `first`, the start of the design in days since 1970-01-01.

    opens : (D,) first day from each day on that opens a run of working days long enough for a training, else NEVER.
    next_visit, last_visit : (D,) first day from each day on, and last day up to it, on which visits are held; NEVER
        and -1 where there is none.
    availability : (D,) product of the factors of the seasons.
    worked : (D + 1,) days' worth of screening done before each day, at the rate that there is without seasons; None
        where nothing slows it.
    exposure, inside : (W, D) exposure to each window, and whether the day is in it.
    due : a (D,) table for every visit but the baseline: the day on which it is due after a training that starts then.
    """

    first: int
    opens: Days
    next_visit: Days
    last_visit: Days
    availability: Floats
    worked: Floats | None
    exposure: Floats
    inside: Flags
    due: tuple[Days, ...]

    @functools.cached_property
    def as_lists(self) -> tuple[list[int], list[int], list[int], list[float], list[list[int]]]:
        """opens, next_visit, last_visit, availability and due, for loops."""
        tables = self.opens.tolist(), self.next_visit.tolist(), self.last_visit.tolist(), self.availability.tolist()
        return *tables, [table.tolist() for table in self.due]

    def dated(self, day: float) -> str:
        """A day as a date."""
        return str(np.datetime64(self.first + int(day), "D"))


def open_days(plan: CalendarPlan, start: date) -> OpenDays:
    """The tables of a plan for a design that starts on `start`; made once."""
    stops = tuple(plan.closed.values()) if plan.recruitment is not None else ()
    return _open_days(
        start, plan.working_days or "monday to friday", plan.public_holidays, plan.community_work is not None,
        tuple(plan.closed.values()), tuple(plan.seasons.values()), stops, plan.on_working_days, plan.training_days,
        plan.later_visits, tuple(plan.windows.values()),
    )  # fmt: skip


@functools.lru_cache(maxsize=64)
def _open_days(
    start: date, working_days: str, country: str | None, community_work: bool, closed: tuple[YearlyPeriod, ...],
    seasons: tuple[Season, ...], stops: tuple[YearlyPeriod, ...], on_working_days: bool, training_days: int,
    later: tuple[Visit, ...], windows: tuple[Window, ...],
) -> OpenDays:  # fmt: skip
    first = int(np.datetime64(start, "D").astype(np.int64))
    longest_visit = max((31 * (v.months_after_training or 0) + (v.after_training or 0) + v.spread) for v in later)
    at = np.arange(LONGEST + longest_visit + 4000)
    day = first + at
    is_open: Flags = np.asarray((day + 3) % 7 < WEEKEND[working_days])  # day 0, 1 January 1970, was a Thursday
    for period in closed:
        is_open = is_open & ~period.contains(day)
    if community_work:
        is_open = is_open & ~_last_saturday(day)
    if country is not None:
        is_open = is_open & ~_public_holiday(day, country)
    availability = np.ones(len(day))
    for season in seasons:
        availability *= np.where(season.contains(day), season.availability.value, 1.0)
    coming = availability.copy()
    for period in stops:
        coming *= ~period.contains(day)
    worked = None if (coming == 1.0).all() else np.concatenate([[0.0], np.cumsum(coming)])
    run: Flags = np.asarray(
        np.lib.stride_tricks.sliding_window_view(is_open[: LONGEST + 2 * training_days], training_days).all(axis=1)
    )
    opens = np.full(len(day), NEVER)
    opens[: len(run)] = _next(run)
    visited = is_open if on_working_days else np.ones(len(day), dtype=bool)
    last_visit = np.maximum.accumulate(np.where(visited, at, -1))
    due = tuple(due_day(visit, training_days, day) - first for visit in later)
    exposure = np.array([window.exposure(day) for window in windows]).reshape(len(windows), len(day))
    inside = np.array([window.contains(day) for window in windows], dtype=bool).reshape(exposure.shape)
    return OpenDays(first, opens, _next(visited), last_visit, availability, worked, exposure, inside, due)


def due_day(visit: Visit, training_days: int, training_start: Days) -> Days:
    """Day on which a visit after the training is due, before it is spread; shaped like `training_start`."""
    if visit.after_training is not None:
        return training_start + (training_days - 1) + visit.after_training
    assert visit.months_after_training is not None
    return add_months(training_start, visit.months_after_training)


def add_months(day: Days, months: int) -> Days:
    """The same day of the month `months` later, or that month's last day: 31 August + 6 months is 28 February."""
    as_date = day.astype("datetime64[D]")
    month = as_date.astype("datetime64[M]")
    into = as_date - month.astype("datetime64[D]")
    target = month + months
    last = (target + 1).astype("datetime64[D]") - np.timedelta64(1, "D")
    return np.asarray(np.minimum(target.astype("datetime64[D]") + into, last).astype(np.int64))


def cannot(days: OpenDays, field: str, district: int, since: float, message: str) -> InvalidInput:
    """The error of a calendar that cannot be satisfied: what binds, in which district, from which date."""
    where = f"design that starts on {days.dated(0)}, district {district + 1}, from {days.dated(since)} on"
    return InvalidInput([Problem("", 0, 0, f"calendar.{field}", f"{where}: {message}")])


def _next(is_open: Flags) -> Days:
    """The first open day from each day on, NEVER where there is none."""
    at = np.where(is_open, np.arange(len(is_open)), NEVER)
    return np.asarray(np.minimum.accumulate(at[::-1])[::-1])


def _last_saturday(day: Days) -> Flags:
    month = day.astype("datetime64[D]").astype("datetime64[M]")
    is_last_week = (day + 7).astype("datetime64[D]").astype("datetime64[M]") > month
    return np.asarray(((day + 3) % 7 == 5) & is_last_week)


def _public_holiday(day: Days, country: str) -> Flags:
    years = day.astype("datetime64[D]").astype("datetime64[Y]").astype(int) + 1970
    off = [when for year in range(int(years[0]), int(years[-1]) + 1) for when in _holidays_of(country, year)]
    return np.isin(day, np.array(off, dtype="datetime64[D]").astype(np.int64))


@functools.lru_cache(maxsize=1024)
def _holidays_of(country: str, year: int) -> tuple[date, ...]:
    """Days off of one year; they include those observed on a later day, and estimated dates of moving feasts."""
    import holidays  # takes a while, and few scenarios need it

    return tuple(when for when in holidays.country_holidays(country, years=year) if isinstance(when, date))
