"""What must hold in every calendar, whatever the plan; and that a queue in which nobody waits changes no date."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
import pytest
import simpy
from field import FULL, NAMES, allocation_of, as_dates, exactly, full_plan, is_open
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sim.calendar.days import add_months, due_day
from sim.calendar.plan import CalendarPlan
from sim.calendar.schedule import schedule
from sim.calendar.teams import Teams
from sim.errors import InvalidInput
from sim.trial import Allocation, Operations, Schedule

START = date(2027, 7, 5)
MANY = {"number": 1000, "per_day": 1000}
DESIGNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("individual", {"districts": 3, "participants_per_district": 40, "training_group_size": 7}),
    ("individual", {"districts": 2, "participants_per_district": 24, "training_group_size": None}),
    ("individual", {"districts": 4, "participants_per_district": 24, "training_group_size": 8,
                    "arms": {"control": {"format": "none"}, "mixed": {"format": "separate", "allocation": 2}}}),
    ("village", {"districts": 3, "villages_per_district": 4, "village_size": {"mean": 9, "cv": 0.3}}),
    ("single_arm", {"arms": {"mixed": {"format": "mixed", "participants": 20},
                             "apart": {"format": "apart", "participants": 9}}}),
)  # fmt: skip


def realised(plan: CalendarPlan, a: Allocation, seed: int = 0) -> tuple[Allocation, Schedule, Operations]:
    return schedule(plan, a, START, np.random.default_rng(seed), NAMES)


def assert_same(one: Any, other: Any, *but: str) -> None:
    for name in one.__dataclass_fields__:
        if name not in but:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("kind, changes", DESIGNS)
@pytest.mark.parametrize("without", [(), ("group_deadline", "smallest_group"), ("wait_list_trained",), ("seasons",)])
def test_a_queue_in_which_nobody_waits_gives_the_dates_of_array_arithmetic(
    kind: str, changes: dict[str, Any], without: tuple[str, ...]
) -> None:
    recruitment = {**FULL["recruitment"], "released_perpetrators": FULL["recruitment"]["survivors"]}
    free = ("travel", "facilitator_teams", "interviewers", *without)
    for seed in range(4):
        a = allocation_of(kind, seed, **changes)
        at_once = realised(full_plan(*free, recruitment=recruitment), a, seed)
        for resources in ({"facilitator_teams": 1000, "interviewers": MANY}, {"interviewers": MANY},
                          {"facilitator_teams": 1000, "travel": "2 days"}):  # fmt: skip
            plan = full_plan(*(key for key in free if key not in resources), recruitment=recruitment, **resources)
            queue = realised(plan, a, seed)
            assert_same(queue[0], at_once[0], "arms", "contrast")
            assert queue[0].arms == at_once[0].arms
            assert_same(queue[1], at_once[1], "team")
            assert_same(queue[2], at_once[2], "wait_list_team", "interviewer_days")
            assert at_once[2].interviewer_days is None and (at_once[1].team == -1).all()
            assert ((queue[1].team >= 0) == ("facilitator_teams" in resources)).all()


OPTIONAL = (
    "waves", "group_deadline", "smallest_group", "facilitator_teams", "travel", "interviewers", "appointment_kept",
    "working_days", "public_holidays", "community_work", "closed", "seasons",
)  # fmt: skip


def assumed(share: int) -> dict[str, object]:
    return exactly(f"{share}%")


@st.composite
def plans(draw: st.DrawFn) -> CalendarPlan:
    """Plans of all kinds, with or without each of the keys; what is refused is drawn again."""
    content = dict(FULL)
    for key in OPTIONAL:
        if draw(st.booleans()):
            del content[key]
    if draw(st.booleans()):
        del content["recruitment"]
        content["recruitment_per_district"] = f"{draw(st.integers(5, 300))} per week"
    else:
        pool = {"pool": exactly(draw(st.integers(5, 60)))} if draw(st.booleans()) else {}
        content["recruitment"] = {
            name: {"screened": f"{draw(st.integers(20, 200))} per week", "consent": assumed(90),
                   "eligible": assumed(draw(st.integers(40, 100))), **pool}
            for name in NAMES.stratum
        }  # fmt: skip
    content["wait_list_trained"] = draw(st.booleans())
    content["training_days"] = f"{draw(st.integers(1, 4))} days"
    if "facilitator_teams" in content:
        content["facilitator_teams"] = draw(st.integers(1, 5))
    if "interviewers" in content:
        content["interviewers"] = {"number": draw(st.integers(1, 6)), "per_day": draw(st.integers(2, 5))}
    if "appointment_kept" in content:
        content["appointment_kept"] = assumed(draw(st.integers(20, 100)))
    has_window = any(key in content for key in ("working_days", "public_holidays", "interviewers", "appointment_kept"))
    visits = {name: dict(visit) for name, visit in FULL["visits"].items()}
    visits["baseline"] = {"before_training": f"{draw(st.integers(1, 6))} days"}
    if has_window and draw(st.booleans()):
        visits["baseline"]["window"] = f"{draw(st.integers(1, 20))} days"
    for name in ("post", "six_months"):
        if not has_window:
            del visits[name]["window"]
        if "appointment_kept" not in content or draw(st.booleans()):
            del visits[name]["retry"]
    content["visits"] = visits
    try:
        return CalendarPlan.model_validate(content)
    except ValidationError:
        return draw(plans())


@given(plan=plans(), which=st.sampled_from(DESIGNS), seed=st.integers(0, 10**6))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_what_must_hold_in_every_calendar(plan: CalendarPlan, which: tuple[str, Any], seed: int) -> None:
    a = allocation_of(which[0], seed, **which[1])
    began = time.perf_counter()
    try:
        kept, dates, done = realised(plan, a, seed)
    except InvalidInput as error:
        [problem] = error.problems
        assert problem.field.startswith("calendar.") and "district" in problem.message and "from 20" in problem.message
        return
    finally:
        assert time.perf_counter() - began < 10
    people_are_conserved(plan, a, kept, done)
    nobody_trains_on_a_day_off(plan, dates, done)
    no_team_is_in_two_places(plan, kept, dates, done)
    visits_are_in_their_windows(plan, kept, dates, done)
    interviewers_are_enough(plan, kept, dates, done)


def people_are_conserved(plan: CalendarPlan, a: Allocation, kept: Allocation, done: Operations) -> None:
    np.testing.assert_array_equal(done.screened, done.ineligible + done.refused + done.enrolled)
    assert all((getattr(done, name) >= 0).all() for name in ("ineligible", "refused", "turned_away"))
    shape = done.screened.shape
    in_trial, planned = np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)
    np.add.at(in_trial, (kept.district, kept.stratum), 1)
    np.add.at(planned, (a.district, a.stratum), 1)
    np.testing.assert_array_equal(done.enrolled - done.turned_away, in_trial)
    assert (done.enrolled <= planned).all()
    if plan.group_deadline is None:
        np.testing.assert_array_equal(in_trial, planned)
        assert kept is a
    for s, name in enumerate(NAMES.stratum) if plan.recruitment is not None else ():
        assert plan.recruitment is not None
        pool = plan.recruitment[name].pool
        assert pool is None or (done.screened[:, s] <= pool.value).all()
    size = np.bincount(kept.training_group[kept.training_group >= 0], minlength=1)
    assert (size[size > 0] >= (plan.smallest_group or 1)).all()
    if plan.group_deadline is not None:
        assert (done.complete - done.first_recruit <= plan.group_deadline).all()
    assert (done.first_recruit >= done.opening[kept.group_district]).all()


def trainings(kept: Allocation, dates: Schedule, done: Operations) -> Iterator[tuple[int, int, int]]:
    """Team, first day and district of every training, wait-list included."""
    place = kept.group_district
    yield from zip(dates.team.tolist(), dates.training_start.tolist(), place.tolist(), strict=True)
    yield from zip(
        done.wait_list_team.tolist(), done.wait_list_start.tolist(), place[done.wait_list_clock].tolist(), strict=True
    )


def nobody_trains_on_a_day_off(plan: CalendarPlan, dates: Schedule, done: Operations) -> None:
    first = np.concatenate([dates.training_start, done.wait_list_start])
    for day in as_dates(np.unique(first[:, None] + np.arange(plan.training_days))):
        assert is_open(plan, day)
    assert dates.availability.shape == (len(dates.training_start), plan.training_days)
    assert ((dates.availability > 0) & (dates.availability <= 1)).all()


def no_team_is_in_two_places(plan: CalendarPlan, kept: Allocation, dates: Schedule, done: Operations) -> None:
    journeys = 0
    if plan.facilitator_teams is None:
        assert (dates.team == -1).all() and (done.wait_list_team == -1).all() and done.travel_days == 0
        return
    by_team = sorted(trainings(kept, dates, done))
    assert {team for team, _, _ in by_team} <= set(range(plan.facilitator_teams))
    for (team, first, place), (next_team, following, next_place) in itertools.pairwise(by_team):
        if team == next_team:
            moved = place != next_place
            journeys += moved
            assert following - first >= plan.training_days + moved * (plan.travel or 0)
    assert done.travel_days == journeys * (plan.travel or 0)


def visits_are_in_their_windows(plan: CalendarPlan, kept: Allocation, dates: Schedule, done: Operations) -> None:
    start = dates.training_start[kept.clock]
    baseline, visits = plan.baseline, list(plan.visits.values())
    assert dates.is_held[:, 0].all() and (dates.visit_day[:, 0] <= start).all()
    assert (dates.visit_day[:, 0] >= done.first_recruit[kept.clock]).all()
    assert (dates.visit_day[:, 0] <= start - (baseline.before_training or 0) + baseline.spread).all()
    if baseline.window is not None:
        earliest = start - (baseline.before_training or 0) - baseline.spread - baseline.window
        assert (dates.visit_day[:, 0] >= earliest).all()
    for v, visit in enumerate(visits[1:], start=1):
        day, held = dates.visit_day[:, v], dates.is_held[:, v]
        due = due_day(visit, plan.training_days, start)
        assert (day >= due - visit.spread).all() and (day >= start + plan.training_days - 1).all()
        assert (day >= dates.visit_day[:, v - 1]).all()
        if visit.window is not None:
            assert (day <= due + visit.spread + visit.window).all()
        assert held.all() or plan.appointment_kept is not None or visit.window is not None
    if plan.on_working_days:
        for day_held in as_dates(np.unique(dates.visit_day[dates.is_held])):
            assert is_open(plan, day_held)
    for unit, clock in enumerate(done.wait_list_clock):
        untreated = (kept.clock == clock) & ~kept.is_trained
        assert done.wait_list_start[unit] > dates.visit_day[untreated, -1].min()
    untreated_clocks = np.unique(kept.clock[~kept.is_trained])
    assert set(done.wait_list_clock.tolist()) == (set(untreated_clocks.tolist()) if plan.wait_list_trained else set())
    assert done.wait_list_people.sum() == plan.wait_list_trained * (~kept.is_trained).sum()
    for w, window in enumerate(plan.windows.values()):
        np.testing.assert_array_equal(dates.exposure[w], window.exposure(dates.visit_day))
        np.testing.assert_array_equal(dates.inside[w], window.contains(dates.visit_day))


def interviewers_are_enough(plan: CalendarPlan, kept: Allocation, dates: Schedule, done: Operations) -> None:
    assert (done.appointments >= dates.is_held.sum(axis=0)).all()
    assert done.appointments[0] == kept.n_participant
    assert done.last_day >= dates.visit_day.max() and done.last_day >= dates.training_start.max()
    if plan.interviewers is None:
        assert done.interviewer_days is None
        return
    held = dates.visit_day[dates.is_held]
    assert np.bincount(held - held.min()).max() <= plan.interviewers.capacity
    assert done.interviewer_days is not None
    assert done.interviewer_days * plan.interviewers.per_day >= done.appointments.sum()


def test_every_untreated_person_is_seen_before_the_wait_list_is_trained() -> None:
    a = allocation_of("village", 1, districts=2, villages_per_district=6)
    kept, dates, done = realised(full_plan("waves"), a)
    seen = 0
    for clock in np.unique(done.wait_list_clock):
        villages = np.unique(kept.village[(kept.clock == clock) & ~kept.is_trained])
        mine = done.wait_list_clock == clock
        last = [dates.visit_day[(kept.village == v), -1].max() for v in villages]
        assert (done.wait_list_start[mine] > last).all() and mine.sum() == len(villages)
        seen += int(mine.sum())
    assert done.team_days == 3 * (len(dates.training_start) + seen)


@pytest.mark.parametrize("kept_share", [30, 60, 90])
def test_share_of_visits_held_against_theory(kept_share: int) -> None:
    """Post has 1 + 14 // 3 = 5 appointments at most; where all days are open each is kept with the same probability."""
    visits = {**FULL["visits"], "six_months": {"months_after_training": "6 months", "window": "0 days"}}
    plan = full_plan(
        "recruitment", "waves", "group_deadline", "smallest_group", "facilitator_teams", "travel", "interviewers",
        "working_days", "public_holidays", "community_work", "closed", "seasons",
        recruitment_per_district="100 per week", visits=visits, appointment_kept=assumed(kept_share),
    )  # fmt: skip
    plan = plan.model_copy(update={"public_holidays": None})
    a = allocation_of("individual", districts=10, participants_per_district=600, training_group_size=60)
    _, dates, _ = realised(plan, a)
    p = kept_share / 100
    monday_to_friday = 1 - (1 - p) ** 5
    share = dates.is_held[:, 1].mean()
    # a weekend takes an appointment away from some: between 4 and 5 of them
    assert 1 - (1 - p) ** 4 - 0.03 < share < monday_to_friday + 4 * np.sqrt(0.25 / a.n_participant)
    due_open = np.array([day.weekday() < 5 for day in as_dates(add_months(dates.training_start[a.clock], 6))])
    final = dates.is_held[:, 2]
    assert not final[~due_open].any()
    assert abs(final[due_open].mean() - p) < 4 * np.sqrt(p * (1 - p) / due_open.sum())


