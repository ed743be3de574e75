"""Plain trials that are drawn and fitted in lanes: a design's arrays to the records of the kernels, and fits back.

Two analyses are hot: a mixed model of all visits (`over_visits`) and an analysis of covariance of the final visit with
a random intercept (`at_final_visit`).  Both give, for any replicate numbers, what the ordinary route gives for the same
streams: generate scores, observe them, build matrices, fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.fused import ancova, nested
from sim.fused.draw import PURPOSES, Layout, Model
from sim.fused.task import Asked, Trial
from sim.kernels import ancova_lanes, nested_lanes
from sim.kernels.lanes_climb import (
    DF_EXPECTED,
    DF_EXPECTED_KEPT,
    DF_OBSERVED,
    DF_OBSERVED_KEPT,
    ESTIMATE,
    KNOWN_ESTIMATE,
    KNOWN_STANDARD_ERROR,
    KR_STANDARD_ERROR,
    N_RESULT,
    STANDARD_ERROR,
)  # fmt: skip
from sim.kernels.mixed_optimise import FREE, NONNEGATIVE, POSITIVE
from sim.lanes import LANES
from sim.streams import Streams
from sim.trial import FAILED, OK, SINGULAR, Floats, Ints

MOST_STEPS = 60

Boundary = Literal["drop", "keep", "negative"]
Df = Literal["satterthwaite", "satterthwaite-expected", "kenward-roger", "z"]


@dataclass(frozen=True)
class Population:
    """Who takes part, one entry per unit: participants who share arm, district, village and training group.

    size : (U,) participants.  arm : (U,) from 0.  district : (U,) from 0, ascending.  village, group : (U,) numbers in
    the streams, -1 = none.  is_trained : (U,) bool.  cluster, member : (N,) names of the participants in the streams,
    in the order of their units.
    """

    size: Ints
    arm: Ints
    district: Ints
    village: Ints
    group: Ints
    is_trained: NDArray[np.bool_]
    cluster: Ints
    member: Ints


@dataclass(frozen=True)
class Scores:
    """How scores vary and are lost.

    participant : (2, T, T) covariance over visits of what participants have to themselves, untreated and trained.
    sd_* : standard deviations of what is shared; sd_group in trained arms after the baseline.
    intercept : (2, T) log odds of leaving before a visit, -inf = nobody leaves.  slope : by SD of the last score.
    seen : (T,) share expected to be seen at each visit.
    sd : (T,) SD of an untreated score.
    """

    participant: Floats
    sd_district: float
    sd_village: float
    sd_village_by_visit: float
    sd_group: float
    intercept: Floats
    slope: float
    seen: Floats
    sd: Floats

    @property
    def n_visit(self) -> int:
        return len(self.sd)


class Answer(NamedTuple):
    """Fits of R replicates of one contrast, scores taken about their expectation under the null; NaN where failed."""

    estimate: Floats  # (R,)
    standard_error: Floats
    df: Floats
    known_estimate: Floats  # generalised least squares at the true variances
    known_standard_error: Floats
    variance: Floats  # (R, m) in the order of the model's terms
    criterion: Floats
    status: NDArray[np.int8]
    n_iteration: NDArray[np.int64]
    seen: NDArray[np.int64]  # (R, 2, T) untreated and trained participants seen at each visit
    result: Floats  # (R, N_RESULT) what was wanted, see kernels.lanes_climb; NaN elsewhere


@dataclass(frozen=True)
class Hot:
    """A trial ready to be drawn and fitted: what does not change from replicate to replicate."""

    trial: Trial
    contrast: Floats  # (p,)
    start: Floats  # (m,) true variances
    term: tuple[str, ...]  # names of the variances

    def fit(
        self, replicate: Ints, df: Df = "satterthwaite", boundary: Boundary = "drop", *, every: bool = False
    ) -> Answer:
        """Draw and fit these replicates (R,), each a pure function of the streams' seed and its number.

        every : fill all of `result`, not only what df and boundary ask for.
        """
        n = len(replicate)
        padded = np.zeros(-(-n // LANES) * LANES, np.uint64)
        padded[:n] = replicate
        error, freedom = _columns(df, boundary)
        wanted = np.full(N_RESULT, every)
        wanted[[error, freedom]] = True
        found, seen = self.trial.fit(padded.reshape(-1, LANES), self._asked(boundary, wanted))
        result, variance = found.result[:n, 0], found.variance[:n]
        is_singular = (variance == 0.0).any(axis=1)
        status = np.where(found.is_done[:n], np.where(is_singular, SINGULAR, OK), FAILED).astype(np.int8)
        return Answer(
            result[:, ESTIMATE], result[:, error], np.full(n, np.inf) if df == "z" else result[:, freedom],
            result[:, KNOWN_ESTIMATE], result[:, KNOWN_STANDARD_ERROR], variance, found.criterion[:n], status,
            found.n_iteration[:n], seen[:n], result,
        )  # fmt: skip

    def expected(self) -> tuple[float, Floats, Floats]:
        """What a preview needs: f, its derivatives by the variances, and the information, expected of the design."""
        return self.trial.expected(self._asked("drop", np.zeros(N_RESULT, bool)))

    def _asked(self, boundary: Boundary, wanted: NDArray[np.bool_]) -> Asked:
        component = FREE if boundary == "negative" else NONNEGATIVE
        bound = np.array([POSITIVE if name.startswith("residual") else component for name in self.term])
        return Asked(self.contrast[None], bound, self.start, wanted, MOST_STEPS)


def _columns(df: Df, boundary: Boundary) -> tuple[int, int]:
    """Columns of a result that hold the standard error and the degrees of freedom asked for."""
    if df == "kenward-roger":
        return KR_STANDARD_ERROR, DF_EXPECTED_KEPT
    if df == "z":
        return STANDARD_ERROR, STANDARD_ERROR
    if df == "satterthwaite":
        return STANDARD_ERROR, DF_OBSERVED if boundary == "drop" else DF_OBSERVED_KEPT
    return STANDARD_ERROR, DF_EXPECTED if boundary == "drop" else DF_EXPECTED_KEPT


def over_visits(
    people: Population, scores: Scores, streams: Streams, weight: Mapping[int, float], *, baseline: str,
    terms: frozenset[str],
) -> Hot:  # fmt: skip
    """Mixed model of all visits on arm by visit.

    weight : arm -> its weight in the contrast at the final visit.  baseline : `free` or `constrained` (arms share their
    mean at the first visit).  terms : of `village`, `village by visit`, `district`, the random intercepts fitted.
    Participants are alike in all arms.
    """
    n_visit, n_arm = scores.n_visit, int(people.arm.max()) + 1
    cell = np.arange(n_arm * n_visit).reshape(n_arm, n_visit)
    if baseline == "constrained":
        cell = np.concatenate(
            [np.zeros((n_arm, 1), np.int64), 1 + np.arange(n_arm * (n_visit - 1)).reshape(n_arm, -1)], 1
        )
    p = int(cell.max()) + 1
    contrast = np.zeros(p)
    for arm, share in weight.items():
        contrast[cell[arm, -1]] += share
    covariance = scores.participant[0]
    shared = covariance[0, 1]
    has = ("village by visit" in terms, "village" in terms, "district" in terms)
    sd = (scores.sd_village_by_visit, scores.sd_village, scores.sd_district)
    start = np.array([covariance[0, 0] - shared, shared, *(s * s for s, fitted in zip(sd, has, strict=True) if fitted)])
    shape = nested_lanes.Nested(
        tuple(range(n_visit)), cell, people.arm.astype(np.int64), people.district.astype(np.int64), p, np.arange(p),
        *has, len(start),
    )  # fmt: skip
    names = ("residual", "participant", *(n for n in ("village by visit", "village", "district") if n in terms))
    last = people.size[:, None] * -np.diff(scores.seen, append=0.0)
    layout, model = _records(people, scores, streams)
    trial = nested.trial(layout, model, shape, nested_lanes.places(n_visit, p, len(start)), last)
    return Hot(trial, contrast, start, names)


def at_final_visit(
    people: Population, scores: Scores, streams: Streams, weight: Mapping[int, float], *, random: str, by_arm: bool
) -> Hot:
    """Analysis of covariance of the final visit on arm and baseline.

    random : `village` (every unit has a random intercept) or `training group` (units of trained arms have).
    by_arm : trained and untreated participants have residual variances of their own.
    """
    n_arm = int(people.arm.max()) + 1
    is_random = people.village >= 0 if random == "village" else people.group >= 0
    residual_class = people.is_trained.astype(np.int64) * by_arm
    contrast = np.zeros(n_arm + 1)
    for arm, share in weight.items():
        contrast[arm] += share
    shape = ancova_lanes.Ancova(
        np.eye(n_arm), people.arm.astype(np.int64), residual_class, is_random, n_arm + 1, 2 + int(by_arm)
    )
    own = scores.participant
    given = own[:, -1, -1] - own[:, 0, -1] ** 2 / own[:, 0, 0]
    between = scores.sd_village**2 + scores.sd_village_by_visit**2 if random == "village" else scores.sd_group**2
    start = np.array([given[0], *([given[1]] if by_arm else []), between])
    names = ("residual", *(["residual trained"] if by_arm else []), random)
    seen, spread = people.size * scores.seen[-1], own[: 1 + int(by_arm), 0, 0] + scores.sd_village**2
    layout, model = _records(people, scores, streams)
    at = ancova_lanes.places(n_arm, n_arm + 1, len(start))
    trial = ancova.trial(tuple(range(scores.n_visit)), layout, model, shape, at, seen, spread)
    return Hot(trial, contrast, start, names)


def _records(people: Population, scores: Scores, streams: Streams) -> tuple[Layout, Model]:
    """Who and what is drawn, as the kernels take it."""
    intercept = np.maximum(scores.intercept, -700.0)
    layout = Layout(
        np.concatenate([[0], np.cumsum(people.size)]).astype(np.int64), people.cluster.astype(np.uint64),
        people.member.astype(np.uint64), people.district.astype(np.int64), people.village.astype(np.int64),
        people.group.astype(np.int64), people.is_trained.astype(np.int64),
    )  # fmt: skip
    model = Model(
        np.array([streams.key(purpose) for purpose in PURPOSES], np.uint64), float(scores.sd_district),
        float(scores.sd_village), float(scores.sd_village_by_visit), float(scores.sd_group),
        np.ascontiguousarray(np.linalg.cholesky(scores.participant)), bool((intercept[:, 1:] > -700.0).any()),
        np.ascontiguousarray(intercept), 1.0 / (1.0 + np.exp(-intercept)), float(scores.slope), 1.0 / scores.sd,
    )  # fmt: skip
    return layout, model
