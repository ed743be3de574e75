"""Missed visits by a logistic model whose stated losses are marginal: intercepts are solved for, not typed in."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator
from scipy.special import expit

from sim.missingness.intercepts import normal_grid, solve_intercept
from sim.missingness.mechanism import by_visit, exactly, in_windows
from sim.missingness.scores import ScoreMechanism, Slopes
from sim.parts import MISSINGNESS, Assumption, refuse
from sim.quantities import Difference, LogOdds, OddsRatio, Share
from sim.streams import Streams
from sim.trial import Allocation, Flags, Floats, Ints, Names, Outcome, Schedule


@MISSINGNESS.register("logistic")
class LogisticLoss(ScoreMechanism):
    """A visit is missed with all its outcomes, with odds that depend on arm, window, last seen and unseen score.

    A reader expects the stated loss to be what happens: in every combination of arm, stratum and window exposure the
    probability of missing, averaged over scores, is the stated loss with the window's odds ratio applied to it. The
    intercept that makes this so is solved for on a Gauss-Hermite grid over the joint distribution of the scores.
    Scores enter as departures from what is expected of that arm, stratum and date (see Outcome.deviation).
    """

    purpose: ClassVar[str] = "missingness"
    keyed_by = {"loss": ("visit",), "window_odds_ratio": ("window", "stratum")}
    kind: Literal["logistic"]
    loss: dict[str, Assumption[Share]]
    """By visit: share of treated participants who miss it, outside every window."""
    extra_loss_untreated: Assumption[Difference]
    """Added to the final visit's loss in untreated arms."""
    window_odds_ratio: dict[str, dict[str, Assumption[OddsRatio]]] = {}
    """By window, then stratum: odds ratio of missing a visit that falls inside; its power of the peak multiplier."""
    mar_log_odds_per_sd: Assumption[LogOdds]
    """Log odds of missing per SD that the last seen score is worse (missing at random)."""
    mnar_log_odds_per_sd: Assumption[LogOdds]
    """Log odds of missing per SD that the unseen score itself is worse (missing not at random)."""
    example = {
        "kind": "logistic",
        "loss": {"post": exactly("5%"), "six_months": exactly("10%")},
        "extra_loss_untreated": exactly("3%"),
        "window_odds_ratio": {"commemoration": {"survivors": exactly(2.0), "released_perpetrators": exactly(1.3)}},
        "mar_log_odds_per_sd": exactly(0.2),
        "mnar_log_odds_per_sd": exactly(0.2),
    }

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> LogisticLoss:
        final, extra = list(self.loss.values())[-1:], self.extra_loss_untreated.value
        if final and final[0].value + extra < 0:
            message = f"{final[0].value:.0%} lost plus {extra:.0%} in untreated arms is less than nobody"
            raise refuse(f"{message}; it must be at least {-final[0].value:.0%}", "extra_loss_untreated", "value")
        for visit, loss in self.loss.items():
            total = loss.value + max(0.0, self.extra_loss_untreated.value)
            if not total < 0.95:
                message = f"{total:.0%} lost, extra_loss_untreated included, leaves too few to analyse"
                raise refuse(f"{message}; it must be below 95%", "loss", visit, "value")
        return self

    @property
    def slopes(self) -> Slopes:
        """On the score last seen and on the unseen one."""
        return Slopes(self.mar_log_odds_per_sd.value, self.mnar_log_odds_per_sd.value, False)

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the probability of missing each visit after the baseline that a reader expects."""
        expected = np.tile(by_visit(self.loss, names), (allocation.n_participant, 1))
        expected[~allocation.is_trained, -1] += self.extra_loss_untreated.value
        return in_windows(expected, self.window_odds_ratio, names, allocation, schedule)

    def observe(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Flags:
        """(R, N, T) which visits are seen. The baseline always is; a missed visit does not end follow-up."""
        if not schedule.is_held.all():  # then a score that nobody saw must not count as seen
            return super().observe(names, allocation, schedule, outcome, streams, replicate)
        expected = self.marginal_loss(names, allocation, schedule)
        intercept = self._intercepts(expected, allocation.is_trained, outcome.deviation_covariance)
        n_visit = len(names.visit)
        u = streams.uniform("missingness", replicate, allocation.cluster, allocation.member, n_visit - 1)
        observed = np.ones(outcome.deviation.shape, dtype=bool)
        last_seen = outcome.deviation[:, :, 0].copy()
        for t in range(1, n_visit):
            unseen = outcome.deviation[:, :, t]
            log_odds = (
                intercept[:, t - 1]
                - self.mar_log_odds_per_sd.value * last_seen
                - self.mnar_log_odds_per_sd.value * unseen
            )
            observed[:, :, t] = u[:, :, t - 1] >= expit(log_odds)
            last_seen = np.where(observed[:, :, t], unseen, last_seen)
        return observed

    def _intercepts(self, expected: Floats, is_trained: Flags, covariance: Floats) -> Floats:
        """(N, T-1) intercepts; participants with the same arm type and expected losses share theirs."""
        cell, index = np.unique(np.column_stack([is_trained, expected]), axis=0, return_inverse=True)
        slopes = (self.mar_log_odds_per_sd.value, self.mnar_log_odds_per_sd.value)
        solved = [
            solve_intercepts(tuple(row[1:].tolist()), slopes, tuple(map(tuple, covariance[int(row[0])].tolist())))
            for row in cell
        ]
        return np.array(solved)[index.reshape(-1)]


@lru_cache(maxsize=4096)
def solve_intercepts(
    expected: tuple[float, ...], slopes: tuple[float, float], covariance: tuple[tuple[float, ...], ...]
) -> tuple[float, ...]:
    """Intercepts of successive visits at which the marginal probabilities of missing are `expected`.

    slopes : log odds per SD worse of the last seen and of the unseen score.  covariance : (T, T) of the scores, which
    are normal with mean 0.  The distribution of who was seen before is carried along exactly on the grid.
    """
    mar, mnar = slopes
    node, weight = normal_grid(covariance)
    last_seen = [(node[:, 0], np.ones(len(weight)))]  # (score last seen, probability of that history)
    intercepts = []
    for t, target in enumerate(expected, start=1):
        linear = [-mar * seen - mnar * node[:, t] for seen, _ in last_seen]
        mass = [weight * probability for _, probability in last_seen]
        a = solve_intercept(linear, mass, target)
        intercepts.append(a)
        missed = [(seen, p * expit(a + x)) for (seen, p), x in zip(last_seen, linear, strict=True)]
        seen_now = sum(p * expit(-a - x) for (_, p), x in zip(last_seen, linear, strict=True))
        last_seen = [*missed, (node[:, t], np.asarray(seen_now))]
    return tuple(intercepts)
