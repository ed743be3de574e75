"""Who is trained when: recruitment by arithmetic, then training groups that queue for teams and interviewers, in SimPy.

A process per training group: it waits until it is full or its deadline has passed, asks for a facilitator team, finds
days on which everyone can be seen before the training, trains, and frees the team; after the final visit its wait-list
asks for a team in the same way. Participants are processes only where each is trained alone; there, the untreated hold
the place in the queue that they would have had, so that both arms share their dates. Where neither teams nor
interviewers are limited nothing queues, and the same dates come from array arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import simpy

from sim.calendar.days import LONGEST, NEVER, OpenDays, cannot, open_days
from sim.calendar.plan import CalendarPlan
from sim.calendar.recruitment import Enrolment, aside, recruit
from sim.calendar.teams import Teams
from sim.calendar.visits import Diary, Participants, Visits, trained_at_once, visited_at_once
from sim.trial import Allocation, Days, Floats, Ints, Names, Operations, Schedule


@dataclass(frozen=True, eq=False)
class WaitList:
    """Trainings of the untreated: those who share a clock and, where there are villages, a village. (W,) each."""

    clock: Days
    unit: Days
    people: Days
    start: Days
    team: Days


@dataclass(frozen=True, eq=False)
class Training:
    """What the queue, or the lack of one, makes of it: first day and team (G,), visits, wait-list, days on the road."""

    first: Days
    team: Ints
    visits: Visits
    wait_list: WaitList
    travel_days: int


def schedule(
    plan: CalendarPlan, allocation: Allocation, start: date, rng: np.random.Generator, names: Names
) -> tuple[Allocation, Schedule, Operations]:
    """One realised calendar of an allocation: who of it is recruited, their dates, and what it takes.

    start : the day on which the first districts open.  The allocation that is returned lacks the seats that stay empty
    and the people who are turned away. Raises InvalidInput where the calendar cannot be satisfied; it says which
    resource binds, in which district, from which date on.
    """
    days = open_days(plan, start)
    enrolment = recruit(plan, allocation, days, rng, names)
    kept = allocation.keep(enrolment.is_in)
    people = _participants(plan, kept, enrolment, rng)
    _check_arms(plan, allocation, kept, enrolment, days)
    clocks = np.unique(allocation.clock[enrolment.is_in]).astype(np.int64)
    complete = enrolment.complete[clocks]
    baseline = plan.baseline
    notice = max(0, (baseline.before_training or 0) + baseline.spread - 1)  # nobody is seen before being recruited
    is_queue = plan.facilitator_teams is not None or plan.interviewers is not None
    train = _in_queue if is_queue else _at_once
    training = train(plan, days, kept, people, complete + notice)
    dates = _schedule(plan, days, training)
    return kept, dates, _operations(plan, days, kept, enrolment, clocks, training)


def _participants(
    plan: CalendarPlan, allocation: Allocation, enrolment: Enrolment, rng: np.random.Generator
) -> Participants:
    """Those in the trial, whom `allocation` holds; numbers are drawn for every seat, so that one that stays empty moves
    no other's.
    """
    n, is_in = len(enrolment.is_in), enrolment.is_in
    luck = np.zeros((n, len(plan.later_visits), plan.n_attempt))
    if plan.appointment_kept is not None:
        luck = aside(rng, 2).random(luck.shape)
    spread = [rng.integers(-v.spread, v.spread, n, endpoint=True) for v in plan.visits.values()]
    clock, earliest = allocation.clock.astype(np.int64), np.floor(enrolment.day[is_in]).astype(np.int64)
    return Participants(clock, earliest, np.stack(spread, axis=1)[is_in], luck[is_in])


def _at_once(
    plan: CalendarPlan, days: OpenDays, allocation: Allocation, people: Participants, ready: Floats
) -> Training:
    """Nobody waits for anybody: array arithmetic."""
    first, baseline = trained_at_once(plan, days, people, np.ceil(ready).astype(np.int64))
    if (first >= NEVER).any():
        group = int(np.argmax(first))
        raise _binding(plan, days, allocation, group, ready[group], ready[group])
    visits = visited_at_once(plan, days, people, first, baseline)
    wait_list = _wait_list(plan, allocation)
    if len(wait_list.clock):
        final = np.full(len(wait_list.clock), -1)
        np.maximum.at(final, wait_list.unit[wait_list.unit >= 0], visits.day[wait_list.unit >= 0, -1])
        wait_list.start[:] = days.opens[final + 1]
        if (wait_list.start >= NEVER).any():
            unit = int(np.argmax(wait_list.start))
            raise _wait_list_never(days, int(allocation.group_district[wait_list.clock[unit]]), final[unit] + 1)
    return Training(first, np.full(len(first), -1, dtype=np.int32), visits, wait_list, 0)


def _in_queue(
    plan: CalendarPlan, days: OpenDays, allocation: Allocation, people: Participants, ready: Floats
) -> Training:
    """Groups wait for teams, and their training for interviewers: one process each."""
    env = simpy.Environment()
    teams, diary = Teams(env, plan.facilitator_teams, plan.travel or 0), Diary(plan, days, people)
    district = allocation.group_district.tolist()
    first, team_of = np.full(len(district), NEVER), np.full(len(district), -1, dtype=np.int32)
    members = _by_number(people.clock, len(district))
    wait_list = _wait_list(plan, allocation)
    waiting, later = _by_number(wait_list.unit, len(wait_list.clock)), _by_number(wait_list.clock, len(district))

    ready_on = ready.tolist()
    books_ahead = plan.interviewers is not None or plan.wait_list_trained

    def training(group: int) -> Generator[Any, Any, None]:
        yield env.timeout(ready_on[group])
        team, journey = yield teams.request(district[group])
        first[group] = day = diary.book_baseline(members[group], math.ceil(env.now + journey))
        if day >= NEVER:
            raise _binding(plan, days, allocation, group, ready_on[group], env.now)
        team_of[group] = team
        if books_ahead:
            diary.book_later(members[group], day)
        for unit in later[group]:
            env.process(wait_list_training(unit, district[group]))
        yield env.timeout(day + plan.training_days - env.now)
        teams.release(team)

    def wait_list_training(unit: int, place: int) -> Generator[Any, Any, None]:
        yield env.timeout(max(diary.day[-1][person] for person in waiting[unit]) + 1 - env.now)
        team, journey = yield teams.request(place)
        day = diary.opens_from(math.ceil(env.now + journey))
        if day >= NEVER:
            raise _wait_list_never(days, place, env.now)
        wait_list.start[unit], wait_list.team[unit] = day, team
        yield env.timeout(day + plan.training_days - env.now)
        teams.release(team)

    for group in range(len(district)):
        env.process(training(group))
    env.run()
    visits = diary.visits
    if not books_ahead:  # nothing waits for a visit
        visits = visited_at_once(plan, days, people, first, visits.day[:, 0])
    return Training(first, team_of, visits, wait_list, teams.travel_days)


def _by_number(number: Days, n: int) -> list[list[int]]:
    """The places at which each number 0 .. n - 1 stands."""
    found: list[list[int]] = [[] for _ in range(n)]
    for place, one in enumerate(number.tolist()):
        if one >= 0:
            found[one].append(place)
    return found


def _wait_list(plan: CalendarPlan, allocation: Allocation) -> WaitList:
    """The trainings that there will be, without their dates."""
    unit = np.full(allocation.n_participant, -1)
    untreated = ~allocation.is_trained if plan.wait_list_trained else np.zeros(len(unit), dtype=bool)
    key = allocation.clock[untreated].astype(np.int64) * (len(allocation.village_name) + 1)
    which, unit[untreated], people = np.unique(
        key + allocation.village[untreated] + 1, return_inverse=True, return_counts=True
    )
    clock = which // (len(allocation.village_name) + 1)
    return WaitList(clock, unit, people, np.full(len(clock), NEVER), np.full(len(clock), -1))


def _schedule(plan: CalendarPlan, days: OpenDays, training: Training) -> Schedule:
    day, each_day = training.visits.day, training.first[:, None] + np.arange(plan.training_days)
    return Schedule(
        days.first + training.first, training.team, days.availability[each_day], days.first + day,
        training.visits.is_held, days.exposure[:, day], days.inside[:, day],
    )  # fmt: skip


def _operations(
    plan: CalendarPlan, days: OpenDays, allocation: Allocation, enrolment: Enrolment, clocks: Days, training: Training
) -> Operations:
    wait_list, visits = training.wait_list, training.visits
    n_training = len(np.unique(allocation.clock[allocation.is_trained])) + len(wait_list.clock)
    per_day = plan.interviewers.per_day if plan.interviewers is not None else None
    ends = [visits.day.max(), training.first.max() + plan.training_days - 1]
    ends += [wait_list.start.max() + plan.training_days - 1] if len(wait_list.clock) else []
    return Operations(
        days.first + enrolment.opening, enrolment.screened, enrolment.ineligible, enrolment.refused,
        enrolment.enrolled, enrolment.turned_away,
        days.first + np.floor(enrolment.first[clocks]).astype(np.int64),
        days.first + np.floor(enrolment.complete[clocks]).astype(np.int64),
        n_training * plan.training_days, training.travel_days, visits.appointments,
        None if per_day is None else int((-(-visits.by_day // per_day)).sum()),
        wait_list.clock, days.first + wait_list.start, wait_list.team, wait_list.people, int(days.first + max(ends)),
    )  # fmt: skip


def _check_arms(
    plan: CalendarPlan, allocation: Allocation, kept: Allocation, enrolment: Enrolment, days: OpenDays
) -> None:
    """Raises where nobody is left in an arm that is compared, or a group is complete only after LONGEST days."""
    contrast = allocation.contrast
    compared = set(allocation.arm.tolist()) if contrast.control is None else {contrast.treated, contrast.control}
    for arm in sorted(compared - set(kept.arm.tolist())):
        name, places = allocation.arms[arm].name, np.unique(allocation.district[allocation.arm == arm])
        message = (
            f"nobody is left in arm '{name}', in any district: no group of it has {plan.smallest_group or 1} people"
        )
        raise cannot(days, "group_deadline", int(places[0]), enrolment.opening[places[0]], message)
    late = np.flatnonzero(enrolment.is_in & (enrolment.complete[allocation.clock] > LONGEST))
    if len(late):
        key = "recruitment_per_district" if plan.recruitment is None else "recruitment"
        district = int(allocation.district[late[0]])
        message = f"groups are not complete in {LONGEST // 366} years"
        raise cannot(days, key, district, enrolment.opening[district], message)


def _wait_list_never(days: OpenDays, district: int, since: float) -> Exception:
    message = f"the wait-list finds no facilitator team within {LONGEST // 366} years: more teams are needed"
    return cannot(days, "facilitator_teams", district, since, message)


def _binding(
    plan: CalendarPlan, days: OpenDays, allocation: Allocation, group: int, ready: float, now: float
) -> Exception:
    """Why a group that was ready is never trained: no open days, no team in time, or no interviewers before it."""
    district = int(allocation.group_district[group])
    if days.opens[min(math.ceil(ready), LONGEST)] >= NEVER:
        message = "a training group finds no run of open working days: shorten the closed periods or training_days"
        return cannot(days, "closed", district, ready, message)
    if now >= LONGEST:
        message = f"the queue for the {plan.facilitator_teams} teams takes longer than {LONGEST // 366} years"
        return cannot(days, "facilitator_teams", district, ready, message)
    key, message = "visits", "no open day for the baseline before any training: make its window longer"
    if plan.interviewers is not None:
        key = "interviewers"
        message = f"{plan.interviewers.capacity} interviews a day never see a training group before its training"
    return cannot(days, key, district, ready, message)
