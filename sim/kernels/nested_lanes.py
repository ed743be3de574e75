"""The restricted likelihood of nested random intercepts, for LANES replicates at once, from sums alone.

Model.  Participant j of unit i in district k, seen at visits 1 .. n (whoever leaves does not return), T visits:
  y_jt = mean of the cell (arm of i, t) + D_k + u_i + w_it + v_j + e_jt,   theta = (e, v, [w], [u], [D]), variances.
Cells may share a mean (a constrained baseline).  Given the number n_j of visits seen,
  R_j^-1 = a I - b_n J,  a = 1/e,  b_n = (1/e - l_n)/n,  l_n = 1/(e + n v),  R_j^-1 1 = l_n 1,
so the data of a unit enter through N_n (participants last seen at visit n), Y_t (sum of y at visit t) and
Q_n (sum over those of all their y):
  M = sum_j R_j^-1 = a diag(sum_{n>=t} N_n) - [sum_{n>=max(s,t)} b_n N_n],   s_t = a Y_t - sum_{n>=t} b_n Q_n,
linear in (a, b), and so are their derivatives by e and v (M_k, s_k, M_kl, s_kl).  Summed over the units of an arm they
are the whole likelihood of a model without random effects of units; what follows takes off from it.

Visits of a unit (w), a T x T matter.  A = (I + w M)^-1,  K = A M = Z'V^-1 Z,  D = w A,  tau = A s,  and, with residuals
from here on, delta = D s,  pi_k = s_k - M_k delta,  X_k = A M_k A'  for k and l among e and v:
  C = sum K;  C_k = sum X_k;  C_w = -sum K K;   (C_k a)_X = sum A pi_k;  (C_w a)_X = -sum K tau
  a'C_k a = q_k + sum (delta'M_k delta - 2 s_k'delta);   a'C_w a = -sum tau'tau
  a'C_kl a = q_kl + sum (delta'M_kl delta - 2 s_kl'delta - 2 pi_k'D pi_l);   a'C_kw a = -2 sum (A pi_k)'tau;
  a'C_ww a = 2 sum tau'K tau,  where q = sum_j r_j'R_j^-1 r_j;
  tr(Phi C_kl) = sum tr(A'Phi A (M_kl - 2 M_k D M_l));  tr(Phi C_kw) = -2 sum tr(Phi X_k K);
  tr(Phi C_ww) = 2 sum tr(Phi K K K);
  log|V|_k = log|R|_k + sum tr D M_k;  log|V|_w = sum tr K;  log|V|_kl = log|R|_kl + sum tr(D M_kl - D M_k D M_l);
  log|V|_kw = sum tr X_k;  log|V|_ww = -sum tr K K.

An intercept shared by a unit (u), or by the units of a district (D), is a rank-one matter on top of any of this.  With
z = X'V^-1 1, r = 1'V^-1 (y - X beta), mu = 1'V^-1 1 of what is inside and their derivatives by the variances inside,
  kappa = 1/(1 + u mu),  d = u kappa,   C -= d z z',  log|V| += log(1 + u mu),
and the derivatives are those of the product d z z' (a'z = r), with
  d_k = -d^2 mu_k,  d_kl = 2 d^3 mu_k mu_l - d^2 mu_kl,  d_u = kappa^2,  d_ku = -2 d kappa^2 mu_k,
  d_uu = -2 mu kappa^3.
Seen from one level higher, z, r and mu are multiplied by kappa, whose derivatives are
  kappa_k = -d kappa mu_k,  kappa_kl = kappa (2 d^2 mu_k mu_l - d mu_kl),  kappa_u = -mu kappa^2,
  kappa_ku = kappa^2 mu_k (2 d mu - 1),  kappa_uu = 2 mu^2 kappa^3.
All of it holds at variances of 0 and below, while V stays positive definite.  Score and information follow as in mixed.
Nothing here depends on the number of participants.

Workspaces are float64 (places, LANES); `at` says what is where.  Values with derivatives by n variances lie in this
order: value, n first derivatives, then second ones (k, l <= k) at `pair(n, k, l)`.
References as in mixed; Henderson, Searle 1981, doi:10.1137/1023004 (I + M U).
"""

from typing import NamedTuple

import numpy as np

from sim.kernels.lane_algebra import (
    add,
    curvature_of,
    dot,
    estimate_of,
    gradient_of,
    information_of,
    product,
    score_of,
    sweep,
    times,
    total_of,
    trace,
    trace_of_product,
    zero,
)
from sim.kernels.mixed_layout import Float, Int
from sim.lanes import everywhere, fma, inline, lane_kernel, load, log, store, where

N_ORDER = 6  # value, e, v, ee, ev, vv
MOST = 15  # value and derivatives by e, v, w, u


class Nested(NamedTuple):
    """What all replicates share."""

    visits: tuple[int, ...]  # 0 .. T - 1: a tuple, so that T is known when the code is compiled
    cell: Int  # (arms, T) column of each cell mean
    arm: Int  # (units,)
    district: Int  # (units,) ascending
    n_column: int  # p
    column: Int  # (p,) 0 .. p - 1
    has_visit: bool  # w
    has_unit: bool  # u
    has_district: bool  # D
    n_variance: int  # m


class Sums(NamedTuple):
    """The data of LANES replicates; y is taken about any value common to a cell mean."""

    last: Float  # (units, T, LANES) N_n, n = 1 .. T: participants last seen at visit n
    at_visit: Float  # (units, T, LANES) Y_t
    total: Float  # (units, T, LANES) Q_n
    square: Float  # (1 + T, LANES) sum of y^2; of (sum of a participant's y)^2 among those last seen at n


