"""Two-stage analysis of cluster summaries, one fit for each replicate.

Stage 1 regresses the outcome on covariates, without arm and ignoring clusters. Stage 2 takes e_j, the mean residual of
cluster j, and compares the clusters of two arms by a two-sample t test in which every cluster counts once: with k
clusters in an arm, m and s2 the mean and variance of their e_j, estimate = m1 - m0 and

    Student: se^2 = s2 (1/k1 + 1/k0), s2 = (SS1 + SS0)/df, df = k1 + k0 - 2 - q;
    Welch:   se^2 = v1 + v0, v = SS/(k nu), df = (v1 + v0)^2 / (v1^2/nu1 + v0^2/nu0), nu = k - 1 - q;

q dimensions of stage 1 vary only between clusters (strata included, see n_between_clusters). They take their degrees of
freedom from the sum of squares SS, so SS is divided by what is left of them: dividing by k1 + k0 - 2 would make s2 too
small. Under Welch an arm of individuals has no cluster to lose: its q is 0.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.kernels.cross_products import BoolArray, DesignRows, FloatArray, IntArray, distinct_rows, fill_residual
from sim.kernels.least_squares import fit_coefficient
from sim.trial import FAILED, OK

RANK_TOLERANCE = 1e-9  # share of a column's length


class ClusterSummaryFit(NamedTuple):
    """Fits of R replicates; NaN, except n_cluster, where status is 2."""

    estimate: FloatArray  # (R,), treated minus control
    standard_error: FloatArray  # (R,)
    df: FloatArray  # (R,)
    n_cluster: IntArray  # (R, 2), clusters with somebody observed: treated, control
    status: NDArray[np.int8]  # (R,), 0 fitted, 2 failed


def cluster_summary(
    y: FloatArray,
    observed: BoolArray,
    X: FloatArray,
    covariate: FloatArray,
    cluster: NDArray[np.int32],
    arm: NDArray[np.integer],
    contrast_arm: tuple[int, int],
    equal_variance: bool,
    n_cluster_covariate: int = 0,
) -> ClusterSummaryFit:
    """Difference between two arms in covariate-adjusted cluster means, every cluster counting once.

    y : (R, N) outcomes of one visit.  observed : (R, N) or (1, N) Boolean; outcomes under the mask are not read.
    X : (N, p0) and covariate : (R, N, c) or (1, N, c), the stage 1 regression, without arm but with an intercept in X.
    With p0 = c = 0 there is no stage 1 and the outcome itself is averaged.
    cluster : (N,); -1 makes the participant a cluster of one, as untreated controls of a partially nested trial are.
    arm : (N,).  contrast_arm : (treated, control); participants of other arms enter neither stage.
    equal_variance : Student's t test; else Welch's, the one for a partially nested trial.
    n_cluster_covariate : q, as n_between_clusters counts it. Under Welch's test
    every arm of clusters loses all q, which errs on the side of caution where the other arm helps to estimate them.
    Raises ValueError if a cluster has participants in both arms.
    Status 2: stage 1 fails, df is not positive, an arm has no cluster (Welch: fewer than two), summaries do not vary.

    Stage 1 is without arm, so the estimate is conservative: chance imbalance gives part of the effect to covariates.
    It shrinks by about 1/(k1 + k0 - 1) for each covariate that varies only between clusters, a seventh with 8 clusters;
    covariates that vary within clusters cost next to nothing.

    Reference: Hayes and Moulton (2017), Cluster Randomised Trials, 2nd edition, chapter 10.

    >>> y, cluster = np.array([[3.0, 5.0, 6.0, 1.0, 2.0]]), np.array([0, 0, 1, 2, 3], np.int32)
    >>> arm, unadjusted = np.array([1, 1, 1, 0, 0]), (np.zeros((5, 0)), np.zeros((1, 5, 0)))
    >>> fit = cluster_summary(y, np.ones((1, 5), bool), *unadjusted, cluster, arm, (1, 0), equal_variance=True)
    >>> float(fit.estimate[0]), float(fit.df[0])
    (3.5, 2.0)
    """
    is_compared = np.isin(arm, contrast_arm)
    unit, is_treated = _units(cluster, arm == contrast_arm[0], is_compared)
    lost = [n_cluster_covariate * bool((cluster[arm == a] >= 0).any()) for a in contrast_arm]
    return ClusterSummaryFit(
        *_fit_replicates(
            np.ascontiguousarray(y, dtype=np.float64)[:, :, None],
            np.ascontiguousarray(observed & is_compared)[:, :, None],
            distinct_rows(X[:, None, :]),
            np.ascontiguousarray(covariate, dtype=np.float64),
            unit,
            is_treated,
            equal_variance,
            n_cluster_covariate,
            (lost[0], lost[1]),
        )
    )


def n_between_clusters(X: FloatArray, cluster: NDArray[np.int32]) -> int:
    """q: dimensions of the columns X (N, p) that vary between clusters (N,) and within none; -1 = no cluster, left out.

    Rank of the columns less their means - rank of the columns less their cluster means. So a dummy that nobody or
    everybody in a cluster has costs nothing, nor does one that follows from others; strata cost theirs where every
    cluster is of one stratum.

    >>> district, stratum = np.repeat([0.0, 1.0], 4), np.tile([0.0, 1.0], 4)
    >>> n_between_clusters(np.stack([np.ones(8), district, stratum], axis=1), np.repeat([0, 1, 2, 3], 2))
    1
    """
    is_member = cluster >= 0
    label = np.unique(cluster[is_member], return_inverse=True)[1]
    centred = X[is_member] - X[is_member].sum(axis=0) / max(label.size, 1)
    length = np.linalg.norm(centred, axis=0)
    varies = length > RANK_TOLERANCE * np.linalg.norm(X[is_member], axis=0)
    if not varies.any():
        return 0
    unit = centred[:, varies] / length[varies]
    mean = np.stack([np.bincount(label, column) for column in unit.T], axis=1) / np.bincount(label)[:, None]
    ranks = [int(np.linalg.matrix_rank(part, tol=RANK_TOLERANCE)) for part in (unit, unit - mean[label])]
    return ranks[0] - ranks[1]


def _units(cluster: NDArray[np.int32], treated: BoolArray, is_compared: BoolArray) -> tuple[IntArray, BoolArray]:
    """Numbers the clusters 0, 1, ..., participants without one after the others; and says which of them are treated."""
    own = cluster.max(initial=-1) + 1 + np.arange(cluster.size)
    label, unit = np.unique(np.where(cluster >= 0, cluster, own), return_inverse=True)
    is_treated, is_control = np.zeros(label.size, np.bool_), np.zeros(label.size, np.bool_)
    is_treated[unit[is_compared & treated]] = True
    is_control[unit[is_compared & ~treated]] = True
    if np.any(is_treated & is_control):
        raise ValueError(f"cluster {label[is_treated & is_control][0]} has participants in both arms of the comparison")
    return unit, is_treated


@njit(cache=True, error_model="numpy")
def _fit_replicates(
    y: FloatArray,
    observed: BoolArray,
    design: DesignRows,
    covariate: FloatArray,
    unit: IntArray,
    is_treated: BoolArray,
    equal_variance: bool,
    n_cluster_covariate: int,
    lost: tuple[int, int],
) -> tuple[FloatArray, FloatArray, FloatArray, IntArray, NDArray[np.int8]]:
    R, N, _ = y.shape
    p = design.n_column + covariate.shape[2]
    estimate, standard_error, df = np.full(R, np.nan), np.full(R, np.nan), np.full(R, np.nan)
    n_cluster, status = np.zeros((R, 2), np.int64), np.full(R, FAILED, np.int8)
    L, beta, residual = np.empty((p, p)), np.empty(p), np.empty((N, 1))
    for r in range(R):
        seen, z = observed[r % observed.shape[0]], covariate[r % covariate.shape[0]]
        summary, n_person = np.zeros(is_treated.size), np.zeros(is_treated.size)
        _, is_full_rank = fit_coefficient(y[r], seen, design, z, L, beta)
        if is_full_rank:
            fill_residual(y[r], seen, design, z, beta, residual)
        for i in range(N):
            if seen[i, 0]:
                n_person[unit[i]] += 1.0
                summary[unit[i]] += residual[i, 0]
        summary /= n_person
        k1, m1, ss1 = _moments(summary, (n_person > 0.0) & is_treated)
        k0, m0, ss0 = _moments(summary, (n_person > 0.0) & ~is_treated)
        n_cluster[r, 0], n_cluster[r, 1] = k1, k0
        if not is_full_rank or min(k1, k0) < (1 if equal_variance else 2):
            continue
        if equal_variance:
            nu = float(k1 + k0 - 2 - n_cluster_covariate)
            variance = (ss1 + ss0) / nu * (1.0 / k1 + 1.0 / k0)
        else:
            nu1, nu0 = float(k1 - 1 - lost[0]), float(k0 - 1 - lost[1])
            if min(nu1, nu0) <= 0.0:
                continue
            v1, v0 = ss1 / nu1 / k1, ss0 / nu0 / k0
            variance = v1 + v0
            nu = variance * variance / (v1 * v1 / nu1 + v0 * v0 / nu0)
        if nu > 0.0 and 0.0 < variance < np.inf:
            estimate[r], standard_error[r], df[r] = m1 - m0, np.sqrt(variance), nu
            status[r] = OK
    return estimate, standard_error, df, n_cluster, status


@njit(cache=True, error_model="numpy")
def _moments(x: FloatArray, is_member: BoolArray) -> tuple[int, float, float]:
    """Number, mean and sum of squares about the mean of the members of x."""
    k, total, ss = 0, 0.0, 0.0
    for j in range(x.size):
        if is_member[j]:
            k += 1
            total += x[j]
    mean = total / k
    for j in range(x.size):
        if is_member[j]:
            ss += (x[j] - mean) ** 2
    return k, mean, ss
