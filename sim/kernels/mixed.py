"""Restricted maximum likelihood for linear mixed models whose covariance is linear in its variance components.

Model, one replicate.  z = [X covariate y] has r = p + 1 columns and one row per visit seen.
  V = R + Z G Z',  R_j = e_c I + v J over the n rows of participant j (residual class c),  G = diag(g of each column),
  theta = (e_0 .. e_{C-1}, [v], g_0 .. g_{L-1}).
Strata.  R_j has the eigenvalue e_c within and e_c + n v between participants.  With s = (c, n), lambda_s = e_c + n v
and n = 0 for the within stratum, R^-1 is a sum of 1/lambda_s times projections free of theta.  One pass over the
data gives
  S_s (z'z), N_s (Z'z, per block), M_s (Z'Z, per block), nu_s (rank); every later step costs blocks, not participants:
  M = sum M_s/lambda_s, N = sum N_s/lambda_s, m_k = d lambda_s/d theta_k (1 for e_c, n for v),
  M_k = -sum m_k M_s/lambda_s^2.
Per block (Woodbury, valid at g = 0):  D = G^1/2 (I + G^1/2 M G^1/2)^-1 G^1/2,  F = I - M D,  Q = D N,
  H = N - M Q = Z'V^-1 z,  T = F M = Z'V^-1 Z,  P_k = N_k - M_k Q.
Sums over blocks are understood below; _g are the rows of term g.
  C = z'V^-1 z = sum S_s/lambda_s - N'Q;   log|V| = sum nu_s log lambda_s + log|I + G^1/2 M G^1/2|.
  U_s = S_s - N_s'Q - Q'N_s + Q'M_s Q;   C_k = -sum m_k U_s/lambda_s^2;   C_g = -H_g'H_g.
  C_kl = sum 2 m_k m_l U_s/lambda_s^3 - P_k'D P_l - P_l'D P_k;   C_kg = -[(F P_k)_g'H_g + '];   C_gh = H_g'T_gh H_h + '.
  (log|V|)_k = sum m_k (nu_s/lambda_s - tr(D M_s)/lambda_s^2);   (log|V|)_g = tr T_gg.
  (log|V|)_kl = sum m_k m_l (2 tr(D M_s)/lambda_s^3 - nu_s/lambda_s^2) - tr(D M_k D M_l);
  (log|V|)_kg = tr (F M_k F')_gg;   (log|V|)_gh = -||T_gh||^2.
Likelihood.  Phi = C_XX^-1, beta = Phi C_Xy, a = (-beta, 1), h_k = (C_k a)_X, Psi = [Phi 0; 0 0] + a a':
  criterion = (n - p) log 2 pi + log|V| + log|C_XX| + a'C a;   score_k = -1/2 [(log|V|)_k + tr(Psi C_k)];
  observed information = 1/2 [(log|V|)_kl + tr(Psi C_kl) - tr(Phi C_k Phi C_l) - 2 h_k'Phi h_l];
  average information = 1/4 [a'C_kl a - 2 h_k'Phi h_l];   expected = 2 average - observed.
Satterthwaite.  f = c'Phi c, df_f/d theta_k = -g'C_k g with g = Phi c, df = 2 f^2/(grad' information^-1 grad).

References: Patterson, Thompson 1971, doi:10.1093/biomet/58.3.545 (REML); Harville 1977,
doi:10.1080/01621459.1977.10480998 (derivatives); Gilmour, Thompson, Cullis 1995, doi:10.2307/2533274 (average
information); Fai, Cornelius 1996, doi:10.1080/00949659608811740 (Satterthwaite for a contrast); Woodbury 1950 (blocks).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

OK, SINGULAR, FAILED = 0, 1, 2

# No wrappers for calls from Python, which would take most of the compilation; only _fit_batch is called from there.
_kernel: Any = njit(  # type: ignore[call-overload]
    cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)


class MixedFit(NamedTuple):
    """REML fits of R replicates; every array has R first.  A failed replicate is NaN throughout."""

    estimate: Float  # (R, Q)
    standard_error: Float  # (R, Q)
    df: Float  # (R, Q) Satterthwaite
    variance: Float  # (R, m) residual of each class, [participant], each random term
    coefficient: Float  # (R, p)
    criterion: Float  # (R,) -2 log restricted likelihood
    status: npt.NDArray[np.int8]  # (R,) 0 ok, 1 singular (a component is 0), 2 failed
    n_iteration: Int  # (R,)


class _Layout(NamedTuple):
    """What all replicates share: cells of participants with identical X, class and columns of Z, and the blocks.

    Blocks are lanes: the last axis of every block array, padded with zeros to the widest block, so that a row of Z' has
    the same random term in all of them.
    """

    n_class: int
    n_stratum: int  # per class: within, then between with n = 1 .. T
    n_term: int
    has_participant: bool
    n_column: int  # r
    member: Int  # participants ordered by cell
    cell_start: Int  # into member
    cell_class: Int
    cell_block: Int  # -1 = no random term
    cell_x: Float  # (cells, T, p0)
    nonzero_start: Int  # into nonzero: columns of X with a nonzero value in the cell
    nonzero: Int
    cell_row: Int  # (cells, T, L) row of Z', -1 = none
    active: Int  # (A, blocks) the z columns in use in each block, covariate and y last
    term_start: Int  # (L + 1,) rows of Z' of each random term
    has_random: Bool  # (C,) whether the residual class meets a random term


class _Statistics(NamedTuple):
    """Cross-products of one replicate, free of theta.  s = class x strata + n."""

    S: Float  # (s, r, r padded): rows are padded to a multiple of 16 with zeros, which lets short loops vectorise
    nu: Float  # (s,)
    N: Float  # (s, A, q, blocks)
    M: Float  # (s, q, q, blocks)
    block_N: Float  # (blocks, s, q, r padded) the same while they accumulate
    block_M: Float  # (blocks, s, q, q)


class _Work(NamedTuple):
    """Everything that depends on theta, overwritten at each evaluation."""

    weight: Float  # (s,) 1 / lambda_s, 0 for an empty stratum
    M: Float  # (q, q, blocks)
    D: Float
    F: Float
    T: Float
    J: Float  # H Psi H'
    square: Float
    N: Float  # (A, q, blocks)
    Q: Float
    H: Float
    Y: Float  # H Psi
    product: Float
    P: Float  # (C + 1, A, q, blocks)
    DP: Float
    DM: Float  # (C + 1, q, q, blocks)
    psi: Float  # (A, A, blocks) Psi of each block's columns
    lane: Float  # (8, q, blocks) vectors of the score
    pi: Float  # (C + 1, q, blocks)
    C: Float  # (r, r padded)
    Phi: Float  # (p, p)
    a: Float  # (r,)
    Psi: Float  # (r, r padded)
    E: Float  # (s,) tr(Psi U_s) + tr(D M_s)
    h: Float  # (m, p)
    C_k: Float  # (m, r, r padded)
    score: Float  # (m,)
    average: Float  # (m, m)
    observed: Float  # (m, m)


def reml(
    y: Float,
    observed: Bool,
    X: Float,
    covariate: Float,
    contrast: Float,
    *,
    residual_class: npt.ArrayLike | None = None,
    has_participant: bool,
    block: npt.ArrayLike,
    column: npt.ArrayLike,
    start: npt.ArrayLike | None = None,
    max_iteration: int = 100,
) -> MixedFit:
    """REML estimates of contrasts of fixed effects, with Satterthwaite degrees of freedom, one fit per replicate.

    y : (R, N, T) outcome, any unit.  observed : (R, N, T) or (1, N, T); values of y where it is False are never used.
    X : (N, T, p0) fixed-effect rows shared by all replicates.  covariate : (R, N, c) participant-level columns put
    after those of X (c may be 0).  contrast : (Q, p), p = p0 + c.
    residual_class : (N,) residual variance 0 .. C-1 of each participant; None = one.
    has_participant : whether participants have a random intercept.
    block : (N,) independent unit that holds the participant's random terms, -1 = none.
    column : (N, T, L) for random term l the column of the block's Z that the row hits, from 0 within the block,
    -1 = none; a column belongs to one term.
    start : (m,) variances (e_0 .. e_{C-1}, [v], g_0 .. g_{L-1}) to start from; None = from the OLS residual variance.
    Variances are in squared units of y and held at or above 0; those at 0 leave the Satterthwaite information.
    Raises ValueError for shapes that disagree, T above 62, or a column shared by two terms.  A replicate that cannot be
    fitted (rank-deficient X, too few rows, no convergence) has status 2 and NaN.
    Reference: Patterson, Thompson 1971, doi:10.1093/biomet/58.3.545; Fai, Cornelius 1996,
    doi:10.1080/00949659608811740.

    >>> y = np.array([[[1.0], [3.0], [6.0], [8.0]]])
    >>> village = np.array([0, 0, 1, 1])
    >>> fit = reml(y, np.ones((1, 4, 1), bool), np.ones((4, 1, 1)), np.empty((1, 4, 0)), np.ones((1, 1)),
    ...            has_participant=False, block=village, column=np.zeros((4, 1, 1), int))
    >>> [float(round(x, 6)) for x in (*fit.estimate[0], *fit.df[0], *fit.variance[0])]
    [4.5, 1.0, 2.0, 11.5]
    """
    n_replicate, n_participant, n_visit = y.shape
    block, column = np.asarray(block, np.int64), np.asarray(column, np.int64)
    cls = np.zeros(n_participant, np.int64) if residual_class is None else np.asarray(residual_class, np.int64)
    n_fixed = X.shape[2] + covariate.shape[2]
    _check(
        "observed", observed.shape, (observed.shape[0], n_participant, n_visit), observed.shape[0] in (1, n_replicate)
    )
    _check("X", X.shape, (n_participant, n_visit, X.shape[2]))
    _check("covariate", covariate.shape, (n_replicate, n_participant, covariate.shape[2]))
    _check("contrast", contrast.shape, (contrast.shape[0], n_fixed))
    _check("residual_class", cls.shape, (n_participant,))
    _check("block", block.shape, (n_participant,))
    _check("column", column.shape, (n_participant, n_visit, column.shape[-1]))
    if n_visit > 62:
        raise ValueError(f"y has {n_visit} visits; at most 62 are allowed")
    n_class = int(cls.max(initial=0)) + 1
    n_variance = n_class + int(has_participant) + column.shape[2]
    first = np.full(n_variance, np.nan) if start is None else np.array(start, np.float64)
    _check("start", first.shape, (n_variance,))
    layout = _layout(np.ascontiguousarray(X, np.float64), cls, n_class, has_participant, block, column, n_fixed + 1)
    inference, *rest = _fit_batch(
        np.ascontiguousarray(y, np.float64),
        np.ascontiguousarray(observed, np.bool_),
        np.ascontiguousarray(covariate, np.float64),
        np.ascontiguousarray(contrast, np.float64),
        layout,
        first,
        max_iteration,
    )
    return MixedFit(inference[:, 0], inference[:, 1], inference[:, 2], *rest)


def _check(name: str, found: tuple[int, ...], wanted: tuple[int, ...], extra: bool = True) -> None:
    if found != wanted or not extra:
        raise ValueError(f"{name} has shape {found}; the other arguments ask for {wanted}")


# ---- the layout that all replicates share ----------------------------------------------------------------------------


def _layout(X: Float, cls: Int, n_class: int, has_participant: bool, block: Int, column: Int, n_column: int) -> _Layout:
    n_participant, n_visit, n_shared = X.shape
    hit = column.reshape(n_participant, -1).max(axis=1, initial=-1)
    labels, block = np.unique(np.where(hit >= 0, block, -1), return_inverse=True)
    block = block.reshape(-1) - int(labels.size > 0 and labels[0] < 0)
    n_block = int(block.max(initial=-1)) + 1
    row, term_start = _rows_by_term(block, column, n_block)
    flat = [X.reshape(n_participant, -1).view(np.int64), cls[:, None], block[:, None], row.reshape(n_participant, -1)]
    cells: dict[bytes, list[int]] = {}
    for i, key in enumerate(np.concatenate(flat, axis=1)):
        cells.setdefault(key.tobytes(), []).append(i)
    size = np.array([len(c) for c in cells.values()], np.int64)
    head = np.array([c[0] for c in cells.values()], np.int64)
    used = np.any(X[head] != 0, axis=1)  # (cells, p0)
    in_block = np.zeros((n_block + 1, n_shared), bool)
    np.logical_or.at(in_block, block[head], used)  # row -1 collects the cells without a block
    n_active = int(in_block[:n_block].sum(axis=1).max(initial=0))
    active = np.tile(np.arange(n_shared - n_active, n_column)[:, None], n_block)
    active[:n_active] = np.argsort(~in_block[:n_block], axis=1, kind="stable")[:, :n_active].T
    return _Layout(
        n_class=n_class,
        n_stratum=1 + n_visit if has_participant else 1,
        n_term=column.shape[2],
        has_participant=has_participant,
        n_column=n_column,
        member=np.array([i for c in cells.values() for i in c], np.int64),
        cell_start=np.concatenate([[0], np.cumsum(size)]).astype(np.int64),
        cell_class=cls[head],
        cell_block=block[head],
        cell_x=np.ascontiguousarray(X[head]),
        nonzero_start=np.concatenate([[0], np.cumsum(used.sum(axis=1))]).astype(np.int64),
        nonzero=np.nonzero(used)[1].astype(np.int64),
        cell_row=np.ascontiguousarray(row[head]),
        active=active,
        term_start=term_start,
        has_random=np.array([bool(np.any(block[cls == c] >= 0)) for c in range(n_class)]),
    )


def _rows_by_term(block: Int, column: Int, n_block: int) -> tuple[Int, Int]:
    """Renumber the columns of Z: each term has the same rows in every block; (N, T, L) rows, and each term's start."""
    n_term = column.shape[2]
    clustered = block[:, None] >= 0
    row = np.full(column.shape, -1, np.int64)
    start = np.zeros(n_term + 1, np.int64)
    taken = np.full((max(n_block, 1), int(column.max(initial=0)) + 1), -1, np.int64)
    for k in range(n_term):
        seen = (column[:, :, k] >= 0) & clustered
        i, t = np.nonzero(seen)
        where = (block[i], column[i, t, k])
        if np.any(taken[where] >= 0):
            raise ValueError(f"column: random term {k} uses a column of Z that an earlier term uses; give each its own")
        mine = np.zeros(taken.shape, bool)
        mine[where] = True
        taken[mine] = k
        rank = np.cumsum(mine, axis=1)
        start[k + 1] = start[k] + int(rank[:, -1].max())
        row[i, t, k] = start[k] + rank[where] - 1
    return row, start


