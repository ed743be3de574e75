"""Ordinary least squares, one fit for each replicate.

With n observed outcomes y, the design [X Z] of p columns (Z the participants' covariates) and a contrast q'beta,

    beta = ([X Z]'[X Z])^-1 [X Z]'y,  s2 = |y - [X Z] beta|^2 / (n - p),  se^2 = s2 q'([X Z]'[X Z])^-1 q,  df = n - p.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.kernels.cross_products import (
    BoolArray,
    DesignRows,
    FloatArray,
    IntArray,
    cholesky,
    distinct_rows,
    fill_residual,
    normal_equations,
    solve_lower,
    solve_lower_transposed,
)
from sim.trial import FAILED, OK


class LeastSquaresFit(NamedTuple):
    """Fits of R replicates for Q contrasts; NaN throughout, except n_obs, where status is 2."""

    estimate: FloatArray  # (R, Q)
    standard_error: FloatArray  # (R, Q)
    df: FloatArray  # (R, Q), n_obs - p
    residual_variance: FloatArray  # (R,)
    coefficient: FloatArray  # (R, p)
    status: NDArray[np.int8]  # (R,), 0 fitted, 2 failed
    n_obs: IntArray  # (R,)


def ols(
    y: FloatArray, observed: BoolArray, X: FloatArray, covariate: FloatArray, contrast: FloatArray
) -> LeastSquaresFit:
    """Least-squares estimates of contrasts, with the usual standard errors (equal variances, independent errors).

    y : (R, N, T) outcomes.  observed : (R, N, T) or (1, N, T) Boolean; outcomes under the mask are not read.
    X : (N, T, p0) design shared by all replicates; fastest when its rows repeat, as dummies of arm and visit do.
    covariate : (R, N, c) or (1, N, c), constant over visits, appended after X; c may be 0. Centre a column whose mean
    is far above its SD (a calendar day): digits go with the ratio squared, and from 1e5 it counts as dependent.
    contrast : (Q, p), p = p0 + c.
    A replicate with n_obs <= p, with dependent columns or with a value that is not finite has status 2.

    Reference: Searle (1971), Linear Models, chapter 3.

    >>> y = np.array([[[1.0], [3.0], [6.0], [8.0]]])
    >>> X = np.array([[[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 1.0]], [[1.0, 1.0]]])
    >>> fit = ols(y, np.ones((1, 4, 1), bool), X, np.zeros((1, 4, 0)), np.array([[0.0, 1.0]]))
    >>> float(fit.estimate[0, 0].round(6)), float(fit.standard_error[0, 0].round(6)), float(fit.df[0, 0])
    (5.0, 1.414214, 2.0)
    """
    return LeastSquaresFit(
        *_fit_replicates(
            np.ascontiguousarray(y, dtype=np.float64),
            np.ascontiguousarray(observed),
            distinct_rows(X),
            np.ascontiguousarray(covariate, dtype=np.float64),
            np.ascontiguousarray(contrast, dtype=np.float64),
        )
    )


@njit(cache=True, error_model="numpy")
def fit_coefficient(
    y: FloatArray,
    observed: BoolArray,
    design: DesignRows,
    covariate: FloatArray,
    L: FloatArray,
    coefficient: FloatArray,
) -> tuple[int, bool]:
    """Fills L, the Cholesky factor of [X Z]'[X Z], and coefficient of a replicate; returns (n_obs, is_full_rank)."""
    n_obs = normal_equations(y, observed, design, covariate, L, coefficient)
    if n_obs <= coefficient.size or not cholesky(L):
        return n_obs, False
    solve_lower(L, coefficient)
    solve_lower_transposed(L, coefficient)
    return n_obs, True


@njit(cache=True, error_model="numpy")
def _fit_replicates(
    y: FloatArray, observed: BoolArray, design: DesignRows, covariate: FloatArray, contrast: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, NDArray[np.int8], IntArray]:
    R, N, T = y.shape
    Q, p = contrast.shape
    estimate, standard_error, df = np.full((R, Q), np.nan), np.full((R, Q), np.nan), np.full((R, Q), np.nan)
    residual_variance, coefficient = np.full(R, np.nan), np.full((R, p), np.nan)
    status, n_obs = np.full(R, FAILED, np.int8), np.zeros(R, np.int64)
    L, beta, residual, h = np.empty((p, p)), np.empty(p), np.empty((N, T)), np.empty(p)
    for r in range(R):
        seen, z = observed[r % observed.shape[0]], covariate[r % covariate.shape[0]]
        n_obs[r], is_full_rank = fit_coefficient(y[r], seen, design, z, L, beta)
        if not is_full_rank:
            continue
        s2 = fill_residual(y[r], seen, design, z, beta, residual) / (n_obs[r] - p)
        if not np.isfinite(s2):
            continue
        for q in range(Q):
            h[:] = contrast[q]
            solve_lower(L, h)  # h = L^-1 q, so that q'(X'X)^-1 q = h'h
            estimate[r, q] = np.sum(contrast[q] * beta)
            standard_error[r, q] = np.sqrt(s2 * np.sum(h * h))
            df[r, q] = n_obs[r] - p
        residual_variance[r] = s2
        coefficient[r] = beta
        status[r] = OK
    return estimate, standard_error, df, residual_variance, coefficient, status, n_obs
