"""Quantities as users write them: `0.25 SD`, `15%`, `6 months`. A bare ambiguous number is refused.

Each type parses a string into a plain number in one documented unit, so nothing downstream knows about units. Also the
types of names, dates and plain numbers, which refuse what looks like one but is not.
"""

from __future__ import annotations

import math
import re
from calendar import monthrange
from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_WHOLE = r"[+-]?\d{1,9}"

SD = rf"({_NUMBER})\s*SD"
SHARE = rf"({_NUMBER})\s*%"
DAYS = rf"({_WHOLE})\s*(days?|weeks?)"
MONTHS = rf"({_WHOLE})\s*months?"
PER_WEEK = rf"({_NUMBER})\s*(?:people\s*)?per\s*week"
POINTS = rf"({_NUMBER})\s*points?"
MONTH_DAY = r"(\d\d)-(\d\d)"
DATE = r"(\d{4})-(\d\d)-(\d\d)"
COUNTRY = r"[A-Z]{2}"
CURRENCY = r"[A-Z]{3}"
NAME = r"[a-z][a-z0-9_]{0,39}"

FIRST_YEAR, LAST_YEAR = 1990, 2100
LARGEST = 1e6
DEAREST = 1e12
RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})
"""Names that Windows does not allow for files."""


def _refuse(message: str, found: Any) -> PydanticCustomError:
    """`{found}` in the message becomes what the user wrote."""
    shown = repr(found)
    return PydanticCustomError("quantity", message, {"message": message, "found": shown})


def _quantity(value: Any, pattern: str, what: str, example: str) -> re.Match[str]:
    """The number before the unit; anything else is refused with what is allowed."""
    match = re.fullmatch(pattern, value.strip()) if isinstance(value, str) else None
    if match:
        return match
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        how = "write it with its unit" if pattern not in (DATE, MONTH_DAY) else f"{what} is needed"
        raise _refuse(f"found {{found}}; {how}, for example '{example}'", value)
    hint = " (decimals take a point, not a comma)" if isinstance(value, str) and re.search(r"\d,\d", value) else ""
    raise _refuse(f"found {{found}}; {what} is needed, for example '{example}'{hint}", value)


def _sd(value: Any) -> float:
    example = f"{value} SD" if isinstance(value, (int, float)) and -10 <= value <= 10 else "0.25 SD"
    return float(_quantity(value, SD, "a number of baseline standard deviations", example)[1])


def _points(value: Any) -> float:
    example = f"{value} points" if isinstance(value, (int, float)) else "20.8 points"
    return float(_quantity(value, POINTS, "a number of points of the scale", example)[1])


def share(value: Any) -> float:
    """`15%` -> 0.15."""
    example = f"{value}%" if isinstance(value, (int, float)) and 1 < value <= 100 else "15%"
    return float(_quantity(value, SHARE, "a percentage", example)[1]) * 0.01


def _days(value: Any) -> int:
    example = f"{value} days" if isinstance(value, int) and 1 < value <= 3650 else "14 days"
    match = _quantity(value, DAYS, "a whole number of days or weeks", example)
    return int(match[1]) * (7 if match[2].startswith("week") else 1)


def _months(value: Any) -> int:
    example = f"{value} months" if isinstance(value, int) and 1 < value <= 120 else "6 months"
    return int(_quantity(value, MONTHS, "a whole number of months", example)[1])


def _per_week(value: Any) -> float:
    example = f"{value} per week" if isinstance(value, (int, float)) and 0 < value <= 10_000 else "30 per week"
    return float(_quantity(value, PER_WEEK, "a number of people per week", example)[1])


def _month_day(value: Any) -> tuple[int, int]:
    """`04-07` -> (4, 7), a day that comes round every year."""
    match = _quantity(value, MONTH_DAY, "a yearly date MM-DD", "04-07")
    month, day = int(match[1]), int(match[2])
    if (month, day) == (2, 29):
        raise _refuse("found {found}; 29 February does not come every year", value)
    _existing(2001, month, day, value)
    return month, day


def _date(value: Any) -> date:
    """`2027-07-05`, in a year in which a trial can be planned."""
    if not isinstance(value, date):
        match = _quantity(value, DATE, "a date YYYY-MM-DD", "2027-07-05")
        year, month, day = (int(part) for part in match.groups())
        value = _existing(year, month, day, value) if year else date.min
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise _refuse(f"found {{found}}; the year must be at least {FIRST_YEAR} and at most {LAST_YEAR}", str(value))
    return date(value.year, value.month, value.day)


def _existing(year: int, month: int, day: int, value: Any) -> date:
    if not 1 <= month <= 12:
        raise _refuse(f"found {{found}}; there is no month {month}", value)
    last = monthrange(year, month)[1]
    if not 1 <= day <= last:
        raise _refuse(f"found {{found}}; there is no such day: the last of that month is {last:02d}", value)
    return date(year, month, day)


def plain_number(value: Any) -> Any:
    """A number that is neither a Boolean nor text, finite and of sensible size."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= LARGEST:
            return value
        if not (isinstance(value, int) or math.isfinite(value)):
            raise _refuse("found {found}; a finite number is needed", value)
        raise _refuse(f"found {{found}}; it must be between -{LARGEST:,.0f} and {LARGEST:,.0f}", value)
    number = isinstance(value, str) and re.fullmatch(_NUMBER, value.strip())
    hint = ", without quotes" if number else ", for example 0.35"
    raise _refuse(f"found {{found}}; a plain number without a unit is needed{hint}", value)


def _price(value: Any) -> Any:
    """An amount of money: a plain number, because a scenario names its currency once."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise _refuse("found {found}; a plain number is needed, for example 40: costs.currency says of what", value)


