"""What all replicates of a mixed model share, and the arrays that hold one replicate: see the header of mixed."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.lanes import LANES

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


class Layout(NamedTuple):
    """Cells of participants with identical X, class and columns of Z, and the blocks.

    Z' has the same rows in every block, q of them, so that row k of it belongs to the same random term in all; a block
    without some column has zeros there.  Blocks lie in lanes, those with the same active columns side by side, and
    LANES of them make a pack.
    """

    is_general: bool  # basis of R^-1: pairs of visits in each pattern of visits seen, instead of strata
    n_class: int
    n_visit: int
    n_stratum: int  # per class: within, then between with n = 1 .. T
    n_term: int
    n_column: int  # r
    n_block: int
    n_active: int  # A, most columns of z in use in one pack
    lanes: int  # blocks, raised to a multiple of LANES
    member: Int  # participants ordered by cell
    cell_start: Int  # into member
    cell_class: Int
    cell_block: Int  # -1 = no random term
    cell_x: Float  # (cells, T, p0)
    kind_ends: Bool  # whether the next cell has another X or class
    column_start: Int  # into column: columns of z in use in the cell, covariates and y last
    column: Int
    place: Int  # of each of these columns in the active ones of the cell's pack
    cell_row: Int  # (cells, T, L) row of Z', -1 = none
    active: Int  # (A, packs) columns of z in use in each pack, covariate and y last
    run_start: Int  # (runs + 1,) packs whose active columns are the same
    pair: Int  # (A (A + 1) / 2, runs) places in a packed C of the pairs of active columns
    term_start: Int  # (L + 1,) rows of Z' of each random term
    ones: Float  # (p,) b with X b = 1, all NaN if there is none


class Statistics(NamedTuple):
    """Cross-products of one replicate, free of theta, for each basis element b of R^-1."""

    S: Float  # (b, r (r + 1) / 2) lower triangle of z'z by rows
    N: Float  # (b, q, A, lanes) Z'z
    M: Float  # (b, q, q, lanes) Z'Z
    N_flat: Float  # the same memory, (b, everything else)
    M_flat: Float
    rank: Float  # (b,) rank of a stratum; or (patterns,) participants with a pattern
    mask: Int  # (patterns,) visits seen, as bits
    cls: Int  # (patterns,)
    total: Int  # (3,) rows seen, participants seen, patterns in use


class Residual(NamedTuple):
    """R: its inverse in the basis, and derivatives by its n parameters."""

    weight: Float  # (b,) w_b, 0 where the replicate has no such element
    slope: Float  # (n, b) dw_b / dtheta_k
    log_slope: Float  # (n,) dlog|R| / dtheta_k
    fixed: Float  # (b,) tr(Phi U_b) + tr(D M_b)
    along: Float  # (b,) a'U_b a
    share: Float  # (b,)
    sigma: Float  # (classes, T, T)
    inverse: Float  # (patterns, T, T), zero at visits not seen
    gradient: Float  # (classes, T, T) Xi: the score in direction E of Sigma is -1/2 tr(Xi E)
    first: Float  # values of the table's derivatives
    second: Float
    square: Float  # (7, T, T) workspace


class Fixed(NamedTuple):
    """Everything of the size of the fixed effects."""

    packed: Float  # (r (r + 1) / 2,)
    phi_twice: Float  # packed Phi, off-diagonals doubled
    aa_twice: Float  # packed a a', likewise
    C: Float  # (r, r)
    inverse: Float  # (r, r) Phi, with zeros in place of y
    a: Float  # (r,)
    C_k: Float  # (m, r, r)
    B: Float  # (m, r, r) Phi C_k, with zeros in place of y
    h: Float  # (m, p) C_k a
    h_scaled: Float  # (m, p) Phi h_k
    trace: Float  # (m,) (log|V|)_k
    score: Float  # (m,)
    average: Float  # (m, m)
    observed: Float  # (m, m)
    square: Float  # (4, r, r) workspace


class Blocks(NamedTuple):
    """Everything of the blocks, in lanes."""

    g: Float  # (q,) variance of each row of Z'
    M: Float  # (q, q, lanes)
    D: Float
    F: Float
    T: Float
    J: Float  # H Phi H'
    square: Float
    N: Float  # (q, A, lanes)
    H: Float
    Q: Float  # G H
    Y: Float  # H Phi
    wide: Float
    phi: Float  # (A, A, packs) Phi of the active columns
    a: Float  # (A, 1, packs) a of the active columns
    eta: Float  # (q, 1, lanes) H a
    M_k: Float  # (n, q, q, lanes)
    FM: Float  # F M_k
    N_k: Float  # (q, A, lanes)
    P: Float  # (n, q, A, lanes)
    FP: Float  # F P_k
    PY: Float  # P_k Phi
    pi: Float  # (n, q, 1, lanes) P_k a
    f_pi: Float  # F P_k a


class Work(NamedTuple):
    """Everything that depends on theta, overwritten at each evaluation."""

    residual: Residual
    fixed: Fixed
    blocks: Blocks


def lay_out(
    X: Float, cls: Int, n_class: int, is_general: bool, n_stratum: int, block: Int, column: Int, n_column: int
) -> Layout:
    """The layout of a design; raises ValueError if two random terms use the same column of Z."""
    n_participant, n_visit, n_shared = X.shape
    hit = column.reshape(n_participant, -1).max(axis=1, initial=-1)
    labels, block = np.unique(np.where(hit >= 0, block, -1), return_inverse=True)
    block = block.reshape(-1) - int(labels.size > 0 and labels[0] < 0)
    n_block = int(block.max(initial=-1)) + 1
    row, term_start = _rows_by_term(block, column, n_block)
    fixed = [X.reshape(n_participant, -1).view(np.int64), cls[:, None]]
    kind = _distinct_rows(np.concatenate(fixed, axis=1))[1]
    cells = [kind[:, None], block[:, None], row.reshape(n_participant, -1)]
    head, cell = _distinct_rows(np.concatenate(cells, axis=1))
    by_kind = np.argsort(kind[head], kind="stable")
    head, cell = head[by_kind], np.argsort(by_kind)[cell]
    used = np.any(X[head] != 0, axis=1)  # (cells, p0)
    in_block = np.zeros((n_block + 1, n_shared), bool)
    np.logical_or.at(in_block, block[head], used)  # row -1 collects the cells without a block
    lanes = -(-n_block // LANES) * LANES
    lane = np.append(np.argsort(np.lexsort(in_block[:n_block].T)), -1)[block[head]].astype(np.int64)
    in_pack = np.zeros((lanes // LANES + 1, n_shared), bool)
    np.logical_or.at(in_pack, lane // LANES, used)  # again row -1 is of no pack
    n_used = int(in_pack[:-1].sum(axis=1).max(initial=0))
    in_use = np.argsort(~in_pack[:-1], axis=1, kind="stable")[:, :n_used]  # where fewer are in use, others fill up
    rest = np.tile(np.arange(n_shared, n_column), (lanes // LANES, 1))
    active = np.concatenate([in_use, rest], axis=1)
    run_start = np.concatenate([[0], 1 + np.nonzero(np.any(np.diff(active, axis=0) != 0, axis=1))[0], [len(active)]])
    run_start = np.unique(run_start).astype(np.int64)
    position = np.zeros((lanes // LANES + 1, n_column), np.int64)
    np.put_along_axis(position[:-1], active, np.arange(active.shape[1])[None], axis=1)
    in_use_by_cell = np.concatenate([used, np.ones((head.size, n_column - n_shared), bool)], axis=1)
    of_cell, in_cell = np.nonzero(in_use_by_cell)
    return Layout(
        is_general=is_general,
        n_class=n_class,
        n_visit=n_visit,
        n_stratum=n_stratum,
        n_term=column.shape[2],
        n_column=n_column,
        n_block=n_block,
        n_active=active.shape[1] if n_block else 0,
        lanes=lanes,
        member=np.argsort(cell, kind="stable").astype(np.int64),
        cell_start=np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=head.size))]).astype(np.int64),
        cell_class=cls[head],
        cell_block=lane,
        cell_x=np.ascontiguousarray(X[head]),
        kind_ends=np.append(np.diff(kind[head]) != 0, True),
        column_start=np.concatenate([[0], np.cumsum(in_use_by_cell.sum(axis=1))]).astype(np.int64),
        column=in_cell.astype(np.int64),
        place=position[lane[of_cell] // LANES, in_cell],
        cell_row=np.ascontiguousarray(row[head]),
        active=np.ascontiguousarray(active.T.astype(np.int64)),
        run_start=run_start,
        pair=_pairs(active[run_start[:-1]]),
        term_start=term_start,
        ones=_ones(X[head].reshape(-1, n_shared), n_column - 1),
    )


def _pairs(active: Int) -> Int:
    """(A (A + 1) / 2, runs) places in a lower triangle by rows of the pairs of columns (runs, A)."""
    i, j = np.tril_indices(active.shape[1])
    high, low = np.maximum(active[:, i], active[:, j]), np.minimum(active[:, i], active[:, j])
    return np.ascontiguousarray((high * (high + 1) // 2 + low).T.astype(np.int64))


def _ones(rows: Float, n_fixed: int) -> Float:
    """Coefficients b with X b = 1, NaN if there are none."""
    out = np.full(n_fixed, np.nan)
    if rows.size:
        b = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0]
        if np.max(np.abs(rows @ b - 1.0)) < 1e-10:
            out[:] = 0.0
            out[: b.size] = np.where(np.abs(b) < 1e-12, 0.0, b)
    return out


def _distinct_rows(rows: Int) -> tuple[Int, Int]:
    """First row of each group of identical rows, and every row's group.  Sorts one hash per row, then verifies it."""
    odd = np.random.default_rng(0).integers(1, 2**62, rows.shape[1], np.int64) * 2 + 1
    mixed = (rows ^ (rows >> 32)) * odd
    _, head, group = np.unique((mixed ^ (mixed >> 29)) @ odd, return_index=True, return_inverse=True)
    if not np.array_equal(rows[head][group], rows):  # two different rows with one hash
        _, head, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return head.astype(np.int64), group.reshape(-1).astype(np.int64)


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


