"""A calendar with everything in it, and slow, plain versions of what the tables of open days say."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
from planned import design

from sim.calendar.plan import CalendarPlan
from sim.trial import Allocation, Names

NAMES = Names(
    outcome=("cohesion",), visit=("baseline", "post", "six_months"), stratum=("survivors", "released_perpetrators"),
    share=(0.5, 0.5), window=("commemoration",),
)  # fmt: skip
EPOCH = date(1970, 1, 1)


def exactly(value: object) -> dict[str, object]:
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "example"}


FULL: dict[str, Any] = {
    "recruitment": {
        "survivors": {"screened": "60 per week", "eligible": exactly("80%"), "consent": exactly("85%")},
        "released_perpetrators": {
            "screened": "40 per week", "eligible": exactly("70%"), "consent": exactly("85%"), "pool": exactly(165),
        },
    },
    "waves": {"districts": 2, "every": "4 weeks"},
    "group_deadline": "8 weeks",
    "smallest_group": 6,
    "facilitator_teams": 3,
    "travel": "2 days",
    "training_days": "3 days",
    "wait_list_trained": True,
    "interviewers": {"number": 3, "per_day": 4},
    "visits": {
        "baseline": {"before_training": "1 day", "window": "14 days"},
        "post": {"after_training": "1 day", "window": "14 days", "retry": "3 days"},
        "six_months": {
            "months_after_training": "6 months", "spread": "7 days", "window": "21 days", "retry": "5 days",
        },
    },
    "appointment_kept": exactly("80%"),
    "working_days": "monday to saturday",
    "public_holidays": "RW",
    "community_work": "last saturday of the month",
    "closed": {
        "commemoration_week": {"first": "04-07", "last": "04-13"},
        "year_end": {"first": "12-24", "last": "01-02"},
    },
    "seasons": {
        "long_rains": {"first": "03-15", "last": "05-31", "availability": exactly("80%")},
        "harvest": {"first": "12-15", "last": "01-31", "availability": exactly("90%")},
    },
    "windows": {
        "commemoration": {
            "first": "04-07", "last": "07-04", "peak_first": "04-07", "peak_last": "04-13",
            "peak_multiplier": exactly(2), "rise": "14 days", "half_life": "30 days",
        }
    },
}  # fmt: skip


def full_plan(*without: str, **changes: Any) -> CalendarPlan:
    """The calendar with everything in it, but for some keys."""
    content = {**FULL, **changes}
    return CalendarPlan.model_validate({key: content[key] for key in content if key not in without})


def allocation_of(kind: str, seed: int = 0, **changes: Any) -> Allocation:
    allocation: Allocation = design(kind, **changes).allocate(NAMES, np.random.default_rng(seed))
    return allocation


def as_dates(day: np.ndarray) -> list[date]:
    return [EPOCH + timedelta(days=int(d)) for d in np.ravel(day)]


def is_open(plan: CalendarPlan, day: date) -> bool:
    """Whether a day is a working day on which nothing is closed, by the calendar module's rules, one day at a time."""
    if day.weekday() > (5 if plan.working_days == "monday to saturday" else 4):
        return False
    if plan.community_work and day.weekday() == 5 and (day + timedelta(days=7)).month != day.month:
        return False
    if plan.public_holidays:
        import holidays

        if day in holidays.country_holidays(plan.public_holidays, years=day.year):
            return False
    for period in plan.closed.values():
        this = (day.month, day.day)
        first, last = period.first, period.last
        if first <= this <= last if first <= last else this >= first or this <= last:
            return False
    return True
