"""What a scenario says about time: recruitment, training, visits, closed periods, seasons and windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from sim.parts import Assumption, Part, refuse, refuse_all
from sim.quantities import CountryCode, MonthDay, Months, Name, Number, PerWeek, Share, whole_number
from sim.quantities import Days as DayCount
from sim.trial import Days, Floats

PositiveShare = Annotated[Share, Field(gt=0)]
People = Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=1_000_000)]
Few = Annotated[int, Field(ge=1, le=1000, strict=True)]
PositiveDays = Annotated[DayCount, Field(ge=1)]


class Brief(Part):
    """A part whose keys that are left out are left out of what is written, too: a new key moves no old scenario."""

    @model_serializer(mode="wrap")
    def _without_what_is_left_out(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        is_new = {name for name in self.added if fields[name].default == getattr(self, name)}
        return {name: value for name, value in write(self).items() if name not in is_new}

    @property
    def added(self) -> tuple[str, ...]:
        """Keys of which nothing is written where they have their default."""
        return ()


class YearlyPeriod(Part):
    """A period that comes round every year, both days included; it may run over the new year."""

    first: MonthDay
    last: MonthDay

    def contains(self, day: Days) -> np.ndarray:
        """Whether each day (days since 1970-01-01, any shape) lies in the period."""
        month_day = _month_day(day)
        first, last = _as_number(self.first), _as_number(self.last)
        if first <= last:
            return (first <= month_day) & (month_day <= last)
        return (first <= month_day) | (month_day <= last)


class Season(YearlyPeriod):
    """Rains or harvest: people come less easily. Seasons that overlap multiply."""

    availability: Assumption[PositiveShare]
    """Factor on the rate at which people come to be screened, on attending a training day and on keeping an
    appointment."""


class Window(Brief, YearlyPeriod):
    """A period that changes scores and attendance, with a peak inside it."""

    peak_first: MonthDay
    peak_last: MonthDay
    peak_multiplier: Assumption[Annotated[Number, Field(ge=0, le=100)]]
    rise: Annotated[DayCount, Field(ge=1, le=365)] | None = None
    """Days before `first` over which exposure rises, linearly, to that of the first day."""
    half_life: PositiveDays | None = None
    """Days in which exposure halves after the peak, until `last`; left out, it is 1 from the day after the peak."""

    @property
    def added(self) -> tuple[str, ...]:
        return "rise", "half_life"

    @model_validator(mode="after")
    def _peak_inside(self) -> Window:
        offset = _as_number(self.first)
        first, peak_first, peak_last, last = (
            (_as_number(d) - offset) % 1300 for d in (self.first, self.peak_first, self.peak_last, self.last)
        )
        if not first <= peak_first <= peak_last <= last:
            raise refuse(
                "dates out of order: first {first}, peak_first {peak_first}, peak_last {peak_last} and last {last} "
                "must follow one another",
                "peak_first" if peak_first > last else "peak_last",
                first=self.first, peak_first=self.peak_first, peak_last=self.peak_last, last=self.last,
            )  # fmt: skip
        first_day = np.array([np.datetime64("2027-01-01", "D").astype(np.int64)])
        length = int(_since(first_day, self.first)[0] - _since(first_day, self.last)[0]) % 365
        if self.rise is not None and self.rise + length >= 365:
            raise refuse("the rise would begin before the window of the year before has ended: make it shorter", "rise")
        if self.half_life is not None and peak_last == last:
            raise refuse("has no effect: the window ends with its peak", "half_life")
        return self

    def exposure(self, day: Days) -> Floats:
        """Shaped like `day`: 0 far from the window, 1 inside it, the peak multiplier in the peak.

        With `half_life` h, the peak multiplier times 2^(-t / h) on day t after the peak, until `last`. With `rise`, it
        grows linearly before `first`, from 0 that many days before, to what it is on `first`.
        """
        peak = YearlyPeriod.model_construct(first=self.peak_first, last=self.peak_last)
        height, after = self.peak_multiplier.value, np.ones(np.shape(day))
        if self.half_life is not None:
            since = _since(day, self.peak_last)
            is_after = since < _since(day, self.first)
            after = np.where(is_after, height * 0.5 ** (since / self.half_life), 1.0)
        exposure = np.where(peak.contains(day), height, after) * self.contains(day)
        if self.rise is not None:
            on_first = height if self.peak_first == self.first else 1.0
            rising = np.maximum(0.0, 1.0 - _until(day, self.first) / self.rise) * on_first
            exposure = np.where(self.contains(day), exposure, rising)
        return np.asarray(exposure)


class Visit(Brief):
    """When a visit falls, counted from the training; give exactly one of the first three."""

    before_training: DayCount | None = None
    """Days before the first training day."""
    after_training: DayCount | None = None
    """Days after the last training day."""
    months_after_training: Months | None = None
    """Calendar months after the first training day."""
    spread: DayCount = 0
    """Each participant is due up to this many days earlier or later, all days equally likely."""
    window: DayCount | None = None
    """Days after the due date (of the baseline: before it) on which the visit may still be held."""
    retry: PositiveDays | None = None
    """A missed appointment is tried again after this many days while the window is open."""

    @property
    def added(self) -> tuple[str, ...]:
        return "window", "retry"

    @model_validator(mode="after")
    def _one_time(self) -> Visit:
        given = [self.before_training, self.after_training, self.months_after_training]
        if sum(value is not None for value in given) != 1:
            raise refuse("give exactly one of before_training, after_training and months_after_training")
        return self

    @property
    def order(self) -> int:
        """0 before the training, 1 some days after it, 2 some months after it."""
        return 0 if self.before_training is not None else 1 if self.after_training is not None else 2

    @property
    def n_attempt(self) -> int:
        """Appointments at most."""
        return 1 if self.retry is None else 1 + (self.window or 0) // self.retry


class Screening(Part):
    """How one stratum is recruited in each district."""

    screened: PerWeek
    eligible: Assumption[PositiveShare]
    """Share of the screened who are eligible."""
    consent: Assumption[PositiveShare]
    """Share of the eligible who consent."""
    pool: Assumption[People] | None = None
    """People of the stratum whom there are to screen in a district; left out, no end of them."""

    @property
    def enrolled(self) -> float:
        """Share of the screened who enrol."""
        return self.eligible.value * self.consent.value


class Waves(Part):
    """Districts that open together, and how long until the next do."""

    districts: Few
    every: PositiveDays


class Interviewers(Part):
    """Interviewers of the whole trial, and interviews that each holds a day."""

    number: Few
    per_day: Few

    @property
    def capacity(self) -> int:
        return self.number * self.per_day


class CalendarPlan(Brief):
    """Recruitment by district, training in groups by a limited number of facilitator teams, visits in their windows.

    Visits are held on open working days only, and `closed` closes them too, where any of working_days, public_holidays,
    interviewers and appointment_kept is given; otherwise on their dates, whatever day that is.
    """

    recruitment_per_district: PerWeek | None = None
    """People enrolled a week, whoever they are; or else `recruitment`."""
    recruitment: Annotated[dict[Name, Screening], Field(min_length=1)] | None = None
    """By stratum and district: who is screened, is eligible and consents; nobody is screened in a closed period."""
    waves: Waves | None = None
    group_deadline: PositiveDays | None = None
    """So long after its first recruit a training group trains with those it has; left out, it waits to be full."""
    smallest_group: Annotated[int, Field(ge=2, le=1000, strict=True)] | None = None
    """With fewer people to train a group does not train: all who would share its dates are turned away."""
    facilitator_teams: Few | None = None
    """Trainings at a time; left out, as many as are needed."""
    travel: PositiveDays | None = None
    """Of a team from one district to another; its first journey is made before it is needed."""
    training_days: Annotated[DayCount, Field(ge=1, le=5)] = 1
    """Consecutive working days, none of them closed, of one training."""
    wait_list_trained: bool = False
    """Untreated arms are trained after their final visit: it costs team days and time, and moves no score."""
    interviewers: Interviewers | None = None
    """Left out, as many as are needed."""
    visits: dict[Name, Visit]
    appointment_kept: Assumption[PositiveShare] | None = None
    """Probability that a participant keeps an appointment after the baseline, times the season's availability; left
    out, every appointment is kept."""
    working_days: Literal["monday to friday", "monday to saturday"] | None = None
    """Left out, Monday to Friday, for training."""
    public_holidays: CountryCode | None = None
    """Days off in a country, by its ISO code."""
    community_work: Literal["last saturday of the month"] | None = None
    """A working day that is not one: umuganda."""
    closed: dict[Name, YearlyPeriod] = {}
    """Periods in which nobody is trained."""
    seasons: dict[Name, Season] = {}
    windows: dict[Name, Window] = {}

    @property
    def added(self) -> tuple[str, ...]:
        kept = ("recruitment_per_district", "facilitator_teams", "training_days", "visits", "closed", "windows")
        return tuple(name for name in type(self).model_fields if name not in kept)

    @property
    def on_working_days(self) -> bool:
        """Whether visits are held on open working days only."""
        given = (self.working_days, self.public_holidays, self.interviewers, self.appointment_kept)
        return any(key is not None for key in given)

    @property
    def later_visits(self) -> tuple[Visit, ...]:
        return tuple(self.visits.values())[1:]

    @property
    def baseline(self) -> Visit:
        return next(iter(self.visits.values()))

    @property
    def n_attempt(self) -> int:
        """Appointments of one visit at most."""
        return max(visit.n_attempt for visit in self.later_visits)

    @model_validator(mode="after")
    def _consistent(self) -> CalendarPlan:
        errors = [*self._recruitment_problems(), *self._problems_without_effect(), *self._window_problems()]
        if errors:
            raise refuse_all(errors)
        return self

    def _recruitment_problems(self) -> Iterator[PydanticCustomError]:
        if (self.recruitment is None) == (self.recruitment_per_district is None):
            yield refuse("give exactly one of recruitment_per_district and recruitment (by stratum)")

    def _problems_without_effect(self) -> Iterator[PydanticCustomError]:
        if self.smallest_group is not None and self.group_deadline is None:
            yield refuse("has no effect: without a group_deadline every group waits until it is full", "smallest_group")
        if self.travel is not None and self.facilitator_teams is None:
            yield refuse("has no effect: without facilitator_teams there is always one in the district", "travel")
        if self.community_work is not None and self.working_days != "monday to saturday":
            yield refuse(
                "has no effect: Saturday is no working day ('monday to saturday' makes it one)", "community_work"
            )
        for name, visit in self.visits.items():
            if visit.window is not None and not self.on_working_days:
                message = "has no effect: the visit is always held on its date without any of working_days, "
                yield refuse(f"{message}public_holidays, interviewers and appointment_kept", "visits", name, "window")
            if visit.retry is not None and self.appointment_kept is None:
                yield refuse("has no effect: without appointment_kept none is missed", "visits", name, "retry")
            elif visit.retry is not None and visit.retry > (visit.window or 0):
                yield refuse("has no effect: the visit's window closes before that", "visits", name, "retry")

    def _window_problems(self) -> Iterator[PydanticCustomError]:
        baseline, *later = self.visits.items()
        if baseline[1].retry is not None:
            message = "has no effect: whoever does not come to the baseline is not in the trial"
            yield refuse(message, "visits", baseline[0], "retry")
        for name, visit in later if self.interviewers is not None else []:
            if visit.window is None:
                message = (
                    "is missing: with a limited number of interviewers a visit may be late, and must close some day"
                )
                yield refuse(message, "visits", name, "window")

    @model_validator(mode="after")
    def _visits_in_order(self) -> CalendarPlan:
        if len(self.visits) < 2:
            raise refuse(f"two visits or more are needed, baseline and final, found {len(self.visits)}", "visits")
        order = [visit.order for visit in self.visits.values()]
        if order != sorted(order) or order.count(0) != 1:
            raise refuse(
                "visits out of order: the first is `before_training`, then come those `after_training`, then those "
                "`months_after_training`",
                "visits",
            )
        for (before, one), (name, other) in itertools.pairwise(list(self.visits.items())[1:]):
            if self._days_between(one, other) <= one.spread + (one.window or 0) + other.spread:
                message = f"visits out of order: '{name}' could fall before '{before}'"
                raise refuse(message, "visits", name)
        for name, visit in list(self.visits.items())[:2]:
            if visit.spread > self._days_from_training(visit):
                message = "the visit could fall on the wrong side of the training: make its spread smaller"
                raise refuse(message, "visits", name, "spread")
        return self

    def _days_between(self, one: Visit, other: Visit) -> int:
        """The fewest days from one visit after the training to a later one, before either is spread."""
        if one.months_after_training is not None and other.months_after_training is not None:
            return 28 * (other.months_after_training - one.months_after_training)
        return self._days_from_training(other) - self._days_from_training(one)

    def _days_from_training(self, visit: Visit) -> int:
        """The fewest days from a visit to the first training day if it comes before, from the last day if after."""
        if visit.months_after_training is not None:
            return 28 * visit.months_after_training - (self.training_days - 1)
        distance = visit.after_training if visit.before_training is None else visit.before_training
        assert distance is not None
        return distance


def _month_day(day: Days) -> np.ndarray:
    """Month and day as month * 100 + day."""
    date = np.asarray(day).astype("datetime64[D]")
    month = date.astype("datetime64[M]")
    day_of_month = (date - month.astype("datetime64[D]")).astype(np.int64) + 1
    return np.asarray((month.astype(np.int64) % 12 + 1) * 100 + day_of_month)


def _since(day: Days, month_day: tuple[int, int]) -> np.ndarray:
    """Days since the last time that `month_day` came, 0 on the day itself; shaped like `day`."""
    as_date = np.asarray(day).astype("datetime64[D]")
    year = as_date.astype("datetime64[Y]")
    this, last = (_in_year(year - back, month_day) for back in (0, 1))
    return np.asarray((as_date - np.where(this <= as_date, this, last)).astype(np.int64))


def _until(day: Days, month_day: tuple[int, int]) -> np.ndarray:
    """Days until `month_day` comes, 0 on the day itself; shaped like `day`."""
    as_date = np.asarray(day).astype("datetime64[D]")
    year = as_date.astype("datetime64[Y]")
    this, following = (_in_year(year + ahead, month_day) for ahead in (0, 1))
    return np.asarray((np.where(this >= as_date, this, following) - as_date).astype(np.int64))


def _in_year(year: np.ndarray, month_day: tuple[int, int]) -> np.ndarray:
    month = year.astype("datetime64[M]") + (month_day[0] - 1)
    return np.asarray(month.astype("datetime64[D]") + (month_day[1] - 1))


def _as_number(month_day: tuple[int, int]) -> int:
    return month_day[0] * 100 + month_day[1]
