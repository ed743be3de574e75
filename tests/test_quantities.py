"""Quantities: what is read, in which unit, and what is said about anything else."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sim.quantities import (
    Correlation,
    Date,
    Days,
    Difference,
    Icc,
    LogOdds,
    MonthDay,
    Months,
    Name,
    Number,
    OddsRatio,
    PerWeek,
    Points,
    PositivePoints,
    PositiveSd,
    Sd,
    Share,
    in_unit_of,
)  # fmt: skip


def read(kind, value):
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    "kind, text, value",
    [
        (Sd, "0.25 SD", 0.25), (Sd, "-.3SD", -0.3), (Sd, " 1e-1 SD ", 0.1), (PositiveSd, "0 SD", 0.0),
        (Share, "15%", 0.15), (Share, "100 %", 1.0), (Difference, "-3%", -0.03), (Days, "14 days", 14),
        (Days, "1 day", 1), (Days, "2 weeks", 14), (Months, "6 months", 6), (Months, "1 month", 1),
        (PerWeek, "30 per week", 30.0), (PerWeek, "7.5 people per week", 7.5), (MonthDay, "04-07", (4, 7)),
        (Date, "2028-02-29", date(2028, 2, 29)), (Date, date(2027, 7, 5), date(2027, 7, 5)), (Name, "a_1", "a_1"),
        (Correlation, -0.5, -0.5), (Icc, 0, 0.0), (OddsRatio, 2, 2.0), (LogOdds, -5, -5.0), (Number, 131.6, 131.6),
        (Points, "20.8 points", 20.8), (Points, "-1 point", -1.0), (PositivePoints, "5 points", 5.0),
    ],
)  # fmt: skip
def test_read(kind, text, value):
    found = read(kind, text)
    assert found == pytest.approx(value) if isinstance(value, float) else found == value


@pytest.mark.parametrize(
    "kind, value, said",
    [
        (Sd, 0.25, "found 0.25; write it with its unit, for example '0.25 SD'"),
        (Sd, "0.25", "found '0.25'; a number of baseline standard deviations is needed"),
        (Sd, "0.25 sd", "a number of baseline standard deviations is needed"),
        (Sd, "0,25 SD", r"decimals take a point, not a comma"),
        (Sd, "11 SD", "less than or equal to 10"),
        (Sd, "1e999 SD", "less than or equal to 10"),
        (Sd, True, "found True; a number of"),
        (PositiveSd, "-0.1 SD", "greater than or equal to 0"),
        (Share, 15, "write it with its unit, for example '15%'"),
        (Share, 0.15, "write it with its unit, for example '15%'"),
        (Share, "8 percent", "found '8 percent'; a percentage is needed"),
        (Share, "101%", "less than or equal to 1"),
        (Points, 20.8, "write it with its unit, for example '20.8 points'"),
        (PositivePoints, "0 points", "greater than 0"),
        (Days, 3, "for example '3 days'"),
        (Days, "1.5 days", "a whole number of days or weeks is needed"),
        (Days, "9" * 50 + " days", "a whole number of days or weeks is needed"),
        (Months, "12.5 months", "a whole number of months is needed"),
        (Months, "1e400 months", "a whole number of months is needed"),
        (PerWeek, "0 per week", "greater than 0"),
        (MonthDay, "02-30", "there is no such day: the last of that month is 28"),
        (MonthDay, "02-29", "29 February does not come every year"),
        (MonthDay, "00-10", "there is no month 0"),
        (MonthDay, "4-7", "a yearly date MM-DD is needed"),
        (Date, "2027-02-29", "there is no such day: the last of that month is 28"),
        (Date, "0000-01-01", "the year must be at least 1990 and at most 2100"),
        (Date, "3000-01-01", "the year must be at least 1990 and at most 2100"),
        (Date, 0, "found 0; a date YYYY-MM-DD is needed"),
        (Date, "2027-07-05T00:00", "a date YYYY-MM-DD is needed"),
        (Icc, float("nan"), "a finite number is needed"),
        (Icc, "0.05", "a plain number without a unit is needed, without quotes"),
        (Icc, True, "a plain number without a unit is needed"),
        (Correlation, 1, "less than 1"),
        (Number, 1e308, "it must be between -1,000,000 and 1,000,000"),
        (Number, 10**400, "it must be between -1,000,000 and 1,000,000"),
        (Name, "con", "no file may be called so on Windows"),
        *((Name, name, "is not allowed as a name") for name in (
            "../x", "/etc/x", "C:\\", "..", ".", "", "A", "1a", "_a", "a b", "a-b", "a/b", "a\\b", "a.b", "a" * 41,
            "a" * 300, "a\u2215b", "a\n", "a\0", "\u0430", "~", "$HOME", "%TEMP%", "nul", "aux", "prn", "com1", "lpt9",
        )),
    ],
)  # fmt: skip
def test_refused_message(kind, value, said):
    with pytest.raises(ValidationError) as caught:
        read(kind, value)
    [error] = caught.value.errors()
    assert said in error["msg"]


@given(st.floats(-10, 10).map(lambda x: round(x, 6)))
def test_sd_round_trip(x):
    assert read(Sd, f"{x:f} SD") == x


@given(st.text(max_size=60))
def test_names_are_safe_file_names(text):
    try:
        name = read(Name, text)
    except ValidationError:
        return
    assert name.isascii() and name.replace("_", "").isalnum() and name == name.lower() and 1 <= len(name) <= 40


@pytest.mark.parametrize(
    "written, bound, shown",
    [("120%", 1, "100%"), ("11 SD", 10, "10 SD"), ("2 weeks", 5, "5 days"), ("0 days", 1, "1 day"),
     ("200 months", 120, "120 months"), ("0 per week", 0, "0 per week"), ("0 points", 5, "5 points"),
     (0, 100_000, "100,000"), (0.7, 0.5, "0.5")],
)  # fmt: skip
def test_bounds_in_the_unit_that_was_written(written, bound, shown):
    assert in_unit_of(written, bound) == shown
