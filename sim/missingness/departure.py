"""Death and moving away: reasons to leave for good that compete with each other, at a rate per year of real time."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from sim.missingness.mechanism import MOST_LOST, Mechanism, exactly
from sim.parts import MISSINGNESS, Assumption, refuse
from sim.quantities import Name, Share
from sim.streams import Streams
from sim.trial import Allocation, Codes, Flags, Floats, Ints, Names, Outcome, Schedule

DAYS_PER_YEAR = 365.25


@MISSINGNESS.register("departure")
class Departure(Mechanism):
    """Each reason has a constant hazard from the baseline visit on; the first to strike takes the participant.

    Time runs by the calendar: the later the visits, the fewer are left. Independent of the scores. The scores of those
    who left are what they would have been had they stayed; estimands say what is made of them. Competing exponential
    times: Kalbfleisch & Prentice 2002, The Statistical Analysis of Failure Time Data, chapter 8.
    """

    is_cumulative: ClassVar[bool] = True
    names_reasons: ClassVar[bool] = True
    kind: Literal["departure"]
    risk_per_year: dict[Name, Assumption[Share]] = Field(min_length=1)
    """By reason, such as `death` and `moving_away`: share who would go by it within a year if there were no other."""
    example = {"kind": "departure", "risk_per_year": {"death": exactly("1%"), "moving_away": exactly("6%")}}

    @model_validator(mode="after")
    def _risks_leave_someone(self) -> Departure:
        for reason, risk in self.risk_per_year.items():
            if not 0 < risk.value < MOST_LOST:
                allowed = f"it must be above 0% and below {MOST_LOST:.0%}"
                raise refuse(f"found a risk of {risk.value:.0%} a year; {allowed}", "risk_per_year", reason, "value")
        return self

    @property
    def reasons(self) -> tuple[str, ...]:
        """As named under `risk_per_year`."""
        return tuple(self.risk_per_year)

    @property
    def hazard(self) -> Floats:
        """(C,) hazard of each reason, per day."""
        return np.array([-np.log1p(-risk.value) / DAYS_PER_YEAR for risk in self.risk_per_year.values()])

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) 1 - exp(-sum of the hazards times the days since the baseline)."""
        del names, allocation
        return np.asarray(-np.expm1(-self.hazard.sum() * _days(schedule)[:, 1:]))

    def cause(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Codes:
        """(R, N, T). The draws are uniforms "departure", one a reason: the survival function at its time."""
        del names, outcome
        n_reason = len(self.risk_per_year)
        u = streams.uniform("departure", replicate, allocation.cluster, allocation.member, n_reason)
        time = -np.log(u) / self.hazard
        gone = time.min(axis=2, keepdims=True) <= _days(schedule)
        return np.where(gone, 1 + time.argmin(axis=2, keepdims=True), 0).astype(np.int8)

    def observe(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Flags:
        """(R, N, T) which visits come before any departure."""
        return np.asarray(self.cause(names, allocation, schedule, outcome, streams, replicate) == 0)


def _days(schedule: Schedule) -> Floats:
    """(N, T) days from the baseline visit; 0 for a visit that its date puts before it, and never falling."""
    since = schedule.visit_day - schedule.visit_day[:, :1]
    return np.maximum.accumulate(np.maximum(since, 0), axis=1).astype(float)
