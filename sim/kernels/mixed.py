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
Per block (Woodbury, valid at g = 0):  D = G^1/2 (I + G^1/2 M G^1/2)^-1 G^1/2,  F = I - M D,  D = G F,
  H = F N = Z'V^-1 z,  T = F M = Z'V^-1 Z,  Q = D N = G H,  P_k = N_k - M_k Q.
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
Homogeneity.  V is linear in theta, so the derivatives by e_0 follow from the others:
  sum theta_k C_k = -C;  sum theta_k [(log|V|)_k + tr(Phi C_k)] = n - p;  sum theta_k a'C_k a = -a'C a;
  sum_l theta_l observed_kl = score_k - 1/2 a'C_k a;  sum_l theta_l average_kl = -1/2 a'C_k a;  sum theta_k f_k = f.
Satterthwaite.  f = c'Phi c, df_f/d theta_k = -g'C_k g with g = Phi c, df = 2 f^2/(grad' information^-1 grad).

References: Patterson, Thompson 1971, doi:10.1093/biomet/58.3.545 (REML); Harville 1977,
doi:10.1080/01621459.1977.10480998 (derivatives); Gilmour, Thompson, Cullis 1995, doi:10.2307/2533274 (average
information); Fai, Cornelius 1996, doi:10.1080/00949659608811740 (Satterthwaite for a contrast); Woodbury 1950 (blocks).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from sim.kernels.mixed_accumulate import accumulate
from sim.kernels.mixed_layout import Bool, Float, Int, allocate, lay_out, padded
from sim.kernels.mixed_optimise import default_start, maximise, satterthwaite
from sim.trial import FAILED, OK, SINGULAR


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
    layout = lay_out(np.ascontiguousarray(X, np.float64), cls, n_class, has_participant, block, column, n_fixed + 1)
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


@njit(cache=True, error_model="numpy")
def _fit_batch(y, observed, covariate, contrast, lay, start, max_iteration):  # type: ignore[no-untyped-def]
    """Fit every replicate on its own; a failed one keeps its NaN."""
    n_replicate, _, n_visit = y.shape
    n_cov, n_contrast, p, m = covariate.shape[2], contrast.shape[0], lay.n_column - 1, start.size
    st, wk = allocate(lay, m)
    largest = 1
    for cell in range(lay.cell_class.size):
        largest = max(largest, lay.cell_start[cell + 1] - lay.cell_start[cell])
    mask = np.zeros(largest, np.int64)
    pattern = np.zeros((largest, 3 + n_visit + (2 + n_cov) * n_cov))
    z = np.zeros((n_visit + 1, padded(p + 1)))
    inference = np.full((n_replicate, 3, n_contrast), np.nan)
    variance = np.full((n_replicate, m), np.nan)
    coefficient = np.full((n_replicate, p), np.nan)
    criterion = np.full(n_replicate, np.nan)
    status = np.full(n_replicate, np.int8(FAILED))
    n_iteration = np.zeros(n_replicate, np.int64)
    out = np.zeros((3, n_contrast))
    for i in range(n_replicate):
        seen = observed[i if observed.shape[0] > 1 else 0]
        accumulate(y[i], seen, covariate[i], lay, st, mask, pattern, z)
        theta = start.copy()
        if not default_start(lay, st, wk, theta):
            continue
        value, n_iteration[i], converged = maximise(theta, lay, st, wk, max_iteration)
        if not converged or not satterthwaite(theta, contrast, lay, wk, out) or not np.all(np.isfinite(out)):
            continue
        inference[i] = out
        variance[i] = theta
        coefficient[i] = -wk.a[:p]
        criterion[i] = value
        status[i] = SINGULAR if np.any(theta == 0.0) else OK
    return inference, variance, coefficient, criterion, status, n_iteration
