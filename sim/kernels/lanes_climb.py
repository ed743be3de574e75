"""LANES climbs at once: the likelihood is evaluated side by side, each replicate takes its own steps.

A lane that has arrived stays where it is, so that at the end every lane's last evaluation is the one at its maximum.
What a lane does depends on no other lane.

Information is dear, and a step needs it only roughly: at the start it is that expected of the design, and near its
maximum a lane takes a step by the information of the point before (a chord), which costs the score alone.  The last
point has an information of its own.  The step left to take from there, below NEAR, is taken by derivatives: to first
order, in the variances, the estimate and its standard error.
"""

from typing import Any, NamedTuple

import numpy as np

from sim.kernels.mixed_layout import Float, Int
from sim.kernels.mixed_optimise import (
    ACCEPTED,
    ACCEPTED_POINTS,
    CLIMB_SIZE,
    DECREMENT,
    DONE,
    FAILED_CLIMB,
    LAST,
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

NOTHING, SCORE, INFORMATION = 0, 1, 2  # what a lane needs at a point: with the information comes the score

NEAR = 1e-18  # squared Newton decrement below which the step left is taken to first order ..
_TURN = 2e-10  # .. if the information changes by less, relatively, on its way
CHORD_FROM, _CHORD_TO = 1e-6, 1e-10  # squared decrements between which the next step is by the same information
CHORD_OF_MANY = 1e-4  # CHORD_FROM where units are many, so that their information is dear and changes little


class Climbs(NamedTuple):
    """The climbs of LANES replicates: per lane for the steps, and lanes last for the likelihood."""

    theta: Float  # (LANES, m)
    trial: Float
    step: Float
    state: Float  # (LANES, CLIMB_SIZE)
    code: Int  # (LANES,) last answer of accept or propose
    needs: Int  # (LANES,) SCORE or INFORMATION
    n_step: Int  # (LANES,)
    held_average: Float  # (LANES, m, m) information that steps are taken by
    held_observed: Float
    held_decrement: Float  # (LANES,) squared decrement of the step from the point that it belongs to
    expected: Float  # (m, m) information at the start
    lane_score: Float  # (m,) of one lane
    lane_information: Float  # (m, m)
    solved: Float  # (m,)
    nothing: Float  # (m,) zeros
    room: Room
    at: Float  # (m, LANES) where the likelihood is to be evaluated
    value: Float  # (1, LANES)
    score: Float  # (m, LANES)
    average: Float  # (m, m, LANES)
    observed: Float
    contrast: Float  # (2, LANES) estimate and f
    gradient: Float  # (2, m, LANES) of estimate and f
    curvature: Float  # (m, m, LANES)


def new_climbs(m: int) -> Climbs:
    """Room for LANES climbs over m variances."""
    return Climbs(
        np.zeros((LANES, m)), np.zeros((LANES, m)), np.zeros((LANES, m)), np.zeros((LANES, CLIMB_SIZE)),
        np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros((LANES, m, m)),
        np.zeros((LANES, m, m)), np.zeros(LANES), np.zeros((m, m)), np.zeros(m), np.zeros((m, m)), np.zeros(m),
        np.zeros(m), climbing_room(m), np.zeros((m, LANES)),
        np.zeros((1, LANES)), np.zeros((m, LANES)), np.zeros((m, m, LANES)), np.zeros((m, m, LANES)),
        np.zeros((2, LANES)), np.zeros((2, m, LANES)), np.zeros((m, m, LANES)),
    )  # fmt: skip


class Results(NamedTuple):
    """Fits of R replicates of one trial; NaN where a fit failed."""

    result: Float  # (R, Q, N_RESULT)
    variance: Float  # (R, m)
    criterion: Float  # (R,)
    is_done: np.ndarray  # (R,) bool
    n_iteration: Int  # (R,)


def new_results(n: int, n_contrast: int, m: int) -> Results:
    """Room for the fits of n replicates."""
    return Results(
        np.full((n, n_contrast, N_RESULT), np.nan), np.full((n, m), np.nan), np.full(n, np.nan),
        np.zeros(n, np.bool_), np.zeros(n, np.int64),
    )  # fmt: skip


@lane_kernel
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
    """fit(sums, shape, at, w, asked, climbs, lanes, chord, is_design): LANES fits.

    asked has contrasts (Q, p), bound and start (m,), wanted (N_RESULT,) bool: columns of lanes (Q, N_RESULT, LANES)
    that are filled, others are NaN; and most, the steps that a climb may take.  is_design: the sums are those expected
    of the design, residuals zero, and give only the information expected at the start, where all later climbs begin
    with it, and of each contrast what a preview needs.  chord: CHORD_FROM.
    """

    @lane_kernel
    def fit(sums, shape, at, w, asked, climbs, lanes, chord, is_design):  # type: ignore[no-untyped-def]
        begin_all(climbs, asked.start)
        goes_on, is_first = True, True
        while goes_on:
            evaluate(climbs.at, sums, shape, at, w, climbs.value)
            if is_first:
                for q in range(asked.contrasts.shape[0]):
                    known_all(asked.contrasts[q], at, w, shape.n_column, lanes[q])
                is_first = False
            needs = INFORMATION if is_design else judge_all(climbs)
            if needs != NOTHING:
                differentiate(
                    climbs.at, sums, shape, at, w, climbs.score, climbs.average, climbs.observed, needs == INFORMATION
                )
            goes_on = not is_design and step_all(climbs, asked.bound, asked.most, chord)
        if is_design:
            keep_expected(climbs)
        for q in range(asked.contrasts.shape[0]):
            contrast(
                asked.contrasts[q], climbs.at, sums, shape, at, w, climbs.contrast, climbs.gradient, climbs.curvature,
                asked.wanted[KR_STANDARD_ERROR] and not is_design,
            )  # fmt: skip
            if not is_design:
                infer_all(climbs, asked.wanted, lanes[q])

    return fit


@lane_kernel
def keep_expected(climbs):  # type: ignore[no-untyped-def]
    """The information expected of the design: at residuals of zero the average one is 0, and it is -observed."""
    for k in range(climbs.expected.shape[0]):
        for other in range(climbs.expected.shape[0]):
            climbs.expected[k, other] = -climbs.observed[k, other, 0]


@lane_kernel
def begin_all(climbs, start):  # type: ignore[no-untyped-def]
    """Every climb at the variances `start` (m,), with the information expected there."""
    for lane in range(LANES):
        begin(climbs.state[lane])
        climbs.code[lane] = MOVED
        climbs.needs[lane] = SCORE
        climbs.held_decrement[lane] = 0.0
        climbs.n_step[lane] = 0
        for k in range(start.size):
            climbs.trial[lane, k] = climbs.at[k, lane] = start[k]
            for other in range(start.size):
                climbs.held_average[lane, k, other] = climbs.expected[k, other]
                climbs.held_observed[lane, k, other] = climbs.expected[k, other]


@lane_kernel
def judge_all(climbs):  # type: ignore[no-untyped-def]
    """After `value` has been found at `at`: the most that any lane needs there."""
    most = NOTHING
    for lane in range(LANES):
        if climbs.code[lane] == MOVED or climbs.code[lane] == REJECTED:
            climbs.code[lane] = accept(
                climbs.state[lane], climbs.theta[lane], climbs.trial[lane], climbs.step[lane], climbs.value[0, lane]
            )
            for k in range(climbs.at.shape[0]):
                climbs.at[k, lane] = climbs.trial[lane, k]
        if climbs.code[lane] == ACCEPTED:
            most = max(most, climbs.needs[lane])
    return most


@lane_kernel
def step_all(climbs, bound, max_iteration, chord):  # type: ignore[no-untyped-def]
    """After the derivatives have been found at `at`, the next points; whether any lane is still under way."""
    m = bound.size
    goes_on = False
    for lane in range(LANES):
        if climbs.code[lane] == ACCEPTED:
            _step(climbs, lane, bound, chord)
            if climbs.code[lane] == MOVED:
                climbs.n_step[lane] += 1
                if climbs.n_step[lane] > max_iteration:
                    climbs.code[lane] = FAILED_CLIMB
                else:
                    for k in range(m):
                        climbs.at[k, lane] = climbs.trial[lane, k]
        goes_on = goes_on or climbs.code[lane] < DONE
    return goes_on


@lane_kernel
def _step(climbs, lane, bound, chord):  # type: ignore[no-untyped-def]
    """One lane's next point, or its end; or that it needs the information where it is."""
    state, theta, trial, step = climbs.state[lane], climbs.theta[lane], climbs.trial[lane], climbs.step[lane]
    is_chord = climbs.needs[lane] == SCORE
    for k in range(bound.size):
        climbs.lane_score[k] = climbs.score[k, lane]
        if not is_chord:
            for other in range(bound.size):
                climbs.held_average[lane, k, other] = climbs.average[k, other, lane]
                climbs.held_observed[lane, k, other] = climbs.observed[k, other, lane]
    before = climbs.held_decrement[lane] * state[LAST]
    if state[ACCEPTED_POINTS] > 1.0:
        state[LAST] = min(state[LAST], 0.5)  # from the second point on by the observed information
    code = propose(
        state, theta, trial, step, climbs.lane_score, climbs.held_average[lane], climbs.held_observed[lane], bound,
        climbs.room,
    )  # fmt: skip
    if is_chord:
        climbs.needs[lane] = INFORMATION
        climbs.code[lane] = MOVED if code == MOVED else ACCEPTED
        return
    if code == MOVED and _CHORD_TO < state[DECREMENT] < chord:
        climbs.needs[lane] = SCORE
    # Newton's rule leaves of a step, in units of the standard errors, itself times the change of information on its
    # way: so the steps tell how much the information changes.
    is_near = code == MOVED and state[DECREMENT] < min(NEAR, _TURN * np.sqrt(before))
    climbs.held_decrement[lane] = state[DECREMENT]
    for k in range(bound.size):
        is_near = is_near and (theta[k] == 0.0) == (trial[k] == 0.0)
    if is_near:
        code = DONE
    if code == DONE:
        for k in range(bound.size):
            step[k] = 0.0 if theta[k] == 0.0 else step[k]
            theta[k] += step[k]
    climbs.code[lane] = code


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
def _along(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(x.size):
        total += x[k] * y[k]
    return total


@lane_kernel
def infer_all(climbs, wanted, result):  # type: ignore[no-untyped-def]
    """Results (N_RESULT, LANES) of one contrast from its estimate, f, gradient and curvature; NaN where there is none.

    Satterthwaite df from the observed and the expected information, components at zero left out or kept; the standard
    error of Kenward and Roger, whose df for one contrast is Satterthwaite's from the expected information, all kept.
    """
    m = climbs.theta.shape[1]
    gradient, solved, free = climbs.lane_score, climbs.solved, climbs.room.free
    for lane in range(LANES):
        for column in range(KNOWN_ESTIMATE):
            result[column, lane] = np.nan
        if climbs.code[lane] != DONE:
            continue
        estimate, f = climbs.contrast[0, lane], climbs.contrast[1, lane]
        for k in range(m):
            gradient[k] = climbs.gradient[1, k, lane]
            estimate += climbs.gradient[0, k, lane] * climbs.step[lane, k]
            f += gradient[k] * climbs.step[lane, k]
        result[ESTIMATE, lane] = estimate
        result[STANDARD_ERROR, lane] = np.sqrt(f)
        for which in range(4):
            if wanted[DF_OBSERVED + which]:
                for k in range(m):
                    free[k] = which % 2 == 1 or climbs.theta[lane, k] != 0.0
                ready = _solve(climbs, lane, which >= 2)
                if ready or (which < 2 and _solve(climbs, lane, True)):
                    result[DF_OBSERVED + which, lane] = 2.0 * f * f / _along(gradient, solved)
        if wanted[KR_STANDARD_ERROR]:
            for k in range(m):
                free[k] = True
            for k in range(m):  # sum of W_kl curvature_kl, W the inverse of the expected information
                for other in range(m):
                    gradient[other] = 1.0 if other == k else 0.0
                if not _solve(climbs, lane, True):
                    f = np.nan
                    break
                for other in range(m):
                    f += 2.0 * solved[other] * climbs.curvature[k, other, lane]
            result[KR_STANDARD_ERROR, lane] = np.sqrt(f)


@lane_kernel
def _solve(climbs, lane, is_expected):  # type: ignore[no-untyped-def]
    """Inverse observed or expected information of a lane times lane_score, free components only; False if none."""
    information, m = climbs.lane_information, climbs.solved.size
    for k in range(m):
        for other in range(m):
            seen = climbs.held_observed[lane, k, other]
            information[k, other] = 2.0 * climbs.held_average[lane, k, other] - seen if is_expected else seen
    return solve_free(information, climbs.lane_score, climbs.room.free, climbs.nothing, climbs.solved, climbs.room)
