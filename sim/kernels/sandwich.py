"""Least squares with cluster-robust standard errors and small-sample degrees of freedom, one fit per replicate.

With clusters j, M = (X'X)^-1, e the residuals, H_j = X_j M X_j' the leverage of a cluster and contrasts C,

    a_j = A_j X_j M C',   V = k sum_j (a_j'e_j)(a_j'e_j)',   b_j = X_j'a_j,
    CR0: A_j = I, k = 1;   CR1: A_j = I, k = J/(J - 1);   CR2: A_j = (I - H_j)^-1/2, k = 1;   CR3: A_j = (I - H_j)^-1.

If errors are independent with equal variance (the working model), V is unbiased under CR2, and its entries are sums of
products of normals u_j = a_j'e_j with covariances K_jk = [j = k] a_j'a_k - b_j'M b_k (q, q). With K = sum_j K_jj and
P_jk = K^-1/2 K_jk K^-1/2, q contrasts at once have

    eta = q(q + 1) / sum_jk [(tr P_jk)^2 + tr(P_jk P_jk)],   F = (eta - q + 1)/(eta q) (C beta)'V^-1(C beta),
    df = (q, eta - q + 1)                                                (HTZ: an approximate Hotelling T^2);

one alone has eta df (Satterthwaite). The sums over pairs of clusters follow from G = sum_j B_j B_j', B_j = M^1/2 b_j.

References: Bell, McCaffrey 2002, Survey Methodology 28:169; Pustejovsky, Tipton 2018,
doi:10.1080/07350015.2016.1247004.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.kernels.cross_products import BoolArray, FloatArray, IntArray
from sim.trial import FAILED, OK

Correction = Literal["cr0", "cr1", "cr2", "cr3"]
POWER = {"cr0": 0.0, "cr1": 0.0, "cr2": -0.5, "cr3": -1.0}
RANK_TOLERANCE = 1e-10
LEVERAGE_TOLERANCE = 1e-12
ROUNDING = 1e-13  # residuals below this share of the outcomes are what rounding leaves of a perfect fit


class SandwichFit(NamedTuple):
    """Fits of R replicates for Q contrasts; NaN throughout, except the counts, where status is 2."""

    estimate: FloatArray  # (R, Q)
    standard_error: FloatArray  # (R, Q)
    df: FloatArray  # (R, Q)
    coefficient: FloatArray  # (R, p)
    residual_variance: FloatArray  # (R,) of the working model
    joint_f: FloatArray  # (R,), NaN without a joint test
    joint_ddf: FloatArray  # (R,)
    n_cluster: IntArray  # (R,)
    status: NDArray[np.int8]  # (R,), 0 fitted, 2 failed


def cluster_robust(
    y: FloatArray,
    observed: BoolArray,
    X: FloatArray,
    cluster: NDArray[np.integer],
    contrast: FloatArray,
    correction: Correction,
    joint: FloatArray | None = None,
) -> SandwichFit:
    """Least-squares estimates of contrasts with cluster-robust standard errors.

    y : (R, N) outcomes.  observed : (R, N) or (1, N) Boolean; outcomes under the mask are not read.
    X : (N, p), shared by all replicates.  cluster : (N,), not negative.  contrast : (Q, p).
    joint : (q, p) rows tested together, or None.
    Status 2: dependent columns, no more rows than columns, fewer than two clusters, residuals all 0.

    >>> y = np.array([[1.0, 2.0, 3.0, 5.0, 6.0, 10.0]])
    >>> X = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [1, 1], [1, 1]], float)
    >>> fit = cluster_robust(y, np.ones((1, 6), bool), X, np.arange(6), np.array([[0.0, 1.0]]), "cr2")
    >>> float(fit.estimate[0, 0].round(6)), float(fit.standard_error[0, 0].round(6)), float(fit.df[0, 0].round(6))
    (5.0, 1.632993, 4.0)
    """
    R, p, Q = y.shape[0], X.shape[1], contrast.shape[0]
    many, one = np.full((3, R, Q), np.nan), np.full((3, R), np.nan)
    counted, status = np.zeros(R, np.int64), np.full(R, FAILED, np.int8)
    fit = SandwichFit(many[0], many[1], many[2], np.full((R, p), np.nan), one[0], one[1], one[2], counted, status)
    for r in range(R):
        seen = observed[r % observed.shape[0]]
        _fit_replicate(r, y[r, seen], X[seen], cluster[seen], contrast, correction, joint, fit)
    return fit


def _fit_replicate(
    r: int,
    y: FloatArray,
    X: FloatArray,
    cluster: NDArray[np.integer],
    contrast: FloatArray,
    correction: Correction,
    joint: FloatArray | None,
    fit: SandwichFit,
) -> None:
    """Fills row r of `fit`, unless the replicate cannot be fitted."""
    rows = members(cluster)
    fit.n_cluster[r] = J = len(rows)
    root = inverse_root(X)  # M = root root'
    if root is None or y.size <= X.shape[1] or J < 2 or not np.all(np.isfinite(y)):
        return
    beta = root @ (root.T @ (X.T @ y))
    residual = y - X @ beta
    if np.linalg.norm(residual) <= ROUNDING * np.linalg.norm(y):
        return
    weight = J / (J - 1) if correction == "cr1" else 1.0
    every = contrast if joint is None else np.concatenate([contrast, joint])
    Q = len(contrast)
    u, b, own = _scores(X, residual, rows, root, every, POWER[correction])
    V = weight * u.T @ u
    df = np.array([_eta(b[:, :, [k]], own[:, k, k][:, None, None]) for k in range(Q)])
    if not (np.all(np.isfinite(df)) and np.all(np.diag(V)[:Q] > 0.0)):
        return
    fit.coefficient[r], fit.estimate[r] = beta, contrast @ beta
    fit.standard_error[r], fit.df[r] = np.sqrt(np.diag(V)[:Q]), df
    fit.residual_variance[r] = residual @ residual / (y.size - X.shape[1])
    if joint is not None:
        fit.joint_f[r], fit.joint_ddf[r] = _hotelling(joint @ beta, V[Q:, Q:], b[:, :, Q:], own[:, Q:, Q:])
    fit.status[r] = OK


def members(cluster: NDArray[np.integer]) -> list[IntArray]:
    """The rows of every cluster, clusters in the order of their labels."""
    if cluster.size == 0:
        return []
    order = np.argsort(cluster, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1)


def inverse_root(X: FloatArray) -> FloatArray | None:
    """(p, p) matrix whose product with its transpose is (X'X)^-1; None if columns of X (n, p) are dependent."""
    scale = np.linalg.norm(X, axis=0)
    if X.shape[0] < X.shape[1] or not np.all((scale > 0.0) & np.isfinite(scale)):
        return None
    _, s, Vt = np.linalg.svd(X / scale, full_matrices=False)
    if s[-1] <= RANK_TOLERANCE * s[0]:
        return None
    return np.asarray(Vt.T / s / scale[:, None])


def power_of_rest(X: FloatArray, root: FloatArray, power: float, v: FloatArray) -> FloatArray:
    """(I - X root root'X')^power v, for one cluster: X (n, p), v (n, q). Directions of leverage 1 are left out."""
    if power == 0.0:
        return v
    U, s, _ = np.linalg.svd(X @ root, full_matrices=False)
    rest = 1.0 - s**2
    scaled = np.where(rest > LEVERAGE_TOLERANCE, np.maximum(rest, LEVERAGE_TOLERANCE) ** power, 0.0)
    return np.asarray(v + U @ ((scaled - 1.0)[:, None] * (U.T @ v)))


def _scores(
    X: FloatArray, residual: FloatArray, rows: list[IntArray], root: FloatArray, contrast: FloatArray, power: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """u (J, Q), M^1/2 b (J, p, Q) and a'a (J, Q, Q) of every cluster."""
    J, Q = len(rows), len(contrast)
    effect = root @ (root.T @ contrast.T)  # M C'
    u, b, own = np.empty((J, Q)), np.empty((J, len(root), Q)), np.empty((J, Q, Q))
    for j, i in enumerate(rows):
        a = power_of_rest(X[i], root, power, X[i] @ effect)
        u[j], b[j], own[j] = a.T @ residual[i], root.T @ (X[i].T @ a), a.T @ a
    return u, b, own


def _eta(b: FloatArray, own: FloatArray) -> float:
    """Degrees of freedom of V for q contrasts; b (J, p, q), own (J, q, q)."""
    q = own.shape[1]
    within = np.einsum("jps,jpt->jst", b, b)
    value, vector = np.linalg.eigh((own - within).sum(axis=0))
    if not value[0] > 0.0:
        return np.nan
    half = vector / np.sqrt(value) @ vector.T
    b, own, within = b @ half, half @ own @ half, half @ within @ half
    G = np.einsum("jps,jrt->psrt", b, b)
    trace = np.trace(own, axis1=1, axis2=2)
    total = np.sum(trace * (trace - 2.0 * np.trace(within, axis1=1, axis2=2))) + np.sum(G * G)
    total += np.einsum("jst,jts->", own, own - 2.0 * within) + np.einsum("psrt,ptrs->", G, G)
    return float(q * (q + 1) / total)


def _hotelling(effect: FloatArray, V: FloatArray, b: FloatArray, own: FloatArray) -> tuple[float, float]:
    """F and denominator df of the HTZ test that `effect` (q,) is 0."""
    q, eta = effect.size, _eta(b, own)
    if not eta > q - 1 or np.linalg.matrix_rank(V) < q:
        return np.nan, np.nan
    distance = effect @ np.linalg.solve(V, effect)
    return float((eta - q + 1) / (eta * q) * distance), float(eta - q + 1)
