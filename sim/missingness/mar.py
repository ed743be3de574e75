"""Missing at random: whether a visit is lost depends on the score last seen, and on no unseen one."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from sim.missingness.mechanism import ByVisit, by_visit, exactly, leaves_someone
from sim.missingness.scores import ScoreMechanism, Slopes
from sim.parts import MISSINGNESS, Assumption
from sim.quantities import LogOdds
from sim.trial import Allocation, Floats, Names, Schedule


@MISSINGNESS.register("mar")
class AtRandom(ScoreMechanism):
    """Low scorers, as last seen, are likelier to miss a visit or, monotone, to leave for good.

    Analyses that use every score seen and the right covariance are unbiased under it (Rubin 1976,
    doi:10.1093/biomet/63.3.581; Molenberghs & Kenward 2007, Missing Data in Clinical Studies, chapter 7).
    """

    purpose: ClassVar[str] = "mar"
    keyed_by = {"loss": ("visit",)}
    kind: Literal["mar"]
    loss: ByVisit = Field(min_length=1)
    """By visit after the baseline: share who miss it or, monotone, who have left before it; over all scores."""
    log_odds_per_sd_worse: Assumption[LogOdds]
    """Log odds of loss per SD that the score last seen is lower."""
    monotone: bool = False
    """Whether nobody comes back."""
    example = {
        "kind": "mar",
        "loss": {"post": exactly("5%"), "six_months": exactly("12%")},
        "log_odds_per_sd_worse": exactly(0.5),
        "monotone": True,
    }

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> AtRandom:
        leaves_someone(self.loss, "loss")
        return self

    @property
    def slopes(self) -> Slopes:
        """On the score last seen alone."""
        return Slopes(self.log_odds_per_sd_worse.value, 0.0, self.monotone)

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the stated losses."""
        del schedule
        return np.tile(by_visit(self.loss, names), (allocation.n_participant, 1))
