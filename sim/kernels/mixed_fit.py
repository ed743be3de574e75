"""The fits of a batch of replicates by the generic kernel; the model and its mathematics are in mixed."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from sim.kernels import covariance, mixed_optimise
from sim.kernels.mixed_accumulate import Moments, accumulate, accumulation_room
from sim.kernels.mixed_algebra import clear, combine, copy, fill, sweep, unpack
from sim.kernels.mixed_inference import (
    BETWEEN_WITHIN,
    KENWARD_ROGER,
    KENWARD_ROGER_2,
    KENWARD_ROGER_OBSERVED,
    NORMAL,
    SATTERTHWAITE,
    Inference,
    contrast_df,
    contrasts,
    inference_room,
    inverse_information,
    joint_test,
    kenward_roger_covariance,
)
from sim.kernels.mixed_layout import (
    Bool,
    Float,
    Int,
    Layout,
    Statistics,
    Work,
    allocate_statistics,
    allocate_work,
)
from sim.kernels.mixed_likelihood import differentiate, evaluate, lane_combine, lane_dot
from sim.kernels.mixed_optimise import (
    ACCEPTED,
    CLIMB_SIZE,
    DONE,
    FACTOR,
    HELD,
    MOVED,
    POSITIVE,
    REJECTED,
    VALUE,
    accept,
    begin,
    climbing_room,
    propose,
)
from sim.kernels.mixed_residual import marginal, natural_parameters, scaled_cholesky
from sim.lanes import compact, lane_kernel
from sim.records import Addressed
from sim.trial import FAILED, OK, SINGULAR


class Options(NamedTuple):
    """What fit_mixed was asked for."""

    is_reml: bool
    df: int  # place in mixed.DF
    keeps_zero: bool
    inference: int  # the structure that inference is made in: 0 that of the climb, 1 the natural, 2 'us, Cholesky'
    bound: Int  # (m,)
    vanishes: Bool  # (m,) a zero is the boundary
    start: Float  # (m,)
    known: Float  # (m,) or empty
    max_iteration: int
    level: Int  # (p,) see _level
    has_participant: bool  # whether participants are a level of between-within


class Results(NamedTuple):
    """MixedFit as the kernel fills it: estimate, standard error and df of a contrast are rows of one array."""

    contrast: Float  # (R, 3, Q)
    coefficient: Float
    coefficient_covariance: Float
    variance: Float
    covariance: Float
    criterion: Float
    status: npt.NDArray[np.int8]
    n_iteration: Int
    joint: Float  # (R, 3, J)
    known: Float  # (R, 2, Q)


class Room(NamedTuple):
    """Workspace of one fit besides the statistics and what depends on theta."""

    moments: Moments
    step: mixed_optimise.Room
    inference: Inference
    row: Float  # (n, p) contrasts, then rows of the joint tests
    constant: Float  # (n,) to be added to each: what centring took
    shift: Float  # (1 + c,) what centring takes from y and from the covariates
    point: Float  # (3, m) parameters, the next ones to try, the step
    state: Float  # of the climb
    bound: Int  # (m,) Options.bound, HELD what this replicate cannot tell from another


class Task(NamedTuple):
    """All that _fit_from works on."""

    y: Float  # (R, N, T)
    observed: Bool  # (R, N, T) or (1, N, T)
    covariate: Float  # (R, N, c)
    contrast: Float  # (Q, p)
    joint: Float  # rows of all joint tests
    joint_start: Int
    lay: Layout
    climb: covariance.Table
    other: covariance.Table  # of inference, if it is not made in the parameters of the climb
    opt: Options
    room: Room
    st: Statistics
    wk: Work
    results: Results


# What an evaluation of the likelihood is for.
_KNOWN, _CLIMB, _FINAL = 0, 1, 2


def fit_batch(
    y: Float, observed: Bool, covariate: Float, contrast: Float, joint: Float, joint_start: Int,
    lay: Layout, climb: covariance.Table, other: covariance.Table, opt: Options,
) -> Results:  # fmt: skip
    """Fit every replicate; all that is allocated is allocated here."""
    (R, _, T), Q, J = y.shape, contrast.shape[0], joint_start.size - 1
    n_cov, p, m, n_row = covariate.shape[2], lay.n_column - 1, opt.start.size, Q + joint.shape[0]
    results = Results(
        _nan(R, 3, Q),
        _nan(R, p),
        _nan(R, p, p),
        _nan(R, m),
        _nan(R, lay.n_class, T, T),
        _nan(R),
        np.zeros(R, np.int8),
        np.zeros(R, np.int64),
        _nan(R, 3, J),
        _nan(R, 2, Q),
    )
    room = Room(
        accumulation_room(lay, n_cov),
        climbing_room(m),
        inference_room(p, m, Q, int(np.diff(joint_start).max(initial=0)), lay.n_block),
        np.zeros((n_row, p)),
        np.zeros(n_row),
        np.zeros(1 + n_cov),
        np.zeros((3, m)),
        np.zeros(CLIMB_SIZE),
        np.zeros(m, np.int64),
    )
    first, n_pattern = 0, 4
    while first < R:
        st, wk = _allocate(n_pattern, lay, climb, other)
        task = Task(y, observed, covariate, contrast, joint, joint_start, lay, climb, other, opt, room, st, wk, results)
        first = _fit_from(first, Addressed(task))
        n_pattern *= 2
    return results


def _nan(*shape: int) -> Float:
    return np.full(shape, np.nan)


def _allocate(n_pattern: int, lay: Layout, climb: covariance.Table, other: covariance.Table) -> tuple[Statistics, Work]:
    st = allocate_statistics(lay, n_pattern if lay.is_general else 0)
    first = max(climb.slope.coefficient.size, other.slope.coefficient.size)
    second = max(climb.bend.coefficient.size, other.bend.coefficient.size)
    return st, allocate_work(lay, st.S.shape[0], st.mask.size, climb.begin.size, first, second)


@njit(cache=True, error_model="numpy", _nrt=False)  # type: ignore[call-overload]
def _fit_from(first, task):  # type: ignore[no-untyped-def]
    """Fit replicates from `first`, each on its own; returns their number, or the one that has too many patterns for st.

    Evaluation and derivatives are called from one place each, in a loop that knows what they are for: compilation time
    grows with the number of places.
    """
    compact()
    y, observed, covariate, contrast, joint, joint_start = (
        task.y, task.observed, task.covariate, task.contrast, task.joint, task.joint_start
    )  # fmt: skip
    lay, climb, other, opt, room, st, wk, results = (
        task.lay, task.climb, task.other, task.opt, task.room, task.st, task.wk, task.results
    )  # fmt: skip
    Q, m, fx = contrast.shape[0], opt.start.size, wk.fixed
    theta, point, d, state, inference = room.point[0], room.point[1], room.point[2], room.state, room.inference
    for i in range(first, y.shape[0]):
        results.status[i] = FAILED
        seen, variance, sigma = observed[i if observed.shape[0] > 1 else 0], results.variance[i], results.covariance[i]
        _centre(y[i], seen, covariate[i], lay.ones, room.shift)
        if not accumulate(y[i], seen, covariate[i], room.shift, lay, st, room.moments):
            return i
        copy(opt.start, theta)
        copy(opt.bound, room.bound)
        if not _default_start(climb, lay, st, wk, theta):
            continue
        if lay.n_term > 1:
            _hold_repeated(lay, st, wk, theta, room.bound)
        _shifted(contrast, lay.ones, room.shift, room.row[:Q], room.constant[:Q])
        _shifted(joint, lay.ones, room.shift, room.row[Q:], room.constant[Q:])
        begin(state)
        aim, code = (_KNOWN if opt.known.size > 0 else _CLIMB), MOVED
        copy(opt.known if aim == _KNOWN else theta, point)
        while True:
            is_natural = aim == _KNOWN and opt.inference != 2  # or else the climb's parameters are the natural ones
            table = other if is_natural or (aim == _FINAL and opt.inference != 0) else climb
            value = evaluate(point, opt.is_reml, table, lay, st, wk)
            if aim == _KNOWN:
                if np.isfinite(value):
                    contrasts(room.row[:Q], room.constant, fx.inverse, fx.a, results.known[i])
                aim = _CLIMB
                copy(theta, point)
                continue
            if aim == _CLIMB:
                code = accept(state, theta, point, d, value)
                if code == REJECTED:
                    continue
                if code != ACCEPTED:
                    break
            differentiate(point, opt.is_reml, table, lay, st, wk)
            if aim == _FINAL:
                break
            code = propose(state, theta, point, d, fx.score, fx.average, fx.observed, room.bound, room.step)
            if code == MOVED:
                results.n_iteration[i] += 1
                if results.n_iteration[i] <= opt.max_iteration:
                    continue
                results.n_iteration[i] -= 1
            if code != DONE:
                break
            vanished = _vanish(theta, fx.observed, opt)
            natural_parameters(climb, theta, variance)
            marginal(theta, climb, sigma)
            if not vanished and opt.inference == 0:
                break
            aim = _FINAL
            if opt.inference == 0:
                copy(theta, point)
            elif opt.inference == 1:
                copy(variance, point)
            else:
                scaled_cholesky(sigma, wk.residual.square[0], point)
                copy(theta[climb.begin.size :], point[climb.begin.size :])
        if code == DONE:
            table = other if opt.inference != 0 else climb
            if aim != _FINAL:
                copy(theta, point)
            if _infer(point, theta, table, lay, st, wk, opt, room.bound, inference):
                if opt.df == BETWEEN_WITHIN:
                    _between_within(seen, lay, opt, st, inference)
                contrasts(room.row[:Q], room.constant, inference.covariance, fx.a, inference.out)
                # which coefficients a contrast has is a matter of the columns as they came, not of those centred
                contrast_df(opt.df, contrast if opt.df == BETWEEN_WITHIN else room.row[:Q], fx, inference)
                if not _has_nan(inference.out):
                    results.status[i] = OK
        if results.status[i] != OK:
            fill(np.nan, variance)
            fill(np.nan, sigma)
            continue
        copy(inference.out, results.contrast[i])
        results.criterion[i] = state[VALUE]
        for k in range(joint_start.size - 1):
            lo, hi = Q + joint_start[k], Q + joint_start[k + 1]
            test = joint_test(opt.df, room.row[lo:hi], room.constant[lo:hi], fx, inference)
            results.joint[i, 0, k], results.joint[i, 1, k], results.joint[i, 2, k] = test
        _unshifted(lay.ones, room.shift, fx.a, inference, results.coefficient[i], results.coefficient_covariance[i])
        for k in range(m):
            if room.bound[k] == HELD or (opt.vanishes[k] and theta[k] == 0.0):
                results.status[i] = SINGULAR
    return y.shape[0]


@lane_kernel
def _has_nan(A):  # type: ignore[no-untyped-def]
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            if np.isnan(A[i, j]):
                return True
    return False


@lane_kernel
def _centre(y, observed, covariate, ones, shift):  # type: ignore[no-untyped-def]
    """A value of y and of each covariate to take from all, so that large means cost no digits."""
    clear(shift)
    if ones.size == 0 or np.isnan(ones[0]):
        return
    for i in range(y.shape[0]):
        for t in range(y.shape[1]):
            if observed[i, t]:
                shift[0] = y[i, t]
                for b in range(covariate.shape[1]):
                    shift[1 + b] = covariate[i, b]
                return


@lane_kernel
def _shifted(L, ones, shift, row, constant):  # type: ignore[no-untyped-def]
    """Contrasts L of the coefficients as weights `row` of the coefficients after centring + constant."""
    compact()
    n_cov, p = shift.size - 1, L.shape[1]
    for i in range(L.shape[0]):
        total = 0.0
        for j in range(p):
            row[i, j] = L[i, j]
            total += L[i, j] * ones[j]
        constant[i] = 0.0
        if not np.isnan(total):
            constant[i] = total * shift[0]
            for b in range(n_cov):
                row[i, p - n_cov + b] -= total * shift[1 + b]


@lane_kernel
def _unshifted(ones, shift, a, inference, coefficient, spread):  # type: ignore[no-untyped-def]
    """Coefficients and their covariance before centring; a = -coefficients after it."""
    p, n_cov, covariance = coefficient.size, shift.size - 1, inference.covariance
    copy(covariance, spread)
    constant = shift[0]
    for b in range(n_cov):
        constant += a[p - n_cov + b] * shift[1 + b]
    for i in range(p):
        coefficient[i] = -a[i] if np.isnan(ones[0]) else constant * ones[i] - a[i]
    if n_cov > 0 and not np.isnan(ones[0]):  # A covariance A' with A = I - ones s', s = the covariates' shifts
        with_shift, total = inference.g, 0.0
        for i in range(p):
            with_shift[i] = 0.0
            for b in range(n_cov):
                with_shift[i] += covariance[i, p - n_cov + b] * shift[1 + b]
        for b in range(n_cov):
            total += with_shift[p - n_cov + b] * shift[1 + b]
        for i in range(p):
            for j in range(p):
                change = total * ones[i] * ones[j] - ones[i] * with_shift[j] - with_shift[i] * ones[j]
                spread[i, j] = covariance[i, j] + change


@lane_kernel
def _default_start(table, lay, st, wk, theta):  # type: ignore[no-untyped-def]
    """Fill NaN or infeasible entries of theta from the OLS residual variance; False if OLS is impossible."""
    r, n = lay.n_column, table.begin.size
    share = wk.residual.share
    clear(share)
    if lay.is_general:
        T = lay.n_visit
        for m in range(st.total[2]):
            for t in range(T):
                share[m * T * (T + 1) // 2 + t * (t + 3) // 2] = 1.0
    else:
        fill(1.0, share)
    combine(share, st.S, wk.fixed.packed)  # z'z
    A = wk.fixed.C
    unpack(wk.fixed.packed, A)
    total = A[r - 1, r - 1]
    if st.total[0] <= r - 1 or np.isnan(sweep(A, r - 1, r, 1e-11, wk.fixed.a)):
        return False
    residual = A[r - 1, r - 1]
    if not residual > 1e-13 * total:
        return False
    variance = residual / (st.total[0] - r + 1)
    for k in range(theta.size):
        if k >= n:
            if not theta[k] >= 0.0:
                theta[k] = 0.05 * variance
        elif np.isnan(theta[k]) or (table.kind[0, k] == POSITIVE and not theta[k] > 0.0):
            theta[k] = table.begin[k] * variance ** (0.5 * table.kind[1, k])
    return True


@lane_kernel
def _hold_repeated(lay, st, wk, theta, bound):  # type: ignore[no-untyped-def]
    """Hold at 0 the variance of a term with the Z Z' of one before it, after _default_start, whose share gives Z'Z.

    The data know the sum of the two alone.  A and B are the same where |A - B|^2 = |A|^2 + |B|^2 - 2 tr AB is 0, and
    tr Z_k Z_k' Z_l Z_l' = |Z_k'Z_l|^2.
    """
    compact()
    ZZ, n = wk.blocks.M, theta.size - lay.n_term
    lane_combine(wk.residual.share, st.M_flat, ZZ)
    for l in range(1, lay.n_term):  # noqa: E741
        for k in range(l):
            own, other, both = _overlap(ZZ, k, k, lay), _overlap(ZZ, l, l, lay), _overlap(ZZ, k, l, lay)
            if bound[n + k] != HELD and own + other - 2.0 * both < 1e-10 * own:
                bound[n + l] = HELD
                theta[n + l] = 0.0


@lane_kernel
def _overlap(ZZ, k, l, lay):  # type: ignore[no-untyped-def]  # noqa: E741
    """|Z_k'Z_l|^2 over all blocks."""
    first, end, total = lay.term_start[l], lay.term_start[l + 1], 0.0
    for i in range(lay.term_start[k], lay.term_start[k + 1]):
        total += lane_dot(ZZ[i, first:end], ZZ[i, first:end])
    return total