def test_a_missed_window_closes_on_its_last_day() -> None:
    plan = full_plan("interviewers", "facilitator_teams", "travel", appointment_kept=assumed(5))
    a = allocation_of("individual", districts=2, participants_per_district=40, training_group_size=10)
    kept, dates, _ = realised(plan, a)
    missed = ~dates.is_held[:, 1]
    due = due_day(plan.later_visits[0], 3, dates.training_start[kept.clock])
    assert missed.mean() > 0.5
    np.testing.assert_array_equal(dates.visit_day[missed, 1], due[missed] + 14)


def test_seasons_keep_people_from_appointments() -> None:
    """Half as many appointments are kept on days of a season whose factor is one half."""
    season = {"all": {"first": "01-01", "last": "12-31", "availability": assumed(50)}}
    visits = {**FULL["visits"], "six_months": {"months_after_training": "6 months", "window": "9 days"}}
    a = allocation_of("individual", districts=4, participants_per_district=300, training_group_size=30)
    keys = ("interviewers", "facilitator_teams", "travel", "group_deadline", "smallest_group", "recruitment")
    plan = full_plan(*keys, seasons=season, visits=visits, recruitment_per_district="400 per week")
    _, dates, _ = realised(plan, a)
    p = 0.8 * 0.5
    assert abs(dates.is_held[:, 2].mean() - p) < 4 * np.sqrt(p * (1 - p) / a.n_participant)
    assert (dates.availability == 0.5).all()


