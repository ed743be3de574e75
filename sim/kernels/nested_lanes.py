"""The restricted likelihood of nested random intercepts, for LANES replicates at once, from sums alone.

Model.  Participant j of unit i, seen at visits 1 .. n (whoever leaves does not return), T visits:
  y_jt = mean of the cell (arm of i, t) + u_i + w_it + v_j + e_jt,   theta = (e, v, [u], [w]), all variances.
Cells may share a mean (a constrained baseline).  Given the number n_j of visits seen,
  R_j^-1 = a I - b_n J,  a = 1/e,  b_n = (1/e - 1/lambda_n)/n,  lambda_n = e + n v,
so the data of a unit enter through N_n (participants last seen at visit n), Y_t (sum of y at visit t) and
Q_n (sum over those of all their y):
  M = sum_j R_j^-1 = a diag(sum_{n>=t} N_n) - [sum_{n>=max(s,t)} b_n N_n],   s_t = a Y_t - sum_{n>=t} b_n Q_n,
both linear in (a, b), and so are their derivatives by e and v (M_k, s_k, M_kl, s_kl).  With U = w I + u J:
  A = (I + M U)^-1,  K = A M = Z'V^-1 Z,  D = U A,  tau = A s,  log|V| = sum log|R_j| + log|I + M U|.
U need not be invertible, nor positive definite: A comes from I + w M (symmetric) and one rank-one update by u.
Derivatives, E_g = d U / d theta_g (J or I), k and l among e and v, residual s from here on, delta = D s,
pi_k = s_k - M_k delta, X_k = A M_k A':
  C = sum K;  C_k = sum X_k;  C_g = -sum K E_g K;   (C_k a)_X = sum A pi_k;  (C_g a)_X = -sum K E_g tau
  a'C_k a = q_k + sum (delta'M_k delta - 2 s_k'delta);   a'C_g a = -sum tau'E_g tau
  a'C_kl a = q_kl + sum (delta'M_kl delta - 2 s_kl'delta - 2 pi_k'D pi_l);   a'C_kg a = -2 sum (A pi_k)'E_g tau;
  a'C_gh a = 2 sum tau'E_g K E_h tau,  where q = sum_j r_j'R_j^-1 r_j;
  tr(Phi C_kl) = sum tr(A'Phi A (M_kl - 2 M_k D M_l));  tr(Phi C_kg) = -2 sum tr(Phi X_k E_g K);
  tr(Phi C_gh) = 2 sum tr(Phi K E_g K E_h K);
  log|V|_k = log|R|_k + sum tr D M_k;  log|V|_g = sum tr K E_g;  log|V|_kl = log|R|_kl + sum tr(D M_kl - D M_k D M_l);
  log|V|_kg = sum tr E_g X_k;  log|V|_gh = -sum tr K E_g K E_h.
Score and information follow as in mixed.  Nothing here depends on the number of participants.

Workspaces are float64 (places, LANES); `at` says what is where.
References as in mixed; Henderson, Searle 1981, doi:10.1137/1023004 (I + M U).
"""

from typing import NamedTuple

import numpy as np

from sim.kernels.mixed_layout import Float, Int
from sim.lanes import everywhere, fma, lane_kernel, load, log, store, where

N_ORDER = 6  # value, e, v, ee, ev, vv


class Nested(NamedTuple):
    """What all replicates share."""

    cell: Int  # (arms, T) column of each cell mean
    arm: Int  # (units,)
    n_column: int  # p
    unit: int  # place of u in theta, -1 = no such term
    visit: int  # place of w in theta, -1 = no such term
    n_variance: int  # m


class Sums(NamedTuple):
    """The data of LANES replicates; y is taken about any value common to a cell mean."""

    count: Float  # (units, T, LANES) N_n, n = 1 .. T
    at_visit: Float  # (units, T, LANES) Y_t
    total: Float  # (units, T, LANES) Q_n
    square: Float  # (1 + T, LANES) sum of y^2; of (sum of a participant's y)^2 among those last seen at n


