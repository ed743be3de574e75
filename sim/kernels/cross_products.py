"""Cross-products of a design whose rows repeat, and the small Cholesky solver they feed.

The rows of a trial's X repeat: there are about as many distinct rows as arm-by-visit cells, not as observations. For
the distinct row x_k let n_k be its observations, y_+k and z_+k the sums of their outcomes and participants' covariates.
Then

    X'X = sum_k n_k x_k x_k',   X'y = sum_k y_+k x_k,   Z'X = sum_k z_+k x_k',

so one pass over the participants, then a few products of non-zero entries, gives the normal equations of [X Z].
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

# A column whose share of variation left by the columns before it is below this adds nothing that rounding would not.
RANK_TOLERANCE = 1e-10


class DesignRows(NamedTuple):
    """Distinct rows of X, non-zero entries only: entries start[k]:start[k + 1] of `column` and `value` are row k."""

    row: IntArray  # (N, T), which distinct row a visit has
    start: IntArray  # (K + 1,)
    column: IntArray  # ascending within a row
    value: FloatArray
    n_column: int


def distinct_rows(X: FloatArray) -> DesignRows:
    """Distinct rows of the design matrix X (N, T, p0), which every replicate shares; p0 may be 0."""
    N, T, p0 = X.shape
    flat = np.ascontiguousarray(X, dtype=np.float64).reshape(N * T, p0)
    if p0 == 0:
        return DesignRows(np.zeros((N, T), np.int64), np.zeros(2, np.int64), np.zeros(0, np.int64), np.zeros(0), 0)
    as_bytes = flat.view(np.dtype((np.void, flat.itemsize * p0))).ravel()  # far faster to sort than np.unique(axis=0)
    _, first, row = np.unique(as_bytes, return_index=True, return_inverse=True)
    distinct = flat[first]
    k, column = np.nonzero(distinct)
    start = np.searchsorted(k, np.arange(first.size + 1))
    return DesignRows(row.reshape(N, T), start, column, distinct[k, column], p0)


@njit(cache=True, error_model="numpy")
def normal_equations(
    y: FloatArray, observed: BoolArray, design: DesignRows, covariate: FloatArray, A: FloatArray, b: FloatArray
) -> int:
    """Fills A (p, p; lower triangle) with [X Z]'[X Z] and b (p,) with [X Z]'y of one replicate; returns n_obs.

    y, observed (N, T); covariate Z (N, c), read only for participants seen at least once.
    """
    row, n_distinct, p0, c = design.row, design.start.size - 1, design.n_column, covariate.shape[1]
    n_row, y_row, z_row = np.zeros(n_distinct), np.zeros(n_distinct), np.zeros((n_distinct, c))
    A[:] = 0.0
    b[:] = 0.0
    n_obs = 0
    for i in range(y.shape[0]):
        n_visit, y_sum = 0, 0.0
        for t in range(y.shape[1]):
            if observed[i, t]:
                k = row[i, t]
                n_visit += 1
                y_sum += y[i, t]
                n_row[k] += 1.0
                y_row[k] += y[i, t]
                for j in range(c):
                    z_row[k, j] += covariate[i, j]
        if n_visit > 0:
            n_obs += n_visit
            for j in range(c):
                b[p0 + j] += covariate[i, j] * y_sum
                for l in range(j + 1):  # noqa: E741
                    A[p0 + j, p0 + l] += n_visit * covariate[i, j] * covariate[i, l]
    for k in range(n_distinct):
        if n_row[k] > 0.0:
            for u in range(design.start[k], design.start[k + 1]):
                column, value = design.column[u], design.value[u]
                b[column] += value * y_row[k]
                for w in range(design.start[k], u + 1):
                    A[column, design.column[w]] += n_row[k] * value * design.value[w]
                for j in range(c):
                    A[p0 + j, column] += value * z_row[k, j]
    return n_obs


@njit(cache=True, error_model="numpy")
def fill_residual(
    y: FloatArray,
    observed: BoolArray,
    design: DesignRows,
    covariate: FloatArray,
    coefficient: FloatArray,
    residual: FloatArray,
) -> float:
    """Fills residual (N, T) with y - [X Z] coefficient, 0 where not observed; returns its sum of squares.

    The sum of squares is taken from the residuals, not from y'y - b'coefficient, which cancels when the mean is large.
    """
    row, n_distinct, p0 = design.row, design.start.size - 1, design.n_column
    fitted = np.zeros(n_distinct)
    for k in range(n_distinct):
        for u in range(design.start[k], design.start[k + 1]):
            fitted[k] += design.value[u] * coefficient[design.column[u]]
    sum_of_squares = 0.0
    for i in range(y.shape[0]):
        for t in range(y.shape[1]):
            residual[i, t] = 0.0
            if observed[i, t]:
                e = y[i, t] - fitted[row[i, t]]
                for j in range(covariate.shape[1]):
                    e -= covariate[i, j] * coefficient[p0 + j]
                residual[i, t] = e
                sum_of_squares += e * e
    return sum_of_squares


@njit(cache=True, error_model="numpy")
def cholesky(A: FloatArray) -> bool:
    """Overwrites the lower triangle of A by L with A = L L'; False if A is not of full rank or not finite."""
    for j in range(A.shape[0]):
        pivot = A[j, j]
        for k in range(j):
            pivot -= A[j, k] * A[j, k]
        if not pivot > RANK_TOLERANCE * A[j, j]:
            return False
        A[j, j] = np.sqrt(pivot)
        for i in range(j + 1, A.shape[0]):
            product = A[i, j]
            for k in range(j):
                product -= A[i, k] * A[j, k]
            A[i, j] = product / A[j, j]
    return True


@njit(cache=True, error_model="numpy")
def solve_lower(L: FloatArray, x: FloatArray) -> None:
    """Overwrites x by the solution of L x = x."""
    for i in range(x.size):
        for k in range(i):
            x[i] -= L[i, k] * x[k]
        x[i] /= L[i, i]


@njit(cache=True, error_model="numpy")
def solve_lower_transposed(L: FloatArray, x: FloatArray) -> None:
    """Overwrites x by the solution of L' x = x."""
    for i in range(x.size - 1, -1, -1):
        for k in range(i + 1, x.size):
            x[i] -= L[k, i] * x[k]
        x[i] /= L[i, i]
