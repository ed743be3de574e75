"""Who enrols when. Recruitment does not queue: enrolments are array arithmetic, the same in every path.

People of one stratum come to be screened in a district as a Poisson process whose rate the seasons thin; each is
eligible and consents, or not. The k-th who enrols takes the next free seat of that stratum, in the order of the
training groups. With a deadline, a group closes so long after its first recruit, and its free seats stay empty.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from sim.calendar.days import LONGEST, OpenDays, cannot
from sim.calendar.plan import CalendarPlan
from sim.trial import Allocation, Days, Flags, Floats, Names


@dataclass(frozen=True, eq=False)
class Enrolment:
    """Who of an allocation is in the trial, and what it took; D districts, S strata, G clocks.

    opening : (D,) day on which each district opens.
    day : (N,) day, with its fraction, on which each seat is taken; inf = never.
    first, complete : (G,) first recruit on each clock, and the day on which it waits no longer: full or past the
        deadline; inf where nobody came.
    is_in : (N,) whether the seat is taken and its training group trains.
    screened, ineligible, refused, enrolled, turned_away : (D, S) people; enrolled counts those turned away later.
    """

    opening: Days
    day: Floats
    first: Floats
    complete: Floats
    is_in: Flags
    screened: Days
    ineligible: Days
    refused: Days
    enrolled: Days
    turned_away: Days


@dataclass(frozen=True, eq=False)
class _Arrivals:
    """Enrolments in the order of the seats, which are sorted by district, queue and clock; (N,) each.

    A queue is a stratum or, at one rate for everyone, all of them.  number : how many were screened up to each.
    """

    seat: Days
    queue: Days
    time: Floats
    number: Days


def recruit(
    plan: CalendarPlan, allocation: Allocation, days: OpenDays, rng: np.random.Generator, names: Names
) -> Enrolment:
    """Fills the seats of an allocation. Raises InvalidInput where they cannot be filled, or not in LONGEST days."""
    n_district = int(allocation.group_district.max()) + 1
    opening = np.zeros(n_district, dtype=np.int64)
    if plan.waves is not None:
        opening = np.arange(n_district) // plan.waves.districts * plan.waves.every
    if days.worked is not None and days.worked[-1] == 0:
        raise cannot(days, "closed", 0, 0, "nobody is ever screened: shorten the closed periods")
    apart = aside(rng, 1)
    luck = apart.random(allocation.n_participant)
    arrive = _at_one_rate if plan.recruitment is None else _by_stratum
    arrivals = arrive(plan, allocation, rng, luck, names)
    time = _in_days(arrivals.time, opening[allocation.district[arrivals.seat]], days)
    if plan.group_deadline is None:
        _check_all_come(plan, allocation, days, arrivals, time, opening, names)
        used, day = np.ones(len(time), dtype=bool), np.empty(len(time))
        day[arrivals.seat] = time
        complete = _by_clock(np.maximum, -np.inf, allocation, day)
    else:
        used, day, complete = _with_deadline(plan.group_deadline, allocation, arrivals, time)
    first = _by_clock(np.minimum, np.inf, allocation, day)
    is_in = np.isfinite(day) & _trains(plan, allocation, day)[allocation.clock]
    counts = _counts(plan, allocation, arrivals, used, np.isfinite(day), is_in, apart, names)
    return Enrolment(opening, day, first, complete, is_in, *counts)


def aside(rng: np.random.Generator, number: int) -> np.random.Generator:
    """Stream `number` beside a generator, whose own next draws it does not move."""
    bits = rng.bit_generator
    assert isinstance(bits, np.random.Philox | np.random.PCG64)
    return np.random.Generator(bits.jumped(number))


def _at_one_rate(
    plan: CalendarPlan, allocation: Allocation, rng: np.random.Generator, luck: Floats, names: Names
) -> _Arrivals:
    """Everyone who is screened enrols. A clock of n people takes a gamma(n) time; given that, the others come
    uniformly before its last: n - 1 order statistics, here n uniforms over the largest of them.
    """
    del names
    assert plan.recruitment_per_district is not None
    clock, district = allocation.clock, allocation.group_district
    seat = np.lexsort((luck, clock, allocation.district))
    took = rng.gamma(np.bincount(clock, minlength=len(district))) * (7.0 / plan.recruitment_per_district)
    begin = np.empty_like(took)
    for place in np.unique(district):
        here = np.flatnonzero(district == place)
        begin[here] = np.concatenate([[0.0], np.cumsum(took[here])[:-1]])
    largest = _by_clock(np.maximum, 0.0, allocation, luck)
    time = begin[clock] + took[clock] * (luck / largest[clock])
    place = allocation.district[seat].astype(np.int64)
    return _Arrivals(seat, place, time[seat], np.arange(1, len(seat) + 1) - np.searchsorted(place, place))


def _by_stratum(
    plan: CalendarPlan, allocation: Allocation, rng: np.random.Generator, luck: Floats, names: Names
) -> _Arrivals:
    """Screened up to an enrolment: geometric; they come in a gamma time. Nobody comes once the pool is screened."""
    assert plan.recruitment is not None
    n_stratum, stratum = len(names.stratum), allocation.stratum
    screening = [plan.recruitment[name] for name in names.stratum]
    rate = np.array([s.screened / 7.0 for s in screening])
    pool = np.array([np.inf if s.pool is None else s.pool.value for s in screening])
    seat = np.lexsort((luck, allocation.clock, stratum, allocation.district))
    mine, place = stratum[seat], allocation.district[seat]
    number = rng.geometric(np.array([s.enrolled for s in screening])[mine])
    gap = rng.gamma(number) / rate[mine]
    queue = place.astype(np.int64) * n_stratum + mine
    number = _running_sum(number, queue)
    time = np.where(number <= pool[mine], _running_sum(gap, queue), np.inf)
    return _Arrivals(seat, queue, time, number)


def _running_sum(x: np.ndarray, queue: Days) -> np.ndarray:
    """Sums from the start of each queue on; queues are runs of equal numbers."""
    total = np.cumsum(x)
    begin = np.searchsorted(queue, queue)
    return np.asarray(total - (total - x)[begin])


def _in_days(time: Floats, opening: Days, days: OpenDays) -> Floats:
    """Days, counted from the start of the design, on which the thinned rate has been at work for `time` days."""
    if days.worked is None:
        return opening + time
    return np.interp(days.worked[opening] + time, days.worked, np.arange(len(days.worked)), right=np.inf)


def _with_deadline(
    deadline: int, allocation: Allocation, arrivals: _Arrivals, time: Floats
) -> tuple[Flags, Floats, Floats]:
    """Groups in turn take, of each queue, those who come before they are full or closed: (used, day, complete).

    Whether a group takes an arrival depends on its first recruit alone, which those before it have left to it.
    """
    queues, begin, size = (x.tolist() for x in np.unique(arrivals.queue, return_index=True, return_counts=True))
    following = dict(zip(queues, begin, strict=True))
    end = {queue: at + n for queue, at, n in zip(queues, begin, size, strict=True)}
    complete = np.full(len(allocation.group_district), np.inf)
    when, taken, comes = time.tolist(), list[int](), list[int]()  # seats, and who takes each
    for group, mine in enumerate(_seats_by_clock(allocation, arrivals)):
        first = min((when[following[queue]] for queue, _ in mine if following[queue] < end[queue]), default=np.inf)
        if first == np.inf:
            continue
        last, is_full = first, True
        for queue, seats in mine:
            at = following[queue]
            n = min(bisect_right(when, first + deadline, at, end[queue]) - at, len(seats))
            taken += seats[:n]
            comes += range(at, at + n)
            following[queue] = at + n
            last = max(last, when[at + n - 1]) if n else last
            is_full &= n == len(seats)
        complete[group] = last if is_full else first + deadline
    used, day = np.zeros(len(time), dtype=bool), np.full(len(time), np.inf)
    used[comes] = True
    day[taken] = time[comes]
    return used, day, complete


def _seats_by_clock(allocation: Allocation, arrivals: _Arrivals) -> list[list[tuple[int, list[int]]]]:
    """For each clock its queues, each with its seats in the order in which they are taken."""
    clock = allocation.clock[arrivals.seat]
    starts = np.flatnonzero(np.diff(arrivals.queue, prepend=-1) | np.diff(clock, prepend=-1))
    found: list[list[tuple[int, list[int]]]] = [[] for _ in allocation.group_district]
    for begin, end in zip(starts.tolist(), [*starts[1:].tolist(), len(clock)], strict=True):
        found[clock[begin]].append((int(arrivals.queue[begin]), arrivals.seat[begin:end].tolist()))
    return found


def _by_clock(best: np.ufunc, start: float, allocation: Allocation, value: Floats) -> Floats:
    """(G,) smallest or largest value of the people on each clock."""
    found = np.full(len(allocation.group_district), start)
    best.at(found, allocation.clock, value)
    return found


def _trains(plan: CalendarPlan, allocation: Allocation, day: Floats) -> Flags:
    """(G,) whether those who came make a training group; where people are trained one by one, always."""
    grouped = allocation.training_group >= 0
    size = np.bincount(allocation.clock[grouped & np.isfinite(day)], minlength=len(allocation.group_district))
    planned = np.bincount(allocation.clock[grouped], minlength=len(allocation.group_district))
    return np.asarray((planned == 0) | (size >= (plan.smallest_group or 1)))


def _counts(
    plan: CalendarPlan, allocation: Allocation, arrivals: _Arrivals, used: Flags, has_come: Flags, is_in: Flags,
    rng: np.random.Generator, names: Names,
) -> tuple[Days, Days, Days, Days, Days]:  # fmt: skip
    """Screened, ineligible, refused, enrolled, turned away, (D, S) each. Screening ends with the last seat taken or,
    where the pool ends first, with the pool.
    """
    shape = (int(allocation.group_district.max()) + 1, len(names.stratum))
    cell = allocation.district.astype(np.int64) * shape[1] + allocation.stratum

    def count(who: Flags) -> Days:
        return np.bincount(cell[who], minlength=shape[0] * shape[1]).reshape(shape)

    enrolled, turned_away = count(has_come), count(has_come & ~is_in)
    if plan.recruitment is None:
        return enrolled.copy(), np.zeros(shape, np.int64), np.zeros(shape, np.int64), enrolled, turned_away
    screened = np.zeros(shape[0] * shape[1], dtype=np.int64)
    np.maximum.at(screened, arrivals.queue[used], arrivals.number[used])
    screening = [plan.recruitment[name] for name in names.stratum]
    pool = np.tile([0 if s.pool is None else s.pool.value for s in screening], shape[0])
    is_exhausted = np.isinf(_after(arrivals, enrolled.ravel()))
    screened = np.where(is_exhausted, pool, screened).reshape(shape)
    share = np.array([(1 - s.eligible.value) / max(1 - s.enrolled, 1e-300) for s in screening])
    ineligible = rng.binomial(screened - enrolled, np.minimum(share, 1.0))
    return screened, ineligible, screened - enrolled - ineligible, enrolled, turned_away


def _after(arrivals: _Arrivals, came: Days) -> Floats:
    """When the one after the last who enrolled would have come, by queue; NaN where there is no seat for another."""
    found = np.full(len(came), np.nan)
    queues, begin, size = np.unique(arrivals.queue, return_index=True, return_counts=True)
    has_seat = came[queues] < size
    found[queues[has_seat]] = arrivals.time[begin[has_seat] + came[queues[has_seat]]]
    return found


def _check_all_come(
    plan: CalendarPlan, allocation: Allocation, days: OpenDays, arrivals: _Arrivals, time: Floats, opening: Days,
    names: Names,
) -> None:  # fmt: skip
    """Raises where somebody does not come, or not in time, without whom a group would wait for ever."""
    if (time <= LONGEST).all():
        return
    worst = int(np.flatnonzero(time > LONGEST)[0])
    queue = arrivals.queue == arrivals.queue[worst]
    district = int(allocation.district[arrivals.seat[worst]])
    before = time[queue & (time <= LONGEST)]
    since = float(before[-1]) if len(before) else float(opening[district])
    enrolled = f"{len(before)} of {queue.sum()} enrolled"
    if plan.recruitment is None:
        raise cannot(days, "recruitment_per_district", district, since, f"{enrolled} in {LONGEST // 366} years")
    stratum = names.stratum[allocation.stratum[arrivals.seat[worst]]]
    pool = plan.recruitment[stratum].pool
    if np.isinf(arrivals.time[worst]) and pool is not None:
        message = f"the pool of {pool.value} {stratum} is exhausted with {enrolled}, and their groups wait for ever: "
        message += "plan fewer per district or more districts, or give a group_deadline"
        raise cannot(days, f"recruitment.{stratum}.pool", district, since, message)
    raise cannot(days, f"recruitment.{stratum}.screened", district, since, f"{enrolled} in {LONGEST // 366} years")
