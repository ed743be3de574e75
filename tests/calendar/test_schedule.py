from __future__ import annotations

import heapq
import math
import time
from calendar import monthrange
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import SIMPLE
from planned import NAMES, design
from pydantic import ValidationError

from sim.calendar.days import add_months
from sim.calendar.plan import CalendarPlan
from sim.calendar.schedule import schedule as realised
from sim.errors import InvalidInput
from sim.run.blocks import realise
from sim.scenario.load import read_scenario
from sim.trial import Allocation, Schedule

START = date(2027, 10, 4)
CLOSED = {"commemoration_week": {"first": "04-07", "last": "04-13"}, "year_end": {"first": "12-24", "last": "01-02"}}
VISITS = {
    "baseline": {"before_training": "1 day"},
    "post": {"after_training": "0 days"},
    "six_months": {"months_after_training": "6 months", "spread": "7 days"},
}


def plan(**changes: Any) -> CalendarPlan:
    return CalendarPlan.model_validate(
        {"recruitment_per_district": "20 per week", "facilitator_teams": 2, "training_days": "3 days",
         "visits": VISITS, "closed": CLOSED, **changes}
    )  # fmt: skip


def allocation_of(kind: str, seed: int = 0, **changes: Any) -> Allocation:
    allocation: Allocation = design(kind, **changes).allocate(NAMES, np.random.default_rng(seed))
    return allocation


def schedule(p: CalendarPlan, allocation: Allocation, start: date, rng: np.random.Generator) -> Schedule:
    """The dates of a calendar in which everyone is recruited."""
    kept, dates, _ = realised(p, allocation, start, rng, NAMES)
    assert kept is allocation
    return dates


def is_open(day: date, closed: dict[str, dict[str, str]]) -> bool:
    month_day = f"{day:%m-%d}"
    for period in closed.values():
        first, last = period["first"], period["last"]
        inside = first <= month_day <= last if first <= last else month_day >= first or month_day <= last
        if inside:
            return False
    return day.weekday() < 5


def dates_by_event_list(
    p: CalendarPlan, allocation: Allocation, start: date, gaps: np.ndarray, closed: dict[str, dict[str, str]]
) -> list[date]:
    """Training dates by a sorted list of ready groups and a heap of the days on which teams become free."""
    baseline = next(iter(p.visits.values()))
    lead = max(0, (baseline.before_training or 0) + baseline.spread - 1)
    ready = []
    for district in set(allocation.group_district.tolist()):
        now = 0.0
        for group in np.flatnonzero(allocation.group_district == district):
            now += float(gaps[group])
            ready.append((now + lead, int(group)))
    free = [0] * p.facilitator_teams
    found = {}
    for when, group in sorted(ready):
        earliest = max(math.ceil(when), heapq.heappop(free))
        day = start + timedelta(days=earliest)
        while not all(is_open(day + timedelta(days=i), closed) for i in range(p.training_days)):
            day += timedelta(days=1)
        found[group] = day
        heapq.heappush(free, (day - start).days + p.training_days)
    return [found[group] for group in range(len(allocation.group_district))]


def recruited_gaps(p: CalendarPlan, allocation: Allocation, rng: np.random.Generator) -> np.ndarray:
    """Weeks to recruit everyone on each group's clock are gamma with shape their number; the stream's first use."""
    size = np.array([np.sum(allocation.clock == g) for g in range(len(allocation.group_district))])
    return rng.gamma(size) * 7.0 / p.recruitment_per_district


def as_dates(day: np.ndarray) -> list[date]:
    return [date(1970, 1, 1) + timedelta(days=int(d)) for d in day]


@pytest.mark.parametrize("training_days", [1, 2, 3, 5])
@pytest.mark.parametrize("teams", [1, 3, 50])
@pytest.mark.parametrize("before", [1, 10])
def test_training_dates_against_slow_version(training_days: int, teams: int, before: int) -> None:
    p = plan(
        training_days=f"{training_days} days", facilitator_teams=teams,
        visits={**VISITS, "baseline": {"before_training": f"{before} days"}},
    )  # fmt: skip
    for seed in range(6):
        for kind, changes in (
            ("individual", {"districts": 4, "training_group_size": 5}),
            ("village", {"districts": 3, "villages_per_district": 8}),
        ):
            a = allocation_of(kind, seed, **changes)
            found = schedule(p, a, START, np.random.default_rng(seed)).training_start
            gaps = recruited_gaps(p, a, np.random.default_rng(seed))
            assert as_dates(found) == dates_by_event_list(p, a, START, gaps, CLOSED)


