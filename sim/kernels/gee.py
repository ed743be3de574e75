"""Generalised estimating equations with an exchangeable working correlation, one fit for each replicate.

mu = g^-1(X beta), variance phi v(mu), correlation rho between any two members of a cluster. With D = d mu/d beta, r the
Pearson residuals (y - mu)/sqrt(v), R_j the working correlation of cluster j and N observations,

    W_j = R_j^-1/2 v_j^-1/2 D_j,   z_j = R_j^-1/2 r_j,   M = (sum_j W_j'W_j)^-1,   beta <- beta + M sum_j W_j'z_j,
    phi = sum r^2/(N - p),   rho = sum_j sum_{i<k} r_ji r_jk / phi / (number of pairs - p)       (Liang, Zeger 1986),
    V = M (sum_j u_j u_j') M,   Q_j = W_j M W_j',
    robust  u_j = W_j'z_j                       Liang, Zeger 1986, doi:10.1093/biomet/73.1.13
    kc      u_j = W_j'(I - Q_j)^-1/2 z_j        Kauermann, Carroll 2001, doi:10.1198/016214501753382309
    md      u_j = W_j'(I - Q_j)^-1 z_j          Mancl, DeRouen 2001, doi:10.1111/j.0006-341X.2001.00126.x
    fg      u_j = F_j W_j'z_j, F_j = diag(1 - min(.75, (W_j'W_j M)_kk))^-1/2
                                                Fay, Graubard 2001, doi:10.1111/j.0006-341X.2001.01198.x

The scale phi cancels. `robust` is tested against the normal distribution, the corrected errors against t with J - p df
(J clusters; Li, Redden 2015, doi:10.1002/sim.6344).
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.kernels.cross_products import BoolArray, FloatArray, IntArray
from sim.kernels.sandwich import ROUNDING, inverse_root, members, power_of_rest
from sim.trial import FAILED, OK

Correction = Literal["robust", "kc", "md", "fg"]
Family = Literal["gaussian", "binomial"]
POWER = {"robust": 0.0, "kc": -0.5, "md": -1.0, "fg": 0.0}
LARGEST_LEVERAGE = 0.75  # Fay and Graubard's b
TOLERANCE = 1e-12


class GeeFit(NamedTuple):
    """Fits of R replicates for Q contrasts; NaN throughout, except n_cluster, where status is 2."""

    estimate: FloatArray  # (R, Q), on the scale of the link
    standard_error: FloatArray  # (R, Q)
    df: FloatArray  # (R, Q), infinite for `robust`
    coefficient: FloatArray  # (R, p)
    correlation: FloatArray  # (R,) working correlation rho
    scale: FloatArray  # (R,) phi
    n_cluster: IntArray  # (R,)
    status: NDArray[np.int8]  # (R,), 0 fitted, 2 failed


def gee(
    y: FloatArray,
    observed: BoolArray,
    X: FloatArray,
    cluster: NDArray[np.integer],
    contrast: FloatArray,
    correction: Correction,
    family: Family = "gaussian",
    max_iteration: int = 200,
) -> GeeFit:
    """Contrasts of a marginal mean model: identity link for `gaussian`, logit for `binomial` (outcomes 0 and 1).

    y : (R, N).  observed : (R, N) or (1, N) Boolean; outcomes under the mask are not read.  X : (N, p), shared.
    cluster : (N,), not negative.  contrast : (Q, p).
    Status 2: dependent columns, no convergence (perfect separation), no more clusters than columns, a perfect fit.

    >>> y = np.array([[1.0, 3.0, 2.0, 4.0, 6.0, 8.0, 5.0, 9.0, 6.0, 7.0, 9.0, 12.0]])
    >>> X = np.array([[1, 0]] * 6 + [[1, 1]] * 6, float)
    >>> fit = gee(y, np.ones((1, 12), bool), X, np.repeat(np.arange(4), 3), np.array([[0.0, 1.0]]), "md")
    >>> float(fit.estimate[0, 0].round(6)), float(fit.standard_error[0, 0].round(6)), float(fit.df[0, 0])
    (4.0, 3.399346, 2.0)
    """
    R, p, Q = y.shape[0], X.shape[1], contrast.shape[0]
    many, one = np.full((3, R, Q), np.nan), np.full((2, R), np.nan)
    counted, status = np.zeros(R, np.int64), np.full(R, FAILED, np.int8)
    fit = GeeFit(many[0], many[1], many[2], np.full((R, p), np.nan), one[0], one[1], counted, status)
    for r in range(R):
        seen = observed[r % observed.shape[0]]
        label, member = np.unique(cluster[seen], return_inverse=True)
        fit.n_cluster[r] = label.size
        solved = _solve(y[r, seen], X[seen], member, family, max_iteration) if label.size > p else None
        if solved is None:
            continue
        beta, rho, scale, W, z, root = solved
        variance = contrast @ _covariance(W, z, member, root, correction) @ contrast.T
        if not np.all(np.isfinite(variance)) or not np.all(np.diag(variance) > 0.0):
            continue
        fit.estimate[r], fit.standard_error[r] = contrast @ beta, np.sqrt(np.diag(variance))
        fit.df[r] = np.inf if correction == "robust" else label.size - p
        fit.coefficient[r], fit.correlation[r], fit.scale[r], fit.status[r] = beta, rho, scale, OK
    return fit


def _solve(
    y: FloatArray, X: FloatArray, member: IntArray, family: Family, max_iteration: int
) -> tuple[FloatArray, float, float, FloatArray, FloatArray, FloatArray] | None:
    """beta, rho, phi, W, z and a root of M at the solution; None without one."""
    beta, size = np.zeros(X.shape[1]), np.bincount(member)
    if not np.all(np.isfinite(y)):
        return None
    for _ in range(max_iteration):
        r, D = _standardised(y, X, beta, family)
        if not np.all(np.isfinite(r)) or np.linalg.norm(r) <= ROUNDING * np.linalg.norm(y):
            return None
        rho, scale = _correlation(r, member, size, X.shape[1])
        if not -1.0 / max(size.max() - 1, 1) < rho < 1.0:
            return None
        W, z = _decorrelate(D, member, size, rho), _decorrelate(r[:, None], member, size, rho)[:, 0]
        root = inverse_root(W)
        if root is None:
            return None
        step = root @ (root.T @ (W.T @ z))
        if np.linalg.norm(step) <= TOLERANCE * (1.0 + np.linalg.norm(beta)):
            return beta, rho, scale, W, z, root
        beta = beta + step
    return None


def _standardised(y: FloatArray, X: FloatArray, beta: FloatArray, family: Family) -> tuple[FloatArray, FloatArray]:
    """Pearson residuals (n,) and v^-1/2 D (n, p)."""
    if family == "gaussian":
        return y - X @ beta, X
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        mu = 1.0 / (1.0 + np.exp(-X @ beta))
        sd = np.sqrt(mu * (1.0 - mu))
        return (y - mu) / sd, sd[:, None] * X


def _correlation(r: FloatArray, member: IntArray, size: IntArray, p: int) -> tuple[float, float]:
    """Moment estimates (rho, phi), both with p taken off the denominator."""
    squares = float(r @ r)
    scale = squares / (r.size - p)
    products = (np.sum(np.bincount(member, r) ** 2) - squares) / 2.0
    n_pair = np.sum(size * (size - 1)) / 2.0 - p
    return (float(products / scale / n_pair) if n_pair > 0.0 and scale > 0.0 else np.nan), scale


def _decorrelate(v: FloatArray, member: IntArray, size: IntArray, rho: float) -> FloatArray:
    """R^-1/2 v for every cluster at once: the mean and the deviations are R's eigenvectors."""
    mean = np.stack([np.bincount(member, column) / size for column in v.T], axis=1)
    between = 1.0 / np.sqrt(1.0 + (size - 1.0) * rho) - 1.0 / np.sqrt(1.0 - rho)
    return np.asarray(v / np.sqrt(1.0 - rho) + (between[:, None] * mean)[member])


def _covariance(W: FloatArray, z: FloatArray, member: IntArray, root: FloatArray, correction: Correction) -> FloatArray:
    """(p, p) covariance matrix of beta."""
    M = root @ root.T
    u = np.empty((member.max() + 1, W.shape[1]))
    for j, i in enumerate(members(member)):
        u[j] = W[i].T @ power_of_rest(W[i], root, POWER[correction], z[i, None])[:, 0]
        if correction == "fg":
            u[j] /= np.sqrt(1.0 - np.minimum(LARGEST_LEVERAGE, np.diag(W[i].T @ W[i] @ M)))
    return np.asarray(M @ (u.T @ u) @ M)
