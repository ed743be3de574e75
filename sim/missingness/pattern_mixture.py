"""Pattern mixture: who leaves goes on to score differently from those like them who stay, unseen."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from sim.missingness.mechanism import ByArmAndVisit, by_arm_and_visit, exactly, leaves_someone
from sim.missingness.scores import ScoreMechanism, Slopes
from sim.parts import MISSINGNESS, Assumption
from sim.quantities import LogOdds, Name, Sd
from sim.trial import Allocation, Codes, Floats, Names, Schedule


@MISSINGNESS.register("pattern_mixture")
class PatternMixture(ScoreMechanism):
    """Monotone dropout at random, after which the arm's delta is added to every score of the leaver.

    Little 1993, doi:10.1080/01621459.1993.10594302; the delta of a sensitivity analysis, made the truth (Carpenter &
    Kenward 2013, Multiple Imputation and its Application, chapter 10). What is seen is as without the shift; the
    marginal difference between the arms is that under MAR plus delta times the share who left, arm by arm. The deltas
    belong to the alternative: under the null leaving makes no difference.
    """

    is_cumulative: ClassVar[bool] = True
    shifts_unseen: ClassVar[bool] = True
    purpose: ClassVar[str] = "pattern_mixture"
    keyed_by = {"loss": ("arm", "visit"), "delta": ("arm",)}
    kind: Literal["pattern_mixture"]
    loss: ByArmAndVisit = Field(min_length=1)
    """By arm, then visit after the baseline: share who have left before it; may not fall from visit to visit."""
    delta: dict[Name, Assumption[Sd]] = Field(min_length=1)
    """By arm: added to the unseen scores of those who left."""
    log_odds_per_sd_worse: Assumption[LogOdds]
    """Log odds of leaving per SD that the score last seen is lower."""
    example = {
        "kind": "pattern_mixture",
        "loss": {
            "control": {"post": exactly("3%"), "six_months": exactly("8%")},
            "mixed": {"post": exactly("5%"), "six_months": exactly("15%")},
            "separate": {"post": exactly("5%"), "six_months": exactly("15%")},
        },
        "delta": {"control": exactly("0 SD"), "mixed": exactly("-0.3 SD"), "separate": exactly("-0.3 SD")},
        "log_odds_per_sd_worse": exactly(0.3),
    }

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> PatternMixture:
        leaves_someone(self.loss, "loss")
        return self

    @property
    def slopes(self) -> Slopes:
        """On the score last seen alone; nobody comes back."""
        return Slopes(self.log_odds_per_sd_worse.value, 0.0, True)

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the stated losses of each participant's arm."""
        del schedule
        return by_arm_and_visit(self.loss, names, allocation)

    def unseen_shift(self, names: Names, allocation: Allocation, left: Codes) -> Floats:
        """(R, N, T) the arm's delta where the participant has left, else 0."""
        del names
        delta = np.array([self.delta[arm.name].value for arm in allocation.arms])[allocation.arm]
        return np.asarray((left > 0) * delta[:, None])
