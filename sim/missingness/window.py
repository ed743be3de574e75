"""Commemoration-timed loss: visits that fall inside a window of the calendar are missed more often."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from sim.missingness.mechanism import ByChance, ByVisit, by_visit, exactly, in_windows, leaves_someone
from sim.parts import MISSINGNESS, Assumption
from sim.quantities import Name, OddsRatio
from sim.trial import Allocation, Floats, Names, Schedule


@MISSINGNESS.register("window")
class InWindow(ByChance):
    """The odds of missing a visit are multiplied, stratum by stratum, by how strongly it is exposed to a window.

    It is the visit's date that counts: whose visits fall outside every window has the stated loss. Missing at random
    given stratum and date; a missed visit does not end follow-up.
    """

    keyed_by = {"loss": ("visit",), "odds_ratio": ("window", "stratum")}
    kind: Literal["window"]
    loss: ByVisit = Field(min_length=1)
    """By visit after the baseline: share who miss it outside every window."""
    odds_ratio: dict[Name, dict[Name, Assumption[OddsRatio]]] = Field(min_length=1)
    """By window, then stratum: odds ratio of missing a visit inside it; taken to the power of the exposure."""
    example = {
        "kind": "window",
        "loss": {"post": exactly("2%"), "six_months": exactly("6%")},
        "odds_ratio": {"commemoration": {"survivors": exactly(2.0), "released_perpetrators": exactly(1.3)}},
    }

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> InWindow:
        leaves_someone(self.loss, "loss")
        return self

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the stated loss with the odds ratios of stratum and date."""
        outside = np.tile(by_visit(self.loss, names), (allocation.n_participant, 1))
        return in_windows(outside, self.odds_ratio, names, allocation, schedule)
