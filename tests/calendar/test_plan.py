from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from field import FULL, exactly, full_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sim.calendar.days import add_months
from sim.calendar.plan import CalendarPlan, Window, YearlyPeriod

DECADE = np.arange(np.datetime64("2023-01-01"), np.datetime64("2033-01-01")).astype(np.int64)
AS_DATE = [date(1970, 1, 1) + timedelta(days=int(day)) for day in DECADE]
VISITS: dict[str, dict[str, str]] = {
    "baseline": {"before_training": "1 day"},
    "post": {"after_training": "0 days"},
    "six_months": {"months_after_training": "6 months", "spread": "7 days"},
}


def plan(**changes: Any) -> CalendarPlan:
    return CalendarPlan.model_validate(
        {"recruitment_per_district": "40 per week", "facilitator_teams": 6, "training_days": "3 days",
         "visits": VISITS, **changes}
    )  # fmt: skip


def window(first: str, last: str, peak_first: str, peak_last: str, multiplier: float = 3.0) -> Window:
    peak = {"value": multiplier, "low": 0, "high": 100, "basis": "assumption", "source": "example"}
    return Window.model_validate(
        {"first": first, "last": last, "peak_first": peak_first, "peak_last": peak_last, "peak_multiplier": peak}
    )


def in_period(day: date, first: tuple[int, int], last: tuple[int, int]) -> bool:
    """Walk the days of the year that begins with `first`, by the calendar and not by arithmetic on month * 100."""
    opens = date(day.year, *first)
    if opens > day:
        opens = date(day.year - 1, *first)
    closes = date(opens.year, *last)
    if closes < opens:
        closes = date(opens.year + 1, *last)
    return opens <= day <= closes


@pytest.mark.parametrize(
    ("first", "last"),
    [("04-07", "07-04"), ("12-24", "01-02"), ("02-28", "03-01"), ("01-01", "12-31"), ("06-01", "06-01"),
     ("07-05", "07-04"), ("12-31", "01-01")],
)  # fmt: skip
def test_a_period_holds_the_same_days_as_a_walk_through_the_calendar(first: str, last: str) -> None:
    period = YearlyPeriod.model_validate({"first": first, "last": last})
    expected = [in_period(day, period.first, period.last) for day in AS_DATE]
    np.testing.assert_array_equal(period.contains(DECADE), expected)


@pytest.mark.parametrize(
    "dates",
    [("04-07", "07-04", "04-07", "04-13"), ("12-20", "01-10", "12-31", "01-01"), ("12-20", "01-10", "01-05", "01-10")],
)
def test_exposure_is_0_outside_1_inside_and_the_multiplier_in_the_peak(dates: tuple[str, str, str, str]) -> None:
    w = window(*dates)
    expected = [
        0.0 if not in_period(d, w.first, w.last) else 3.0 if in_period(d, w.peak_first, w.peak_last) else 1.0
        for d in AS_DATE
    ]
    np.testing.assert_array_equal(w.exposure(DECADE), expected)
    assert w.exposure(DECADE.reshape(-1, 1)).shape == (len(DECADE), 1)


def test_exposure_on_named_dates() -> None:
    w = window("04-07", "07-04", "04-07", "04-13", 2.0)
    days = np.array(["2028-04-06", "2028-04-07", "2028-04-13", "2028-04-14", "2028-07-04", "2028-07-05"], dtype="M8[D]")
    np.testing.assert_array_equal(w.exposure(days.astype(np.int64)), [0, 2, 2, 1, 1, 0])


@pytest.mark.parametrize(
    "dates",
    [("04-07", "07-04", "04-01", "04-13"), ("04-07", "07-04", "04-07", "07-05"), ("12-24", "01-02", "01-01", "12-31")],
)
def test_a_peak_outside_its_window_is_refused(dates: tuple[str, str, str, str]) -> None:
    with pytest.raises(ValidationError, match="out of order"):
        window(*dates)


@given(
    training_days=st.integers(1, 5), before=st.integers(0, 40), after=st.integers(0, 70), months=st.integers(1, 3),
    spreads=st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(0, 40)),
    start=st.dates(date(2026, 1, 1), date(2029, 12, 31)),
)  # fmt: skip
@settings(max_examples=400, deadline=None, derandomize=True)
def test_no_accepted_plan_can_put_visits_out_of_order(
    training_days: int, before: int, after: int, months: int, spreads: tuple[int, int, int], start: date
) -> None:
    visits = {
        "baseline": {"before_training": f"{before} days", "spread": f"{spreads[0]} days"},
        "post": {"after_training": f"{after} days", "spread": f"{spreads[1]} days"},
        "final": {"months_after_training": f"{months} months", "spread": f"{spreads[2]} days"},
    }
    try:
        plan(visits=visits, training_days=f"{training_days} days")
    except ValidationError:
        return
    first = np.array([np.datetime64(start, "D").astype(np.int64)])
    last_day = first + training_days - 1
    assert first - before + spreads[0] <= first
    assert last_day + after - spreads[1] >= last_day
    assert last_day + after + spreads[1] < add_months(first, months) - spreads[2]


