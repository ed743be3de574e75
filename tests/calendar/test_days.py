from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from field import EPOCH, FULL, exactly, full_plan, is_open

from sim.calendar.days import LONGEST, NEVER, add_months, due_day, open_days

START = date(2027, 7, 5)
LOOKED_AT = 1200


@pytest.mark.parametrize(
    "without",
    [(), ("public_holidays",), ("community_work", "working_days"), ("closed",), ("public_holidays", "closed")],
)
@pytest.mark.parametrize("training_days", [1, 3, 5])
def test_open_days_against_a_walk_through_the_calendar(without: tuple[str, ...], training_days: int) -> None:
    plan = full_plan(*without, training_days=f"{training_days} days")
    days = open_days(plan, START)
    opened = [is_open(plan, START + timedelta(days=i)) for i in range(LOOKED_AT + 400)]
    for i in range(LOOKED_AT):
        first = next(j for j in range(i, LOOKED_AT + 300) if all(opened[j : j + training_days]))
        assert days.opens[i] == first
        assert days.next_visit[i] == next(j for j in range(i, LOOKED_AT + 300) if opened[j])
        assert days.last_visit[i] == next((j for j in range(i, -1, -1) if opened[j]), -1)


def test_known_days_off() -> None:
    """Umuganda, Liberation Day (a Sunday, so that Monday is off), Labour Day on a Saturday, the commemoration week."""
    days = open_days(full_plan(), date(2027, 1, 1))
    first = np.datetime64("2027-01-01", "D")
    off = ["2027-01-30", "2027-02-01", "2027-04-07", "2027-04-13", "2027-05-01", "2027-05-29", "2027-07-01",
           "2027-07-05", "2027-07-31"]  # fmt: skip
    on = ["2027-01-23", "2027-04-06", "2027-04-14", "2027-05-22", "2027-07-03", "2027-07-06"]
    at = {text: int((np.datetime64(text, "D") - first).astype(int)) for text in (*off, *on)}
    assert [text for text in at if days.next_visit[at[text]] == at[text]] == on


def test_visits_stay_on_their_dates_unless_the_plan_knows_working_days() -> None:
    plain = full_plan("working_days", "public_holidays", "community_work", "interviewers", "appointment_kept", visits={
        "baseline": {"before_training": "1 day"}, "final": {"months_after_training": "6 months"},
    })  # fmt: skip
    days = open_days(plain, START)
    at = np.arange(len(days.next_visit))
    np.testing.assert_array_equal(days.next_visit, at)
    np.testing.assert_array_equal(days.last_visit, at)


def test_seasons_multiply_and_closed_periods_stop_screening() -> None:
    rains = {"first": "03-15", "last": "05-31", "availability": exactly("80%")}
    work = {"first": "05-15", "last": "06-15", "availability": exactly("50%")}
    days = open_days(full_plan(seasons={"rains": rains, "work": work}), date(2027, 1, 1))
    assert days.worked is not None
    coming = np.diff(days.worked)
    for when, factor, come in (
        ("2027-03-14", 1.0, 1.0), ("2027-03-15", 0.8, 0.8), ("2027-04-10", 0.8, 0.0), ("2027-05-20", 0.4, 0.4),
        ("2027-06-15", 0.5, 0.5), ("2027-06-16", 1.0, 1.0), ("2027-12-25", 1.0, 0.0),
    ):  # fmt: skip
        i = (date.fromisoformat(when) - date(2027, 1, 1)).days
        assert days.availability[i] == pytest.approx(factor)
        assert coming[i] == pytest.approx(come)


def test_no_training_opens_after_the_longest_plan() -> None:
    days = open_days(full_plan(), START)
    assert (days.opens[LONGEST + 10 :] == NEVER).all() and days.opens[LONGEST - 30] < NEVER


@pytest.mark.parametrize(
    "visit",
    [{"after_training": "9 days"}, {"months_after_training": "1 month"}, {"months_after_training": "12 months"}],
)
def test_due_days_are_counted_from_the_training(visit: dict[str, Any]) -> None:
    plan = full_plan(visits={"baseline": FULL["visits"]["baseline"], "final": {**visit, "window": "7 days"}})
    days = open_days(plan, START)
    first = np.arange(800)
    start = days.first + first
    expected = (
        start + 2 + 9 if "after_training" in visit else add_months(start, plan.later_visits[0].months_after_training)
    )
    np.testing.assert_array_equal(days.first + days.due[0][first], expected)
    np.testing.assert_array_equal(due_day(plan.later_visits[0], 3, start), expected)


def test_tables_are_made_once() -> None:
    assert open_days(full_plan(), START) is open_days(full_plan(), START)
    assert open_days(full_plan(), START) is not open_days(full_plan("closed"), START)


def test_exposure_tables_are_those_of_the_window() -> None:
    plan = full_plan()
    days = open_days(plan, START)
    at = days.first + np.arange(len(days.opens))
    np.testing.assert_array_equal(days.exposure[0], plan.windows["commemoration"].exposure(at))
    np.testing.assert_array_equal(days.inside[0], plan.windows["commemoration"].contains(at))
    assert days.dated(0) == str(START) and days.first == (START - EPOCH).days