class Places(NamedTuple):
    """Where everything is in the workspace."""

    a: int  # (6,) and its derivatives
    b: int  # (6, T)
    M: int  # (6, T, T)
    A: int
    K: int
    D: int
    X: int  # (2, T, T)
    G: int  # (2, T, T) D M_k
    Phi: int  # (T, T) of the unit's arm
    Z: int  # (T, T) A'Phi A, and room for products
    Y: int  # (2, T, T) A'Phi A M_k
    y: int  # (T,) Y_t of a unit
    q: int  # (T,) Q_n of a unit
    square: int  # (1 + T,) sums of squares of the residuals, as in Sums
    s: int  # (6, T)
    tau: int
    delta: int
    pi: int  # (2, T)
    alpha: int  # (2, T) A pi_k
    omega: int  # (2, T) D pi_k
    row: int  # (T,) K 1
    other: int  # (T,)
    n: int  # (T,) participants last seen at n, all units
    C_room: int  # (T, T)
    C: int  # (p, p + 1)
    inverse: int  # (p, p) Phi
    beta: int  # (p,)
    C_k: int  # (m, p, p)
    B: int  # (m, p, p) Phi C_k
    h: int  # (m, p)
    scaled: int  # (m, p) Phi h_k
    logdet: int  # (m,)
    bend: int  # (m,)
    logdet2: int  # (m, m)
    trace2: int  # (m, m)
    bend2: int  # (m, m)
    end: int


def places(n_visit: int, p: int, m: int) -> Places:
    """Consecutive places for everything."""
    T, square = n_visit, n_visit * n_visit
    sizes = (N_ORDER, N_ORDER * T, N_ORDER * square, square, square, square, 2 * square, 2 * square, square, square,
             2 * square, T, T, 1 + T, N_ORDER * T, T, T, 2 * T, 2 * T, 2 * T, T, T, T, square,
             p * (p + 1), p * p, p, m * p * p, m * p * p, m * p, m * p, m, m, m * m, m * m, m * m)  # fmt: skip
    return Places(*np.concatenate([[0], np.cumsum(sizes)]).tolist())


# ---- small dense algebra on places -----------------------------------------------------------------------------------


@lane_kernel
def _zero(w, at, n):  # type: ignore[no-untyped-def]
    for i in range(n):
        store(w, everywhere(0.0), at + i)


@lane_kernel
def _add(w, at, x):  # type: ignore[no-untyped-def]
    store(w, load(w, at) + x, at)


@lane_kernel
def _dot(w, x, y, n):  # type: ignore[no-untyped-def]
    total = load(w, x) * load(w, y)
    for i in range(1, n):
        total = fma(load(w, x + i), load(w, y + i), total)
    return total


@lane_kernel
def _times(w, A, x, out, n):  # type: ignore[no-untyped-def]
    """out = A x."""
    for i in range(n):
        store(w, _dot(w, A + i * n, x, n), out + i)


@lane_kernel
def _product(w, A, B, out, n):  # type: ignore[no-untyped-def]
    """out = A B."""
    for i in range(n):
        for j in range(n):
            total = load(w, A + i * n) * load(w, B + j)
            for k in range(1, n):
                total = fma(load(w, A + i * n + k), load(w, B + k * n + j), total)
            store(w, total, out + i * n + j)


@lane_kernel
def _product_transposed(w, A, B, out, n):  # type: ignore[no-untyped-def]
    """out = A B'."""
    for i in range(n):
        for j in range(n):
            store(w, _dot(w, A + i * n, B + j * n, n), out + i * n + j)


@lane_kernel
def _trace(w, A, B, n):  # type: ignore[no-untyped-def]
    """tr(A B)."""
    total = everywhere(0.0)
    for i in range(n):
        for j in range(n):
            total = fma(load(w, A + i * n + j), load(w, B + j * n + i), total)
    return total


@lane_kernel
def _diagonal(w, A, n):  # type: ignore[no-untyped-def]
    total = load(w, A)
    for i in range(1, n):
        total = total + load(w, A + i * n + i)
    return total


@lane_kernel
def _total(w, x, n):  # type: ignore[no-untyped-def]
    total = load(w, x)
    for i in range(1, n):
        total = total + load(w, x + i)
    return total


@lane_kernel
def _sweep(w, A, n, width):  # type: ignore[no-untyped-def]
    """Invert the leading n x n of the symmetric A (n, width) in place, solving for further columns; product of pivots.

    NaN in a lane where a pivot is not positive.
    """
    product = everywhere(1.0)
    for k in range(n):
        pivot = load(w, A + k * width + k)
        product = where(pivot > 0.0, product * pivot, np.nan)
        share = 1.0 / pivot
        for j in range(width):
            store(w, share if j == k else load(w, A + k * width + j) * share, A + k * width + j)
        for i in range(n):
            if i != k:
                x = load(w, A + i * width + k)
                for j in range(width):
                    kept = everywhere(0.0) if j == k else load(w, A + i * width + j)
                    store(w, fma(-x, load(w, A + k * width + j), kept), A + i * width + j)
    return product


