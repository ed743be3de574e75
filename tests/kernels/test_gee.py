"""Exchangeable GEE against R's gee and the published corrections worked out there, and its failures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sim.kernels.gee import gee
from sim.kernels.sandwich import cluster_robust
from sim.trial import FAILED, OK

FOLDER = Path(__file__).parents[1] / "reference" / "r"


def trial(family):
    """y (1, n), X of gee_exch.json, village."""
    data = pd.read_csv(FOLDER / "data" / "crt3_month6.csv")
    if family == "gaussian":
        return (
            data["y"].to_numpy()[None],
            np.column_stack([np.ones(len(data)), data[["baseline", "arm"]]]),
            data["village"],
        )
    return data["ybin"].to_numpy(float)[None], np.column_stack([np.ones(len(data)), data["arm"]]), data["village"]


def fitted(family, correction, **change):
    y, X, village = trial(family)
    args = {"y": y, "observed": np.ones(y.shape, bool), "X": X, "cluster": village.to_numpy()} | change
    return gee(**args, contrast=np.eye(args["X"].shape[1]), correction=correction, family=family)


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_estimates_against_gee(family):
    expected = json.loads((FOLDER / "gee_exch.json").read_text())[family]["gee_package"]
    fit = fitted(family, "robust")
    np.testing.assert_allclose(fit.estimate[0], expected["estimate"], rtol=1e-8)
    np.testing.assert_allclose(fit.standard_error[0], expected["robust_se"], rtol=1e-8)
    np.testing.assert_allclose(fit.correlation[0], expected["working_corr"], rtol=1e-8)
    np.testing.assert_allclose(fit.scale[0], expected["scale"], rtol=1e-8)
    assert np.all(np.isinf(fit.df))


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
@pytest.mark.parametrize("correction", ["kc", "md", "fg"])
def test_corrections_against_the_formulas(family, correction):
    expected = json.loads((FOLDER / "gee_exch.json").read_text())[family]["small_sample_by_hand"][correction.upper()]
    fit = fitted(family, correction)
    np.testing.assert_allclose(fit.standard_error[0], expected["se"], rtol=1e-8)
    assert np.all(fit.df == 8 - fit.coefficient.shape[1])


def test_balanced_pairs_give_cluster_robust_least_squares():
    rng = np.random.default_rng(3)
    X = np.column_stack([np.ones(40), np.arange(40) % 2])
    y = np.repeat(rng.normal(size=(1, 20)), 2, axis=1) * np.tile([1.0, -1.0], 20) + rng.normal(size=(1, 40))
    cluster = np.repeat(np.arange(20), 2)
    fit = gee(y, np.ones((1, 40), bool), X, cluster, np.eye(2), "robust")
    ols = cluster_robust(y, np.ones((1, 40), bool), X, cluster, np.eye(2), "cr0")
    np.testing.assert_allclose(fit.estimate, ols.estimate, rtol=1e-10)  # any correlation gives the means
    np.testing.assert_allclose(fit.standard_error, ols.standard_error, rtol=1e-10)


def test_batch_equals_singles_and_the_mask_is_not_read():
    y, X, village = trial("gaussian")
    rng = np.random.default_rng(2)
    many = y + rng.normal(size=(3, y.shape[1]))
    observed = rng.random(many.shape) < 0.9
    batch = gee(np.where(observed, many, np.nan), observed, X, village.to_numpy(), np.eye(3), "kc")
    for r, seen in enumerate(observed):
        one = gee(
            many[r : r + 1, seen], np.ones((1, seen.sum()), bool), X[seen], village[seen].to_numpy(), np.eye(3), "kc"
        )
        np.testing.assert_array_equal(one.standard_error[0], batch.standard_error[r])


def test_failures():
    y, X, _ = trial("binomial")
    failed = [
        fitted("binomial", "robust", X=np.column_stack([X, X[:, 1]])),
        fitted("binomial", "robust", y=X[None, :, 1]),  # perfect separation
        fitted("binomial", "robust", cluster=np.arange(len(X)) // 30),
        fitted("gaussian", "robust", y=np.full_like(y, 3.0)),
        fitted("gaussian", "robust", observed=np.zeros(y.shape, bool)),
    ]
    for fit in failed:
        assert fit.status[0] == FAILED
        assert np.all(np.isnan(fit.estimate))
    assert fitted("binomial", "robust").status[0] == OK
