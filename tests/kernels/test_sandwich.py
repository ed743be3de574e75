"""Cluster-robust least squares against clubSandwich, against the textbook formulas, and its failures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sim.kernels.sandwich import cluster_robust
from sim.trial import FAILED, OK

FOLDER = Path(__file__).parents[1] / "reference" / "r"


def trial():
    """y (1, n), X of ancova_cr2.json, village."""
    data = pd.read_csv(FOLDER / "data" / "crt3.csv").query("visit == 3")
    X = np.column_stack([np.ones(len(data)), data[["baseline", "arm", "age", "sex"]]])
    return data["y"].to_numpy()[None], X, data["village"].to_numpy()


def everyone(y):
    return np.ones((1, y.shape[1]), bool)


@pytest.mark.parametrize("correction", ["cr0", "cr1", "cr2", "cr3"])
def test_against_clubsandwich(correction):
    expected = json.loads((FOLDER / "ancova_cr2.json").read_text())["tests"][correction.upper()]
    y, X, village = trial()
    fit = cluster_robust(y, everyone(y), X, village, np.eye(5), correction)
    for name, key in (("estimate", "estimate"), ("standard_error", "se"), ("df", "df_satt")):
        np.testing.assert_allclose(getattr(fit, name)[0], [row[key] for row in expected], rtol=1e-9)


def test_hotelling_against_clubsandwich():
    expected = json.loads((FOLDER / "ancova_cr2.json").read_text())["wald_HTZ_arm_baseline"]
    y, X, village = trial()
    fit = cluster_robust(y, everyone(y), X, village, np.eye(5), "cr2", joint=np.eye(5)[[2, 1]])
    np.testing.assert_allclose(fit.joint_f[0], expected["F"], rtol=1e-9)
    np.testing.assert_allclose(fit.joint_ddf[0], expected["df_denom"], rtol=1e-9)


def test_joint_test_of_one_is_the_square_of_t():
    y, X, village = trial()
    fit = cluster_robust(y, everyone(y), X, village, np.eye(5)[[2]], "cr2", joint=np.eye(5)[[2]])
    np.testing.assert_allclose(fit.joint_f[0], (fit.estimate / fit.standard_error)[0, 0] ** 2, rtol=1e-12)
    np.testing.assert_allclose(fit.joint_ddf[0], fit.df[0, 0], rtol=1e-12)


@pytest.mark.parametrize("correction, power", [("cr0", 0.0), ("cr2", -0.5), ("cr3", -1.0)])
def test_against_dense_matrices(correction, power):
    """The definition with matrices of all observations: df = (tr G'G)^2 / tr (G'G)^2."""
    y, X, village = trial()
    M = np.linalg.inv(X.T @ X)
    rest = np.eye(len(X)) - X @ M @ X.T
    e, c = rest @ y[0], np.eye(5)[2]
    G, V = [], 0.0
    for j in np.unique(village):
        i = np.flatnonzero(village == j)
        value, vector = np.linalg.eigh(rest[np.ix_(i, i)])
        a = vector @ np.diag(value**power) @ vector.T @ X[i] @ M @ c
        G.append(rest[:, i] @ a)
        V += (a @ e[i]) ** 2
    GG = np.array(G) @ np.array(G).T
    fit = cluster_robust(y, everyone(y), X, village, c[None], correction)
    np.testing.assert_allclose(fit.standard_error[0, 0], V**0.5, rtol=1e-10)
    np.testing.assert_allclose(fit.df[0, 0], np.trace(GG) ** 2 / np.sum(GG**2), rtol=1e-10)


def test_joint_test_of_more_terms_than_clusters_can_carry_is_none():
    y, X, village = trial()
    fit = cluster_robust(y, everyone(y), X, village % 3, np.eye(5), "cr2", joint=np.eye(5)[1:])
    assert fit.status[0] == OK and np.isnan(fit.joint_f[0]) and np.isnan(fit.joint_ddf[0])


def test_hotelling_against_dense_matrices():
    """eta from the covariances of all pairs of clusters, as Pustejovsky and Tipton write it."""
    y, X, village = trial()
    M, C = np.linalg.inv(X.T @ X), np.eye(5)[[1, 2, 4]]
    rest = np.eye(len(X)) - X @ M @ X.T
    parts = []
    for j in np.unique(village):
        i = np.flatnonzero(village == j)
        value, vector = np.linalg.eigh(rest[np.ix_(i, i)])
        parts.append(rest[:, i] @ vector @ np.diag(value**-0.5) @ vector.T @ X[i] @ M @ C.T)
    K = np.einsum("jns,knt->jkst", parts, parts)
    value, vector = np.linalg.eigh(np.einsum("jjst->st", K))
    half = vector @ np.diag(value**-0.5) @ vector.T
    P = np.einsum("sa,jkab,bt->jkst", half, K, half)
    eta = 12 / sum(
        np.sum(P[:, :, s, s] * P[:, :, t, t] + P[:, :, s, t] * P[:, :, t, s]) for s in range(3) for t in range(3)
    )
    fit = cluster_robust(y, everyone(y), X, village, C, "cr2", joint=C)
    np.testing.assert_allclose(fit.joint_ddf[0], eta - 2, rtol=1e-10)


def test_each_participant_a_cluster_is_hc2():
    y, X, _ = trial()
    M = np.linalg.inv(X.T @ X)
    e, leverage = y[0] - X @ M @ X.T @ y[0], np.einsum("np,pq,nq->n", X, M, X)
    hc2 = M @ (X.T * (e**2 / (1 - leverage))) @ X @ M
    fit = cluster_robust(y, everyone(y), X, np.arange(len(X)), np.eye(5), "cr2")
    np.testing.assert_allclose(fit.standard_error[0], np.diag(hc2) ** 0.5, rtol=1e-10)


def test_batch_equals_singles_and_the_mask_is_not_read():
    y, X, village = trial()
    rng = np.random.default_rng(1)
    many = y + rng.normal(size=(4, y.shape[1]))
    observed = rng.random(many.shape) < 0.9
    batch = cluster_robust(np.where(observed, many, np.nan), observed, X, village, np.eye(5), "cr2")
    for r in range(4):
        seen = observed[r]
        one = cluster_robust(
            many[r : r + 1, seen], np.ones((1, seen.sum()), bool), X[seen], village[seen], np.eye(5), "cr2"
        )
        np.testing.assert_array_equal(one.standard_error[0], batch.standard_error[r])
        np.testing.assert_array_equal(one.df[0], batch.df[r])


def test_relabelled_clusters_and_scaled_outcome():
    y, X, village = trial()
    fit = cluster_robust(y, everyone(y), X, village, np.eye(5), "cr2")
    moved = cluster_robust(3.0 * y + 5.0, everyone(y), X, 100 - 7 * village, np.eye(5), "cr2")
    np.testing.assert_allclose(moved.standard_error, 3.0 * fit.standard_error, rtol=1e-10)
    np.testing.assert_allclose(moved.df, fit.df, rtol=1e-10)


def test_failures():
    y, X, village = trial()
    failed = [
        cluster_robust(y, everyone(y), np.column_stack([X, X[:, 3] * 2]), village, np.eye(6), "cr2"),
        cluster_robust(y, everyone(y), X, np.zeros(len(X), int), np.eye(5), "cr2"),
        cluster_robust(y, np.zeros_like(everyone(y)), X, village, np.eye(5), "cr2"),
        cluster_robust(np.full_like(y, np.inf), everyone(y), X, village, np.eye(5), "cr2"),
        cluster_robust(np.zeros_like(y), everyone(y), X, village, np.eye(5), "cr2"),
    ]
    for fit in failed:
        assert fit.status[0] == FAILED
        assert np.all(np.isnan(fit.estimate)) and np.all(np.isnan(fit.df))
    assert cluster_robust(y, everyone(y), X, village, np.eye(5), "cr2").status[0] == OK
