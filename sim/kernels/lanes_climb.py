"""LANES climbs at once: the likelihood is evaluated side by side, each replicate takes its own steps.

A lane that has arrived stays where it is, so that at the end every lane's last evaluation is the one at its maximum.
What a lane does depends on no other lane.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sim.kernels.mixed_algebra import kernel
from sim.kernels.mixed_layout import Float, Int
from sim.kernels.mixed_optimise import (
    ACCEPTED,
    CLIMB_SIZE,
    DONE,
    FAILED_CLIMB,
    MOVED,
    REJECTED,
    Room,
    accept,
    begin,
    climbing_room,
    propose,
    solve_free,
)  # fmt: skip
from sim.lanes import LANES, everywhere, fma, lane_kernel, load, sqrt, store

ESTIMATE, STANDARD_ERROR, DF_OBSERVED, DF_OBSERVED_KEPT, DF_EXPECTED, DF_EXPECTED_KEPT, KR_STANDARD_ERROR = range(7)
KNOWN_ESTIMATE, KNOWN_STANDARD_ERROR, N_RESULT = 7, 8, 9


class Climbs(NamedTuple):
    """The climbs of LANES replicates: per lane for the steps, and lanes last for the likelihood."""

    theta: Float  # (LANES, m)
    trial: Float
    step: Float
    state: Float  # (LANES, CLIMB_SIZE)
    code: Int  # (LANES,) last answer of accept or propose
    n_step: Int  # (LANES,)
    lane_score: Float  # (m,) of one lane
    lane_average: Float  # (m, m)
    lane_observed: Float
    room: Room
    at: Float  # (m, LANES) where the likelihood is to be evaluated
    value: Float  # (1, LANES)
    score: Float  # (m, LANES)
    average: Float  # (m, m, LANES)
    observed: Float
    contrast: Float  # (2, LANES) estimate and f
    gradient: Float  # (m, LANES)
    curvature: Float  # (m, m, LANES)


@kernel
def new_climbs(m):  # type: ignore[no-untyped-def]
    """Room for LANES climbs over m variances."""
    return Climbs(
        np.zeros((LANES, m)), np.zeros((LANES, m)), np.zeros((LANES, m)), np.zeros((LANES, CLIMB_SIZE)),
        np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(m), np.zeros((m, m)), np.zeros((m, m)),
        climbing_room(m), np.zeros((m, LANES)), np.zeros((1, LANES)), np.zeros((m, LANES)), np.zeros((m, m, LANES)),
        np.zeros((m, m, LANES)), np.zeros((2, LANES)), np.zeros((m, LANES)), np.zeros((m, m, LANES)),
    )  # fmt: skip


class Results(NamedTuple):
    """Fits of R replicates of one trial; NaN where a fit failed."""

    result: Float  # (R, Q, N_RESULT)
    variance: Float  # (R, m)
    criterion: Float  # (R,)
    is_done: np.ndarray  # (R,) bool
    n_iteration: Int  # (R,)


@kernel
def new_results(n, n_contrast, m):  # type: ignore[no-untyped-def]
    """Room for the fits of n replicates."""
    return Results(
        np.full((n, n_contrast, N_RESULT), np.nan), np.full((n, m), np.nan), np.full(n, np.nan),
        np.zeros(n, np.bool_), np.zeros(n, np.int64),
    )  # fmt: skip


@kernel
def keep_all(climbs, lanes, first, results):  # type: ignore[no-untyped-def]
    """Put the lanes' fits, contrasts (Q, N_RESULT, LANES), behind replicate `first`."""
    for lane in range(LANES):
        r = first + lane
        results.n_iteration[r] = climbs.n_step[lane]
        if climbs.code[lane] == DONE:
            results.is_done[r] = True
            results.criterion[r] = climbs.value[0, lane]
            for k in range(climbs.theta.shape[1]):
                results.variance[r, k] = climbs.theta[lane, k]
            for q in range(lanes.shape[0]):
                for column in range(N_RESULT):
                    results.result[r, q, column] = lanes[q, column, lane]


def climb_of(evaluate: Any, differentiate: Any, contrast: Any) -> Any:
    """fit(sums, shape, at, w, contrasts, bound, start, climbs, lanes, most): LANES fits by these three of a model.

    It becomes part of the function that calls it.  contrasts (Q, p); lanes (Q, N_RESULT, LANES) is filled.
    """

    @njit(inline="always")
    def fit(sums, shape, at, w, contrasts, bound, start, climbs, lanes, most):  # type: ignore[no-untyped-def]
        begin_all(climbs, start)
        goes_on, is_first = True, True
        while goes_on:
            evaluate(climbs.at, sums, shape, at, w, climbs.value)
            if is_first:
                for q in range(contrasts.shape[0]):
                    known_all(contrasts[q], at, w, shape.n_column, lanes[q])
                is_first = False
            if judge_all(climbs):
                differentiate(climbs.at, sums, shape, at, w, climbs.score, climbs.average, climbs.observed)
            goes_on = step_all(climbs, bound, most)
        for q in range(contrasts.shape[0]):
            contrast(contrasts[q], climbs.at, sums, shape, at, w, climbs.contrast, climbs.gradient, climbs.curvature)
            infer_all(climbs, lanes[q])

    return fit