@pytest.fixture(scope="module")
def shipped() -> list[tuple[Allocation, Schedule]]:
    scenario = read_scenario(SIMPLE)
    drawn = [
        realise(scenario, name, number) for name in ("ind_4_inside", "ind_8_formats", "vil_4") for number in range(8)
    ]
    return [(r.allocation, r.schedule) for r in drawn]


def test_training_falls_on_three_working_days_none_closed(shipped: list[tuple[Allocation, Schedule]]) -> None:
    for _, s in shipped:
        for first in as_dates(s.training_start):
            assert all(is_open(first + timedelta(days=i), CLOSED) for i in range(3))


def test_never_more_groups_at_once_than_teams() -> None:
    p = plan(facilitator_teams=2, recruitment_per_district="400 per week")
    a = allocation_of("individual", districts=4, training_group_size=5)
    first = schedule(p, a, START, np.random.default_rng(1)).training_start
    busy = [int(np.sum((first <= day) & (day < first + 3))) for day in range(first.min(), first.max() + 3)]
    assert max(busy) == 2


def test_teams_left_out_are_as_many_as_are_needed() -> None:
    a = allocation_of("individual", districts=4, training_group_size=5)
    many, unsaid = (
        schedule(plan(**changes), a, START, np.random.default_rng(1))
        for changes in ({"facilitator_teams": 1000}, {"facilitator_teams": None})
    )
    np.testing.assert_array_equal(unsaid.training_start, many.training_start)
    np.testing.assert_array_equal(unsaid.visit_day, many.visit_day)


def test_people_trained_one_by_one_start_as_they_are_recruited() -> None:
    p = plan(facilitator_teams=None, training_days="1 day", closed={}, recruitment_per_district="7 per week")
    a = allocation_of("individual", districts=2, participants_per_district=100, training_group_size=None)
    first = schedule(p, a, START, np.random.default_rng(1)).training_start
    for district in range(2):
        here = first[a.group_district == district]
        assert (np.diff(here) >= 0).all()
        assert abs((here[-1] - here[0]) - 99) < 4 * np.sqrt(99) + 4  # a day each, weekends waited for


def test_recruitment_rate_against_theory() -> None:
    """With teams to spare, the last group is ready after n recruits: n weeks / rate on average, then to a Monday."""
    p = plan(facilitator_teams=1000, training_days="1 day", closed={}, recruitment_per_district="3 per week")
    a = allocation_of("individual", districts=1, participants_per_district=60)
    opening = np.datetime64(START, "D").astype(np.int64)
    days = np.array(
        [schedule(p, a, START, np.random.default_rng(i)).training_start.max() - opening for i in range(800)]
    )
    mcse = days.std(ddof=1) / np.sqrt(len(days))
    waited = 0.5 + 3 / 7  # to midnight; Saturday 2 days and Sunday 1 day of seven
    assert abs(days.mean() - 60 * 7 / 3 - waited) < 4 * mcse
    assert days.std(ddof=1) == pytest.approx(np.sqrt(60) * 7 / 3, rel=0.11)


@given(
    training_days=st.integers(1, 5), before=st.integers(0, 30), after=st.integers(0, 20), months=st.integers(1, 12),
    spreads=st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 20)), seed=st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=60, deadline=None, derandomize=True)
def test_visits_follow_recruitment_and_training_in_order(
    training_days: int, before: int, after: int, months: int, spreads: tuple[int, int, int], seed: int
) -> None:
    visits = {
        "baseline": {"before_training": f"{before} days", "spread": f"{spreads[0]} days"},
        "post": {"after_training": f"{after} days", "spread": f"{spreads[1]} days"},
        "final": {"months_after_training": f"{months} months", "spread": f"{spreads[2]} days"},
    }
    try:
        p = plan(training_days=f"{training_days} days", visits=visits)
    except ValidationError:
        return
    a = allocation_of("individual", training_group_size=10)
    s = schedule(p, a, START, np.random.default_rng(seed))
    gaps = recruited_gaps(p, a, np.random.default_rng(seed))
    recruited = np.concatenate([np.cumsum(gaps[a.group_district == d]) for d in np.unique(a.group_district)])
    recruited_on = np.datetime64(START, "D").astype(np.int64) + np.floor(recruited)[a.clock]
    first = s.training_start[a.clock]
    baseline, post, final = s.visit_day.T
    assert (baseline >= recruited_on).all()
    assert (np.abs(baseline - (first - before)) <= spreads[0]).all() and (baseline <= first).all()
    last = first + training_days - 1
    assert (np.abs(post - (last + after)) <= spreads[1]).all() and (post >= last).all() and (post < final).all()
    assert (np.abs(final - add_months(first, months)) <= spreads[2]).all()