# ---- one pass over the data ------------------------------------------------------------------------------------------


@_kernel
def _accumulate(y, observed, covariate, lay, st, mask, pattern, z):  # type: ignore[no-untyped-def]
    """Fill st with the cross-products of one replicate, cell by cell and, within a cell, pattern by pattern.

    pattern holds, for each set of visits seen: count, sum y^2, sum (sum y)^2, y by visit, covariate, covariate x sum y,
    covariate x covariate.
    """
    st.S[:] = 0.0
    st.nu[:] = 0.0
    st.block_N[:] = 0.0
    st.block_M[:] = 0.0
    n_visit = y.shape[1]
    n_cov = covariate.shape[1]
    at_cov = 3 + n_visit
    member = lay.member
    for cell in range(lay.cell_class.size):
        n_pattern = 0
        for j in range(lay.cell_start[cell], lay.cell_start[cell + 1]):
            i = member[j]
            seen = 0
            total = 0.0
            square = 0.0
            for t in range(n_visit):
                if observed[i, t]:
                    seen |= 1 << t
                    total += y[i, t]
                    square += y[i, t] * y[i, t]
            if seen == 0:
                continue
            k = 0
            while k < n_pattern and mask[k] != seen:
                k += 1
            if k == n_pattern:
                mask[k] = seen
                for s in range(pattern.shape[1]):
                    pattern[k, s] = 0.0
                n_pattern += 1
            pattern[k, 0] += 1.0
            pattern[k, 1] += square
            pattern[k, 2] += total * total
            for t in range(n_visit):
                if observed[i, t]:
                    pattern[k, 3 + t] += y[i, t]
            for b in range(n_cov):
                x = covariate[i, b]
                pattern[k, at_cov + b] += x
                pattern[k, at_cov + n_cov + b] += x * total
                for d in range(n_cov):
                    pattern[k, at_cov + (2 + b) * n_cov + d] += x * covariate[i, d]
        for k in range(n_pattern):
            _add_pattern(cell, mask[k], pattern, k, n_cov, lay, st, z)
    _within(lay, st)