class Places(NamedTuple):
    """Where everything is in the workspace."""

    a: int  # (6,) and its derivatives
    b: int  # (6, T)
    l: int  # (6, T)  # noqa: E741
    last: int  # (T,) N_n of an arm or unit
    y: int  # (T,) Y_t of its residuals
    q: int  # (T,) Q_n of its residuals
    square: int  # (1 + T,) as in Sums, of residuals
    M: int  # (6, T, T)
    s: int  # (6, T)
    A: int
    K: int
    D: int
    Phi: int  # (T, T) of the arm
    Z: int  # (T, T) A'Phi A
    X: int  # (2, T, T)
    G: int  # (2, T, T) D M_k
    Y: int  # (2, T, T) A'Phi A M_k
    room: int  # (T, T)
    tau: int
    delta: int
    pi: int  # (2, T)
    alpha: int  # (2, T) A pi_k
    omega: int  # (2, T) D pi_k
    x: int  # (T,)
    f: int  # (5, p) Phi z and Phi z_k
    z: int  # (15, T) of a unit
    r: int  # (15,)
    mu: int  # (15,)
    z_district: int  # (15, p)
    r_district: int  # (15,)
    mu_district: int  # (15,)
    n: int  # (T,) participants last seen at n, all units
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
    sizes = (N_ORDER, N_ORDER * T, N_ORDER * T, T, T, T, 1 + T, N_ORDER * square, N_ORDER * T, square, square, square,
             square, square, 2 * square, 2 * square, 2 * square, square, T, T, 2 * T, 2 * T, 2 * T, T,
             5 * p, MOST * T, MOST, MOST, MOST * p, MOST, MOST,
             T, p * (p + 1), p * p, p, m * p * p, m * p * p, m * p, m * p, m, m, m * m, m * m, m * m)  # fmt: skip
    return Places(*np.concatenate([[0], np.cumsum(sizes)]).tolist())


@inline
def pair(n, k, other):  # type: ignore[no-untyped-def]
    """Place of the second derivative (k, other) among value and derivatives by n variances."""
    high, low = max(k, other), min(k, other)
    return 1 + n + high * (high + 1) // 2 + low


# ---- participants ----------------------------------------------------------------------------------------------------


@lane_kernel
def _rates(w, at, theta, visits):  # type: ignore[no-untyped-def]
    """a, b_n and l_n with their derivatives by e and v."""
    T = len(visits)
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
        store(w, i, at.l + t)
        store(w, -square, at.l + T + t)
        store(w, square * -n, at.l + 2 * T + t)
        store(w, 2.0 * cube, at.l + 3 * T + t)
        store(w, cube * (2.0 * n), at.l + 4 * T + t)
        store(w, cube * (2.0 * n * n), at.l + 5 * T + t)
        store(w, (i0 - i) * (1.0 / n), at.b + t)
        store(w, (square - i00) * (1.0 / n), at.b + T + t)
        store(w, square, at.b + 2 * T + t)
        store(w, (i00 * i0 - cube) * (2.0 / n), at.b + 3 * T + t)
        store(w, -2.0 * cube, at.b + 4 * T + t)
        store(w, cube * (-2.0 * n), at.b + 5 * T + t)


@lane_kernel
def _inside(w, at, visits, n_order):  # type: ignore[no-untyped-def]
    """M and s, with n_order - 1 derivatives, from the count, y and q in place."""
    T = len(visits)
    for order in range(n_order):
        a = load(w, at.a + order)
        M = at.M + order * T * T
        seen, shared, taken = everywhere(0.0), everywhere(0.0), everywhere(0.0)
        for back in range(T):
            t = T - 1 - back
            n, b = load(w, at.last + t), load(w, at.b + order * T + t)
            seen = seen + n
            shared = fma(n, b, shared)
            taken = fma(load(w, at.q + t), b, taken)
            store(w, fma(a, load(w, at.y + t), -taken), at.s + order * T + t)
            store(w, fma(a, seen, -shared), M + t * T + t)
            for s in range(t):
                store(w, -shared, M + t * T + s)
                store(w, -shared, M + s * T + t)


@lane_kernel
def _gather(w, at, sums, nested, arm):  # type: ignore[no-untyped-def]
    """Counts and raw sums of the units of an arm (arm < 0: of any)."""
    T = len(nested.visits)
    zero(w, at.last, 3 * T)
    for i in range(nested.arm.size):
        if arm < 0 or nested.arm[i] == arm:
            for t in range(T):
                add(w, at.last + t, load(sums.last, i, t))
                add(w, at.y + t, load(sums.at_visit, i, t))
                add(w, at.q + t, load(sums.total, i, t))


@inline
def _take_unit(w, at, sums, i, visits):  # type: ignore[no-untyped-def]
    """Counts and raw sums of unit i."""
    for t in range(len(visits)):
        store(w, load(sums.last, i, t), at.last + t)
        store(w, load(sums.at_visit, i, t), at.y + t)
        store(w, load(sums.total, i, t), at.q + t)


@lane_kernel
def _residual(w, at, cells, count_squares, visits):  # type: ignore[no-untyped-def]
    """Make y and q those of residuals; take off the sums of squares what that takes off, if they are to be counted."""
    T = len(visits)
    mean, seen = everywhere(0.0), everywhere(0.0)
    for t in range(T):
        seen = seen + load(w, at.last + t)
    for t in range(T):
        cell = load(w, at.beta + cells[t])
        mean = mean + cell
        n, y, q = load(w, at.last + t), load(w, at.y + t), load(w, at.q + t)
        y_left, q_left = fma(-seen, cell, y), fma(-n, mean, q)
        seen = seen - n
        store(w, y_left, at.y + t)
        store(w, q_left, at.q + t)
        if count_squares:
            store(w, fma(-cell, y + y_left, load(w, at.square)), at.square)
            store(w, fma(-mean, q + q_left, load(w, at.square + 1 + t)), at.square + 1 + t)