def test_spread_takes_every_day_equally_often() -> None:
    a = allocation_of("individual", districts=6, participants_per_district=2000)
    s = schedule(plan(), a, START, np.random.default_rng(2))
    shift = s.visit_day[:, 2] - add_months(s.training_start[a.clock], 6)
    count = np.bincount(shift + 7, minlength=15)
    assert len(count) == 15
    expected = len(shift) / 15
    assert (np.abs(count - expected) < 4 * np.sqrt(expected * 14 / 15)).all()


def months_later(day: date, months: int) -> date:
    month = day.month - 1 + months
    year, month = day.year + month // 12, month % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


@given(st.dates(date(1950, 1, 1), date(2090, 12, 31)), st.integers(0, 120))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_add_months_against_the_calendar_module(day: date, months: int) -> None:
    relativedelta = pytest.importorskip("dateutil.relativedelta").relativedelta
    [found] = as_dates(add_months(np.array([(day - date(1970, 1, 1)).days]), months))
    assert found == months_later(day, months) == day + relativedelta(months=months)


def test_add_months_at_month_ends() -> None:
    days = np.array(["2026-08-31", "2027-08-31", "2027-08-29", "2027-12-31", "2028-02-29"], dtype="M8[D]")
    found = add_months(days.astype(np.int64), 6).astype("M8[D]").astype(str)
    assert found.tolist() == ["2027-02-28", "2028-02-29", "2028-02-29", "2028-06-30", "2028-08-29"]


def test_exposure_is_that_of_the_visit_days(shipped: list[tuple[Allocation, Schedule]]) -> None:
    seen = set()
    for _, s in shipped:
        assert s.exposure.shape == (1, *s.visit_day.shape)
        for day, exposure in zip(as_dates(s.visit_day.ravel()), s.exposure.ravel(), strict=True):
            inside, peak = "04-07" <= f"{day:%m-%d}" <= "07-04", "04-07" <= f"{day:%m-%d}" <= "04-13"
            assert exposure == (2.0 if peak else 1.0 if inside else 0.0)
            seen.add(exposure)
    assert seen == {0.0, 1.0, 2.0}


def test_no_windows_no_exposure() -> None:
    a = allocation_of("individual")
    assert schedule(plan(), a, START, np.random.default_rng(0)).exposure.shape == (0, a.n_participant, 3)


def test_same_seed_same_calendar_whatever_other_designs_there_are() -> None:
    scenario = read_scenario(SIMPLE)
    alone = scenario.with_changes(designs=["vil_4"])
    for number in (0, 5):
        one, two = realise(scenario, "vil_4", number), realise(alone, "vil_4", number)
        np.testing.assert_array_equal(one.schedule.visit_day, two.schedule.visit_day)
        np.testing.assert_array_equal(one.allocation.arm, two.allocation.arm)
    other = realise(scenario, "vil_4", 1).schedule.training_start
    assert not np.array_equal(other, realise(scenario, "vil_4", 0).schedule.training_start)


@pytest.mark.parametrize(
    ("closed", "training_days"),
    [
        ({"always": {"first": "01-01", "last": "12-31"}}, "1 day"),
        ({"always": {"first": "07-01", "last": "06-30"}}, "3 days"),
    ],
)
def test_closed_for_ever_ends_quickly(closed: dict[str, dict[str, str]], training_days: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InvalidInput):
        schedule(plan(closed=closed, training_days=training_days), allocation_of("individual"), START,
                 np.random.default_rng(0))  # fmt: skip
    assert time.perf_counter() - began < 1


def test_closed_for_ever_message() -> None:
    closed = {"always": {"first": "01-01", "last": "12-31"}}
    with pytest.raises(InvalidInput) as caught:
        schedule(plan(closed=closed), allocation_of("individual"), START, np.random.default_rng(0))
    [problem] = caught.value.problems
    assert problem.field == "calendar.closed" and "shorten the closed periods" in str(caught.value)
    assert "design that starts on 2027-10-04, district 2, from 2027-10-13 on" in problem.message