@given(
    visits=st.lists(
        st.tuples(st.sampled_from(["after", "months"]), st.integers(0, 12), st.integers(0, 20)), min_size=1, max_size=5
    ),
    start=st.dates(date(2026, 1, 1), date(2029, 12, 31)),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_no_accepted_plan_of_any_visits_can_put_them_out_of_order(
    visits: list[tuple[str, int, int]], start: date
) -> None:
    written: dict[str, dict[str, str]] = {"baseline": {"before_training": "1 day"}}
    for i, (kind, n, spread) in enumerate(visits):
        due = {"after_training": f"{7 * n} days"} if kind == "after" else {"months_after_training": f"{n} months"}
        written[f"visit_{i}"] = {**due, "spread": f"{spread} days"}
    try:
        plan(visits=written)
    except ValidationError:
        return
    first = np.array([np.datetime64(start, "D").astype(np.int64)])
    latest = first + 2  # the last of three days of training
    for kind, n, spread in visits:
        due = first + 2 + 7 * n if kind == "after" else add_months(first, n)
        assert due - spread >= latest
        latest = due + spread + 1


@pytest.mark.parametrize("n_month", [(6,), (3, 6), (1, 2, 3, 12)])
def test_two_visits_or_more_are_allowed(n_month: tuple[int, ...]) -> None:
    later = {f"month_{n}": {"months_after_training": f"{n} months", "spread": "7 days"} for n in n_month}
    assert len(plan(visits={"baseline": VISITS["baseline"], **later}).visits) == 1 + len(n_month)


def test_days_of_training_count_when_visits_are_put_in_order() -> None:
    """Training on 1 to 5 February and 24 days more end on 1 March, as one month after the first day does."""
    visits = {**VISITS, "post": {"after_training": "24 days"}, "six_months": {"months_after_training": "1 month"}}
    plan(training_days="4 days", visits=visits)
    with pytest.raises(ValidationError, match="'six_months' could fall before 'post'"):
        plan(training_days="5 days", visits=visits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visits": {k: VISITS[k] for k in ("baseline",)}}, "two visits or more are needed"),
        ({"visits": {**VISITS, "again": {"before_training": "2 days"}}}, "out of order"),
        ({"visits": {"post": {"after_training": "0 days"}, "six_months": VISITS["six_months"]}}, "out of order"),
        ({"visits": {"baseline": VISITS["baseline"], "final": {"months_after_training": "0 months"}}}, "wrong side"),
        ({"visits": {k: VISITS[k] for k in ("post", "baseline", "six_months")}}, "out of order"),
        ({"visits": {**VISITS, "post": {"after_training": "0 days", "before_training": "1 day"}}}, "exactly one"),
        ({"training_days": "6 days"}, "less than or equal to 5"),
        ({"facilitator_teams": 0}, "greater than or equal to 1"),
    ],
)
def test_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        plan(**changes)


def with_visit(name: str, **changes: Any) -> dict[str, Any]:
    return {**FULL["visits"], name: {**FULL["visits"][name], **changes}}


OPEN = ("working_days", "community_work", "public_holidays", "interviewers", "appointment_kept")