@_kernel
def _add_pattern(cell, seen, pattern, k, n_cov, lay, st, z):  # type: ignore[no-untyped-def]
    """Add the participants of a cell who were seen at the same visits; z is workspace for the sums of z by visit."""
    S, N, M, X = st.S, st.block_N, st.block_M, lay.cell_x
    n_visit, p0 = X.shape[1], X.shape[2]
    r = z.shape[1]
    p = lay.n_column - 1
    at_cov = 3 + n_visit
    count = pattern[k, 0]
    n = 0
    for j in range(r):
        z[n_visit, j] = 0.0
    for t in range(n_visit):
        if seen >> t & 1:
            n += 1
            for j in range(p0):
                z[t, j] = count * X[cell, t, j]
            for b in range(n_cov):
                z[t, p0 + b] = pattern[k, at_cov + b]
            z[t, p] = pattern[k, 3 + t]
            for j in range(r):
                z[n_visit, j] += z[t, j]
    share = 1.0 / n
    within = lay.cell_class[cell] * lay.n_stratum
    between = within + n
    has_between = lay.has_participant
    st.nu[within] += count * (n - 1 if has_between else n)
    S[within, p, p] += pattern[k, 1]
    for b in range(n_cov):
        S[within, p0 + b, p] += pattern[k, at_cov + n_cov + b]
        for d in range(n_cov):
            S[within, p0 + b, p0 + d] += n * pattern[k, at_cov + (2 + b) * n_cov + d]
    if has_between:
        st.nu[between] += count
        S[between, p, p] += share * pattern[k, 2]
        for b in range(n_cov):
            S[between, p0 + b, p] += pattern[k, at_cov + n_cov + b]
            for d in range(n_cov):
                S[between, p0 + b, p0 + d] += n * pattern[k, at_cov + (2 + b) * n_cov + d]
    for i in range(lay.nonzero_start[cell], lay.nonzero_start[cell + 1]):
        col = lay.nonzero[i]
        x_sum = 0.0
        last = 0.0
        changes = -1  # a column that is constant over the visits seen needs one sum only
        for t in range(n_visit):
            if seen >> t & 1:
                x = X[cell, t, col]
                x_sum += x
                if x != last or changes < 0:
                    changes += 1
                last = x
        if changes == 0:
            for j in range(r):
                S[within, col, j] += last * z[n_visit, j]
        else:
            for t in range(n_visit):
                if seen >> t & 1 and X[cell, t, col] != 0.0:
                    x = X[cell, t, col]
                    for j in range(r):
                        S[within, col, j] += x * z[t, j]
        if has_between:
            x_sum *= share
            for j in range(r):
                S[between, col, j] += x_sum * z[n_visit, j]
    block = lay.cell_block[cell]
    if block < 0:
        return
    for t in range(n_visit):
        if not seen >> t & 1:
            continue
        for term in range(lay.n_term):
            row = lay.cell_row[cell, t, term]
            if row < 0:
                continue
            for j in range(r):
                N[block, within, row, j] += z[t, j]
            for other in range(lay.n_term):
                if lay.cell_row[cell, t, other] >= 0:
                    M[block, within, row, lay.cell_row[cell, t, other]] += count
            if has_between:
                for j in range(r):
                    N[block, between, row, j] += share * z[n_visit, j]
                for s in range(n_visit):
                    if seen >> s & 1:
                        for other in range(lay.n_term):
                            if lay.cell_row[cell, s, other] >= 0:
                                M[block, between, row, lay.cell_row[cell, s, other]] += share * count


