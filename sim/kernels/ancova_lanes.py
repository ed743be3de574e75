"""The restricted likelihood of one score per participant, with random intercepts of some units, from sums alone.

LANES replicates at once.  Model.  Participant j of unit i, of residual class c, with a covariate x:
  y_j = row_i'beta_0 + slope x_j + u_i + e_j,   var u_i = g (units without a random intercept: 0),  var e_j = s_c,
  theta = (s_0, [s_1], g),  beta = (beta_0, slope).
With r_j = [row_i, x_j, y_j], and of unit i the n participants and S = sum_j r_j,
  l = 1/(s + n g),  d = g l/s  (without random intercept l = 1/s, d = 0),   V_i^-1 = I/s - d J,   V_i^-1 1 = l 1,
  C = [X y]'V^-1 [X y] = sum_j r_j r_j'/s - sum_i d S S',   log|V| = sum_j log s + sum_i log(1 + n g/s).
Units of the same row_i are a cell.  What stands beside a row is a sum over the cells of
  [row row'] sum_i l n,   row sum_i l S_x,   row sum_i l S_y,
and x and y among themselves need the classes' sums of squares,  sum_c xx_c/s - sum_i d S_x S_x.
Derivatives are those of l, d and 1/s:
  l_s = -l^2,  l_g = -n l^2,  l_ss = 2 l^3,  l_sg = 2 n l^3,  l_gg = 2 n^2 l^3;
  d_s = -d (1/s + l),  d_g = l^2,  d_ss = 2 d (1/s^2 + l/s + l^2),  d_sg = -2 l^3,  d_gg = -2 n l^3;
  log|V|_s = sum_j 1/s - sum_i n d,  log|V|_g = sum_i n l,  and so log|V|_ss = -sum_j 1/s^2 - sum_i n d_s,
  log|V|_sg = -sum_i n d_g = -sum_i n l^2,  log|V|_gg = -sum_i n^2 l^2.
The variances s of two classes never meet.  Nothing is divided by n or g: units may be empty, and g 0 or below while V
stays positive definite.  Score and information follow as in mixed; nothing depends on the number of participants.
References as in mixed; Roberts, Roberts 2005, doi:10.1191/1740774505cn076oa (random intercepts in one arm).
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
    score_of,
    sweep,
    times,
    zero,
)
from sim.kernels.mixed_layout import Float, Int
from sim.lanes import everywhere, fma, inline, lane_kernel, load, log, store, where


class Ancova(NamedTuple):
    """What all replicates share."""

    row: Float  # (cells, p - 1), the identity for the means of arms
    cell: Int  # (units,)
    residual_class: Int  # (units,) 0 or, with two classes, 1
    is_random: np.ndarray  # (units,) bool, has a random intercept
    n_column: int  # p
    n_variance: int  # m = classes + 1


class Sums(NamedTuple):
    """The data of LANES replicates; x is taken about one value, y about any value common to a cell."""

    n: Float  # (units, LANES) participants seen
    x: Float  # (units, LANES) S_x
    y: Float  # (units, LANES) S_y
    square: Float  # (classes, 3, LANES) sums of x^2, xy, y^2


class Places(NamedTuple):
    """Where everything is in the workspace."""

    share: int  # (classes,) 1/s
    n: int  # (classes,) participants
    square: int  # (classes, 3) sums of x^2, xr, r^2 with the residuals r
    cell: int  # (m, cells, 3) sums of l n, l S_x, l S_y, or derivatives
    within: int  # (m, 3) what stands in C for xx, xy, yy, or derivatives
    mean: int  # (cells,) row'beta
    phi: int  # (cells, 2) row'Phi row and row'Phi_x; of Phi = gg' in the inference
    phi_x: int  # Phi_xx
    inverse: int  # (p, p) Phi
    beta: int  # (p,)
    C_k: int  # (m, p, p)
    B: int  # (m, p, p)
    h: int  # (m, p)
    scaled: int  # (m, p)
    bend: int  # (m,)
    logdet: int  # (m,)
    logdet2: int  # (m, m)
    bend2: int  # (m, m)
    trace2: int  # (m, m)
    end: int


def places(n_cell: int, p: int, m: int) -> Places:
    """Consecutive places for everything."""
    classes = m - 1
    sizes = (classes, classes, 3 * classes, 3 * m * n_cell, 3 * m, n_cell, 2 * n_cell, 1,
             p * p, p, m * p * p, m * p * p, m * p, m * p, m, m, m * m, m * m, m * m)  # fmt: skip
    return Places(*np.concatenate([[0], np.cumsum(sizes)]).tolist())


# ---- sums over units -------------------------------------------------------------------------------------------------


@inline
def _fold(w, cell, within, weight, d, n, x, y):  # type: ignore[no-untyped-def]
    """Add the sums of one unit: `weight` (l or a derivative) to its cell, -d (or a derivative) within."""
    store(w, fma(weight, n, load(w, cell)), cell)
    store(w, fma(weight, x, load(w, cell + 1)), cell + 1)
    store(w, fma(weight, y, load(w, cell + 2)), cell + 2)
    dx, dy = d * x, d * y
    store(w, fma(-dx, x, load(w, within)), within)
    store(w, fma(-dx, y, load(w, within + 1)), within + 1)
    store(w, fma(-dy, y, load(w, within + 2)), within + 2)


@lane_kernel
def _matrix(w, row, cell, within, C, h):  # type: ignore[no-untyped-def]
    """X'(..)X (p, p) and X'(..)y (p,) from the sums of the cells and the sums within."""
    n_cell, last = row.shape
    p = last + 1
    zero(w, C, p * p)
    zero(w, h, p)
    for c in range(n_cell):
        here = cell + 3 * c
        for j in range(last):
            value = row[c, j]
            if value != 0.0:
                for k in range(j + 1):
                    if row[c, k] != 0.0:
                        add(w, C + j * p + k, load(w, here) * (value * row[c, k]))
                add(w, C + last * p + j, load(w, here + 1) * value)
                add(w, h + j, load(w, here + 2) * value)
    store(w, load(w, within), C + last * p + last)
    store(w, load(w, within + 1), h + last)
    for j in range(p):
        for k in range(j):
            store(w, load(w, C + j * p + k), C + k * p + j)


@inline
def _rates(w, at, theta, ancova, i, n):  # type: ignore[no-untyped-def]
    """1/s, 1 + n g/s, l and d of unit i; 1/s, 1, 1/s and 0 without random intercept."""
    share = load(w, at.share + ancova.residual_class[i])
    if not ancova.is_random[i]:
        return share, everywhere(1.0), share, everywhere(0.0)
    spread = load(theta, ancova.n_variance - 1) * share
    pivot = fma(spread, n, 1.0)
    weight = share / pivot
    return share, pivot, weight, spread * weight


@lane_kernel
def evaluate(theta, sums, ancova, at, w, value):  # type: ignore[no-untyped-def]
    """-2 log restricted likelihood into value (1, LANES); leaves Phi and beta.  NaN in lanes where it is undefined."""
    p, n_class = ancova.n_column, ancova.n_variance - 1
    zero(w, at.n, n_class)
    zero(w, at.cell, 3 * len(ancova.row))
    zero(w, at.within, 3)
    for c in range(n_class):
        store(w, 1.0 / load(theta, c), at.share + c)
    log_v, pivots = everywhere(0.0), everywhere(1.0)
    for i in range(ancova.cell.size):
        n, x, y = load(sums.n, i), load(sums.x, i), load(sums.y, i)
        _, pivot, weight, d = _rates(w, at, theta, ancova, i, n)
        add(w, at.n + ancova.residual_class[i], n)
        _fold(w, at.cell + 3 * ancova.cell[i], at.within, weight, d, n, x, y)
        pivots = where(pivot > 0.0, pivots * pivot, np.nan)
        if i % 8 == 7:  # logarithms are dear, and the product of a few pivots stays a normal number
            log_v = log_v + log(pivots)
            pivots = everywhere(1.0)
    log_v = log_v + log(pivots)
    rows = everywhere(0.0)
    for c in range(n_class):
        n, share = load(w, at.n + c), load(w, at.share + c)
        rows = rows + n
        log_v = fma(n, log(load(theta, c)), log_v)
        for k in range(3):
            add(w, at.within + k, share * load(sums.square, c, k))
    _matrix(w, ancova.row, at.cell, at.within, at.inverse, at.h)
    log_c = log(sweep(w, at.inverse, p, p))
    times(w, at.inverse, at.h, at.beta, p)
    fixed = load(w, at.within + 2) - dot(w, at.beta, at.h, p)
    criterion = fma(rows - float(p), np.log(2.0 * np.pi), log_v + log_c + fixed)
    store(value, where(fixed > 0.0, criterion, np.nan), 0)


@lane_kernel
def differentiate(theta, sums, ancova, at, w, score, average, observed, is_full):  # type: ignore[no-untyped-def]
    """Score (m, LANES) at the last evaluate's theta and, if is_full, average and observed information (m, m, LANES);
    leaves C_k and h."""
    p, m, n_cell = ancova.n_column, ancova.n_variance, len(ancova.row)
    zero(w, at.cell, 3 * m * n_cell + 3 * m)
    zero(w, at.logdet, m + 3 * m * m)
    _cell_terms(w, at, ancova.row)
    slope = load(w, at.beta + p - 1)
    for c in range(m - 1):
        xx, xy, yy = load(sums.square, c, 0), load(sums.square, c, 1), load(sums.square, c, 2)
        xr = fma(-slope, xx, xy)
        store(w, xx, at.square + 3 * c)
        store(w, xr, at.square + 3 * c + 1)
        store(w, fma(-slope, xy + xr, yy), at.square + 3 * c + 2)
    for i in range(ancova.cell.size):
        c, cell, is_random = ancova.residual_class[i], ancova.cell[i], ancova.is_random[i]
        n, x, mean = load(sums.n, i), load(sums.x, i), load(w, at.mean + cell)
        y = fma(-slope, x, load(sums.y, i))
        r = fma(-mean, n, y)
        add(w, at.square + 3 * c + 1, -mean * x)
        add(w, at.square + 3 * c + 2, -mean * (y + r))
        share, _, weight, d = _rates(w, at, theta, ancova, i, n)
        _first(w, at, cell, c, n_cell, m, share, weight, d, n, x, r, is_random)
        if is_full:
            _second(w, at, cell, c, m, share, weight, d, n, x, r, is_random)
    for c in range(m - 1):
        _class_terms(w, at, c, m)
    for k in range(m):
        within = at.within + 3 * k
        _matrix(w, ancova.row, at.cell + 3 * k * n_cell, within, at.C_k + k * p * p, at.h + k * p)
        store(w, load(w, within + 2), at.bend + k)
    score_of(w, at, p, m, score)
    if is_full:
        information_of(w, at, p, m, average, observed)


@inline
def _first(w, at, cell, c, n_cell, m, share, weight, d, n, x, r, is_random):  # type: ignore[no-untyped-def]
    """Add what one unit gives to log|V|_k, log|V|_kl and, by cell and within, to C_k and (V^-1)_k r."""
    d_s, d_g, g = -d * (share + weight), weight * weight, m - 1
    _fold(w, at.cell + 3 * (c * n_cell + cell), at.within + 3 * c, -d_g, d_s, n, x, r)  # l_s = -l^2 = -d_g
    add(w, at.logdet + c, -n * d)
    add(w, at.logdet2 + c * m + c, -n * d_s)
    if is_random:
        bent = n * d_g
        _fold(w, at.cell + 3 * (g * n_cell + cell), at.within + 3 * g, -bent, d_g, n, x, r)
        add(w, at.logdet + g, n * weight)
        add(w, at.logdet2 + g * m + c, -bent)
        add(w, at.logdet2 + g * m + g, -n * bent)


@lane_kernel
def _cell_terms(w, at, row):  # type: ignore[no-untyped-def]
    """row'beta, row'Phi row and row'Phi_x of each cell, and Phi_xx."""
    n_cell, last = row.shape
    p = last + 1
    for c in range(n_cell):
        mean, square, cross = everywhere(0.0), everywhere(0.0), everywhere(0.0)
        for j in range(last):
            if row[c, j] != 0.0:
                mean = fma(load(w, at.beta + j), row[c, j], mean)
                cross = fma(load(w, at.inverse + last * p + j), row[c, j], cross)
                for k in range(last):
                    square = fma(load(w, at.inverse + j * p + k), row[c, j] * row[c, k], square)
        store(w, mean, at.mean + c)
        store(w, square, at.phi + 2 * c)
        store(w, cross, at.phi + 2 * c + 1)
    store(w, load(w, at.inverse + last * p + last), at.phi_x)