# ---- one unit --------------------------------------------------------------------------------------------------------


@lane_kernel
def _rates(w, at, theta, T):  # type: ignore[no-untyped-def]
    """a and b_n with their derivatives by e and v."""
    e, v = load(theta, 0), load(theta, 1)
    i0 = 1.0 / e
    i00 = i0 * i0
    zero = everywhere(0.0)
    store(w, i0, at.a)
    store(w, -i00, at.a + 1)
    store(w, zero, at.a + 2)
    store(w, 2.0 * i00 * i0, at.a + 3)
    store(w, zero, at.a + 4)
    store(w, zero, at.a + 5)
    for t in range(T):
        n = float(t + 1)
        i = 1.0 / fma(v, n, e)
        square = i * i
        cube = square * i
        store(w, (i0 - i) * (1.0 / n), at.b + t)
        store(w, (square - i00) * (1.0 / n), at.b + T + t)
        store(w, square, at.b + 2 * T + t)
        store(w, (i00 * i0 - cube) * (2.0 / n), at.b + 3 * T + t)
        store(w, -2.0 * cube, at.b + 4 * T + t)
        store(w, cube * (-2.0 * n), at.b + 5 * T + t)


@lane_kernel
def _unit(w, at, theta, count, i, T, unit, visit, n_order):  # type: ignore[no-untyped-def]
    """M (with n_order - 1 derivatives), A, K and D of unit i; returns log|I + M U|."""
    for order in range(n_order):
        a = load(w, at.a + order)
        M = at.M + order * T * T
        seen, shared = everywhere(0.0), everywhere(0.0)
        for back in range(T):
            t = T - 1 - back
            n = load(count, i, t)
            seen = seen + n
            shared = fma(n, load(w, at.b + order * T + t), shared)
            store(w, fma(a, seen, -shared), M + t * T + t)
            for s in range(t):
                store(w, -shared, M + t * T + s)
                store(w, -shared, M + s * T + t)
    pivots = everywhere(1.0)
    if visit >= 0:
        variance = load(theta, visit)
        for k in range(T):
            for j in range(T):
                store(w, fma(variance, load(w, at.M + k * T + j), 1.0 if k == j else 0.0), at.A + k * T + j)
        pivots = _sweep(w, at.A, T, T)
        _product(w, at.A, at.M, at.K, T)
        for k in range(T * T):
            store(w, variance * load(w, at.A + k), at.D + k)
    else:
        for k in range(T):
            for j in range(T):
                store(w, everywhere(1.0 if k == j else 0.0), at.A + k * T + j)
                store(w, load(w, at.M + k * T + j), at.K + k * T + j)
                store(w, everywhere(0.0), at.D + k * T + j)
    if unit >= 0:
        variance = load(theta, unit)
        for k in range(T):
            store(w, _total(w, at.K + k * T, T), at.row + k)
            store(w, _total(w, at.A + k * T, T), at.other + k)
        pivot = fma(variance, _total(w, at.row, T), 1.0)
        pivots = where(pivot > 0.0, pivots * pivot, np.nan)
        d = variance / pivot
        for k in range(T):
            x = d * load(w, at.row + k)
            y = d * load(w, at.other + k)
            for j in range(T):
                store(w, fma(-x, load(w, at.other + j), load(w, at.A + k * T + j)), at.A + k * T + j)
                store(w, fma(-x, load(w, at.row + j), load(w, at.K + k * T + j)), at.K + k * T + j)
                store(w, fma(y, load(w, at.other + j), load(w, at.D + k * T + j)), at.D + k * T + j)
    return log(pivots)