def test_a_team_that_travels_takes_the_group_beside_it_first() -> None:
    """One team, groups asking from districts 0, 1, 0: it stays for the third, then makes one journey of 2 days."""
    env = simpy.Environment()
    teams = Teams(env, 1, travel=2)
    trained: list[tuple[int, float, int]] = []

    def group(number: int, asks: float, district: int) -> Iterator[Any]:
        yield env.timeout(asks)
        team, journey = yield teams.request(district)
        trained.append((number, env.now + journey, journey))
        yield env.timeout(journey + 3)
        teams.release(team)

    for number, (asks, district) in enumerate([(0, 0), (1, 1), (2, 0), (3, 1)]):
        env.process(group(number, asks, district))
    env.run()
    assert trained == [(0, 0, 0), (2, 3, 0), (1, 8, 2), (3, 11, 0)]
    assert teams.travel_days == 2


def test_a_group_takes_the_free_team_that_is_in_its_district() -> None:
    env = simpy.Environment()
    teams = Teams(env, 2, travel=2)
    first, second = teams.request(0).value[0], teams.request(1).value[0]
    teams.release(second)
    teams.release(first)
    assert teams.request(0).value == (first, 0)
    assert teams.request(0).value == (second, 2)


def problem_of(plan: CalendarPlan, a: Allocation) -> tuple[str, str]:
    began = time.perf_counter()
    with pytest.raises(InvalidInput) as caught:
        realised(plan, a)
    assert time.perf_counter() - began < 5
    [problem] = caught.value.problems
    return problem.field, problem.message