@lane_kernel
def _vanish(theta, observed, opt):  # type: ignore[no-untyped-def]
    """Put factors that the climb took to within a millionth of a standard error of zero at zero; whether any."""
    vanished = False
    for k in range(theta.size):
        near = theta[k] * theta[k] * observed[k, k] < 1e-12
        if opt.bound[k] == FACTOR and theta[k] != 0.0 and near:
            theta[k] = 0.0
            vanished = True
    return vanished


@lane_kernel
def _infer(point, theta, table, lay, st, wk, opt, bound, room):  # type: ignore[no-untyped-def]
    """Into room: W, the inverse information, and the covariance of the coefficients; False if no information is usable.

    point are the parameters that the derivatives are by, theta those of the climb.
    """
    fx, p, m = wk.fixed, lay.n_column - 1, theta.size
    for i in range(p):
        for j in range(p):
            room.covariance[i, j] = fx.inverse[i, j]
    if opt.df == BETWEEN_WITHIN or opt.df == NORMAL:
        return True
    is_adjusted = opt.df >= KENWARD_ROGER
    for k in range(m):
        is_kept = is_adjusted or opt.keeps_zero or not (opt.vanishes[k] and theta[k] == 0.0)
        room.free[k] = is_kept and bound[k] != HELD
        for l in range(m):  # noqa: E741
            room.expected[k, l] = 2.0 * fx.average[k, l] - fx.observed[k, l]
    is_observed = opt.df == SATTERTHWAITE or opt.df >= KENWARD_ROGER_OBSERVED
    usable = is_observed and inverse_information(fx.observed, room)
    if not usable and not inverse_information(room.expected, room):
        return False
    if is_adjusted:
        kenward_roger_covariance(opt.df == KENWARD_ROGER_2, point, room.W, table, lay, st, wk, room.covariance)
    return True


