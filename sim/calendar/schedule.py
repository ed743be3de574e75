"""Who is trained when: recruitment and training groups as SimPy processes, visits as array arithmetic.

One process per district (people are recruited until the next training group is full) and one per training group (it
leaves time for the baseline visit, waits for a facilitator team, trains on the next open working days, frees the
team). Participants are processes only where each is trained alone.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from datetime import date
from typing import Any

import numpy as np
import simpy

from sim.calendar.plan import CalendarPlan, Visit
from sim.errors import InvalidInput, Problem
from sim.trial import Allocation, Days, Floats, Schedule

SEARCH_DAYS = 800


def schedule(plan: CalendarPlan, allocation: Allocation, start: date, rng: np.random.Generator) -> Schedule:
    """One realised calendar of an allocation whose districts all open on `start`.

    Raises InvalidInput when a group finds no run of open working days within SEARCH_DAYS of being ready.
    """
    training_start = train(plan, allocation, start, rng)
    visit_day = np.stack(
        [_visit_day(visit, plan, training_start[allocation.clock], rng) for visit in plan.visits.values()], axis=1
    )
    n_group, shape = len(training_start), (len(plan.windows), *visit_day.shape)
    exposure = np.array([window.exposure(visit_day) for window in plan.windows.values()]).reshape(shape)
    return Schedule(
        training_start, np.full(n_group, -1, dtype=np.int32), np.ones((n_group, plan.training_days)), visit_day,
        np.ones(visit_day.shape, dtype=bool), exposure, exposure > 0,
    )  # fmt: skip


def train(plan: CalendarPlan, allocation: Allocation, start: date, rng: np.random.Generator) -> Days:
    """First training day of each training group, (G,)."""
    n_group = len(allocation.group_district)
    fill_time = _fill_time(plan, allocation, rng)
    opening = _day(start)
    first_day = np.full(n_group, -1, dtype=np.int64)

    env = simpy.Environment()
    teams = simpy.Resource(env, capacity=plan.facilitator_teams or n_group)

    def district(groups: Iterable[int]) -> Generator[Any, Any, None]:
        for group in groups:
            yield env.timeout(fill_time[group])
            env.process(training(group))

    baseline = next(iter(plan.visits.values()))
    notice = max(0, (baseline.before_training or 0) + baseline.spread - 1)  # nobody is seen before being recruited

    def training(group: int) -> Generator[Any, Any, None]:
        yield env.timeout(notice)
        with teams.request() as team:
            yield team
            first_day[group] = _next_open(plan, opening + math.ceil(env.now), start)
            yield env.timeout(first_day[group] - opening + plan.training_days - env.now)

    for place in np.unique(allocation.group_district):
        env.process(district(np.flatnonzero(allocation.group_district == place).tolist()))
    env.run()
    return first_day


def _fill_time(plan: CalendarPlan, allocation: Allocation, rng: np.random.Generator) -> Floats:
    """Days until everyone on each group's clock has been recruited: a sum of exponential gaps, (G,)."""
    size = np.bincount(allocation.clock, minlength=len(allocation.group_district))
    return rng.gamma(size) * (7.0 / plan.recruitment_per_district)


def _next_open(plan: CalendarPlan, ready: int, start: date) -> int:
    """First day from `ready` on that opens a run of `training_days` working days, none of them closed."""
    for n_day in (30, SEARCH_DAYS):
        day = ready + np.arange(n_day + plan.training_days - 1)
        is_open = (day + 3) % 7 < 5  # day 0, 1 January 1970, was a Thursday
        for period in plan.closed.values():
            is_open &= ~period.contains(day)
        runs = np.lib.stride_tricks.sliding_window_view(is_open, plan.training_days).all(axis=1)
        if runs.any():
            return ready + int(runs.argmax())
    raise InvalidInput([_never_open(ready, start)])


def _visit_day(visit: Visit, plan: CalendarPlan, training_start: Days, rng: np.random.Generator) -> Days:
    """(N,) date of one visit for participants whose group starts training on `training_start`."""
    if visit.before_training is not None:
        due = training_start - visit.before_training
    elif visit.after_training is not None:
        due = training_start + (plan.training_days - 1) + visit.after_training
    else:
        assert visit.months_after_training is not None
        due = add_months(training_start, visit.months_after_training)
    return np.asarray(due + rng.integers(-visit.spread, visit.spread, len(due), endpoint=True))


def add_months(day: Days, months: int) -> Days:
    """The same day of the month `months` later, or that month's last day: 31 August + 6 months is 28 February."""
    as_date = day.astype("datetime64[D]")
    month = as_date.astype("datetime64[M]")
    into = as_date - month.astype("datetime64[D]")
    target = month + months
    last = (target + 1).astype("datetime64[D]") - np.timedelta64(1, "D")
    return np.asarray(np.minimum(target.astype("datetime64[D]") + into, last).astype(np.int64))


def _day(when: date) -> int:
    return int(np.datetime64(when, "D").astype(np.int64))


def _never_open(ready: int, start: date) -> Problem:
    return Problem(
        "", 0, 0, "calendar.closed",
        f"a training group of the design that starts on {start} is ready on {np.datetime64(ready, 'D')} and finds no "
        f"run of open working days within {SEARCH_DAYS} days: shorten the closed periods or training_days",
    )  # fmt: skip