def _year(value: Any) -> Any:
    """A year in which a trial can be planned."""
    year = whole_number(value)
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise _refuse(f"found {{found}}; the year must be at least {FIRST_YEAR} and at most {LAST_YEAR}", value)
    return year


def _currency(value: Any) -> str:
    """The three capital letters of a currency."""
    return _quantity(value, CURRENCY, "the three capital letters of a currency", "USD")[0]


def _name(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(NAME, value):
        raise _refuse(
            "{found} is not allowed as a name; it must be lower-case letters, digits and _, a letter first, at most 40",
            value,
        )
    if isinstance(value, str) and value in RESERVED:
        raise _refuse("{found} is not allowed as a name: no file may be called so on Windows", value)
    return value


def _country(value: Any) -> str:
    """An ISO 3166 code of a country whose public holidays are known."""
    _quantity(value, f"({COUNTRY})", "the two letters of a country", "RW")
    import holidays  # takes a while

    code = str(value).strip()
    try:
        holidays.country_holidays(code)
    except NotImplementedError:
        raise _refuse("found {found}; the public holidays of this country are not known", value) from None
    return code


def whole_number(value: Any) -> Any:
    """A whole number that is neither a Boolean nor text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _refuse("found {found}; a whole number is needed", value)


def in_unit_of(written: Any, bound: Any) -> str:
    """A bound in the unit in which the user wrote a value: 0.15 is `15%` beside `20%`, and `0.15 SD` beside `2 SD`."""
    text = written.strip() if isinstance(written, str) else ""
    if re.fullmatch(SHARE, text):
        return f"{100 * bound:g}%"
    for pattern, unit in ((SD, "SD"), (DAYS, "days"), (MONTHS, "months"), (PER_WEEK, "per week"), (POINTS, "points")):
        if re.fullmatch(pattern, text):
            return f"{bound:g} {unit.removesuffix('s') if bound == 1 else unit}"
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _text(pattern: str, example: str) -> WithJsonSchema:
    groups = re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern)
    return WithJsonSchema({"type": "string", "pattern": f"^{groups}$", "examples": [example]})


Sd = Annotated[float, BeforeValidator(_sd), Field(ge=-10, le=10), _text(SD, "0.25 SD")]
"""A difference in baseline standard deviations."""

PositiveSd = Annotated[float, BeforeValidator(_sd), Field(ge=0, le=10), _text(SD, "0.10 SD")]
"""A standard deviation, in baseline standard deviations."""

Points = Annotated[float, BeforeValidator(_points), Field(ge=-LARGEST, le=LARGEST), _text(POINTS, "20.8 points")]
"""Points of the scale that people answer on."""

PositivePoints = Annotated[float, BeforeValidator(_points), Field(gt=0, le=LARGEST), _text(POINTS, "5 points")]
"""A standard deviation in points of the scale that people answer on."""

Share = Annotated[float, BeforeValidator(share), Field(ge=0, le=1), _text(SHARE, "15%")]
"""A proportion, written in per cent, held as 0 to 1."""

Percentage = Annotated[float, BeforeValidator(share), Field(ge=0, le=10), _text(SHARE, "60%")]
"""A share of something that may exceed the whole, up to 1000%; held as 0 to 10."""

Difference = Annotated[float, BeforeValidator(share), Field(ge=-1, le=1), _text(SHARE, "3%")]
"""A difference of two proportions, written in percentage points, held as -1 to 1."""

Correlation = Annotated[float, BeforeValidator(plain_number), Field(gt=-1, lt=1)]
"""A correlation: no unit, strictly between -1 and 1."""

Icc = Annotated[float, BeforeValidator(plain_number), Field(ge=0, lt=1)]
"""A share of the total variance: no unit, at least 0 and below 1."""

OddsRatio = Annotated[float, BeforeValidator(plain_number), Field(gt=0, le=100)]
"""An odds ratio: no unit, above 0."""

LogOdds = Annotated[float, BeforeValidator(plain_number), Field(ge=-5, le=5)]
"""A difference in log odds: no unit, at most 5 either way, which is an odds ratio of 148."""

Number = Annotated[float, BeforeValidator(plain_number), Field(ge=-LARGEST, le=LARGEST)]
"""A plain number: no unit, at most a million either way."""

Days = Annotated[int, BeforeValidator(_days), Field(ge=0, le=3650), _text(DAYS, "14 days")]
"""A length of time in whole days."""

Months = Annotated[int, BeforeValidator(_months), Field(ge=0, le=120), _text(MONTHS, "6 months")]
"""A length of time in calendar months."""

PerWeek = Annotated[float, BeforeValidator(_per_week), Field(gt=0, le=10_000), _text(PER_WEEK, "30 per week")]
"""A rate of people a week."""

CountryCode = Annotated[str, BeforeValidator(_country), _text(COUNTRY, "RW")]
"""A country, by its ISO 3166 code of two letters, whose public holidays are known."""

MonthDay = Annotated[tuple[int, int], BeforeValidator(_month_day), _text(MONTH_DAY, "04-07")]
"""A day that comes round every year, as (month, day)."""

Date = Annotated[date, BeforeValidator(_date), _text(DATE, "2027-07-05")]
"""A calendar date."""

Price = Annotated[float, BeforeValidator(_price), Field(ge=0, le=DEAREST)]
"""An amount of money in the currency that the scenario names."""

Currency = Annotated[str, BeforeValidator(_currency), _text(CURRENCY, "USD")]
"""A currency, by its ISO 4217 code of three letters."""

Year = Annotated[int, BeforeValidator(_year), Field(ge=FIRST_YEAR, le=LAST_YEAR)]
"""A year."""

Name = Annotated[str, BeforeValidator(_name), _text(NAME, "six_months")]
"""Lower-case letters, digits and underscores: names become file names."""
