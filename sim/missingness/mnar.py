"""Missing not at random: whether a visit is lost depends on the very score that is not seen then."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from sim.missingness.mechanism import ByVisit, by_visit, exactly, leaves_someone
from sim.missingness.scores import ScoreMechanism, Slopes
from sim.parts import MISSINGNESS, Assumption
from sim.quantities import LogOdds
from sim.trial import Allocation, Floats, Names, Schedule


@MISSINGNESS.register("mnar")
class NotAtRandom(ScoreMechanism):
    """Low scorers at a visit are likelier to miss it or, monotone, to leave for good: a selection model.

    Diggle & Kenward 1994, doi:10.2307/2986113. No analysis of what is seen can tell it from loss at random.
    """

    purpose: ClassVar[str] = "mnar"
    keyed_by = {"loss": ("visit",)}
    kind: Literal["mnar"]
    loss: ByVisit = Field(min_length=1)
    """By visit after the baseline: share who miss it or, monotone, who have left before it; over all scores."""
    log_odds_per_sd_worse: Assumption[LogOdds]
    """Log odds of loss per SD that the unseen score is lower."""
    monotone: bool = False
    """Whether nobody comes back."""
    example = {
        "kind": "mnar",
        "loss": {"post": exactly("3%"), "six_months": exactly("10%")},
        "log_odds_per_sd_worse": exactly(0.6),
    }

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> NotAtRandom:
        leaves_someone(self.loss, "loss")
        return self

    @property
    def slopes(self) -> Slopes:
        """On the unseen score alone."""
        return Slopes(0.0, self.log_odds_per_sd_worse.value, self.monotone)

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the stated losses."""
        del schedule
        return np.tile(by_visit(self.loss, names), (allocation.n_participant, 1))