def test_what_binds_message() -> None:
    a = allocation_of("individual", districts=3, participants_per_district=40, training_group_size=20)
    field, message = problem_of(full_plan(interviewers={"number": 1, "per_day": 1}), a)
    assert field == "calendar.interviewers"
    assert "district 2, from 2027-07-10 on" in message and "1 interviews a day never see a training group" in message
    always = {"ever": {"first": "01-02", "last": "01-01"}}
    field, message = problem_of(full_plan("recruitment", recruitment_per_district="40 per week", closed=always), a)
    assert field == "calendar.closed" and "shorten the closed periods or training_days" in message
    visits = {**FULL["visits"], "baseline": {"before_training": "4 days", "window": "0 days"}}
    working = {"recruitment_per_district": "40 per week", "working_days": "monday to friday", "training_days": "5 days"}
    for resources in (
        (),
        ("facilitator_teams", "travel"),
    ):  # 4 days before a Monday: Thursday
        keys = ("recruitment", "interviewers", "community_work", "public_holidays", *resources)
        assert realised(full_plan(*keys, visits=visits, **working), a)[1].is_held[:, 0].all()
        never = {**visits, "baseline": {"before_training": "2 days", "window": "0 days"}}
        field, message = problem_of(full_plan(*keys, visits=never, **working), a)
        assert field == "calendar.visits" and "no open day for the baseline before any training" in message
    tiny = {name: {**part, "pool": exactly(8)} for name, part in FULL["recruitment"].items()}
    field, message = problem_of(full_plan(recruitment=tiny, smallest_group=10), a)
    assert field == "calendar.group_deadline" and "nobody is left in arm 'control'" in message