@inline
def _second(w, at, cell, c, m, share, weight, d, n, x, r, is_random):  # type: ignore[no-untyped-def]
    """Add what one unit gives to tr(Phi C_kl) and r'(V^-1)_kl r; x and r within are added by class, in _class_terms."""
    along = fma(n, load(w, at.phi + 2 * cell), 2.0 * x * load(w, at.phi + 2 * cell + 1))
    across = x * x * load(w, at.phi_x)
    square, pair = weight * weight, c * m + c
    cube = 2.0 * square * weight
    d_ss = 2.0 * d * fma(share, share + weight, square)
    add(w, at.trace2 + pair, fma(cube, along, -d_ss * across))
    add(w, at.bend2 + pair, -d_ss * r * r)
    if is_random:
        last = (m - 1) * m
        bent = cube * r * r
        trace = cube * fma(n, along, across)
        add(w, at.trace2 + last + c, trace)
        add(w, at.bend2 + last + c, bent)
        add(w, at.trace2 + last + m - 1, n * trace)
        add(w, at.bend2 + last + m - 1, n * bent)


@lane_kernel
def _class_terms(w, at, c, m):  # type: ignore[no-untyped-def]
    """Add the sums of squares of class c, times the derivatives of 1/s, and those of sum_j log s."""
    share, n, pair = load(w, at.share + c), load(w, at.n + c), c * m + c
    square = share * share
    cube = 2.0 * square * share
    for k in range(3):
        add(w, at.within + 3 * c + k, -square * load(w, at.square + 3 * c + k))
    add(w, at.logdet + c, n * share)
    add(w, at.logdet2 + pair, -n * square)
    add(w, at.trace2 + pair, cube * load(w, at.square + 3 * c) * load(w, at.phi_x))
    add(w, at.bend2 + pair, cube * load(w, at.square + 3 * c + 2))


