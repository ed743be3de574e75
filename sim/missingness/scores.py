"""Mechanisms in which scores decide who is lost, one of them or several at once, visit by visit.

At visit t, mechanism m loses whoever it has not lost for good with probability

    logistic(a_mt - last_m * (score last seen) - now_m * (score at t)),

scores being deviations (see Outcome.deviation), independently of the others given the scores. Last seen is what nobody
has kept from being seen: not another mechanism, not a visit that does not take place. So a mechanism with now_m = 0 is
missing at random on the observed history in whatever company. The a_mt are solved for on a Gauss-Hermite grid, so that
each mechanism's stated loss is what happens on average over scores, given which visits there are.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
from scipy.special import expit

from sim.missingness.intercepts import normal_grid, solve_intercept
from sim.missingness.mechanism import Mechanism
from sim.streams import Streams
from sim.trial import Allocation, Flags, Floats, Ints, Names, Outcome, Schedule


class Slopes(NamedTuple):
    """Log odds of loss per SD worse of the score last seen and of the unseen score; whether nobody comes back."""

    last: float
    now: float
    is_monotone: bool


class ScoreMechanism(Mechanism):
    """A logistic model of loss on scores whose stated losses are marginal."""

    purpose: ClassVar[str]
    """Its name in the random streams."""

    @property
    @abstractmethod
    def slopes(self) -> Slopes:
        """How loss depends on scores."""

    def observe(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Flags:
        """(R, N, T). The draws are uniforms named by `purpose`, T - 1 a participant; below the probability is lost."""
        there = np.broadcast_to(schedule.is_held, outcome.deviation.shape)
        [lost] = lost_on_scores([self], names, allocation, schedule, outcome, [streams], replicate, there)
        return np.asarray(~lost)


def lost_on_scores(
    mechanisms: Sequence[ScoreMechanism],
    names: Names,
    allocation: Allocation,
    schedule: Schedule,
    outcome: Outcome,
    streams: Sequence[Streams],
    replicate: Ints,
    there: Flags,
) -> Flags:
    """(M, R, N, T) which visits each of M mechanisms loses. there : (R, N, T) visits that nothing else keeps unseen."""
    slopes = [mechanism.slopes for mechanism in mechanisms]
    expected = np.stack([m.marginal_loss(names, allocation, schedule) for m in mechanisms], axis=1)
    intercept = _intercepts(slopes, expected, allocation.is_trained, outcome.deviation_covariance, there)
    deviation = outcome.deviation
    u = [
        own.uniform(m.purpose, replicate, allocation.cluster, allocation.member, len(names.visit) - 1)
        for m, own in zip(mechanisms, streams, strict=True)
    ]
    lost = np.zeros((len(mechanisms), *deviation.shape), dtype=bool)
    last_seen = deviation[:, :, 0]
    for t in range(1, deviation.shape[2]):
        now = deviation[:, :, t]
        for m, slope in enumerate(slopes):
            chance = expit(intercept[:, :, m, t - 1] - slope.last * last_seen - slope.now * now)
            lost[m, :, :, t] = (u[m][:, :, t - 1] < chance) | (slope.is_monotone & lost[m, :, :, t - 1])
        last_seen = np.where(there[:, :, t] & ~lost[:, :, :, t].any(axis=0), now, last_seen)
    return lost


def _intercepts(slopes: list[Slopes], expected: Floats, is_trained: Flags, covariance: Floats, there: Flags) -> Floats:
    """(R, N, M, T-1) intercepts, solved once for all who share arm type, expected losses (N, M, T-1) and visits."""
    n_participant, n_mechanism, n_later = expected.shape
    rows = np.column_stack([is_trained, expected.reshape(n_participant, -1)])
    cell, own_cell = np.unique(rows, axis=0, return_inverse=True)
    between = there[:, :, 1:-1]  # whether there is a final visit cannot matter to what was seen before it
    pattern = between @ (1 << np.arange(n_later - 1)) if n_later > 1 else np.zeros(there.shape[:2], np.int64)
    code = own_cell.reshape(-1) + len(cell) * pattern
    present = np.flatnonzero(np.bincount(code.reshape(-1)))  # in one pass: sorting all of code takes longer
    place = np.zeros(present[-1] + 1, dtype=np.intp)
    place[present] = np.arange(len(present))
    solved = []
    for one in present.tolist():
        is_there, row = one // len(cell), cell[one % len(cell)]
        stated = tuple(map(tuple, row[1:].reshape(n_mechanism, n_later).tolist()))
        visits = (True, *(bool(is_there >> t & 1) for t in range(n_later - 1)), True)
        solved.append(
            solve_jointly(tuple(slopes), stated, tuple(map(tuple, covariance[int(row[0])].tolist())), visits).intercept
        )
    return np.array(solved)[place[code]]


class Joint(NamedTuple):
    """intercept : M tuples of T-1.  seen : T-1 probabilities that no mechanism loses the visit."""

    intercept: tuple[tuple[float, ...], ...]
    seen: tuple[float, ...]


History: TypeAlias = tuple[int, tuple[bool, ...]]
"""The visit last seen, and which mechanisms have lost someone for good."""


@lru_cache(maxsize=4096)
def solve_jointly(
    slopes: tuple[Slopes, ...],
    expected: tuple[tuple[float, ...], ...],
    covariance: tuple[tuple[float, ...], ...],
    there: tuple[bool, ...],
) -> Joint:
    """Intercepts at which M mechanisms at work together lose what is `expected` of each, M tuples of T-1.

    covariance : (T, T) of the scores, which are normal with mean 0.  there : (T,) visits that nothing else keeps
    unseen.  The distribution of histories is carried along exactly on the grid.
    """
    n_visit = len(there)
    n_dim = n_visit if any(slope.now for slope in slopes) else n_visit - 1  # the final score is read by MNAR alone
    node, weight = normal_grid(tuple(row[:n_dim] for row in covariance[:n_dim]))
    mass: dict[History, Floats] = {(0, (False,) * len(slopes)): weight}
    intercept: list[list[float]] = [[] for _ in slopes]
    seen = []
    for t in range(1, n_visit):
        chance: list[dict[History, Floats]] = []
        for m, slope in enumerate(slopes):
            linear = {h: _linear(slope, node, h[0], t) for h in mass if not h[1][m]}
            gone = expected[m][t - 2] if slope.is_monotone and t > 1 else 0.0
            a = solve_intercept(list(linear.values()), [mass[h] for h in linear], expected[m][t - 1] - gone)
            intercept[m].append(a)
            chance.append({h: expit(a + x) for h, x in linear.items()})
        mass, now = _advance(mass, chance, slopes, t, there[t])
        seen.append(now)
    return Joint(tuple(map(tuple, intercept)), tuple(seen))


def _linear(slope: Slopes, node: Floats, last: int, t: int) -> Floats:
    """(P,) what the scores add to the log odds at each node."""
    on_last = -slope.last * node[:, last]
    return np.asarray(on_last - slope.now * node[:, t]) if slope.now else on_last


def _advance(
    mass: dict[History, Floats],
    chance: list[dict[History, Floats]],
    slopes: tuple[Slopes, ...],
    t: int,
    is_there: bool,
) -> tuple[dict[History, Floats], float]:
    """Histories after visit t with their probabilities at each node, and the probability that none loses the visit."""
    after: dict[History, Floats] = {}
    kept = 0.0
    for history, p in mass.items():
        last, left = history
        for loses in itertools.product(*((True,) if gone else (False, True) for gone in left)):
            share = p
            for m, is_lost in enumerate(loses):
                if not left[m]:
                    share = share * (chance[m][history] if is_lost else 1 - chance[m][history])
            new_left = tuple(slope.is_monotone and is_lost for slope, is_lost in zip(slopes, loses, strict=True))
            new = (t if is_there and not any(loses) else last, new_left)
            after[new] = after.get(new, 0.0) + share
            kept += 0.0 if any(loses) else float(share.sum())
    return after, kept
