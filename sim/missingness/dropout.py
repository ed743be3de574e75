"""Monotone dropout whose stated losses are marginal: who leaves before a visit is not seen again.

Whether a participant leaves depends on the score last seen and not on those unseen: missing at random given arm and
scores (Diggle & Kenward 1994, doi:10.2307/2986113, without their dependence on the unseen score).
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit

from sim.missingness.intercepts import normal_grid, solve_intercept
from sim.missingness.mechanism import ByVisit, by_visit, exactly, leaves_someone
from sim.missingness.scores import ScoreMechanism, Slopes
from sim.parts import MISSINGNESS, Assumption
from sim.quantities import LogOdds
from sim.streams import Streams
from sim.trial import Allocation, Flags, Floats, Ints, Names, Outcome, Schedule


@MISSINGNESS.register("dropout")
class Dropout(ScoreMechanism):
    """Participants leave for good before a visit; the baseline is always seen.

    Among those still in the trial the probability of leaving before visit t is logistic(a_t + b deviation_{t-1}), where
    the deviation is that of Outcome: the score less what is expected in that arm at that visit, in marginal SDs of the
    untreated. It is the same under both truths. a_t is solved for on a Gauss-Hermite grid, so that in every arm the
    stated share has left on average. Windows and strata make no difference.
    """

    is_cumulative: ClassVar[bool] = True
    purpose: ClassVar[str] = "dropout"
    keyed_by = {"loss": ("visit",)}
    kind: Literal["dropout"]
    loss: ByVisit = Field(min_length=1)
    """By visit after the baseline: share of participants who have left before it; may not fall from visit to visit."""
    log_odds_per_sd: Assumption[LogOdds]
    """Log odds of leaving per SD that the last score is higher: negative where low scorers leave, 0 is completely at
    random."""
    example = {
        "kind": "dropout",
        "loss": {"post": exactly("5%"), "six_months": exactly("20%")},
        "log_odds_per_sd": exactly(-0.4),
    }

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> Dropout:
        leaves_someone(self.loss, "loss")
        return self

    @property
    def slopes(self) -> Slopes:
        """On the score last seen alone; nobody comes back."""
        return Slopes(-self.log_odds_per_sd.value, 0.0, True)

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the stated losses."""
        del schedule
        return np.tile(by_visit(self.loss, names), (allocation.n_participant, 1))

    def observe(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Flags:
        """(R, N, T) which visits are seen. The draws are uniforms "dropout", T - 1 a participant; below the hazard
        leaves.
        """
        if not schedule.is_held.all():  # then the score last seen may be older than the visit before
            return super().observe(names, allocation, schedule, outcome, streams, replicate)
        n_visit = len(names.visit)
        by_arm_type = np.array([self.intercepts(names, covariance) for covariance in outcome.deviation_covariance])
        intercept = by_arm_type[allocation.is_trained.astype(np.int64)]
        u = streams.uniform("dropout", replicate, allocation.cluster, allocation.member, n_visit - 1)
        hazard = expit(intercept + self.log_odds_per_sd.value * outcome.deviation[:, :, :-1])
        observed = np.ones(outcome.deviation.shape, dtype=bool)
        observed[:, :, 1:] = np.logical_and.accumulate(u >= hazard, axis=2)
        return observed

    def intercepts(self, names: Names, covariance: Floats) -> tuple[float, ...]:
        """a_t of the T - 1 visits after the baseline, for deviations with this (T, T) covariance."""
        loss = tuple(by_visit(self.loss, names).tolist())
        earlier = covariance[:-1, :-1]
        return solve_hazards(loss, self.log_odds_per_sd.value, tuple(map(tuple, earlier.tolist())))


@lru_cache(maxsize=256)
def solve_hazards(
    loss: tuple[float, ...], slope: float, covariance: tuple[tuple[float, ...], ...]
) -> tuple[float, ...]:
    """Intercepts of the successive hazards at which the cumulative losses are `loss`, (T - 1,) and not falling.

    slope : log odds of leaving per SD of the score at the visit before.  covariance : (T - 1, T - 1) of the scores at
    the visits before each, which are normal with mean 0.  Who is left at each node is carried along exactly.
    """
    node, left = normal_grid(covariance)
    intercepts = []
    for t, (before, now) in enumerate(zip((0.0, *loss), loss, strict=False)):
        linear = slope * node[:, t]
        intercepts.append(solve_intercept([linear], [left], now - before))
        left = left * expit(-intercepts[-1] - linear)
    return tuple(intercepts)