@lane_kernel
def _row_sums(w, at, visits, n_order):  # type: ignore[no-untyped-def]
    """z, r and mu of a unit without w from count and q; r is of whatever q is of."""
    T = len(visits)
    for order in range(n_order):
        z, r, mu = everywhere(0.0), everywhere(0.0), everywhere(0.0)
        for back in range(T):
            t = T - 1 - back
            rate = load(w, at.l + order * T + t)
            z = fma(load(w, at.last + t), rate, z)
            r = fma(load(w, at.q + t), rate, r)
            mu = mu + z
            store(w, z, at.z + order * T + t)
        store(w, r, at.r + order)
        store(w, mu, at.mu + order)


# ---- visits of a unit ------------------------------------------------------------------------------------------------


@lane_kernel
def _visits(w, at, variance, visits):  # type: ignore[no-untyped-def]
    """A, K and D of a unit with w; returns log|I + w M|."""
    T = len(visits)
    for k in range(T):
        for j in range(T):
            store(w, fma(variance, load(w, at.M + k * T + j), 1.0 if k == j else 0.0), at.A + k * T + j)
    pivots = sweep(w, at.A, T, T)
    product(w, at.A, at.M, at.K, T)
    for k in range(T * T):
        store(w, variance * load(w, at.A + k), at.D + k)
    return log(pivots)


@lane_kernel
def _visit_matrices(w, at, is_full, visits):  # type: ignore[no-untyped-def]
    """X_k and K K (into room) of a unit with w, and, for second derivatives, D M_k."""
    T = len(visits)
    square = T * T
    for k in range(2):
        M = at.M + (1 + k) * square
        product(w, at.A, M, at.room, T)
        product(w, at.room, at.A, at.X + k * square, T)
        if is_full:
            product(w, at.D, M, at.G + k * square, T)
    product(w, at.K, at.K, at.room, T)


@lane_kernel
def _visit_derivatives(w, at, cells, p, m, variance, has_unit, has_more, is_full, visits):  # type: ignore[no-untyped-def]
    """Of one unit with w: every derivative, and if more comes on top, z, r and mu."""
    T = len(visits)
    square = T * T
    times(w, at.A, at.s, at.tau, T)
    times(w, at.D, at.s, at.delta, T)
    _visit_matrices(w, at, is_full, visits)
    for k in range(2):
        M, X, pi, s_k = at.M + (1 + k) * square, at.X + k * square, at.pi + k * T, at.s + (1 + k) * T
        times(w, M, at.delta, at.x, T)
        add(w, at.bend + k, fma(-2.0, dot(w, s_k, at.delta, T), dot(w, at.delta, at.x, T)))
        for t in range(T):
            store(w, load(w, s_k + t) - load(w, at.x + t), pi + t)
        times(w, at.A, pi, at.alpha + k * T, T)
        add(w, at.logdet + k, trace_of_product(w, at.D, M, T))
        for t in range(T):
            add(w, at.h + k * p + cells[t], load(w, at.alpha + k * T + t))
            for s in range(t + 1):
                add(w, at.C_k + (k * p + cells[t]) * p + cells[s], load(w, X + t * T + s))
    times(w, at.K, at.tau, at.omega, T)
    add(w, at.logdet + 2, trace(w, at.K, T))
    add(w, at.bend + 2, -dot(w, at.tau, at.tau, T))
    for t in range(T):
        add(w, at.h + 2 * p + cells[t], -load(w, at.omega + t))
        for s in range(t + 1):
            add(w, at.C_k + (2 * p + cells[t]) * p + cells[s], -load(w, at.room + t * T + s))
    if is_full:
        _visit_second(w, at, m, visits)
    if has_more:
        _visit_row_sums(w, at, is_full, visits)
        _visit_residual_sums(w, at, is_full, visits)
    if has_unit:
        _take_intercept(w, at, at.z, at.r, at.mu, cells, T, p, m, 3, variance, at.Phi, is_full)


@lane_kernel
def _visit_second(w, at, m, visits):  # type: ignore[no-untyped-def]
    """Of one unit with w: second derivatives by e, v and w; K tau is at omega, whose place is then taken."""
    T = len(visits)
    square, place = T * T, 2 * m + 2
    product(w, at.Phi, at.K, at.Y, T)
    for k in range(2):
        X, row = at.X + k * square, 2 * m + k
        add(w, at.logdet2 + row, trace(w, X, T))
        add(w, at.trace2 + row, -2.0 * trace_of_product(w, at.Y, X, T))
        add(w, at.bend2 + row, -2.0 * dot(w, at.alpha + k * T, at.tau, T))
    add(w, at.logdet2 + place, -trace(w, at.room, T))
    add(w, at.trace2 + place, 2.0 * trace_of_product(w, at.Y, at.room, T))
    add(w, at.bend2 + place, 2.0 * dot(w, at.tau, at.omega, T))
    product(w, at.Phi, at.A, at.Y, T)
    product(w, at.A, at.Y, at.Z, T)  # A is symmetric
    for k in range(2):
        product(w, at.Z, at.M + (1 + k) * square, at.Y + k * square, T)
        times(w, at.D, at.pi + k * T, at.omega + k * T, T)
    for k in range(2):
        for other in range(k + 1):
            order = 3 + k + other
            M, G, row = at.M + order * square, at.G + other * square, k * m + other
            times(w, M, at.delta, at.x, T)
            bend = fma(-2.0, dot(w, at.s + order * T, at.delta, T), dot(w, at.delta, at.x, T))
            trace2 = fma(-2.0, trace_of_product(w, at.Y + k * square, G, T), trace_of_product(w, at.Z, M, T))
            add(w, at.bend2 + row, fma(-2.0, dot(w, at.pi + k * T, at.omega + other * T, T), bend))
            add(w, at.logdet2 + row, trace_of_product(w, at.D, M, T) - trace_of_product(w, at.G + k * square, G, T))
            add(w, at.trace2 + row, trace2)