@lane_kernel
def _between_within(seen, lay, opt, st, room):  # type: ignore[no-untyped-def]
    """df of each coefficient, see fit_mixed, into room.column_df."""
    has_block, met, level, p = lay.n_block > 0, room.met, room.level, room.level.size
    n_block = columns_1 = columns_2 = columns_3 = 0
    for block in range(met.size):
        met[block] = False
    for cell in range(lay.cell_class.size):
        for j in range(lay.cell_start[cell], lay.cell_start[cell + 1]):
            for t in range(lay.n_visit):
                if lay.cell_block[cell] >= 0 and seen[lay.member[j], t] and not met[lay.cell_block[cell]]:
                    met[lay.cell_block[cell]] = True
                    n_block += 1
    above, charged = 0.0, 0
    for j in range(p):
        k = opt.level[j]
        if k == 1 and not has_block:
            k = 2
        if k == 2 and not opt.has_participant:
            k = 3
        level[j] = k
        columns_1 += k == 1
        columns_2 += k == 2
        columns_3 += k == 3
        if k == 0:
            above = 1.0
        elif abs(lay.ones[j]) > 1e-8:
            charged = max(charged, k)
    if above == 0.0 and charged > 0:  # the intercept is outermost, also if a full set of dummies stands for it
        above = 1.0
        columns_1 -= charged == 1
        columns_2 -= charged == 2
        columns_3 -= charged == 3
    df_1 = df_2 = 0.0
    if has_block:
        df_1 = n_block - above - columns_1
        above = float(n_block)
    if opt.has_participant:
        df_2 = st.total[1] - above - columns_2
        above = float(st.total[1])
    df_3 = st.total[0] - above - columns_3
    for j in range(p):
        room.column_df[j] = df_1 if level[j] == 1 else df_2 if level[j] == 2 else df_3