def test_too_few_teams_for_the_queue_message() -> None:
    a = allocation_of("individual", districts=2, participants_per_district=3000, training_group_size=2)
    plan = full_plan("recruitment", "interviewers", "group_deadline", "smallest_group", "wait_list_trained",
                     recruitment_per_district="4000 per week", facilitator_teams=1, travel="30 days",
                     waves={"districts": 1, "every": "1 day"})  # fmt: skip
    field, message = problem_of(plan, a)
    assert field == "calendar.facilitator_teams"
    assert "the queue for the 1 teams takes longer than 15 years" in message


def test_keep_numbers_anew_without_gaps_and_keeps_names() -> None:
    for kind, changes in DESIGNS:
        a = allocation_of(kind, 3, **changes)
        rng = np.random.default_rng(5)
        gone = rng.random(len(a.group_district)) < 0.3
        is_kept = ~gone[a.clock] & (rng.random(a.n_participant) < 0.7)
        b = a.keep(is_kept)
        assert b.n_participant == is_kept.sum() and b.arms == a.arms and b.contrast == a.contrast
        for name in ("arm", "stratum", "district", "cluster", "member"):
            np.testing.assert_array_equal(getattr(b, name), getattr(a, name)[is_kept])
        assert set(b.clock.tolist()) == set(range(len(b.group_district)))
        np.testing.assert_array_equal(b.group_district[b.clock], b.district)
        np.testing.assert_array_equal(b.group_name[b.clock], a.group_name[a.clock][is_kept])
        np.testing.assert_array_equal(b.training_group >= 0, a.training_group[is_kept] >= 0)
        grouped = b.training_group >= 0
        np.testing.assert_array_equal(b.training_group[grouped], b.clock[grouped])
        if a.has_villages:
            assert set(b.village.tolist()) == set(range(len(b.village_name)))
            np.testing.assert_array_equal(b.village_name[b.village], a.village_name[a.village][is_kept])
        else:
            np.testing.assert_array_equal(b.village, a.village[is_kept])
        assert {column.dtype for column in (b.clock, b.village, b.training_group)} == {np.dtype(np.int32)}
        assert a.keep(np.ones(a.n_participant, dtype=bool)) is a