@pytest.mark.parametrize(
    ("without", "changes", "message"),
    [
        (("recruitment",), {}, "exactly one of recruitment_per_district and recruitment"),
        ((), {"recruitment_per_district": "40 per week"}, "exactly one of recruitment_per_district and recruitment"),
        (("group_deadline",), {}, "without a group_deadline every group waits until it is full"),
        (("facilitator_teams",), {}, "without facilitator_teams there is always one in the district"),
        (("working_days",), {}, "Saturday is no working day"),
        ((), {"working_days": "monday to friday"}, "Saturday is no working day"),
        (OPEN, {}, "the visit is always held on its date"),
        (("appointment_kept",), {}, "without appointment_kept none is missed"),
        ((), {"visits": with_visit("post", retry="15 days")}, "the visit's window closes before that"),
        ((), {"visits": with_visit("baseline", retry="2 days")}, "whoever does not come to the baseline"),
        ((), {"visits": with_visit("post", window=None, retry=None)}, "must close some day"),
        ((), {"visits": with_visit("six_months", after_training="20 days", months_after_training=None)},
         "'six_months' could fall before 'post'"),
        ((), {"public_holidays": "XX"}, "public holidays of this country are not known"),
        ((), {"public_holidays": "Rwanda"}, "the two letters of a country"),
        ((), {"smallest_group": 1}, "greater than or equal to 2"),
        ((), {"recruitment": {"survivors": {**FULL["recruitment"]["survivors"], "eligible": exactly("0%")}}},
         "greater than 0"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_or_have_no_effect_message(
    without: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        full_plan(*without, **changes)


def test_window_of_a_visit_counts_when_visits_are_put_in_order() -> None:
    later = {"months_after_training": None, "after_training": "23 days", "spread": "7 days"}
    full_plan(visits=with_visit("six_months", **{**later, "after_training": "24 days"}))  # post is over on day 15
    full_plan(visits=with_visit("six_months", **later))
    with pytest.raises(ValidationError, match="could fall before"):
        full_plan(visits=with_visit("six_months", **{**later, "after_training": "22 days"}))


def shaped(
    first: str = "04-07", peak: tuple[str, str] = ("04-07", "04-13"), last: str = "07-04", **shape: str
) -> Window:
    return Window.model_validate(
        {
            "first": first,
            "last": last,
            "peak_first": peak[0],
            "peak_last": peak[1],
            "peak_multiplier": exactly(2),
            **shape,
        }
    )


@pytest.mark.parametrize(
    ("first", "peak", "last"),
    [("04-07", ("04-07", "04-13"), "07-04"), ("04-07", ("04-20", "04-26"), "07-04"),
     ("12-20", ("12-28", "01-03"), "02-10"), ("12-28", ("12-28", "12-30"), "01-20")],
)  # fmt: skip
def test_rise_and_decay_against_a_walk_through_the_calendar(first: str, peak: tuple[str, str], last: str) -> None:
    """Day by day: linear from 0, 14 days before, to the first day's exposure; halves in 30 days after the peak."""
    w = shaped(first, peak, last, rise="14 days", half_life="30 days")
    exposure = w.exposure(DECADE)
    on_first = 2.0 if peak[0] == first else 1.0
    since_peak = None
    for i, day in enumerate(AS_DATE[:-400]):
        if i < 400:
            since_peak = (
                0 if in_period(day, w.peak_first, w.peak_last) else None if since_peak is None else since_peak + 1
            )
            continue
        in_peak = in_period(day, w.peak_first, w.peak_last)
        assert since_peak is not None
        since_peak = 0 if in_peak else since_peak + 1
        if in_peak:
            expected = 2.0
        elif in_period(day, w.first, w.last):
            before_peak = in_period(day, w.first, w.peak_first)
            expected = 1.0 if before_peak else 2.0 * 0.5 ** (since_peak / 30)
        else:
            until = next(n for n in range(400) if (AS_DATE[i + n].month, AS_DATE[i + n].day) == w.first)
            expected = max(0.0, 1 - until / 14) * on_first
        assert exposure[i] == pytest.approx(expected), day


def test_a_rise_without_a_half_life_leaves_the_window_as_it_is() -> None:
    plain, rising = shaped(), shaped(rise="10 days")
    inside = plain.contains(DECADE)
    np.testing.assert_array_equal(rising.exposure(DECADE)[inside], plain.exposure(DECADE)[inside])
    assert (rising.exposure(DECADE) > 0).sum() == inside.sum() + 9 * 10  # 9 days of 10 rises
    np.testing.assert_array_equal(rising.contains(DECADE), inside)


@pytest.mark.parametrize(
    ("window", "message"),
    [({"last": "04-13", "half_life": "3 days"}, "the window ends with its peak"),
     ({"rise": "300 days"}, "make it shorter"), ({"half_life": "0 days"}, "greater than or equal to 1")],
)  # fmt: skip
def test_shape_of_a_window_message(window: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        shaped(**window)  # type: ignore[arg-type]


def test_keys_that_are_left_out_are_not_written() -> None:
    """So that a new key of the calendar moves the fingerprint of no scenario that does without it."""
    written = plan().model_dump(mode="json")
    assert set(written) == {
        "recruitment_per_district", "facilitator_teams", "training_days", "visits", "closed", "windows",
    }  # fmt: skip
    assert set(written["visits"]["post"]) == {
        "before_training", "after_training", "months_after_training", "spread",
    }  # fmt: skip
    full = full_plan()
    again = full.model_dump(mode="json")
    assert set(FULL) <= set(again) and again["visits"]["post"]["retry"] == 3
    assert again["windows"]["commemoration"]["rise"] == 14