@lane_kernel
def _visit_row_sums(w, at, is_full, visits):  # type: ignore[no-untyped-def]
    """z and mu of a unit with w, and their derivatives by e, v and w."""
    T = len(visits)
    square, z, ones = T * T, at.z, at.q
    for t in range(T):
        store(w, total_of(w, at.A + t * T, T), ones + t)  # A 1
        store(w, total_of(w, at.K + t * T, T), z + t)
        store(w, total_of(w, at.X + t * T, T), z + T + t)
        store(w, total_of(w, at.X + square + t * T, T), z + 2 * T + t)
        store(w, -total_of(w, at.room + t * T, T), z + 3 * T + t)
    for k in range(2 if is_full else 0):
        for other in range(k + 1):
            out = z + pair(3, k, other) * T
            times(w, at.M + (3 + k + other) * square, ones, at.x, T)
            _take_both(w, at, ones, k, other, visits)
            times(w, at.A, at.x, out, T)
        out = z + pair(3, 2, k) * T
        times(w, at.X + k * square, z, out, T)
        times(w, at.K, z + (1 + k) * T, at.x, T)
        for t in range(T):
            store(w, -load(w, out + t) - load(w, at.x + t), out + t)
    if is_full:
        out = z + pair(3, 2, 2) * T
        times(w, at.K, z + 3 * T, out, T)
        for t in range(T):
            store(w, -2.0 * load(w, out + t), out + t)
    for order in range(10 if is_full else 4):
        store(w, total_of(w, z + order * T, T), at.mu + order)


@lane_kernel
def _take_both(w, at, vector, k, other, visits):  # type: ignore[no-untyped-def]
    """x -= (M_k D M_l + M_l D M_k) vector; D M_l is at G."""
    T = len(visits)
    square, room = T * T, at.f
    for one, two in ((k, other), (other, k)):
        times(w, at.G + two * square, vector, room, T)
        for t in range(T):
            row = at.M + (1 + one) * square + t * T
            store(w, load(w, at.x + t) - dot(w, row, room, T), at.x + t)


@lane_kernel
def _visit_residual_sums(w, at, is_full, visits):  # type: ignore[no-untyped-def]
    """r of a unit with w and its derivatives: sums of tau, A pi_k, -K tau; second: of what follows from them."""
    T = len(visits)
    square, ones = T * T, at.q
    store(w, total_of(w, at.tau, T), at.r)
    for k in range(2):
        store(w, total_of(w, at.alpha + k * T, T), at.r + 1 + k)
    store(w, -dot(w, at.z, at.tau, T), at.r + 3)
    if not is_full:
        return
    for k in range(2):
        for other in range(k + 1):
            M, s = at.M + (3 + k + other) * square, at.s + (3 + k + other) * T
            times(w, M, at.delta, at.x, T)
            for t in range(T):
                one = dot(w, at.M + (1 + k) * square + t * T, at.omega + other * T, T)
                two = dot(w, at.M + (1 + other) * square + t * T, at.omega + k * T, T)
                store(w, load(w, s + t) - load(w, at.x + t) - one - two, at.x + t)
            store(w, dot(w, ones, at.x, T), at.r + pair(3, k, other))
        along = dot(w, at.z + (1 + k) * T, at.tau, T) + dot(w, at.z, at.alpha + k * T, T)
        store(w, -along, at.r + pair(3, 2, k))
    store(w, -2.0 * dot(w, at.z + 3 * T, at.tau, T), at.r + pair(3, 2, 2))


# ---- a shared intercept ----------------------------------------------------------------------------------------------


@lane_kernel
def _shared(w, at, z, r, mu, columns, p, m, n, variance, phi, is_full):  # type: ignore[no-untyped-def]
    """Everything that an intercept of the given variance, number n of theta, takes off; z is of length columns.size.

    phi: Phi restricted to those columns.
    """
    _take_intercept(w, at, z, r, mu, columns, columns.size, p, m, n, variance, phi, is_full)


@inline
def _take_intercept(w, at, z, r, mu, columns, size, p, m, n, variance, phi, is_full):  # type: ignore[no-untyped-def]
    """The same where size and n are known when the code is compiled, which spares its loops."""
    _shared_bend(w, at, r, mu, m, n, variance, is_full)
    r0, mu0 = load(w, r), load(w, mu)
    kappa = 1.0 / fma(variance, mu0, 1.0)
    d = variance * kappa
    d_u = kappa * kappa
    for k in range(n):
        mu_k, r_k = load(w, mu + 1 + k), load(w, r + 1 + k)
        half = 0.5 * d * d * mu_k  # d_k z z' + d (z_k z' + z z_k') = x z' + z x'
        add(w, at.logdet + k, d * mu_k)
        for t in range(size):
            x = fma(half, load(w, z + t), -d * load(w, z + (1 + k) * size + t))
            store(w, x, at.f + t)
            add(w, at.h + k * p + columns[t], fma(x + half * load(w, z + t), r0, -d * r_k * load(w, z + t)))
        for t in range(size):
            row, x, zt = at.C_k + (k * p + columns[t]) * p, load(w, at.f + t), load(w, z + t)
            for s in range(t + 1):
                add(w, row + columns[s], fma(x, load(w, z + s), zt * load(w, at.f + s)))
    add(w, at.logdet + n, kappa * mu0)
    for t in range(size):
        x = -d_u * load(w, z + t)
        row = at.C_k + (n * p + columns[t]) * p
        add(w, at.h + n * p + columns[t], x * r0)
        for s in range(t + 1):
            add(w, row + columns[s], x * load(w, z + s))
    if is_full:
        _shared_second(w, at, z, mu, size, m, n, variance, phi)