@kernel
def begin_all(climbs, start):  # type: ignore[no-untyped-def]
    """Every climb at the variances `start` (m,)."""
    for lane in range(LANES):
        begin(climbs.state[lane])
        climbs.code[lane] = MOVED
        climbs.n_step[lane] = 0
        for k in range(start.size):
            climbs.trial[lane, k] = climbs.at[k, lane] = start[k]


@kernel
def judge_all(climbs):  # type: ignore[no-untyped-def]
    """After `value` has been found at `at`: whether any lane needs its derivatives."""
    needs = False
    for lane in range(LANES):
        if climbs.code[lane] == MOVED or climbs.code[lane] == REJECTED:
            climbs.code[lane] = accept(
                climbs.state[lane], climbs.theta[lane], climbs.trial[lane], climbs.step[lane], climbs.value[0, lane]
            )
            for k in range(climbs.at.shape[0]):
                climbs.at[k, lane] = climbs.trial[lane, k]
        needs = needs or climbs.code[lane] == ACCEPTED
    return needs


@kernel
def step_all(climbs, bound, max_iteration):  # type: ignore[no-untyped-def]
    """After the derivatives have been found at `at`, the next points; whether any lane is still under way."""
    m = bound.size
    goes_on = False
    for lane in range(LANES):
        if climbs.code[lane] == ACCEPTED:
            for k in range(m):
                climbs.lane_score[k] = climbs.score[k, lane]
                for other in range(m):
                    climbs.lane_average[k, other] = climbs.average[k, other, lane]
                    climbs.lane_observed[k, other] = climbs.observed[k, other, lane]
            climbs.code[lane] = propose(
                climbs.state[lane], climbs.theta[lane], climbs.trial[lane], climbs.step[lane], climbs.lane_score,
                climbs.lane_average, climbs.lane_observed, bound, climbs.room,
            )  # fmt: skip
            if climbs.code[lane] == MOVED:
                climbs.n_step[lane] += 1
                if climbs.n_step[lane] > max_iteration:
                    climbs.code[lane] = FAILED_CLIMB
                else:
                    for k in range(m):
                        climbs.at[k, lane] = climbs.trial[lane, k]
        goes_on = goes_on or climbs.code[lane] == MOVED or climbs.code[lane] == REJECTED
    return goes_on


@lane_kernel
def known_all(c, at, w, p, result):  # type: ignore[no-untyped-def]
    """Generalised least squares at the starting variances: estimate of a contrast and its standard error."""
    estimate, f = everywhere(0.0), everywhere(0.0)
    for j in range(p):
        if c[j] != 0.0:
            estimate = fma(load(w, at.beta + j), c[j], estimate)
            for k in range(p):
                if c[k] != 0.0:
                    f = fma(load(w, at.inverse + j * p + k), c[j] * c[k], f)
    store(result, estimate, KNOWN_ESTIMATE)
    store(result, sqrt(f), KNOWN_STANDARD_ERROR)


@lane_kernel
def _spread(gradient, solved):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(gradient.size):
        total += gradient[k] * solved[k]
    return total


@kernel
def infer_all(climbs, result):  # type: ignore[no-untyped-def]
    """Results (N_RESULT, LANES) of one contrast from its estimate, f, gradient and curvature; NaN where there is none.

    Satterthwaite df from the observed and the expected information, components at zero left out or kept; the standard
    error of Kenward and Roger, whose df for one contrast is Satterthwaite's from the expected information, all kept.
    """
    m = climbs.gradient.shape[0]
    room, gradient, information = climbs.room, climbs.lane_score, climbs.lane_observed
    zero, solved = np.zeros(m), np.zeros(m)
    free = np.ones(m, np.bool_)
    for lane in range(LANES):
        for column in range(KNOWN_ESTIMATE):
            result[column, lane] = np.nan
        if climbs.code[lane] != DONE:
            continue
        f = climbs.contrast[1, lane]
        result[ESTIMATE, lane] = climbs.contrast[0, lane]
        result[STANDARD_ERROR, lane] = np.sqrt(f)
        for k in range(m):
            gradient[k] = climbs.gradient[k, lane]
        for which in range(4):
            is_expected, is_kept = which >= 2, which % 2 == 1
            for k in range(m):
                free[k] = is_kept or climbs.theta[lane, k] != 0.0
                for other in range(m):
                    seen = climbs.observed[k, other, lane]
                    information[k, other] = 2.0 * climbs.average[k, other, lane] - seen if is_expected else seen
            ready = solve_free(information, gradient, free, zero, solved, room)
            if not ready and not is_expected:
                for k in range(m):
                    for other in range(m):
                        information[k, other] = 2.0 * climbs.average[k, other, lane] - information[k, other]
                ready = solve_free(information, gradient, free, zero, solved, room)
            if ready:
                result[DF_OBSERVED + which, lane] = 2.0 * f * f / _spread(gradient, solved)
        for k in range(m):  # sum of W_kl curvature_kl, W the inverse of the expected information now in place
            for other in range(m):
                gradient[other] = 1.0 if other == k else 0.0
            if not solve_free(information, gradient, free, zero, solved, room):
                f = np.nan
                break
            for other in range(m):
                f += 2.0 * solved[other] * climbs.curvature[k, other, lane]
        result[KR_STANDARD_ERROR, lane] = np.sqrt(f)