@lane_kernel
def _residual(w, at, sums, i, beta, cells):  # type: ignore[no-untyped-def]
    """Y_t and Q_n of the residuals of unit i, and what that takes off the sums of squares."""
    T = cells.size
    mean, seen = everywhere(0.0), at.y  # mean: of the sum over visits 1 .. n
    store(w, load(sums.count, i, T - 1), seen + T - 1)
    for back in range(1, T):
        t = T - 1 - back
        store(w, load(w, seen + t + 1) + load(sums.count, i, t), seen + t)
    for t in range(T):
        cell = load(w, beta + cells[t])
        mean = mean + cell
        y, q = load(sums.at_visit, i, t), load(sums.total, i, t)
        y_left = fma(-load(w, seen + t), cell, y)
        q_left = fma(-load(sums.count, i, t), mean, q)
        store(w, fma(-cell, y + y_left, load(w, at.square)), at.square)
        store(w, fma(-mean, q + q_left, load(w, at.square + 1 + t)), at.square + 1 + t)
        store(w, y_left, at.y + t)
        store(w, q_left, at.q + t)


@lane_kernel
def _weighted(w, at, T, n_order):  # type: ignore[no-untyped-def]
    """s and its derivatives from Y_t and Q_n."""
    for order in range(n_order):
        a = load(w, at.a + order)
        shared = everywhere(0.0)
        for back in range(T):
            t = T - 1 - back
            shared = fma(load(w, at.q + t), load(w, at.b + order * T + t), shared)
            store(w, fma(a, load(w, at.y + t), -shared), at.s + order * T + t)


@lane_kernel
def evaluate(theta, sums, nested, at, w, value):  # type: ignore[no-untyped-def]
    """-2 log restricted likelihood into value (1, LANES); leaves Phi and beta.  NaN in lanes where it is undefined."""
    T, p = nested.cell.shape[1], nested.n_column
    width = p + 1
    _rates(w, at, theta, T)
    _zero(w, at.C, p * width)
    _zero(w, at.n, T)
    log_v, fixed = everywhere(0.0), everywhere(0.0)
    for i in range(nested.arm.size):
        arm = nested.arm[i]
        log_v = log_v + _unit(w, at, theta, sums.count, i, T, nested.unit, nested.visit, 1)
        for t in range(T):
            store(w, load(sums.at_visit, i, t), at.y + t)
            store(w, load(sums.total, i, t), at.q + t)
        _weighted(w, at, T, 1)
        _times(w, at.A, at.s, at.tau, T)
        _times(w, at.D, at.s, at.delta, T)
        fixed = fma(-1.0, _dot(w, at.s, at.delta, T), fixed)
        for t in range(T):
            row = at.C + nested.cell[arm, t] * width
            for s in range(T):
                _add(w, row + nested.cell[arm, s], load(w, at.K + t * T + s))
            _add(w, row + p, load(w, at.tau + t))
            _add(w, at.n + t, load(sums.count, i, t))
    fixed = fma(load(w, at.a), load(sums.square, 0), fixed)
    rows = everywhere(0.0)
    log_e = log(load(theta, 0))
    for t in range(T):
        n = load(w, at.n + t)
        fixed = fma(-load(w, at.b + t), load(sums.square, 1 + t), fixed)
        log_v = fma(n, fma(log_e, float(t), log(fma(load(theta, 1), float(t + 1), load(theta, 0)))), log_v)
        rows = fma(n, float(t + 1), rows)
    for j in range(p):
        store(w, load(w, at.C + j * width + p), at.beta + j)
    log_c = log(_sweep(w, at.C, p, width))
    for j in range(p):
        y = load(w, at.beta + j)
        solved = load(w, at.C + j * width + p)
        fixed = fma(-y, solved, fixed)
        store(w, solved, at.beta + j)
        for k in range(p):
            store(w, load(w, at.C + j * width + k), at.inverse + j * p + k)
    criterion = fma(rows - float(p), np.log(2.0 * np.pi), log_v + log_c + fixed)
    store(value, where(fixed > 0.0, criterion, np.nan), 0)


@lane_kernel
def differentiate(theta, sums, nested, at, w, score, average, observed):  # type: ignore[no-untyped-def]
    """Score (m, LANES), average and observed information (m, m, LANES) at the theta of the last evaluate; leaves C_k."""
    T, p, m = nested.cell.shape[1], nested.n_column, nested.n_variance
    _zero(w, at.C_k, m * p * p)
    _zero(w, at.h, m * p)
    _zero(w, at.logdet, 2 * m + 3 * m * m)
    for t in range(1 + T):
        store(w, load(sums.square, t), at.square + t)
    for i in range(nested.arm.size):
        cells = nested.cell[nested.arm[i]]
        _unit(w, at, theta, sums.count, i, T, nested.unit, nested.visit, N_ORDER)
        _residual(w, at, sums, i, at.beta, cells)
        _weighted(w, at, T, N_ORDER)
        _participant_terms(w, at, cells, p, m)
        _unit_terms(w, at, cells, p, m, nested.unit, nested.visit)
    _residual_terms(w, at, theta, T, m)
    _assemble(w, at, p, m, score, average, observed)


