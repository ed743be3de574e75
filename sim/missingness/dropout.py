"""Monotone dropout whose stated losses are marginal: who leaves before a visit is not seen again.

Whether a participant leaves depends on the score last seen and not on those unseen: missing at random given arm and
scores (Diggle & Kenward 1994, doi:10.2307/2986113, without their dependence on the unseen score).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit

from sim.missingness.intercepts import normal_grid, solve_intercept
from sim.parts import MISSINGNESS, Assumption, Part, refuse
from sim.quantities import LogOdds, Name, Share
from sim.streams import Streams
from sim.trial import Allocation, Flags, Floats, Ints, Names, Outcome, Schedule


def _exactly(value: float | str) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "example"}


@MISSINGNESS.register("dropout")
class Dropout(Part):
    """Participants leave for good before a visit; the baseline is always seen.

    Among those still in the trial the probability of leaving before visit t is logistic(a_t + b deviation_{t-1}), where
    the deviation is that of Outcome: the score less what is expected in that arm at that visit, in marginal SDs of the
    untreated. It is the same under both truths. a_t is solved for on a Gauss-Hermite grid, so that in every arm the
    stated share has left on average. Windows and strata make no difference.
    """

    is_cumulative: ClassVar[bool] = True
    kind: Literal["dropout"]
    loss: dict[Name, Assumption[Share]] = Field(min_length=1)
    """By visit after the baseline: share of participants who have left before it; may not fall from visit to visit."""
    log_odds_per_sd: Assumption[LogOdds]
    """Log odds of leaving per SD that the last score is higher: negative where low scorers leave, 0 is completely at
    random."""
    example = {
        "kind": "dropout",
        "loss": {"post": _exactly("5%"), "six_months": _exactly("20%")},
        "log_odds_per_sd": _exactly(-0.4),
    }

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> Dropout:
        for visit, loss in self.loss.items():
            if not loss.value < 0.95:
                message = f"{loss.value:.0%} lost leaves too few to analyse; it must be below 95%"
                raise refuse(message, "loss", visit, "value")
        return self

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
        del schedule
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
        loss = tuple(self.loss[visit].value for visit in names.visit[1:])
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
