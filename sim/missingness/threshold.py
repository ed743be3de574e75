"""Low scorers are not seen: whoever scores below a cut at a visit misses it (truncation, the sharpest MNAR)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import ndtri

from sim.missingness.mechanism import (
    ByArmAndVisit,
    Mechanism,
    by_arm_and_visit,
    exactly,
    leaves_someone,
    seen_where,
)
from sim.parts import MISSINGNESS
from sim.streams import Streams
from sim.trial import Allocation, Flags, Floats, Ints, Names, Outcome, Schedule


@MISSINGNESS.register("threshold")
class BelowThreshold(Mechanism):
    """The lowest scorers of each arm miss the visit, as many as stated; nothing is left to chance.

    Scores enter as departures from what is expected of that arm, stratum and date (see Outcome.deviation). One cut on
    the score itself therefore is two losses: with a treated mean higher by d, a cut that loses Phi(c) of the untreated
    loses Phi(c - d) of the treated. Who is seen has the truncated normal mean mu + sd phi(z) / (1 - Phi(z)), z the cut
    in SDs (Johnson, Kotz & Balakrishnan 1994, Continuous Univariate Distributions 1, chapter 13).
    """

    keyed_by = {"loss": ("arm", "visit")}
    kind: Literal["threshold"]
    loss: ByArmAndVisit = Field(min_length=1)
    """By arm, then visit after the baseline: share who score too low to be seen."""
    example = {
        "kind": "threshold",
        "loss": {
            "control": {"post": exactly("5%"), "six_months": exactly("15%")},
            "mixed": {"post": exactly("5%"), "six_months": exactly("10%")},
            "separate": {"post": exactly("5%"), "six_months": exactly("10%")},
        },
    }

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> BelowThreshold:
        leaves_someone(self.loss, "loss")
        return self

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the stated losses of each participant's arm."""
        del schedule
        return by_arm_and_visit(self.loss, names, allocation)

    def observe(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Flags:
        """(R, N, T) which scores lie above their arm's cut. No draws."""
        del streams, replicate
        variance = np.diagonal(outcome.deviation_covariance, axis1=1, axis2=2)[:, 1:]
        sd = np.sqrt(variance)[allocation.is_trained.astype(np.int64)]
        cut = sd * ndtri(self.marginal_loss(names, allocation, schedule))
        return seen_where(outcome.deviation[:, :, 1:] >= cut)
