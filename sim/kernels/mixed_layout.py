"""What all replicates of a mixed model share, and the arrays that hold one replicate: see the header of mixed."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# No wrappers for calls from Python, which would take most of the compilation.
kernel: Any = njit(  # type: ignore[call-overload]
    cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)


class Layout(NamedTuple):
    """Cells of participants with identical X, class and columns of Z, and the blocks.

    Z' has the same rows in every block, q of them, so that row k of it belongs to the same random term in all; a block
    without some column has zeros there.
    """

    n_class: int
    n_stratum: int  # per class: within, then between with n = 1 .. T
    n_term: int
    has_participant: bool
    n_column: int  # r
    n_block: int
    member: Int  # participants ordered by cell
    cell_start: Int  # into member
    cell_class: Int
    cell_block: Int  # -1 = no random term
    cell_x: Float  # (cells, T, p0)
    nonzero_start: Int  # into nonzero: columns of X with a nonzero value in the cell
    nonzero: Int
    cell_row: Int  # (cells, T, L) row of Z', -1 = none
    active: Int  # (blocks, A) the z columns in use in each block, covariate and y last
    term_start: Int  # (L + 1,) rows of Z' of each random term


class Statistics(NamedTuple):
    """Cross-products of one replicate, free of theta.  s = class x strata + n."""

    S: Float  # (s, r, r padded): rows are padded to a multiple of 16 with zeros, which lets short loops vectorise
    nu: Float  # (s,)
    N: Float  # (s, q x blocks, r padded)
    M: Float  # (s, q, q, lanes): lanes are the blocks, padded to a multiple of 16 with zeros


class Work(NamedTuple):
    """Everything that depends on theta, overwritten at each evaluation.  Index x leaves e_0 out: see the header."""

    weight: Float  # (s,) 1 / lambda_s, 0 for an empty stratum
    g: Float  # (q,) variance of each row of Z'
    M: Float  # (q, q, lanes)
    D: Float
    F: Float
    T: Float
    J: Float  # H Psi H'
    square: Float
    lane: Float  # (lanes,)
    N: Float  # (q x blocks, r padded)
    H: Float
    Y: Float  # H Psi
    eta: Float  # (q x blocks,) H a
    C: Float  # (r, r padded)
    inverse: Float  # (r, r padded) the swept C
    a: Float  # (r padded,)
    Psi: Float  # (r, r padded)
    C_k: Float  # (x, r, r padded)
    B: Float  # (x, p, r padded) Phi C_k
    h: Float  # (x, r padded) C_k a
    h_scaled: Float  # (x, r padded) Phi h_k
    trace: Float  # (m,) (log|V|)_k + tr(Phi C_k)
    bend: Float  # (m,) a'C_k a
    share: Float  # (s,) a coefficient for each stratum
    N_k: Float  # (q x blocks, r padded)
    M_k: Float  # (x residual, q, q, lanes)
    FM: Float  # (x residual, q, q, lanes) F M_k
    P: Float  # (q x blocks, r padded)
    FP: Float  # (x residual, q x blocks, r padded) F P_k
    PY: Float  # (x residual, q x blocks, r padded) P_k Psi
    pi: Float  # (x residual, q x blocks) P_k a
    phi: Float  # (x residual, q x blocks) F P_k a
    score: Float  # (m,)
    average: Float  # (m, m)
    observed: Float  # (m, m)


def lay_out(X: Float, cls: Int, n_class: int, has_participant: bool, block: Int, column: Int, n_column: int) -> Layout:
    """The layout of a design; raises ValueError if two random terms use the same column of Z."""
    n_participant, n_visit, n_shared = X.shape
    hit = column.reshape(n_participant, -1).max(axis=1, initial=-1)
    labels, block = np.unique(np.where(hit >= 0, block, -1), return_inverse=True)
    block = block.reshape(-1) - int(labels.size > 0 and labels[0] < 0)
    n_block = int(block.max(initial=-1)) + 1
    row, term_start = _rows_by_term(block, column, n_block)
    flat = [X.reshape(n_participant, -1).view(np.int64), cls[:, None], block[:, None], row.reshape(n_participant, -1)]
    head, cell = _distinct_rows(np.concatenate(flat, axis=1))
    used = np.any(X[head] != 0, axis=1)  # (cells, p0)
    in_block = np.zeros((n_block + 1, n_shared), bool)
    np.logical_or.at(in_block, block[head], used)  # row -1 collects the cells without a block
    n_active = int(in_block[:n_block].sum(axis=1).max(initial=0))
    active = np.tile(np.arange(n_shared - n_active, n_column), (n_block, 1))
    active[:, :n_active] = np.argsort(~in_block[:n_block], axis=1, kind="stable")[:, :n_active]
    return Layout(
        n_class=n_class,
        n_stratum=1 + n_visit if has_participant else 1,
        n_term=column.shape[2],
        has_participant=has_participant,
        n_column=n_column,
        n_block=n_block,
        member=np.argsort(cell, kind="stable").astype(np.int64),
        cell_start=np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=head.size))]).astype(np.int64),
        cell_class=cls[head],
        cell_block=block[head],
        cell_x=np.ascontiguousarray(X[head]),
        nonzero_start=np.concatenate([[0], np.cumsum(used.sum(axis=1))]).astype(np.int64),
        nonzero=np.nonzero(used)[1].astype(np.int64),
        cell_row=np.ascontiguousarray(row[head]),
        active=active,
        term_start=term_start,
    )


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


@kernel
def padded(r):  # type: ignore[no-untyped-def]
    """r raised to a multiple of 16."""
    return (r + 15) // 16 * 16


@kernel
def allocate(lay, m):  # type: ignore[no-untyped-def]
    """Statistics and work arrays for one replicate at a time."""
    r, n_s = lay.n_column, lay.n_class * lay.n_stratum
    w = padded(r)
    q, n_x = lay.term_start[-1], m - 1
    n_residual = n_x - lay.n_term
    lanes, rows = padded(lay.n_block), lay.n_block * q
    st = Statistics(
        np.zeros((n_s, r, w)),
        np.zeros(n_s),
        np.zeros((n_s, rows, w)),
        np.zeros((n_s, q, q, lanes)),
    )
    wk = Work(
        np.zeros(n_s),
        np.zeros(q),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros((q, q, lanes)),
        np.zeros(lanes),
        np.zeros((rows, w)),
        np.zeros((rows, w)),
        np.zeros((rows, w)),
        np.zeros(rows),
        np.zeros((r, w)),
        np.zeros((r, w)),
        np.zeros(w),
        np.zeros((r, w)),
        np.zeros((n_x, r, w)),
        np.zeros((n_x, r - 1, w)),
        np.zeros((n_x, w)),
        np.zeros((n_x, w)),
        np.zeros(m),
        np.zeros(m),
        np.zeros(n_s),
        np.zeros((rows, w)),
        np.zeros((n_residual, q, q, lanes)),
        np.zeros((n_residual, q, q, lanes)),
        np.zeros((rows, w)),
        np.zeros((n_residual, rows, w)),
        np.zeros((n_residual, rows, w)),
        np.zeros((n_residual, rows)),
        np.zeros((n_residual, rows)),
        np.zeros(m),
        np.zeros((m, m)),
        np.zeros((m, m)),
    )
    return st, wk
