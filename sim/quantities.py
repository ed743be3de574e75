"""Quantities as users write them: `0.25 SD`, `15%`, `6 months`. A bare ambiguous number is refused.

Each type parses a string into a plain number in one documented unit, so nothing downstream knows about units.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


def _refuse(message: str) -> PydanticCustomError:
    return PydanticCustomError("quantity", "{message}", {"message": message})


def _quantity(value: Any, unit: str, example: str, scale: float = 1.0) -> float:
    """The number before `unit`, times `scale`; anything else is refused with an example of what is allowed."""
    if isinstance(value, str):
        match = re.fullmatch(rf"({_NUMBER})\s*{unit}", value.strip())
        if match:
            return float(match[1]) * scale
    found = f"{value!r}" if isinstance(value, str) else f"the bare number {value!r}"
    raise _refuse(f"found {found}; write it with its unit, for example '{example}'")


def _sd(value: Any) -> float:
    return _quantity(value, "SD", "0.25 SD")


def _share(value: Any) -> float:
    return _quantity(value, "%", "15%", 0.01)


def _share_per_months(value: Any) -> tuple[float, int]:
    """`8% per 6 months` -> (0.08, 6)."""
    match = isinstance(value, str) and re.fullmatch(rf"({_NUMBER})\s*%\s*per\s*(\d+)\s*months?", value.strip())
    if not match:
        raise _refuse(f"found {value!r}; write a share and its period, for example '8% per 6 months'")
    return float(match[1]) / 100.0, int(match[2])


def _days(value: Any) -> int:
    match = isinstance(value, str) and re.fullmatch(r"([+-]?\d+)\s*(days?|weeks?)", value.strip())
    if not match:
        raise _refuse(f"found {value!r}; write whole days or weeks, for example '14 days'")
    return int(match[1]) * (7 if match[2].startswith("week") else 1)


def _months(value: Any) -> int:
    return int(_quantity(value, "months?", "6 months"))


def _per_week(value: Any) -> float:
    return _quantity(value, r"(?:people\s*)?per\s*week", "30 per week")


def _month_day(value: Any) -> tuple[int, int]:
    """`04-07` -> (4, 7), a day that comes round every year."""
    match = isinstance(value, str) and re.fullmatch(r"(\d\d)-(\d\d)", value.strip())
    if match:
        try:
            day = date(2001, int(match[1]), int(match[2]))  # not a leap year: 29 February does not come every year
        except ValueError:
            pass
        else:
            return day.month, day.day
    raise _refuse(f"found {value!r}; write a yearly date as 'MM-DD', for example '04-07'")


def _plain_number(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise _refuse(f"found {value!r}; a plain number without a unit is needed here, for example 0.35")


def _text(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Sd = Annotated[float, BeforeValidator(_sd), Field(ge=-10, le=10), _text(r"SD$", "0.25 SD")]
"""A difference in baseline standard deviations."""

PositiveSd = Annotated[float, BeforeValidator(_sd), Field(ge=0, le=10), _text(r"SD$", "0.10 SD")]
"""A standard deviation, in baseline standard deviations."""

Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1), _text(r"%$", "15%")]
"""A proportion, written in per cent, held as 0 to 1."""

Difference = Annotated[float, BeforeValidator(_share), Field(ge=-1, le=1), _text(r"%$", "3%")]
"""A difference of two proportions, written in percentage points, held as -1 to 1."""

Correlation = Annotated[float, BeforeValidator(_plain_number), Field(gt=-1, lt=1)]
"""A correlation: no unit, strictly between -1 and 1."""

Icc = Annotated[float, BeforeValidator(_plain_number), Field(ge=0, lt=1)]
"""A share of the total variance: no unit, at least 0 and below 1."""

OddsRatio = Annotated[float, BeforeValidator(_plain_number), Field(gt=0, le=100)]
"""An odds ratio: no unit, above 0."""

Number = Annotated[float, BeforeValidator(_plain_number), Field(allow_inf_nan=False)]
"""A plain number: no unit."""

Days = Annotated[int, BeforeValidator(_days), Field(ge=0, le=3650), _text(r"(days?|weeks?)$", "14 days")]
"""A length of time in whole days."""

Months = Annotated[int, BeforeValidator(_months), Field(ge=0, le=120), _text(r"months?$", "6 months")]
"""A length of time in calendar months."""

PerWeek = Annotated[float, BeforeValidator(_per_week), Field(gt=0, le=10_000), _text(r"per week$", "30 per week")]
"""A rate of people a week."""

MonthDay = Annotated[tuple[int, int], BeforeValidator(_month_day), _text(r"^\d\d-\d\d$", "04-07")]
"""A day that comes round every year, as (month, day)."""