@_kernel
def _within(lay, st):  # type: ignore[no-untyped-def]
    """Make the within strata total - between, complete the triangles, and turn the blocks into lanes."""
    for s in range(st.nu.size):
        within = s - s % lay.n_stratum
        if s > within and st.nu[s] > 0.0:
            _add_scaled(-1.0, st.S[s], st.S[within])
            for b in range(st.block_N.shape[0]):
                _add_scaled(-1.0, st.block_N[b, s], st.block_N[b, within])
                _add_scaled(-1.0, st.block_M[b, s], st.block_M[b, within])
    for s in range(st.nu.size):
        for i in range(lay.n_column):
            for j in range(i):
                st.S[s, i, j] = st.S[s, j, i]
        if st.nu[s] > 0.0 and lay.has_random[s // lay.n_stratum]:
            for b in range(st.block_N.shape[0]):
                for i in range(st.M.shape[1]):
                    for j in range(st.N.shape[1]):
                        st.N[s, j, i, b] = st.block_N[b, s, i, lay.active[j, b]]
                    for j in range(st.M.shape[1]):
                        st.M[s, i, j, b] = st.block_M[b, s, i, j]


# ---- small dense algebra ---------------------------------------------------------------------------------------------


@_kernel
def _cholesky(A, n, tolerance):  # type: ignore[no-untyped-def]
    """Lower Cholesky factor of the leading n x n of A, in place; False if a pivot is below tolerance x diagonal."""
    for j in range(n):
        diagonal = A[j, j]
        s = diagonal
        for k in range(j):
            s -= A[j, k] * A[j, k]
        if not s > tolerance * diagonal:  # also catches NaN
            return False
        root = np.sqrt(s)
        A[j, j] = root
        for i in range(j + 1, n):
            s = A[i, j]
            for k in range(j):
                s -= A[i, k] * A[j, k]
            A[i, j] = s / root
    return True


@_kernel
def _invert_factor(A, n):  # type: ignore[no-untyped-def]
    """Replace the lower Cholesky factor L in A by (L L')^-1, both triangles."""
    for j in range(n):
        A[j, j] = 1.0 / A[j, j]
        for i in range(j + 1, n):
            s = 0.0
            for k in range(j, i):
                s -= A[i, k] * A[k, j]
            A[i, j] = s / A[i, i]
    for i in range(n):
        for j in range(i + 1):
            s = 0.0
            for k in range(i, n):
                s += A[k, i] * A[k, j]
            A[j, i] = s
    for i in range(n):
        for j in range(i):
            A[i, j] = A[j, i]


@_kernel
def _multiply(A, B, out):  # type: ignore[no-untyped-def]
    """out = A B."""
    for i in range(A.shape[0]):
        for j in range(B.shape[1]):
            out[i, j] = 0.0
        for k in range(A.shape[1]):
            for j in range(B.shape[1]):
                out[i, j] += A[i, k] * B[k, j]


# ---- the same over lanes (blocks last); a q x A matrix is stored (A, q, blocks) --------------------------------------


@_kernel
def _add_scaled(x, A, out):  # type: ignore[no-untyped-def]
    """out += x A."""
    a, o = A.reshape(-1), out.reshape(-1)
    for i in range(a.size):
        o[i] += x * a[i]


@_kernel
def _dot(A, B):  # type: ignore[no-untyped-def]
    """Sum of the elementwise product, in four running sums."""
    a, b = A.reshape(-1), B.reshape(-1)
    s0 = s1 = s2 = s3 = 0.0
    n = a.size - a.size % 4
    for i in range(0, n, 4):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
    for i in range(n, a.size):
        s0 += a[i] * b[i]
    return (s0 + s1) + (s2 + s3)


@_kernel
def _lane_product(A, B, out):  # type: ignore[no-untyped-def]
    """out[j] = A B[j] in each lane: A (q, q, blocks), B and out (columns, q, blocks)."""
    q, lanes = A.shape[1], A.shape[2]
    for j in range(B.shape[0]):
        for i in range(q):
            for z in range(lanes):
                out[j, i, z] = A[i, 0, z] * B[j, 0, z]
            for k in range(1, q):
                for z in range(lanes):
                    out[j, i, z] += A[i, k, z] * B[j, k, z]


@_kernel
def _times_psi(A, psi, out):  # type: ignore[no-untyped-def]
    """out = A Psi in each lane: A and out (columns, q, blocks), psi (columns, columns, blocks)."""
    q, lanes = A.shape[1], A.shape[2]
    out[:] = 0.0
    for j in range(A.shape[0]):
        for k in range(A.shape[0]):
            for i in range(q):
                for z in range(lanes):
                    out[j, i, z] += psi[j, k, z] * A[k, i, z]


@_kernel
def _subtract_gram(A, B, lo, hi, symmetric, active, lane, out):  # type: ignore[no-untyped-def]
    """out -= sum over lanes of A'B, rows lo .. hi of Z' only, placed at each lane's active columns."""
    lanes = A.shape[2]
    for i in range(A.shape[0]):
        for j in range(i + 1 if symmetric else A.shape[0]):
            for z in range(lanes):
                lane[z] = 0.0
            for k in range(lo, hi):
                for z in range(lanes):
                    lane[z] += A[i, k, z] * B[j, k, z]
            for z in range(lanes):
                out[active[i, z], active[j, z]] -= lane[z]
                if symmetric and i != j:
                    out[active[j, z], active[i, z]] -= lane[z]


@_kernel
def _lane_inverse(A, work):  # type: ignore[no-untyped-def]
    """Invert each lane of A (symmetric, positive definite) in place by Cholesky; returns the summed log determinant."""
    q, lanes = A.shape[0], A.shape[2]
    log_det = 0.0
    for j in range(q):
        for i in range(j, q):
            for k in range(j):
                for z in range(lanes):
                    A[i, j, z] -= A[i, k, z] * A[j, k, z]
            if i == j:
                for z in range(lanes):
                    log_det += np.log(A[j, j, z])  # NaN if a pivot is negative
                    A[j, j, z] = np.sqrt(A[j, j, z])
            else:
                for z in range(lanes):
                    A[i, j, z] /= A[j, j, z]
    work[:] = 0.0
    for j in range(q):
        for z in range(lanes):
            work[j, j, z] = 1.0 / A[j, j, z]
        for i in range(j + 1, q):
            for k in range(j, i):
                for z in range(lanes):
                    work[i, j, z] -= A[i, k, z] * work[k, j, z]
            for z in range(lanes):
                work[i, j, z] /= A[i, i, z]
    A[:] = 0.0
    for i in range(q):
        for j in range(i + 1):
            for k in range(i, q):
                for z in range(lanes):
                    A[i, j, z] += work[k, i, z] * work[k, j, z]
            for z in range(lanes):
                A[j, i, z] = A[i, j, z]
    return log_det


# ---- the restricted likelihood and its derivatives -------------------------------------------------------------------


@_kernel
def _criterion(theta, lay, st, wk):  # type: ignore[no-untyped-def]
    """-2 log restricted likelihood at theta; leaves D, F, T, Q, H and Phi, a, Psi in wk.  NaN where it is undefined."""
    p = lay.n_column - 1
    rows = 0.0
    log_v = 0.0
    wk.C[:] = 0.0
    for s in range(st.nu.size):
        wk.weight[s] = 0.0
        if st.nu[s] > 0.0:
            c, n = s // lay.n_stratum, s % lay.n_stratum
            eigenvalue = theta[c] + n * theta[lay.n_class] if n > 0 else theta[c]
            wk.weight[s] = 1.0 / eigenvalue
            rows += st.nu[s]
            log_v += st.nu[s] * np.log(eigenvalue)
            _add_scaled(wk.weight[s], st.S[s], wk.C)
    if lay.term_start[-1] > 0:
        log_v += _woodbury(theta, lay, st, wk)
    factor = wk.Psi  # workspace: the factor of C, y last, so that its last pivot is a'C a
    factor[:] = wk.C
    if not _cholesky(factor, p + 1, 1e-15):
        return np.nan
    log_c = 0.0
    wk.a[p] = 1.0
    for i in range(p - 1, -1, -1):
        log_c += 2.0 * np.log(factor[i, i])
        x = factor[p, i]
        for k in range(i + 1, p):
            x += factor[k, i] * wk.a[k]
        wk.a[i] = -x / factor[i, i]
    quadratic = factor[p, p] ** 2
    for i in range(p):
        for j in range(i + 1):
            wk.Phi[i, j] = factor[i, j]
    _invert_factor(wk.Phi, p)
    for i in range(p + 1):
        for j in range(p + 1):
            wk.Psi[i, j] = wk.a[i] * wk.a[j] + (wk.Phi[i, j] if i < p and j < p else 0.0)
    return (rows - p) * np.log(2.0 * np.pi) + log_v + log_c + quadratic


@_kernel
def _woodbury(theta, lay, st, wk):  # type: ignore[no-untyped-def]
    """D, F, T, Q, H of all blocks; subtracts N'Q from C and returns the sum of log|I + G^1/2 M G^1/2|."""
    q, lanes = wk.M.shape[0], wk.M.shape[2]
    wk.M[:] = 0.0
    wk.N[:] = 0.0
    for s in range(st.nu.size):
        if st.nu[s] > 0.0 and lay.has_random[s // lay.n_stratum]:
            _add_scaled(wk.weight[s], st.M[s], wk.M)
            _add_scaled(wk.weight[s], st.N[s], wk.N)
    root = np.zeros(q)
    for term in range(lay.n_term):
        root[lay.term_start[term] : lay.term_start[term + 1]] = np.sqrt(theta[theta.size - lay.n_term + term])
    D, F, M = wk.D, wk.F, wk.M
    for i in range(q):
        for j in range(q):
            for z in range(lanes):
                D[i, j, z] = root[i] * root[j] * M[i, j, z] + (1.0 if i == j else 0.0)
    log_det = _lane_inverse(D, wk.square)
    for i in range(q):
        for j in range(q):
            for z in range(lanes):
                D[i, j, z] *= root[i] * root[j]
    _lane_product(M, D, wk.square)  # D and M are symmetric: square[j, i] = (M D)[i, j]
    for i in range(q):
        for j in range(q):
            for z in range(lanes):
                F[i, j, z] = (1.0 if i == j else 0.0) - wk.square[j, i, z]
    _lane_product(F, M, wk.T)  # T is symmetric
    _lane_product(D, wk.N, wk.Q)
    _lane_product(F, wk.N, wk.H)
    _subtract_gram(wk.N, wk.Q, 0, q, True, lay.active, wk.lane[0, 0], wk.C)
    return log_det


@_kernel
def _score(theta, lay, st, wk):  # type: ignore[no-untyped-def]
    """Score and average information at the theta of the last call of _criterion; also E and h for the observed one."""
    r, v = lay.n_column, lay.n_class
    p = r - 1
    wk.score[:] = 0.0
    wk.average[:] = 0.0
    wk.h[:] = 0.0
    if lay.term_start[-1] > 0:
        _score_random(theta, lay, st, wk)
    for s in range(st.nu.size):
        if not st.nu[s] > 0.0:
            wk.E[s] = 0.0
            continue
        c, n = s // lay.n_stratum, s % lay.n_stratum
        has_random = lay.has_random[c] and lay.term_start[-1] > 0
        w = wk.weight[s]
        E = _dot(wk.Psi, st.S[s])
        u = 0.0
        if has_random:
            random_E, u = _score_stratum(s, c, n, lay, st, wk)
            E += random_E
        for i in range(r):
            x = 0.0
            for j in range(r):
                x += st.S[s, i, j] * wk.a[j]
            u += wk.a[i] * x
            if i < p:
                wk.h[c, i] -= x * w * w
                if n > 0:
                    wk.h[v, i] -= n * x * w * w
        wk.E[s] = E
        x = 0.5 * w * (E * w - st.nu[s])
        wk.score[c] += x
        wk.average[c, c] += 0.5 * u * w**3
        if n > 0:
            wk.score[v] += n * x
            wk.average[v, c] += 0.5 * n * u * w**3
            wk.average[v, v] += 0.5 * n * n * u * w**3
    if lay.term_start[-1] > 0:
        _average_random(theta, lay, wk)
    for k in range(theta.size):
        for i in range(k + 1):
            wk.average[k, i] -= 0.5 * _quadratic(wk.h[k], wk.Phi, wk.h[i])
            wk.average[i, k] = wk.average[k, i]


@_kernel
def _quadratic(x, A, y):  # type: ignore[no-untyped-def]
    """x'A y."""
    total = 0.0
    for i in range(x.size):
        s = 0.0
        for j in range(y.size):
            s += A[i, j] * y[j]
        total += x[i] * s
    return total


@_kernel
def _score_random(theta, lay, st, wk):  # type: ignore[no-untyped-def]
    """Score of the random terms, and what the strata need: eta = H a, rho = Q a, weights of N_s and M_s in E_s."""
    A, q, lanes = wk.H.shape
    first = theta.size - lay.n_term
    alpha, eta, rho = wk.lane[1], wk.lane[2], wk.lane[3]
    wk.pi[:] = 0.0
    eta[:] = 0.0
    rho[:] = 0.0
    for j in range(A):
        for z in range(lanes):
            alpha[0, z] = wk.a[lay.active[j, z]]
        for k in range(A):
            for z in range(lanes):
                wk.psi[j, k, z] = wk.Psi[lay.active[j, z], lay.active[k, z]]
        for i in range(q):
            for z in range(lanes):
                eta[i, z] += wk.H[j, i, z] * alpha[0, z]
                rho[i, z] += wk.Q[j, i, z] * alpha[0, z]
    _times_psi(wk.H, wk.psi, wk.Y)
    wk.J[:] = 0.0
    for j in range(A):
        for i in range(q):
            for k in range(q):
                for z in range(lanes):
                    wk.J[i, k, z] += wk.Y[j, i, z] * wk.H[j, k, z]
    for term in range(lay.n_term):
        g = theta[first + term]
        for i in range(lay.term_start[term], lay.term_start[term + 1]):
            trace = 0.0
            for z in range(lanes):
                trace += wk.T[i, i, z] - wk.J[i, i, z]
            wk.score[first + term] -= 0.5 * trace
            for other in range(lay.n_term):
                gg = g * theta[first + other]
                for k in range(lay.term_start[other], lay.term_start[other + 1]):
                    for z in range(lanes):
                        wk.square[i, k, z] = wk.D[i, k, z] + gg * wk.J[i, k, z]
            for j in range(A):
                for z in range(lanes):
                    wk.product[j, i, z] = -2.0 * g * wk.Y[j, i, z]
    wk.lane[4] = 0.0


@_kernel
def _score_stratum(s, c, n, lay, st, wk):  # type: ignore[no-untyped-def]
    """Random part of E_s and of u_s = a'U_s a; adds to h and pi."""
    A, q, lanes = wk.H.shape
    v = lay.n_class
    w2 = wk.weight[s] ** 2
    N_s, M_s = st.N[s], st.M[s]
    alpha, rho, direct, residual, vector = wk.lane[1], wk.lane[3], wk.lane[5], wk.lane[6], wk.lane[7]
    direct[:] = 0.0
    for j in range(A):
        for z in range(lanes):
            alpha[0, z] = wk.a[lay.active[j, z]]
        for i in range(q):
            for z in range(lanes):
                direct[i, z] += N_s[j, i, z] * alpha[0, z]
    for i in range(q):
        for z in range(lanes):
            residual[i, z] = direct[i, z]
        for k in range(q):
            for z in range(lanes):
                residual[i, z] -= M_s[i, k, z] * rho[k, z]
        for z in range(lanes):
            direct[i, z] += residual[i, z]
            wk.pi[c, i, z] -= w2 * residual[i, z]
            if n > 0:
                wk.pi[v, i, z] -= n * w2 * residual[i, z]
    for j in range(A - 1):
        for z in range(lanes):
            vector[0, z] = 0.0
        for i in range(q):
            for z in range(lanes):
                vector[0, z] += N_s[j, i, z] * rho[i, z] + wk.Q[j, i, z] * residual[i, z]
        for z in range(lanes):
            wk.h[c, lay.active[j, z]] += w2 * vector[0, z]
            if n > 0:
                wk.h[v, lay.active[j, z]] += n * w2 * vector[0, z]
    return _dot(M_s, wk.square) + _dot(N_s, wk.product), -_dot(rho, direct)


@_kernel
def _average_random(theta, lay, wk):  # type: ignore[no-untyped-def]
    """Rows and columns of the random terms in h and in (the lower triangle of) the average information."""
    A, q, lanes = wk.H.shape
    n_r = theta.size - lay.n_term
    eta, work, vector = wk.lane[2], wk.lane[5], wk.lane[7]
    start = lay.term_start
    for term in range(lay.n_term):
        for j in range(A - 1):
            for z in range(lanes):
                vector[0, z] = 0.0
            for i in range(start[term], start[term + 1]):
                for z in range(lanes):
                    vector[0, z] += wk.H[j, i, z] * eta[i, z]
            for z in range(lanes):
                wk.h[n_r + term, lay.active[j, z]] -= vector[0, z]
        work[:] = 0.0
        for i in range(q):
            for k in range(start[term], start[term + 1]):
                for z in range(lanes):
                    work[i, z] += wk.T[i, k, z] * eta[k, z]
        for other in range(term, lay.n_term):
            lo, hi = start[other], start[other + 1]
            wk.average[n_r + other, n_r + term] += 0.5 * _dot(eta[lo:hi], work[lo:hi])
    for k in range(n_r):
        work[:] = 0.0
        for i in range(q):
            for j in range(q):
                for z in range(lanes):
                    work[i, z] += wk.D[i, j, z] * wk.pi[k, j, z]
        for other in range(k, n_r):
            wk.average[other, k] -= 0.5 * _dot(wk.pi[other], work)
        work[:] = 0.0
        for i in range(q):
            for j in range(q):
                for z in range(lanes):
                    work[i, z] += wk.F[i, j, z] * wk.pi[k, j, z]
        for term in range(lay.n_term):
            lo, hi = start[term], start[term + 1]
            wk.average[n_r + term, k] -= 0.5 * _dot(eta[lo:hi], work[lo:hi])


@_kernel
def _information(theta, lay, st, wk):  # type: ignore[no-untyped-def]
    """Observed information and the matrices C_k (fixed-effect part) after _criterion and _score at the same theta."""
    p, v, m = lay.n_column - 1, lay.n_class, theta.size
    wk.observed[:] = 0.0
    wk.C_k[:] = 0.0
    for s in range(st.nu.size):
        if st.nu[s] > 0.0:
            c, n, w = s // lay.n_stratum, s % lay.n_stratum, wk.weight[s]
            x = (wk.E[s] * w - 0.5 * st.nu[s]) * w * w
            wk.observed[c, c] += x
            _add_scaled(-w * w, st.S[s], wk.C_k[c])
            if n > 0:
                wk.observed[v, c] += n * x
                wk.observed[v, v] += n * n * x
                _add_scaled(-n * w * w, st.S[s], wk.C_k[v])
    if lay.term_start[-1] > 0:
        _information_random(theta, lay, st, wk)
    B = np.zeros((m, p, p))
    for k in range(m):
        for i in range(p):
            for j in range(i):  # Q'(N_k + P_k) is symmetric only together with its transpose
                x = 0.5 * (wk.C_k[k, i, j] + wk.C_k[k, j, i])
                wk.C_k[k, i, j] = x
                wk.C_k[k, j, i] = x
        _multiply(wk.Phi, wk.C_k[k, :p, :p], B[k])
    for k in range(m):
        for s in range(k + 1):
            x = 2.0 * _quadratic(wk.h[k], wk.Phi, wk.h[s])
            for i in range(p):
                for j in range(p):
                    x += B[k, i, j] * B[s, j, i]
            wk.observed[k, s] -= 0.5 * x
            wk.observed[s, k] = wk.observed[k, s]


@_kernel
def _information_random(theta, lay, st, wk):  # type: ignore[no-untyped-def]
    """Blocks' part of the observed information (lower triangle) and of C_k."""
    A, q, lanes = wk.H.shape
    n_r = theta.size - lay.n_term
    start, lane = lay.term_start, wk.lane[0, 0]
    for k in range(n_r):
        N_k, M_k = wk.N, wk.M
        N_k[:] = 0.0
        M_k[:] = 0.0
        for s in range(st.nu.size):
            c, n = s // lay.n_stratum, s % lay.n_stratum
            m_k = 1.0 if k == c else (float(n) if k == lay.n_class else 0.0)
            if st.nu[s] > 0.0 and lay.has_random[c] and m_k > 0.0:
                _add_scaled(-m_k * wk.weight[s] ** 2, st.N[s], N_k)
                _add_scaled(-m_k * wk.weight[s] ** 2, st.M[s], M_k)
        P, DP, DM = wk.P[k], wk.DP[k], wk.DM[k]
        if k < lay.n_class and not lay.has_random[k]:
            P[:] = 0.0
            DP[:] = 0.0
            DM[:] = 0.0
            continue
        _lane_product(M_k, wk.Q, P)
        for j in range(A):
            for i in range(q):
                for z in range(lanes):
                    P[j, i, z] = N_k[j, i, z] - P[j, i, z]
        _lane_product(wk.D, P, DP)
        _lane_product(wk.D, M_k, DM)  # DM[j, i] = (D M_k)[i, j]
        _lane_product(wk.F, P, wk.product)
        _lane_product(wk.F, M_k, wk.square)
        for term in range(lay.n_term):
            x = 0.0
            lo, hi = start[term], start[term + 1]
            for j in range(q):
                for i in range(lo, hi):
                    for z in range(lanes):
                        x += wk.square[j, i, z] * wk.F[i, j, z]
            for j in range(A):
                x -= 2.0 * _dot(wk.product[j, lo:hi], wk.Y[j, lo:hi])
            wk.observed[n_r + term, k] += 0.5 * x
        _add_scaled(1.0, P, N_k)
        _subtract_gram(wk.Q[: A - 1], N_k[: A - 1], 0, q, False, lay.active, lane, wk.C_k[k])
        _times_psi(P, wk.psi, wk.product)
        for s in range(k + 1):
            x = 2.0 * _dot(wk.DP[s], wk.product)
            for i in range(q):
                for j in range(q):
                    x += _dot(DM[i, j], wk.DM[s, j, i])
            wk.observed[k, s] -= 0.5 * x
    for term in range(lay.n_term):
        lo, hi = start[term], start[term + 1]
        _subtract_gram(wk.H[: A - 1], wk.H[: A - 1], lo, hi, True, lay.active, lane, wk.C_k[n_r + term])
        for other in range(term + 1):
            x = 0.0
            for i in range(lo, hi):
                for j in range(start[other], start[other + 1]):
                    for z in range(lanes):
                        x += wk.T[i, j, z] * (2.0 * wk.J[i, j, z] - wk.T[i, j, z])
            wk.observed[n_r + term, n_r + other] += 0.5 * x


# ---- the optimiser ---------------------------------------------------------------------------------------------------


@_kernel
def _solve_free(information, score, free, d, target):  # type: ignore[no-untyped-def]
    """Solve information d = score over the free components, others held at their d; False if not positive definite."""
    m = score.size
    index = np.zeros(m, np.int64)
    n = 0
    for k in range(m):
        if free[k]:
            index[n] = k
            n += 1
    A = np.zeros((n, n))
    x = np.zeros(n)
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
        x[i] = s * scale[i]
        for j in range(n):
            A[i, j] = information[index[i], index[j]] * scale[i] * scale[j]
    if not _cholesky(A, n, 1e-12):
        return False
    for i in range(n):
        for k in range(i):
            x[i] -= A[i, k] * x[k]
        x[i] /= A[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            x[i] -= A[k, i] * x[k]
        x[i] /= A[i, i]
    target[:] = d
    for i in range(n):
        target[index[i]] = x[i] * scale[i]
    return True


@_kernel
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


@_kernel
def _default_start(lay, st, wk, theta):  # type: ignore[no-untyped-def]
    """Fill NaN or infeasible entries of theta from the OLS residual variance; False if OLS is impossible."""
    r = lay.n_column
    A = wk.C
    A[:] = 0.0
    rows = 0.0
    for s in range(st.nu.size):
        A += st.S[s]
        rows += st.nu[s]
    total = A[r - 1, r - 1]
    if rows <= r - 1 or not _cholesky(A, r - 1, 1e-11):
        return False
    for i in range(r - 1):  # forward substitution: the last row of the factor
        s = A[r - 1, i]
        for k in range(i):
            s -= A[r - 1, k] * A[i, k]
        A[r - 1, i] = s / A[i, i]
    residual = total
    for i in range(r - 1):
        residual -= A[r - 1, i] * A[r - 1, i]
    if not residual > 1e-13 * total:
        return False
    variance = residual / (rows - r + 1)
    n_random = theta.size - lay.n_class
    for k in range(theta.size):
        if k < lay.n_class:
            if not theta[k] > 0.0:
                theta[k] = variance * (0.5 if n_random > 0 else 1.0)
        elif not theta[k] >= 0.0:
            theta[k] = 0.5 * variance / n_random
    return True


@_kernel
def _maximise(theta, lay, st, wk, max_iteration):  # type: ignore[no-untyped-def]
    """Climb the restricted likelihood from theta, in place; leaves wk complete.  Returns (criterion, iterations, ok).

    Expected information (exact in one step for balanced data) until the squared Newton decrement is below 1, then
    observed information, which is kept from one step to the next once the decrement is below 1e-4.
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
            new = _criterion(trial, lay, st, wk)
            if np.isfinite(new) and (iteration == 0 or new <= value - 1e-4 * scale * decrement + slack):
                break
            if iteration == 0 or scale == 0.0:
                return new, iteration, False
            scale = 0.5 * scale if scale > 1e-9 else 0.0  # at last back to theta, where no progress is possible
            for k in range(theta.size):
                trial[k] = theta[k] + scale * d[k]
        theta[:] = trial
        value = new
        _score(theta, lay, st, wk)
        if last > 1e-4:
            _information(theta, lay, st, wk)
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
        if ready and (decrement < 1e-16 or (decrement < 1e-10 and stuck)):
            if last <= 1e-4:
                _information(theta, lay, st, wk)
            return value, iteration, True
        if not ready or scale == 0.0:
            return value, iteration, False
        last = decrement
        for k in range(theta.size):
            trial[k] = theta[k] + d[k] if d[k] != -theta[k] else 0.0
    return value, max_iteration, False


@_kernel
def _satterthwaite(theta, contrast, lay, wk, out):  # type: ignore[no-untyped-def]
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
                g[i] += wk.Phi[i, j] * contrast[row, j]
            f += contrast[row, i] * g[i]
            estimate -= contrast[row, i] * wk.a[i]
        for k in range(m):
            s = 0.0
            for i in range(p):
                for j in range(p):
                    s += g[i] * wk.C_k[k, i, j] * g[j]
            gradient[k] = -s
        if not _solve_free(information, gradient, free, zero, solved):
            return False
        variance = 0.0
        for k in range(m):
            variance += gradient[k] * solved[k]
        out[0, row] = estimate
        out[1, row] = np.sqrt(f)
        out[2, row] = 2.0 * f * f / variance
    return True


@_kernel
def _padded(r):  # type: ignore[no-untyped-def]
    return (r + 15) // 16 * 16


@_kernel
def _allocate(lay, m):  # type: ignore[no-untyped-def]
    """Statistics and work arrays for one replicate at a time."""
    r, n_s = lay.n_column, lay.n_class * lay.n_stratum
    pad = _padded(r)
    A, lanes = lay.active.shape
    q, n_r = lay.term_start[-1], m - lay.n_term
    st = _Statistics(
        np.zeros((n_s, r, pad)),
        np.zeros(n_s),
        np.zeros((n_s, A, q, lanes)),
        np.zeros((n_s, q, q, lanes)),
        np.zeros((lanes, n_s, q, pad)),
        np.zeros((lanes, n_s, q, q)),
    )
    wk = _Work(
        np.zeros(n_s),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((A, q, lanes)),
        np.zeros((A, q, lanes)),
        np.zeros((A, q, lanes)),
        np.zeros((A, q, lanes)),
        np.zeros((A, q, lanes)),
        np.zeros((n_r, A, q, lanes)),
        np.zeros((n_r, A, q, lanes)),
        np.zeros((n_r, q, q, lanes)),
        np.zeros((A, A, lanes)),
        np.zeros((8, q, lanes)),
        np.zeros((n_r, q, lanes)),
        np.zeros((r, pad)),
        np.zeros((r - 1, r - 1)),
        np.zeros(r),
        np.zeros((r, pad)),
        np.zeros(n_s),
        np.zeros((m, r - 1)),
        np.zeros((m, r, pad)),
        np.zeros(m),
        np.zeros((m, m)),
        np.zeros((m, m)),
    )
    return st, wk


@njit(cache=True, error_model="numpy")
def _fit_batch(y, observed, covariate, contrast, lay, start, max_iteration):  # type: ignore[no-untyped-def]
    """Fit every replicate on its own; a failed one keeps its NaN."""
    n_replicate, _, n_visit = y.shape
    n_cov, n_contrast, p, m = covariate.shape[2], contrast.shape[0], lay.n_column - 1, start.size
    st, wk = _allocate(lay, m)
    largest = 1
    for cell in range(lay.cell_class.size):
        largest = max(largest, lay.cell_start[cell + 1] - lay.cell_start[cell])
    mask = np.zeros(largest, np.int64)
    pattern = np.zeros((largest, 3 + n_visit + (2 + n_cov) * n_cov))
    z = np.zeros((n_visit + 1, _padded(p + 1)))
    inference = np.full((n_replicate, 3, n_contrast), np.nan)
    variance = np.full((n_replicate, m), np.nan)
    coefficient = np.full((n_replicate, p), np.nan)
    criterion = np.full(n_replicate, np.nan)
    status = np.full(n_replicate, np.int8(FAILED))
    n_iteration = np.zeros(n_replicate, np.int64)
    out = np.zeros((3, n_contrast))
    for i in range(n_replicate):
        seen = observed[i if observed.shape[0] > 1 else 0]
        _accumulate(y[i], seen, covariate[i], lay, st, mask, pattern, z)
        theta = start.copy()
        if not _default_start(lay, st, wk, theta):
            continue
        value, n_iteration[i], converged = _maximise(theta, lay, st, wk, max_iteration)
        if not converged or not _satterthwaite(theta, contrast, lay, wk, out) or not np.all(np.isfinite(out)):
            continue
        inference[i] = out
        variance[i] = theta
        coefficient[i] = -wk.a[:p]
        criterion[i] = value
        status[i] = SINGULAR if np.any(theta == 0.0) else OK
    return inference, variance, coefficient, criterion, status, n_iteration
