"""What every missingness mechanism does: who is seen, why not, who has left for good, and what becomes of their scores.

Mechanisms that depend on no score are told apart from those that do (`sim.missingness.scores`), because the latter have
intercepts to be solved for. "Lost" says that a visit is not seen; "left", that none after it is either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from sim.parts import Assumption, Part, refuse
from sim.quantities import Name, Share
from sim.streams import Streams
from sim.trial import TRUTHS, Absence, Allocation, Codes, Flags, Floats, Ints, Names, Outcome, Schedule

ByVisit: TypeAlias = dict[Name, Assumption[Share]]
ByArmAndVisit: TypeAlias = dict[Name, ByVisit]

MOST_LOST = 0.95


def exactly(value: float | str) -> dict[str, Any]:
    """A planning number without a range, for examples."""
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "example"}


def leaves_someone(loss: Mapping[str, Any], *at: str) -> None:
    """Refuses a stated loss, at any depth of `loss`, that leaves too few to analyse."""
    for name, one in loss.items():
        if isinstance(one, Mapping):
            leaves_someone(one, *at, name)
        elif not one.value < MOST_LOST:
            message = f"{one.value:.0%} lost leaves too few to analyse; it must be below {MOST_LOST:.0%}"
            raise refuse(message, *at, name, "value")


def by_visit(loss: ByVisit, names: Names) -> Floats:
    """(T-1,) stated losses of the visits after the baseline."""
    return np.array([loss[visit].value for visit in names.visit[1:]])


def by_arm_and_visit(loss: ByArmAndVisit, names: Names, allocation: Allocation) -> Floats:
    """(N, T-1) stated losses of each participant's arm."""
    return np.array([by_visit(loss[arm.name], names) for arm in allocation.arms])[allocation.arm]


class Mechanism(Part, ABC):
    """One way in which visits are lost.

    The arguments `names, allocation, schedule, outcome, streams, replicate` are those of one realisation with R of its
    replicates, as everywhere. Uniforms come from streams that the mechanism's own purpose names, so that no mechanism
    moves another's draws.
    """

    keyed_by: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Fields whose keys are words of the scenario, from the outside in: `visit`, `arm`, `window` or `stratum`."""
    is_cumulative: ClassVar[bool] = False
    """Whether `loss` counts everyone who has left before a visit and so may not fall from visit to visit; where a
    mechanism has a field `monotone`, that says so instead."""
    names_reasons: ClassVar[bool] = False
    """Whether the scenario names its reasons; if not, the only one is called as the mechanism is."""
    shifts_unseen: ClassVar[bool] = False
    """Whether unseen scores differ from what they would have been had nobody left."""
    example: ClassVar[dict[str, Any]] = {}

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons for which this mechanism loses visits."""
        return (str(self.example["kind"]),)

    @property
    def ends_follow_up(self) -> tuple[bool, ...]:
        """For each reason, whether nobody comes back from it."""
        return (self.is_cumulative or bool(getattr(self, "monotone", False)),) * len(self.reasons)

    @abstractmethod
    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the probability that this mechanism, alone, loses each visit after the baseline: over scores, and
        cumulative where nobody comes back.
        """

    @abstractmethod
    def observe(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Flags:
        """(R, N, T) which visits this mechanism lets be seen; the baseline always is."""

    def cause(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Codes:
        """(R, N, T) int8 why a visit is not seen: 0 where it is, else 1 + the position in `reasons`."""
        return (~self.observe(names, allocation, schedule, outcome, streams, replicate)).astype(np.int8)

    def left(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Codes:
        """(R, N, T) int8 why a participant has left for good before a visit: 0 who has not, else as in `cause`."""
        if not any(self.ends_follow_up):
            return np.zeros(outcome.deviation.shape, np.int8)
        cause = self.cause(names, allocation, schedule, outcome, streams, replicate)
        return np.where(np.array([False, *self.ends_follow_up])[cause], cause, 0).astype(np.int8)

    def unseen_shift(self, names: Names, allocation: Allocation, left: Codes) -> Floats:
        """How far scores under the alternative lie from what they would have been had nobody left, in baseline SDs.

        left : (R, N, T) as `left` gives it. Returns an array that broadcasts against it.
        """
        del names, allocation, left
        return np.zeros((1, 1, 1))

    def absence(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Absence:
        """Who would leave for good, and with what scores, allocated to the contrast's control and to its treated arm.

        Draws and deviations are those of the arm that a participant is in; the stated losses, those of the other arm.
        Without a control arm nobody's arm is changed.
        """
        contrast, is_trained = allocation.contrast, allocation.is_trained
        left = np.zeros((2, *outcome.deviation.shape), np.int8)
        shift = []
        for turn, arm in enumerate((contrast.control, contrast.treated)):
            as_if = allocation
            if contrast.control is not None:
                as_if = replace(allocation, arm=np.full_like(allocation.arm, arm))
            for kind in (False, True):  # the covariance stays that of the arm whose deviations these are
                covariance = outcome.deviation_covariance[[int(kind)] * 2]
                if (who := is_trained == kind).any():
                    own = replace(outcome, deviation_covariance=covariance)
                    left[turn][:, who] = self.left(names, as_if, schedule, own, streams, replicate)[:, who]
            shift.append(self.unseen_shift(names, as_if, left[turn]))
        return Absence(left, self.reasons, np.stack(shift))

    def shifted(self, names: Names, allocation: Allocation, outcome: Outcome, left: Codes) -> Outcome:
        """The outcome with the scores, under the alternative, that those who left have in truth (pattern mixture).

        Only scores that nobody sees are moved. Under the null arms do not differ, in what happens to leavers either.
        """
        if not self.shifts_unseen:
            return outcome
        score = outcome.score.copy()
        score[:, TRUTHS.index("alternative")] += self.unseen_shift(names, allocation, left)
        return replace(outcome, score=score)


class ByChance(Mechanism):
    """A loss that depends on no score: with the stated probability, whatever the scores."""

    def observe(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Flags:
        """(R, N, T). The draws are uniforms of the mechanism's kind, one a visit after the baseline, or one in all
        where nobody comes back; below the stated loss a visit is lost.
        """
        loss = self.marginal_loss(names, allocation, schedule)
        n_draw = 1 if all(self.ends_follow_up) else loss.shape[1]
        u = streams.uniform(self.example["kind"], replicate, allocation.cluster, allocation.member, n_draw)
        return seen_where(u >= loss)


def seen_where(after: NDArray[np.bool_]) -> Flags:
    """(R, N, T) flags from those of the visits after the baseline, which is always seen."""
    return np.concatenate([np.ones((*after.shape[:2], 1), dtype=bool), after], axis=2)


def in_windows(
    loss: Floats, odds_ratio: Mapping[str, Mapping[str, Any]], names: Names, allocation: Allocation, schedule: Schedule
) -> Floats:
    """(N, T-1) losses whose odds each window multiplies by the stratum's odds ratio to the power of the exposure.

    loss : (N, T-1) outside every window.
    """
    log_odds = logit(np.clip(loss, 1e-12, 1 - 1e-12))
    for w, window in enumerate(names.window):
        ratio = np.array([odds_ratio[window][s].value for s in names.stratum])
        log_odds += schedule.exposure[w][:, 1:] * np.log(ratio)[allocation.stratum, None]
    return np.asarray(expit(log_odds))
