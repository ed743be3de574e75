"""The climb of the restricted likelihood, and Satterthwaite inference where it ends; see the header of mixed."""

import numpy as np

from sim.kernels.mixed_layout import kernel
from sim.kernels.mixed_likelihood import differentiate, evaluate, sweep

DONE = 1e-13  # squared Newton decrement: the step left to take, in standard errors, squared


@kernel
def _solve_free(information, score, free, d, target):  # type: ignore[no-untyped-def]
    """Solve information d = score over the free components, others held at their d; False if not positive definite."""
    m = score.size
    index = np.zeros(m, np.int64)
    n = 0
    for k in range(m):
        if free[k]:
            index[n] = k
            n += 1
    A = np.zeros((n, n + 1))
    scale = np.zeros(n)
    for i in range(n):
        if not information[index[i], index[i]] > 0.0:
            return False
        scale[i] = 1.0 / np.sqrt(information[index[i], index[i]])
    for i in range(n):
        s = score[index[i]]
        for k in range(m):
            if not free[k]:
                s -= information[index[i], k] * d[k]
        for j in range(n):
            A[i, j] = information[index[i], index[j]] * scale[i] * scale[j]
        A[i, n] = s * scale[i]
    if np.isnan(sweep(A, n, 1e-12)):
        return False
    target[:] = d
    for i in range(n):
        target[index[i]] = A[i, n] * scale[i]
    return True


@kernel
def _step(theta, information, score, n_class, d):  # type: ignore[no-untyped-def]
    """Scoring step d with theta + d feasible: a component that would pass 0 is put at 0 and the others solved again."""
    m = theta.size
    free = np.ones(m, np.bool_)
    trial = np.zeros(m)
    d[:] = 0.0
    for k in range(n_class, m):
        free[k] = theta[k] > 0.0 or score[k] > 0.0
    for _ in range(m + 1):
        if not _solve_free(information, score, free, d, trial):
            return False
        worst = -1
        for k in range(n_class, m):
            if (
                free[k]
                and theta[k] + trial[k] < 0.0
                and (worst < 0 or theta[k] + trial[k] < theta[worst] + trial[worst])
            ):
                worst = k
        if worst < 0:
            break
        free[worst] = False
        d[worst] = -theta[worst]
    shrink = 1.0
    for k in range(n_class):  # residual variances stay above 0
        if trial[k] < -0.9 * theta[k]:
            shrink = min(shrink, -0.9 * theta[k] / trial[k])
    for k in range(m):
        d[k] = shrink * trial[k]
    return True


@kernel
def default_start(lay, st, wk, theta):  # type: ignore[no-untyped-def]
    """Fill NaN or infeasible entries of theta from the OLS residual variance; False if OLS is impossible."""
    r = lay.n_column
    A = wk.C
    A[:] = 0.0
    for i in range(st.nu.size):
        A += st.S[i]
    rows = np.sum(st.nu)
    total = A[r - 1, r - 1]
    if rows <= r - 1 or np.isnan(sweep(A, r - 1, 1e-11)):
        return False
    residual = A[r - 1, r - 1]
    if not residual > 1e-13 * total:
        return False
    variance = residual / (rows - r + 1)
    n_random = theta.size - lay.n_class
    for k in range(theta.size):
        if k < lay.n_class:
            if not theta[k] > 0.0:
                theta[k] = variance * (0.5 if n_random > 0 else 1.0)
        elif not theta[k] >= 0.0:
            theta[k] = variance * (0.4 if lay.has_participant and k == lay.n_class else 0.05)
    return True


@kernel
def maximise(theta, lay, st, wk, max_iteration):  # type: ignore[no-untyped-def]
    """Climb the restricted likelihood from theta, in place; leaves wk complete.  Returns (criterion, iterations, ok).

    Expected information (exact in one step for balanced data) until the squared Newton decrement is below 1, then
    observed information.
    """
    d = np.zeros(theta.size)
    trial = theta.copy()
    value = np.inf
    last = np.inf  # squared Newton decrement of the step before
    decrement = 0.0
    information = np.zeros((theta.size, theta.size))
    for iteration in range(max_iteration + 1):
        scale = 1.0
        slack = 1e-8 + 1e-11 * abs(value)  # rounding of the criterion
        for _ in range(40):
            new = evaluate(trial, lay, st, wk)
            if np.isfinite(new) and (iteration == 0 or new <= value - 1e-4 * scale * decrement + slack):
                break
            if iteration == 0 or scale == 0.0:
                return new, iteration, False
            scale = 0.5 * scale if scale > 1e-9 else 0.0  # at last back to theta, where no progress is possible
            for k in range(theta.size):
                trial[k] = theta[k] + scale * d[k]
        theta[:] = trial
        value = new
        differentiate(theta, lay, st, wk)
        ready = False
        for attempt in range(0 if last < 1.0 else 1, 3):
            if not ready:
                if attempt == 0:
                    information[:] = wk.observed
                elif attempt == 1:
                    information[:] = 2.0 * wk.average - wk.observed
                else:
                    information[:] = wk.average
                ready = _step(theta, information, wk.score, lay.n_class, d)
        decrement = np.sum(wk.score * d)
        stuck = scale == 0.0 or decrement > 0.25 * last
        if ready and (decrement < DONE or (decrement < 1e-10 and stuck)):
            return value, iteration, True
        if not ready or scale == 0.0:
            return value, iteration, False
        last = decrement
        for k in range(theta.size):
            trial[k] = theta[k] + d[k] if d[k] != -theta[k] else 0.0
    return value, max_iteration, False


@kernel
def satterthwaite(theta, contrast, lay, wk, out):  # type: ignore[no-untyped-def]
    """Estimate, standard error and df of each contrast into out (3, Q); False if no information matrix is usable."""
    m = theta.size
    p = lay.n_column - 1
    free = theta > 0.0
    zero = np.zeros(m)
    gradient = np.zeros(m)
    solved = np.zeros(m)
    g = np.zeros(p)
    information = wk.observed
    if not _solve_free(information, gradient, free, zero, solved):
        information = 2.0 * wk.average - wk.observed
        if not _solve_free(information, gradient, free, zero, solved):
            return False
    for row in range(contrast.shape[0]):
        f = 0.0
        estimate = 0.0
        for i in range(p):
            g[i] = 0.0
            for j in range(p):
                g[i] += wk.inverse[i, j] * contrast[row, j]
            f += contrast[row, i] * g[i]
            estimate -= contrast[row, i] * wk.a[i]
        gradient[0] = f / theta[0]
        for k in range(1, m):
            s = 0.0
            for i in range(p):
                for j in range(p):
                    s += g[i] * wk.C_k[k - 1, i, j] * g[j]
            gradient[k] = -s
            gradient[0] += theta[k] * s / theta[0]  # f is homogeneous of degree 1
        if not _solve_free(information, gradient, free, zero, solved):
            return False
        variance = 0.0
        for k in range(m):
            variance += gradient[k] * solved[k]
        out[0, row] = estimate
        out[1, row] = np.sqrt(f)
        out[2, row] = 2.0 * f * f / variance
    return True