@lane_kernel
def _participant_terms(w, at, cells, p, m):  # type: ignore[no-untyped-def]
    """Of one unit, everything with derivatives by e and v alone; leaves tau, delta, pi, alpha, X, Z."""
    T = cells.size
    square = T * T
    _times(w, at.A, at.s, at.tau, T)
    _times(w, at.D, at.s, at.delta, T)
    for t in range(T):
        for s in range(T):
            store(w, load(w, at.inverse + cells[t] * p + cells[s]), at.Phi + t * T + s)
    _product(w, at.Phi, at.A, at.Y, T)
    for t in range(T):  # Z = A'(Phi A)
        for s in range(T):
            total = load(w, at.A + t) * load(w, at.Y + s)
            for k in range(1, T):
                total = fma(load(w, at.A + k * T + t), load(w, at.Y + k * T + s), total)
            store(w, total, at.Z + t * T + s)
    for k in range(2):
        M, X, pi = at.M + (1 + k) * square, at.X + k * square, at.pi + k * T
        _product(w, at.Z, M, at.Y + k * square, T)
        _product(w, at.D, M, at.G + k * square, T)
        _product(w, at.A, M, at.C_room, T)
        _product_transposed(w, at.C_room, at.A, X, T)
        _times(w, M, at.delta, at.other, T)
        s_k = at.s + (1 + k) * T
        bend = fma(-2.0, _dot(w, s_k, at.delta, T), _dot(w, at.delta, at.other, T))
        _add(w, at.bend + k, bend)
        _add(w, at.logdet + k, _diagonal(w, at.G + k * square, T))
        for t in range(T):
            store(w, load(w, s_k + t) - load(w, at.other + t), pi + t)
        _times(w, at.A, pi, at.alpha + k * T, T)
        _times(w, at.D, pi, at.omega + k * T, T)
        for t in range(T):
            _add(w, at.h + k * p + cells[t], load(w, at.alpha + k * T + t))
            for s in range(T):
                _add(w, at.C_k + (k * p + cells[t]) * p + cells[s], load(w, X + t * T + s))
    for k in range(2):
        for other in range(k + 1):
            order = 3 + k + other
            M = at.M + order * square
            pair = k * m + other
            _times(w, M, at.delta, at.other, T)
            bend = fma(-2.0, _dot(w, at.s + order * T, at.delta, T), _dot(w, at.delta, at.other, T))
            _add(w, at.bend2 + pair, fma(-2.0, _dot(w, at.pi + k * T, at.omega + other * T, T), bend))
            G = at.G + other * square
            _add(w, at.logdet2 + pair, _trace(w, at.D, M, T) - _trace(w, at.G + k * square, G, T))
            trace = fma(-2.0, _trace(w, at.Y + k * square, G, T), _trace(w, at.Z, M, T))
            _add(w, at.trace2 + pair, trace)