@inline
def _shared_second(w, at, z, mu, size, m, n, variance, phi):  # type: ignore[no-untyped-def]
    """Second derivatives of log|V| and tr(Phi C_kl)."""
    mu0 = load(w, mu)
    kappa = 1.0 / fma(variance, mu0, 1.0)
    d = variance * kappa
    d_u = kappa * kappa
    minus = -d * d
    for k in range(n + 1):
        times(w, phi, z + k * size, at.f + k * size, size)
    q00 = dot(w, z, at.f, size)
    for k in range(n):
        mu_k = load(w, mu + 1 + k)
        d_k = minus * mu_k
        q0k = dot(w, z, at.f + (1 + k) * size, size)
        for other in range(k + 1):
            place, second = k * m + other, pair(n, k, other)
            mu_l, mu_kl = load(w, mu + 1 + other), load(w, mu + second)
            d_kl = minus * fma(-2.0 * d * mu_k, mu_l, mu_kl)
            q0l = dot(w, z, at.f + (1 + other) * size, size)
            along = dot(w, z + second * size, at.f, size)
            along = along + dot(w, z + (1 + k) * size, at.f + (1 + other) * size, size)
            add(w, at.logdet2 + place, fma(d, mu_kl, minus * mu_k * mu_l))
            bow = fma(d_kl, q00, 2.0 * fma(d, along, fma(d_k, q0l, minus * mu_l * q0k)))
            add(w, at.trace2 + place, -bow)
        add(w, at.logdet2 + n * m + k, d_u * mu_k)
        add(w, at.trace2 + n * m + k, -2.0 * d_u * fma(-d * mu_k, q00, q0k))
    add(w, at.logdet2 + n * m + n, -d_u * mu0 * mu0)
    add(w, at.trace2 + n * m + n, 2.0 * mu0 * d_u * kappa * q00)


@inline
def _shared_bend(w, at, r, mu, m, n, variance, is_full):  # type: ignore[no-untyped-def]
    """Take the derivatives of d r^2 off bend and bend2."""
    r0, mu0 = load(w, r), load(w, mu)
    kappa = 1.0 / fma(variance, mu0, 1.0)
    d = variance * kappa
    d_u = kappa * kappa
    minus = -d * d
    for k in range(n):
        add(w, at.bend + k, -r0 * fma(minus * load(w, mu + 1 + k), r0, 2.0 * d * load(w, r + 1 + k)))
    add(w, at.bend + n, -d_u * r0 * r0)
    if not is_full:
        return
    for k in range(n):
        mu_k, r_k = load(w, mu + 1 + k), load(w, r + 1 + k)
        d_k = minus * mu_k
        for other in range(k + 1):
            second = pair(n, k, other)
            mu_l, r_l = load(w, mu + 1 + other), load(w, r + 1 + other)
            d_kl = minus * fma(-2.0 * d * mu_k, mu_l, load(w, mu + second))
            along = fma(d, fma(r0, load(w, r + second), r_k * r_l), r0 * fma(d_k, r_l, minus * mu_l * r_k))
            add(w, at.bend2 + k * m + other, -fma(d_kl * r0, r0, 2.0 * along))
        add(w, at.bend2 + n * m + k, -2.0 * d_u * r0 * fma(-d * mu_k, r0, r_k))
    add(w, at.bend2 + n * m + n, 2.0 * mu0 * d_u * kappa * r0 * r0)


