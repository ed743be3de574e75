"""Visits: each participant's appointments, by arrays where interviewers are as many as are needed, else in a diary.

A visit is due on its date after the training, spread; the appointment is on the first open day from then on that has an
interviewer to spare. One that is not kept is made anew `retry` days later, while the window is open. The baseline is
appointed backwards from the training, on the last open day up to the date on which it is due, and always kept; where
there is none since the participant enrolled (or in its window), the training is put off. Dates are foreseen: all
appointments of a training group are made when its training is fixed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from sim.calendar.days import NEVER, OpenDays
from sim.calendar.plan import CalendarPlan
from sim.trial import Days, Flags, Floats


@dataclass(frozen=True, eq=False)
class Participants:
    """Whom to visit: what of each is fixed before any date is.

    clock : (N,).  earliest : (N,) day of enrolment.  shift : (N, T) days that the due date is spread by.
    luck : (N, T - 1, A) uniforms; an appointment is kept where its own is below the probability.
    """

    clock: Days
    earliest: Days
    shift: Days
    luck: Floats


@dataclass(frozen=True, eq=False)
class Visits:
    """What becomes of visits: day, is_held (N, T); appointments (T,); by_day, those of each day in a diary."""

    day: Days
    is_held: Flags
    appointments: Days
    by_day: Days


def trained_at_once(plan: CalendarPlan, days: OpenDays, people: Participants, ready: Days) -> tuple[Days, Days]:
    """First training day (G,), NEVER where there is none, and baseline (N,), if nobody waits for anybody."""
    before, window = plan.baseline.before_training or 0, plan.baseline.window
    first = days.opens[np.minimum(ready, len(days.opens) - 1)]
    while True:
        due = np.minimum(first[people.clock], len(days.opens) - 1) - before + people.shift[:, 0]
        baseline = days.last_visit[due]
        earliest = people.earliest if window is None else np.maximum(people.earliest, due - window)
        late = np.unique(people.clock[(baseline < earliest) & (first[people.clock] < NEVER)])
        if not len(late):
            return first, baseline
        first[late] = days.opens[first[late] + 1]


def visited_at_once(plan: CalendarPlan, days: OpenDays, people: Participants, first: Days, baseline: Days) -> Visits:
    """Every visit if there are interviewers to spare; first : (G,) training, baseline : (N,), when it was held."""
    chance, horizon = _chance(plan, days), len(days.opens) - 1
    day, is_held, appointments = [baseline], [np.ones(len(baseline), dtype=bool)], [len(baseline)]
    for v, visit in enumerate(plan.later_visits):
        due = days.due[v][first[people.clock]] + people.shift[:, v + 1]
        when = days.next_visit[due]
        closes = when if visit.window is None else due + visit.window
        open_, kept, n_appointment = when <= closes, np.zeros(len(due), dtype=bool), 0
        for attempt in range(visit.n_attempt):
            if attempt:
                open_ = ~kept & (when + (visit.retry or 0) <= closes)
                when = np.where(open_, days.next_visit[np.minimum(when + (visit.retry or 0), horizon)], when)
                open_ &= when <= closes
            kept |= open_ & (people.luck[:, v, attempt] < chance[np.minimum(when, horizon)])
            n_appointment += int(open_.sum())
        day.append(np.where(kept, when, closes))
        is_held.append(kept)
        appointments.append(n_appointment)
    return Visits(np.stack(day, 1), np.stack(is_held, 1), np.array(appointments), np.empty(0, dtype=np.int64))


class Diary:
    """Appointments of a limited number of interviewers; loops, which for a group at a time are faster than arrays."""

    def __init__(self, plan: CalendarPlan, days: OpenDays, people: Participants) -> None:
        self.baseline, self.later = plan.baseline, plan.later_visits
        self.opens, self.next_visit, self.last_visit, self.availability, self.due = days.as_lists
        self.kept = None if plan.appointment_kept is None else plan.appointment_kept.value
        self.earliest, self.shift, self.luck = people.earliest.tolist(), people.shift.T.tolist(), people.luck.tolist()
        self.room = NEVER if plan.interviewers is None else plan.interviewers.capacity
        self.taken: defaultdict[int, int] = defaultdict(int)
        n_visit, n = len(self.shift), len(self.earliest)
        self.day, self.is_held = [[0] * n for _ in range(n_visit)], [[True] * n for _ in range(n_visit)]
        self.appointments = [n] + [0] * (n_visit - 1)

    def opens_from(self, day: int) -> int:
        """The first day from `day` on that opens a training; NEVER if there is none."""
        return self.opens[day] if day < len(self.opens) else NEVER

    def book_baseline(self, members: list[int], ready: int) -> int:
        """The first day from `ready` on that a training can start with everyone seen before it; NEVER if none."""
        first = self.opens_from(ready)
        while first < NEVER and not self._book_before(members, first):
            first = self.opens[first + 1]
        return first

    def _book_before(self, members: list[int], first: int) -> bool:
        """Whether everyone finds an open day with room up to the due date; then they are booked, else nobody is."""
        before, window = self.baseline.before_training or 0, self.baseline.window
        taken, last_visit, shift, day_of = self.taken, self.last_visit, self.shift[0], self.day[0]
        for n_booked, person in enumerate(members):
            due = first - before + shift[person]
            earliest = self.earliest[person] if window is None else max(self.earliest[person], due - window)
            day = last_visit[due]
            while day >= earliest and taken[day] >= self.room:
                day = last_visit[day - 1] if day else -1
            if day < earliest:
                for booked in members[:n_booked]:
                    taken[day_of[booked]] -= 1
                return False
            taken[day] += 1
            day_of[person] = day
        return True

    def book_later(self, members: list[int], first: int) -> None:
        """Every visit of these people after a training that starts on `first`."""
        taken, next_visit, room = self.taken, self.next_visit, self.room
        for v, visit in enumerate(self.later, start=1):
            due_on, window, retry, n_attempt = self.due[v - 1][first], visit.window, visit.retry or 0, visit.n_attempt
            shift, day_of, is_held = self.shift[v], self.day[v], self.is_held[v]
            n_appointment = 0
            for person in members:
                due = day = due_on + shift[person]
                closes = next_visit[due] if window is None else due + window
                held = False
                for luck in self.luck[person][v - 1][:n_attempt]:
                    day = next_visit[day]
                    while day <= closes and taken[day] >= room:
                        day = next_visit[day + 1]
                    if day > closes:
                        break
                    taken[day] += 1
                    n_appointment += 1
                    held = self.kept is None or luck < self.kept * self.availability[day]
                    if held:
                        break
                    day += retry
                    if day > closes:
                        break
                day_of[person], is_held[person] = day if held else closes, held
            self.appointments[v] += n_appointment

    @property
    def visits(self) -> Visits:
        by_day = np.array(list(self.taken.values()), dtype=np.int64)
        return Visits(np.array(self.day).T, np.array(self.is_held).T, np.array(self.appointments), by_day)


def _chance(plan: CalendarPlan, days: OpenDays) -> Floats:
    """(D,) probability that an appointment is kept."""
    if plan.appointment_kept is None:
        return np.ones(len(days.opens))
    return plan.appointment_kept.value * days.availability