# ---- inference -------------------------------------------------------------------------------------------------------


@lane_kernel
def contrast(c, theta, sums, ancova, at, w, out, gradient, curvature, has_curvature):  # type: ignore[no-untyped-def]
    """Of one contrast c (p,) after differentiate: estimate and f = c'Phi c into out (2, LANES), their derivatives by
    theta into gradient (2, m, LANES) and, if it is asked for, g'(C_kl/2 - C_k Phi C_l) g, g = Phi c, into curvature
    (m, m, LANES), from which Kenward-Roger's f follows.

    g'C_kl g is tr(Phi C_kl) with gg' for Phi.
    """
    p, m = ancova.n_column, ancova.n_variance
    estimate_of(c, w, at, out)
    gradient_of(w, at, p, m, gradient)
    if not has_curvature:
        return
    g_x = load(w, at.scaled + p - 1)
    for cell in range(len(ancova.row)):
        g = everywhere(0.0)
        for j in range(p - 1):
            g = fma(load(w, at.scaled + j), ancova.row[cell, j], g)
        store(w, g * g, at.phi + 2 * cell)
        store(w, g * g_x, at.phi + 2 * cell + 1)
    store(w, g_x * g_x, at.phi_x)
    zero(w, at.trace2, m * m)
    for i in range(ancova.cell.size):
        n, x, k = load(sums.n, i), load(sums.x, i), ancova.residual_class[i]
        share, _, weight, d = _rates(w, at, theta, ancova, i, n)
        _second(w, at, ancova.cell[i], k, m, share, weight, d, n, x, everywhere(0.0), ancova.is_random[i])
    for k in range(m - 1):
        share = load(w, at.share + k)
        add(w, at.trace2 + k * m + k, 2.0 * share * share * share * load(sums.square, k, 0) * load(w, at.phi_x))
    curvature_of(w, at, p, m, at.trace2, curvature)