@lane_kernel
def _unit_terms(w, at, cells, p, m, unit, visit):  # type: ignore[no-untyped-def]
    """Of one unit, everything with a derivative by u or w."""
    T = cells.size
    square = T * T
    if unit >= 0:
        for t in range(T):
            store(w, _total(w, at.K + t * T, T), at.row + t)  # K 1
        kappa, tau = _total(w, at.row, T), _total(w, at.tau, T)
        _times(w, at.Phi, at.row, at.other, T)  # Phi K 1
        bent = _dot(w, at.row, at.other, T)
        _add(w, at.logdet + unit, kappa)
        _add(w, at.bend + unit, -tau * tau)
        for k in range(2):
            X = at.X + k * square
            total, along = everywhere(0.0), everywhere(0.0)
            for t in range(T):
                x = _total(w, X + t * T, T)
                total = total + x
                along = fma(x, load(w, at.other + t), along)
            pair = unit * m + k
            _add(w, at.logdet2 + pair, total)
            _add(w, at.trace2 + pair, -2.0 * along)
            _add(w, at.bend2 + pair, -2.0 * _total(w, at.alpha + k * T, T) * tau)
        pair = unit * m + unit
        _add(w, at.logdet2 + pair, -kappa * kappa)
        _add(w, at.trace2 + pair, 2.0 * bent * kappa)
        _add(w, at.bend2 + pair, 2.0 * tau * tau * kappa)
        for t in range(T):
            x = load(w, at.row + t)
            _add(w, at.h + unit * p + cells[t], -x * tau)
            for s in range(T):
                _add(w, at.C_k + (unit * p + cells[t]) * p + cells[s], -x * load(w, at.row + s))
    if visit >= 0:
        square_K, along = at.C_room, at.delta
        _product(w, at.K, at.K, square_K, T)
        _times(w, at.K, at.tau, along, T)
        if unit >= 0:
            pair = visit * m + unit
            tau = _total(w, at.tau, T)
            _add(w, at.logdet2 + pair, -_dot(w, at.row, at.row, T))
            _add(w, at.bend2 + pair, 2.0 * tau * _dot(w, at.row, at.tau, T))
            _times(w, at.K, at.row, at.y, T)
            _add(w, at.trace2 + pair, 2.0 * _dot(w, at.y, at.other, T))
        _product(w, at.Phi, at.K, at.Y, T)
        for k in range(2):
            pair = visit * m + k
            X = at.X + k * square
            _add(w, at.logdet2 + pair, _diagonal(w, X, T))
            _add(w, at.trace2 + pair, -2.0 * _trace(w, at.Y, X, T))
            _add(w, at.bend2 + pair, -2.0 * _dot(w, at.alpha + k * T, at.tau, T))
        pair = visit * m + visit
        _add(w, at.logdet + visit, _diagonal(w, at.K, T))
        _add(w, at.bend + visit, -_dot(w, at.tau, at.tau, T))
        _add(w, at.logdet2 + pair, -_diagonal(w, square_K, T))
        _add(w, at.trace2 + pair, 2.0 * _trace(w, at.Y, square_K, T))
        _add(w, at.bend2 + pair, 2.0 * _dot(w, at.tau, along, T))
        for t in range(T):
            _add(w, at.h + visit * p + cells[t], -load(w, along + t))
            for s in range(T):
                _add(w, at.C_k + (visit * p + cells[t]) * p + cells[s], -load(w, square_K + t * T + s))


@lane_kernel
def _residual_terms(w, at, theta, T, m):  # type: ignore[no-untyped-def]
    """log|R| and r'R^-1 r by e and v."""
    e, v = load(theta, 0), load(theta, 1)
    i0 = 1.0 / e
    for t in range(T):
        n, last = float(t + 1), load(w, at.n + t)
        i = 1.0 / fma(v, n, e)
        between, within = last * i, last * float(t) * i0
        _add(w, at.logdet, within + between)
        _add(w, at.logdet + 1, between * n)
        _add(w, at.logdet2, -within * i0 - between * i)
        _add(w, at.logdet2 + m, -between * i * n)
        _add(w, at.logdet2 + m + 1, -between * i * (n * n))
        square = -load(w, at.square + 1 + t)
        for k in range(2):
            _add(w, at.bend + k, square * load(w, at.b + (1 + k) * T + t))
            for other in range(k + 1):
                _add(w, at.bend2 + k * m + other, square * load(w, at.b + (3 + k + other) * T + t))
    square = load(w, at.square)
    _add(w, at.bend, square * load(w, at.a + 1))
    _add(w, at.bend2, square * load(w, at.a + 3))


@lane_kernel
def _assemble(w, at, p, m, score, average, observed):  # type: ignore[no-untyped-def]
    for k in range(m):
        B, h, scaled = at.B + k * p * p, at.h + k * p, at.scaled + k * p
        _product(w, at.inverse, at.C_k + k * p * p, B, p)
        _times(w, at.inverse, h, scaled, p)
        trace = load(w, at.logdet + k) + _diagonal(w, B, p)
        store(score, -0.5 * (trace + load(w, at.bend + k)), k)
        for other in range(k + 1):
            pair = k * m + other
            along = _dot(w, h, at.scaled + other * p, p)
            bend = load(w, at.bend2 + pair)
            trace = load(w, at.logdet2 + pair) + load(w, at.trace2 + pair) - _trace(w, B, at.B + other * p * p, p)
            seen = fma(0.5, trace + bend, -along)
            mean = fma(0.25, bend, -0.5 * along)
            store(observed, seen, k, other)
            store(observed, seen, other, k)
            store(average, mean, k, other)
            store(average, mean, other, k)