@lane_kernel
def _lift(w, at, variance, n, cells, p, has_unit, is_full, visits):  # type: ignore[no-untyped-def]
    """Add kappa z, kappa r and kappa mu of a unit, with derivatives, to those of its district."""
    T = len(visits)
    if not has_unit:
        for order in range(1 + n + n * (n + 1) // 2 if is_full else 1 + n):
            add(w, at.r_district + order, load(w, at.r + order))
            add(w, at.mu_district + order, load(w, at.mu + order))
            for t in range(T):
                add(w, at.z_district + order * p + cells[t], load(w, at.z + order * T + t))
        return
    mu = at.mu
    kappa = 1.0 / fma(variance, load(w, mu), 1.0)
    d = variance * kappa
    k_u = -load(w, mu) * kappa * kappa
    zero = everywhere(0.0)
    _lift_order(w, at, visits, cells, p, 0, kappa, 0, zero, 0)
    _lift_order(w, at, visits, cells, p, 1 + n, k_u, 0, zero, 0)
    for k in range(n):
        k_k = -d * kappa * load(w, mu + 1 + k)
        _lift_order(w, at, visits, cells, p, 1 + k, kappa, 1 + k, k_k, 0)
    if not is_full:
        return
    k_uu = -2.0 * load(w, mu) * kappa * k_u
    _lift_order(w, at, visits, cells, p, pair(n + 1, n, n), k_uu, 0, zero, 0)
    for k in range(n):
        k_k = -d * kappa * load(w, mu + 1 + k)
        k_ku = kappa * kappa * load(w, mu + 1 + k) * fma(2.0 * d, load(w, mu), -1.0)
        _lift_order(w, at, visits, cells, p, pair(n + 1, n, k), k_u, 1 + k, k_ku, 0)
        for other in range(k + 1):
            second = pair(n, k, other)
            k_l = -d * kappa * load(w, mu + 1 + other)
            twice = 2.0 * d * load(w, mu + 1 + k) * load(w, mu + 1 + other)
            k_kl = kappa * d * (twice - load(w, mu + second))
            _lift_order(w, at, visits, cells, p, pair(n + 1, k, other), kappa, second, k_kl, 0)
            _lift_order(w, at, visits, cells, p, pair(n + 1, k, other), k_k, 1 + other, k_l, 1 + k)


@inline
def _lift_order(w, at, visits, cells, p, to, x, one, y, two):  # type: ignore[no-untyped-def]
    """Add x times order `one` and y times order `two` of the unit to order `to` of the district."""
    T = len(visits)
    add(w, at.r_district + to, fma(x, load(w, at.r + one), y * load(w, at.r + two)))
    add(w, at.mu_district + to, fma(x, load(w, at.mu + one), y * load(w, at.mu + two)))
    for t in range(T):
        z = fma(x, load(w, at.z + one * T + t), y * load(w, at.z + two * T + t))
        add(w, at.z_district + to * p + cells[t], z)


@lane_kernel
def _plain_unit(w, at, cells, p, m, variance, has_district, is_full, visits):  # type: ignore[no-untyped-def]
    """Everything of a unit with an intercept and without w, from its count and q."""
    T = len(visits)
    _row_sums(w, at, visits, N_ORDER if is_full else 3)
    _take_intercept(w, at, at.z, at.r, at.mu, cells, T, p, m, 2, variance, at.Phi, is_full)
    if not has_district:
        return
    mu, mu_e, mu_v = load(w, at.mu), load(w, at.mu + 1), load(w, at.mu + 2)
    kappa = 1.0 / fma(variance, mu, 1.0)
    d = variance * kappa
    square, minus = kappa * kappa, -d * kappa
    first = kappa, minus * mu_e, minus * mu_v, -mu * square
    _raise(w, at.r, 1, at.r_district, 1, first)
    _raise(w, at.mu, 1, at.mu_district, 1, first)
    for t in range(T):
        _raise(w, at.z + t, T, at.z_district + cells[t], p, first)
    if is_full:
        twice, turn = 2.0 * d, square * fma(2.0 * d, mu, -1.0)
        second = (
            minus * fma(-twice * mu_e, mu_e, load(w, at.mu + 3)),
            minus * fma(-twice * mu_e, mu_v, load(w, at.mu + 4)),
            minus * fma(-twice * mu_v, mu_v, load(w, at.mu + 5)),
            turn * mu_e, turn * mu_v, 2.0 * mu * mu * square * kappa,
        )  # fmt: skip
        _raise_second(w, at.r, 1, at.r_district, 1, first, second)
        _raise_second(w, at.mu, 1, at.mu_district, 1, first, second)
        for t in range(T):
            _raise_second(w, at.z + t, T, at.z_district + cells[t], p, first, second)


@inline
def _raise(w, one, step, to, by, kappa):  # type: ignore[no-untyped-def]
    """Add kappa x and its derivatives by e, v and u at `to`, `by` apart; x and its own by e and v are `step` apart."""
    x = load(w, one)
    store(w, fma(kappa[0], x, load(w, to)), to)
    for k in range(2):
        own = load(w, one + (1 + k) * step)
        store(w, fma(kappa[0], own, fma(kappa[1 + k], x, load(w, to + (1 + k) * by))), to + (1 + k) * by)
    store(w, fma(kappa[3], x, load(w, to + 3 * by)), to + 3 * by)


@inline
def _raise_second(w, one, step, to, by, kappa, bent):  # type: ignore[no-untyped-def]
    """The same of second derivatives: ee, ev, vv, eu, vu, uu."""
    x, e, v = load(w, one), load(w, one + step), load(w, one + 2 * step)
    ee = fma(kappa[0], load(w, one + 3 * step), fma(2.0 * kappa[1], e, load(w, to + 4 * by)))
    ev = fma(kappa[0], load(w, one + 4 * step), fma(kappa[1], v, fma(kappa[2], e, load(w, to + 5 * by))))
    vv = fma(kappa[0], load(w, one + 5 * step), fma(2.0 * kappa[2], v, load(w, to + 6 * by)))
    store(w, fma(bent[0], x, ee), to + 4 * by)
    store(w, fma(bent[1], x, ev), to + 5 * by)
    store(w, fma(bent[2], x, vv), to + 6 * by)
    store(w, fma(kappa[3], e, fma(bent[3], x, load(w, to + 7 * by))), to + 7 * by)
    store(w, fma(kappa[3], v, fma(bent[4], x, load(w, to + 8 * by))), to + 8 * by)
    store(w, fma(bent[5], x, load(w, to + 9 * by)), to + 9 * by)


# ---- the likelihood --------------------------------------------------------------------------------------------------


@lane_kernel
def evaluate(theta, sums, nested, at, w, value):  # type: ignore[no-untyped-def]
    """-2 log restricted likelihood into value (1, LANES); leaves Phi and beta.  NaN in lanes where it is undefined."""
    visits, p = nested.visits, nested.n_column
    T = len(visits)
    width, n = p + 1, 2 + int(nested.has_visit)
    n_unit = nested.arm.size
    _rates(w, at, theta, visits)
    zero(w, at.C, p * width)
    fixed = everywhere(0.0)
    log_v = everywhere(0.0)
    if not nested.has_visit:
        for arm in range(nested.cell.shape[0]):
            _gather(w, at, sums, nested, arm)
            _inside(w, at, visits, 1)
            _add_cells(w, at, at.M, at.s, nested.cell[arm], width, visits)
    zero(w, at.z_district, p)
    zero(w, at.r_district, 1)
    zero(w, at.mu_district, 1)
    for i in range(n_unit if n < nested.n_variance or nested.has_visit else 0):
        cells = nested.cell[nested.arm[i]]
        _take_unit(w, at, sums, i, visits)
        if nested.has_visit:
            _inside(w, at, visits, 1)
            log_v = log_v + _visits(w, at, load(theta, 2), visits)
            times(w, at.A, at.s, at.tau, T)
            times(w, at.D, at.s, at.delta, T)
            fixed = fma(-1.0, dot(w, at.s, at.delta, T), fixed)
            _add_cells(w, at, at.K, at.tau, cells, width, visits)
            for t in range(T):
                store(w, total_of(w, at.K + t * T, T), at.z + t)
            store(w, total_of(w, at.tau, T), at.r)
            store(w, total_of(w, at.z, T), at.mu)
        else:
            _row_sums(w, at, visits, 1)
        kappa = everywhere(1.0)
        if nested.has_unit:
            pivot = fma(load(theta, n), load(w, at.mu), 1.0)
            log_v = log_v + log(pivot)
            kappa = 1.0 / pivot
            d = load(theta, n) * kappa
            fixed = fma(-d * load(w, at.r), load(w, at.r), fixed)
            _take_cells(w, at, d, at.z, at.r, cells, T, width)
        if nested.has_district:
            add(w, at.r_district, kappa * load(w, at.r))
            add(w, at.mu_district, kappa * load(w, at.mu))
            for t in range(T):
                add(w, at.z_district + cells[t], kappa * load(w, at.z + t))
            if i + 1 == n_unit or nested.district[i + 1] != nested.district[i]:
                variance = load(theta, nested.n_variance - 1)
                pivot = fma(variance, load(w, at.mu_district), 1.0)
                log_v = log_v + log(pivot)
                d = variance / pivot
                fixed = fma(-d * load(w, at.r_district), load(w, at.r_district), fixed)
                _take_cells(w, at, d, at.z_district, at.r_district, nested.column, p, width)
                zero(w, at.z_district, p)
                zero(w, at.r_district, 1)
                zero(w, at.mu_district, 1)
    rows = everywhere(0.0)
    log_e = log(load(theta, 0))
    fixed = fma(load(w, at.a), load(sums.square, 0), fixed)
    _gather(w, at, sums, nested, -1)
    for t in range(T):
        count = load(w, at.last + t)
        store(w, count, at.n + t)
        fixed = fma(-load(w, at.b + t), load(sums.square, 1 + t), fixed)
        log_v = fma(count, fma(log_e, float(t), log(fma(load(theta, 1), float(t + 1), load(theta, 0)))), log_v)
        rows = fma(count, float(t + 1), rows)
    for j in range(p):
        store(w, load(w, at.C + j * width + p), at.beta + j)
    log_c = log(sweep(w, at.C, p, width))
    for j in range(p):
        solved = load(w, at.C + j * width + p)
        fixed = fma(-load(w, at.beta + j), solved, fixed)
        store(w, solved, at.beta + j)
        for k in range(p):
            store(w, load(w, at.C + j * width + k), at.inverse + j * p + k)
    criterion = fma(rows - float(p), np.log(2.0 * np.pi), log_v + log_c + fixed)
    store(value, where(fixed > 0.0, criterion, np.nan), 0)


@lane_kernel
def _add_cells(w, at, A, x, cells, width, visits):  # type: ignore[no-untyped-def]
    """Add the T x T A and the T vector x to C at the cells of an arm."""
    T = len(visits)
    for t in range(T):
        row = at.C + cells[t] * width
        for s in range(T):
            add(w, row + cells[s], load(w, A + t * T + s))
        add(w, row + width - 1, load(w, x + t))


@inline
def _take_cells(w, at, d, z, r, columns, size, width):  # type: ignore[no-untyped-def]
    """C -= d [z; r] [z; r]', with z of length `size`."""
    for t in range(size):
        x = -d * load(w, z + t)
        row = at.C + columns[t] * width
        for s in range(size):
            add(w, row + columns[s], x * load(w, z + s))
        add(w, row + width - 1, x * load(w, r))


@lane_kernel
def differentiate(theta, sums, nested, at, w, score, average, observed, is_full):  # type: ignore[no-untyped-def]
    """Score (m, LANES) at the last evaluate's theta and, if is_full, average and observed information (m, m, LANES);
    leaves C_k and h."""
    visits, p, m = nested.visits, nested.n_column, nested.n_variance
    T = len(visits)
    square = T * T
    n = 2 + int(nested.has_visit)
    has_more = nested.has_unit or nested.has_district
    n_unit = nested.arm.size
    zero(w, at.C_k, m * p * p)
    zero(w, at.h, m * p)
    zero(w, at.logdet, 2 * m + 3 * m * m)
    for t in range(1 + T):
        store(w, load(sums.square, t), at.square + t)
    for arm in range(nested.cell.shape[0]):
        cells = nested.cell[arm]
        _gather(w, at, sums, nested, arm)
        _residual(w, at, cells, True, visits)
        if nested.has_visit:
            continue
        _inside(w, at, visits, N_ORDER if is_full else 3)
        _restrict(w, at, cells, p, visits)
        for k in range(2):
            M = at.M + (1 + k) * square
            for t in range(T):
                add(w, at.h + k * p + cells[t], load(w, at.s + (1 + k) * T + t))
                for s in range(T):
                    add(w, at.C_k + (k * p + cells[t]) * p + cells[s], load(w, M + t * T + s))
            for other in range(k + 1 if is_full else 0):
                add(w, at.trace2 + k * m + other, trace_of_product(w, at.Phi, at.M + (3 + k + other) * square, T))
    orders = MOST if nested.has_unit and nested.has_visit else 10
    zero(w, at.z_district, orders * p)
    zero(w, at.r_district, 2 * MOST)
    for i in range(n_unit if n < m or nested.has_visit else 0):
        cells = nested.cell[nested.arm[i]]
        _take_unit(w, at, sums, i, visits)
        _residual(w, at, cells, False, visits)
        if is_full:
            _restrict(w, at, cells, p, visits)
        is_plain = nested.has_unit and not nested.has_visit
        if is_plain:
            _plain_unit(w, at, cells, p, m, load(theta, 2), nested.has_district, is_full, visits)
        elif nested.has_visit:
            _inside(w, at, visits, N_ORDER if is_full else 3)
            _visits(w, at, load(theta, 2), visits)
            variance = load(theta, n) if nested.has_unit else everywhere(0.0)
            _visit_derivatives(w, at, cells, p, m, variance, nested.has_unit, has_more, is_full, visits)
        else:
            _row_sums(w, at, visits, N_ORDER if is_full else 3)
        if nested.has_district:
            if not is_plain:
                _lift(w, at, load(theta, n), n, cells, p, nested.has_unit, is_full, visits)
            if i + 1 == n_unit or nested.district[i + 1] != nested.district[i]:
                _shared(
                    w, at, at.z_district, at.r_district, at.mu_district, nested.column, p, m, m - 1,
                    load(theta, m - 1), at.inverse, is_full,
                )  # fmt: skip
                zero(w, at.z_district, orders * p)
                zero(w, at.r_district, 2 * MOST)
    _residual_terms(w, at, theta, visits, m)
    score_of(w, at, p, m, score)
    if is_full:
        information_of(w, at, p, m, average, observed)


@lane_kernel
def _restrict(w, at, cells, p, visits):  # type: ignore[no-untyped-def]
    """Phi of the cells of an arm."""
    T = len(visits)
    for t in range(T):
        for s in range(T):
            store(w, load(w, at.inverse + cells[t] * p + cells[s]), at.Phi + t * T + s)


@lane_kernel
def _residual_terms(w, at, theta, visits, m):  # type: ignore[no-untyped-def]
    """log|R| and r'R^-1 r by e and v."""
    T = len(visits)
    e, v = load(theta, 0), load(theta, 1)
    i0 = 1.0 / e
    for t in range(T):
        n, last = float(t + 1), load(w, at.n + t)
        i = 1.0 / fma(v, n, e)
        between, within = last * i, last * float(t) * i0
        add(w, at.logdet, within + between)
        add(w, at.logdet + 1, between * n)
        add(w, at.logdet2, -within * i0 - between * i)
        add(w, at.logdet2 + m, -between * i * n)
        add(w, at.logdet2 + m + 1, -between * i * (n * n))
        square = -load(w, at.square + 1 + t)
        for k in range(2):
            add(w, at.bend + k, square * load(w, at.b + (1 + k) * T + t))
            for other in range(k + 1):
                add(w, at.bend2 + k * m + other, square * load(w, at.b + (3 + k + other) * T + t))
    square = load(w, at.square)
    add(w, at.bend, square * load(w, at.a + 1))
    add(w, at.bend2, square * load(w, at.a + 3))


# ---- inference -------------------------------------------------------------------------------------------------------


@lane_kernel
def contrast(c, theta, sums, nested, at, w, out, gradient, curvature, has_curvature):  # type: ignore[no-untyped-def]
    """Of one contrast c (p,) after differentiate: estimate and f = c'Phi c into out (2, LANES), their derivatives by
    theta into gradient (2, m, LANES) and, if it is asked for, g'(C_kl/2 - C_k Phi C_l) g, g = Phi c, into curvature
    (m, m, LANES), from which Kenward-Roger's f follows."""
    visits, p, m = nested.visits, nested.n_column, nested.n_variance
    T = len(visits)
    n, n_unit = 2 + int(nested.has_visit), nested.arm.size
    g = at.scaled
    estimate_of(c, w, at, out)
    gradient_of(w, at, p, m, gradient)
    if not has_curvature:
        return
    zero(w, at.bend, m)
    zero(w, at.bend2, m * m)
    zero(w, at.z_district, MOST * p)
    zero(w, at.r_district, 2 * MOST)
    if not nested.has_visit:
        for arm in range(nested.cell.shape[0]):
            _gather(w, at, sums, nested, arm)
            _inside(w, at, visits, N_ORDER)
            _cells(w, g, nested.cell[arm], at.tau, visits)
            for k in range(2):
                for other in range(k + 1):
                    times(w, at.M + (3 + k + other) * T * T, at.tau, at.x, T)
                    add(w, at.bend2 + k * m + other, dot(w, at.tau, at.x, T))
    for i in range(n_unit if n < m or nested.has_visit else 0):
        cells = nested.cell[nested.arm[i]]
        _take_unit(w, at, sums, i, visits)
        if nested.has_visit:
            _inside(w, at, visits, N_ORDER)
            _visits(w, at, load(theta, 2), visits)
            _visit_matrices(w, at, has_curvature, visits)
            _cells(w, g, cells, at.s, visits)
            _visit_curvature(w, at, visits, m)
            _visit_row_sums(w, at, has_curvature, visits)
        else:
            _row_sums(w, at, visits, N_ORDER)
        _cells(w, g, cells, at.s, visits)
        for order in range(1 + n + n * (n + 1) // 2):
            store(w, dot(w, at.s, at.z + order * T, T), at.r + order)
        if nested.has_unit:
            _shared_bend(w, at, at.r, at.mu, m, n, load(theta, n), has_curvature)
        if nested.has_district:
            _lift(w, at, load(theta, n), n, cells, p, nested.has_unit, has_curvature, visits)
            if i + 1 == n_unit or nested.district[i + 1] != nested.district[i]:
                _shared_bend(w, at, at.r_district, at.mu_district, m, m - 1, load(theta, m - 1), has_curvature)
                zero(w, at.r_district, 2 * MOST)
    curvature_of(w, at, p, m, at.bend2, curvature)


@lane_kernel
def _cells(w, g, cells, out, visits):  # type: ignore[no-untyped-def]
    for t in range(len(visits)):
        store(w, load(w, g + cells[t]), out + t)


@lane_kernel
def _visit_curvature(w, at, visits, m):  # type: ignore[no-untyped-def]
    """Add g'C_kl g of one unit with w to bend2; g is at s."""
    T = len(visits)
    square = T * T
    times(w, at.A, at.s, at.tau, T)
    times(w, at.K, at.s, at.delta, T)
    for k in range(2):
        pi = at.pi + k * T
        times(w, at.M + (1 + k) * square, at.tau, pi, T)
        times(w, at.D, pi, at.omega + k * T, T)
        times(w, at.A, pi, at.alpha + k * T, T)  # X_k g
        add(w, at.bend2 + 2 * m + k, -2.0 * dot(w, at.alpha + k * T, at.delta, T))
        for other in range(k + 1):
            times(w, at.M + (3 + k + other) * square, at.tau, at.x, T)
            x = fma(-2.0, dot(w, pi, at.omega + other * T, T), dot(w, at.tau, at.x, T))
            add(w, at.bend2 + k * m + other, x)
    times(w, at.K, at.delta, at.x, T)
    add(w, at.bend2 + 2 * m + 2, 2.0 * dot(w, at.delta, at.x, T))
