"""The mean difference at the final visit had certain things not happened: the hypothetical strategy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from sim.estimands.estimand import Estimand, OnAverage, TrueValue
from sim.parts import ESTIMANDS, refuse
from sim.trial import Absence, Arm, Contrast, Floats, Names

Event = Literal["non_attendance", "leaving"]


@ESTIMANDS.register("hypothetical")
class Hypothetical(Estimand):
    """E[Y(treated arm)] - E[Y(control arm)] at the final visit, had everyone attended or had nobody left.

    What is not named is treatment policy. Without leaving, nobody dies or moves away, and no score shifts after it; it
    is what an analysis under missing at random aims at (ICH E9(R1), section A.3.2).
    """

    kind: Literal["hypothetical"]
    had_not: tuple[Event, ...] = Field(min_length=1, strict=False)
    """What would not have happened: `non_attendance` of the training, `leaving` for good."""
    example = {"kind": "hypothetical", "had_not": ["non_attendance", "leaving"]}

    @field_validator("had_not")
    @classmethod
    def _events_differ(cls, had_not: tuple[Event, ...]) -> tuple[Event, ...]:
        if len(set(had_not)) < len(had_not):
            raise refuse("found {found}; an event is named once", found=", ".join(had_not))
        return had_not

    @property
    def intercurrent_events(self) -> str:
        """Hypothetical for the events named."""
        text = {"non_attendance": "training not attended", "leaving": "leaving"}
        away = ", ".join(text[event] for event in self.had_not)
        rest = ", ".join(["contamination", *(text[event] for event in text if event not in self.had_not)])
        return f"{away}: hypothetical (had it not happened); {rest}: treatment policy"

    @property
    def everyone_attends(self) -> bool:
        """As declared."""
        return "non_attendance" in self.had_not

    def measured(self, score: Floats, absence: Absence | None) -> Floats:
        """(2, K, R, N) scores at the final visit, with what leaving does to them or without."""
        if "leaving" in self.had_not:
            return np.asarray(score[..., -1])
        return super().measured(score, absence)

    def true_value(
        self, model: Any, names: Names, effect: Floats, arms: tuple[Arm, ...], contrast: Contrast, average: OnAverage
    ) -> TrueValue:
        """As in the closed form, with full attendance where everyone attends."""
        if self.everyone_attends:
            full = np.array([float(arm.is_trained) for arm in arms])
            reached = average.dose[contrast.treated] if average.dose is not None else 1.0
            average = replace(average, dose=full, buffering=average.buffering / reached if reached else 0.0)
        return super().true_value(model, names, effect, arms, contrast, average)