def allocate_statistics(lay: Layout, n_pattern: int) -> Statistics:
    """Room for the statistics of one replicate with up to n_pattern patterns (general basis)."""
    T, q, r = lay.n_visit, int(lay.term_start[-1]), lay.n_column
    n_b = n_pattern * T * (T + 1) // 2 if lay.is_general else lay.n_class * lay.n_stratum
    N = np.zeros((n_b, q, lay.n_active, lay.lanes))
    M = np.zeros((n_b, q, q, lay.lanes))
    return Statistics(
        np.zeros((n_b, r * (r + 1) // 2)),
        N,
        M,
        N.reshape(n_b, q * lay.n_active * lay.lanes),
        M.reshape(n_b, q * q * lay.lanes),
        np.zeros(n_pattern if lay.is_general else n_b),
        np.zeros(n_pattern, np.int64),
        np.zeros(n_pattern, np.int64),
        np.zeros(3, np.int64),
    )


def allocate_work(lay: Layout, n_b: int, n_pattern: int, n: int, n_first: int, n_second: int) -> Work:
    """Work arrays for b basis elements, n residual parameters, and so many values of the table's derivatives."""
    T, q, r, A, lanes, m = lay.n_visit, int(lay.term_start[-1]), lay.n_column, lay.n_active, lay.lanes, n + lay.n_term
    packed = r * (r + 1) // 2
    T_general = T if lay.is_general else 1
    residual = Residual(
        np.zeros(n_b),
        np.zeros((n, n_b)),
        np.zeros(n),
        np.zeros(n_b),
        np.zeros(n_b),
        np.zeros(n_b),
        np.zeros((lay.n_class, T, T)),
        np.zeros((n_pattern, T_general, T_general)),
        np.zeros((lay.n_class, T, T)),
        np.zeros(n_first),
        np.zeros(n_second),
        np.zeros((7, T, T)),
    )
    fixed = Fixed(
        np.zeros(packed),
        np.zeros(packed),
        np.zeros(packed),
        np.zeros((r, r)),
        np.zeros((r, r)),
        np.zeros(r),
        np.zeros((m, r, r)),
        np.zeros((m, r, r)),
        np.zeros((m, r - 1)),
        np.zeros((m, r - 1)),
        np.zeros(m),
        np.zeros(m),
        np.zeros((m, m)),
        np.zeros((m, m)),
        np.zeros((4, r, r)),
    )
    blocks = Blocks(
        np.zeros(q),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, A, lanes)),
        np.zeros((q, A, lanes)),
        np.zeros((q, A, lanes)),
        np.zeros((q, A, lanes)),
        np.zeros((q, A, lanes)),
        np.zeros((A, A, lanes // LANES)),
        np.zeros((A, 1, lanes // LANES)),
        np.zeros((q, 1, lanes)),
        np.zeros((n, q, q, lanes)),
        np.zeros((n, q, q, lanes)),
        np.zeros((q, A, lanes)),
        np.zeros((n, q, A, lanes)),
        np.zeros((n, q, A, lanes)),
        np.zeros((n, q, A, lanes)),
        np.zeros((n, q, 1, lanes)),
        np.zeros((n, q, 1, lanes)),
    )
    return Work(residual, fixed, blocks)
