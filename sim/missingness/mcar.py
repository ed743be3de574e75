"""Missing completely at random: every visit is lost with a probability of its own, whoever is due."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from sim.missingness.mechanism import ByChance, ByVisit, by_visit, exactly, leaves_someone
from sim.parts import MISSINGNESS
from sim.trial import Allocation, Floats, Names, Schedule


@MISSINGNESS.register("mcar")
class CompletelyAtRandom(ByChance):
    """The same loss for everyone, independent of every score (Rubin 1976, doi:10.1093/biomet/63.3.581)."""

    keyed_by = {"loss": ("visit",)}
    kind: Literal["mcar"]
    loss: ByVisit = Field(min_length=1)
    """By visit after the baseline: share who miss it or, monotone, who have left before it."""
    monotone: bool = False
    """Whether nobody comes back."""
    example = {"kind": "mcar", "loss": {"post": exactly("4%"), "six_months": exactly("9%")}}

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> CompletelyAtRandom:
        leaves_someone(self.loss, "loss")
        return self

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the stated losses."""
        del schedule
        return np.tile(by_visit(self.loss, names), (allocation.n_participant, 1))