# ---- inference -------------------------------------------------------------------------------------------------------


@lane_kernel
def contrast(c, theta, sums, nested, at, w, out, gradient, curvature):  # type: ignore[no-untyped-def]
    """Of one contrast c (p,) after differentiate: estimate and f = c'Phi c into out (2, LANES), df/d theta (m, LANES),
    and g'(C_kl/2 - C_k Phi C_l) g, g = Phi c, into curvature (m, m, LANES), from which Kenward-Roger's f follows."""
    T, p, m = nested.cell.shape[1], nested.n_column, nested.n_variance
    g, estimate, f = at.scaled, everywhere(0.0), everywhere(0.0)
    for j in range(p):
        total = everywhere(0.0)
        for k in range(p):
            if c[k] != 0.0:
                total = fma(load(w, at.inverse + j * p + k), c[k], total)
        store(w, total, g + j)
        if c[j] != 0.0:
            estimate = fma(load(w, at.beta + j), c[j], estimate)
            f = fma(total, c[j], f)
    store(out, estimate, 0)
    store(out, f, 1)
    _zero(w, at.bend2, m * m)
    for i in range(nested.arm.size):
        cells = nested.cell[nested.arm[i]]
        _unit(w, at, theta, sums.count, i, T, nested.unit, nested.visit, N_ORDER)
        _curvature(w, at, g, cells, m, nested.unit, nested.visit)
    for k in range(m):
        _times(w, at.C_k + k * p * p, g, at.h + k * p, p)
        _times(w, at.inverse, at.h + k * p, at.B + k * p, p)
        store(gradient, -_dot(w, g, at.h + k * p, p), k)
    for k in range(m):
        for other in range(k + 1):
            x = fma(0.5, load(w, at.bend2 + k * m + other), -_dot(w, at.h + k * p, at.B + other * p, p))
            store(curvature, x, k, other)
            store(curvature, x, other, k)


@lane_kernel
def _curvature(w, at, g, cells, m, unit, visit):  # type: ignore[no-untyped-def]
    """Add g'C_kl g of one unit to bend2."""
    T = cells.size
    square = T * T
    for t in range(T):
        store(w, load(w, g + cells[t]), at.s + t)
    for t in range(T):  # tau = A'g
        total = load(w, at.A + t) * load(w, at.s)
        for k in range(1, T):
            total = fma(load(w, at.A + k * T + t), load(w, at.s + k), total)
        store(w, total, at.tau + t)
    _times(w, at.K, at.s, at.delta, T)  # K g
    for k in range(2):
        pi = at.pi + k * T
        _times(w, at.M + (1 + k) * square, at.tau, pi, T)
        _times(w, at.D, pi, at.omega + k * T, T)
        _times(w, at.A, pi, at.alpha + k * T, T)  # X_k g
    for k in range(2):
        for other in range(k + 1):
            _times(w, at.M + (3 + k + other) * square, at.tau, at.other, T)
            x = fma(-2.0, _dot(w, at.pi + k * T, at.omega + other * T, T), _dot(w, at.tau, at.other, T))
            _add(w, at.bend2 + k * m + other, x)
    total = _total(w, at.delta, T)
    if unit >= 0:
        for t in range(T):
            store(w, _total(w, at.K + t * T, T), at.row + t)
        for k in range(2):
            _add(w, at.bend2 + unit * m + k, -2.0 * _total(w, at.alpha + k * T, T) * total)
        _add(w, at.bend2 + unit * m + unit, 2.0 * total * total * _total(w, at.row, T))
    if visit >= 0:
        _times(w, at.K, at.delta, at.other, T)
        for k in range(2):
            _add(w, at.bend2 + visit * m + k, -2.0 * _dot(w, at.alpha + k * T, at.delta, T))
        if unit >= 0:
            _add(w, at.bend2 + visit * m + unit, 2.0 * total * _dot(w, at.row, at.delta, T))
        _add(w, at.bend2 + visit * m + visit, 2.0 * _dot(w, at.delta, at.other, T))
