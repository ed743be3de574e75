"""Ordinary least squares against R's lm, against a dense numpy solution, and its algebra."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.kernels.least_squares import LeastSquaresFit, ols

R_FOLDER = Path(__file__).parents[1] / "reference" / "r"


def reference(name):
    return json.loads((R_FOLDER / name).read_text())


def month_6():
    data = pd.read_csv(R_FOLDER / "data" / "crt3.csv")
    return data[data.visit == 3]


def random_trial(seed, R=6, N=40, T=3, c=2, missing=0.25):
    rng = np.random.default_rng(seed)
    arm = np.arange(N) % 2
    X = np.zeros((N, T, 2 * T))
    for t in range(T):
        X[:, t, t] = 1.0
        X[:, t, T + t] = arm
    covariate = rng.normal(10.0, 3.0, size=(R, N, c))
    y = rng.normal(20.0, 5.0, size=(R, N, T)) + covariate.sum(axis=2)[:, :, None]
    contrast = rng.normal(size=(2, 2 * T + c))
    return y, rng.random((R, N, T)) > missing, X, covariate, contrast


def dense(y, observed, X, covariate, contrast):
    """Textbook least squares of one replicate by QR: estimate, standard error, df, residual variance, coefficient."""
    Z = np.broadcast_to(covariate[:, None, :], (*y.shape, covariate.shape[1]))
    D = np.concatenate([X, Z], axis=2)[observed]
    beta = np.linalg.lstsq(D, y[observed])[0]
    df = D.shape[0] - D.shape[1]
    s2 = np.sum((y[observed] - D @ beta) ** 2) / df
    root = np.linalg.inv(np.linalg.qr(D)[1])
    return contrast @ beta, np.sqrt(s2 * np.sum((contrast @ root) ** 2, axis=1)), df, s2, beta


def one_visit(y, column):
    y = np.asarray(y, float)
    X = np.column_stack([np.ones(y.size), *column])
    return y[None, :, None], np.ones((1, y.size, 1), bool), X[:, None, :]


def assert_same(a, b):
    for name, left, right in zip(LeastSquaresFit._fields, a, b, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.mark.parametrize("n_in_X", [0, 2, 4])
def test_ancova_against_r(n_in_X):
    answer, data = reference("ancova_ols.json"), month_6()
    column = [data[name].to_numpy(float) for name in ("baseline", "arm", "age", "sex")]
    y, observed, X = one_visit(data.y, column[:n_in_X])
    covariate = np.column_stack([*column[n_in_X:], np.zeros((data.shape[0], 0))])[None]
    fit = ols(y, observed, X, covariate, np.eye(5))
    np.testing.assert_allclose(fit.estimate[0], answer["estimate"], rtol=1e-9)
    np.testing.assert_allclose(fit.coefficient[0], answer["estimate"], rtol=1e-9)
    np.testing.assert_allclose(fit.standard_error[0], answer["se"], rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(fit.residual_variance[0]), answer["sigma"], rtol=1e-9)
    assert np.all(fit.df == answer["df"]) and fit.n_obs[0] == answer["n"] and fit.status[0] == 0


@pytest.mark.parametrize("name, adjusted", [("ols_arm", False), ("ols_arm_baseline_mean", True)])
def test_cluster_means_against_r(name, adjusted):
    answer = reference("cluster_ttest.json")
    mean = pd.DataFrame(answer["cluster_means"])
    y, observed, X = one_visit(mean.y, [mean.baseline, mean.arm] if adjusted else [mean.arm])
    p = X.shape[2]
    fit = ols(y, observed, X, np.zeros((1, y.size, 0)), np.eye(p))
    np.testing.assert_allclose(fit.estimate[0], [row["estimate"] for row in answer[name]], rtol=1e-9)
    np.testing.assert_allclose(fit.standard_error[0], [row["se"] for row in answer[name]], rtol=1e-9)
    assert fit.df[0, 0] == answer[name][0]["df"]


@pytest.mark.parametrize("T, c", [(1, 0), (3, 0), (3, 2), (4, 1)])
def test_against_dense_formula(T, c):
    y, observed, X, covariate, contrast = random_trial(1, T=T, c=c)
    fit = ols(y, observed, X, covariate, contrast)
    for r in range(y.shape[0]):
        estimate, standard_error, df, s2, beta = dense(y[r], observed[r], X, covariate[r], contrast)
        np.testing.assert_allclose(fit.estimate[r], estimate, rtol=1e-9)
        np.testing.assert_allclose(fit.standard_error[r], standard_error, rtol=1e-9)
        np.testing.assert_allclose(fit.coefficient[r], beta, rtol=1e-9)
        np.testing.assert_allclose(fit.residual_variance[r], s2, rtol=1e-9)
        assert np.all(fit.df[r] == df) and fit.n_obs[r] == observed[r].sum()


def test_rows_of_X_that_never_repeat_against_dense_formula():
    y, observed, X, covariate, contrast = random_trial(2)
    X = X + np.random.default_rng(3).normal(size=X.shape)
    fit = ols(y, observed, X, covariate, contrast)
    for r in range(y.shape[0]):
        np.testing.assert_allclose(
            fit.estimate[r], dense(y[r], observed[r], X, covariate[r], contrast)[0], rtol=1e-8, atol=1e-8
        )


def test_batch_equals_singles():
    y, observed, X, covariate, contrast = random_trial(4)
    batch = ols(y, observed, X, covariate, contrast)
    single = [ols(y[r : r + 1], observed[r : r + 1], X, covariate[r : r + 1], contrast) for r in range(y.shape[0])]
    assert_same(batch, [np.concatenate(field) for field in zip(*single, strict=True)])


def test_replicate_axis_of_one_is_shared():
    y, observed, X, covariate, contrast = random_trial(5)
    shared = ols(y, observed[:1], X, covariate[:1], contrast)
    assert_same(shared, ols(y, np.repeat(observed[:1], 6, 0), X, np.repeat(covariate[:1], 6, 0), contrast))


def test_value_under_the_mask_is_not_read():
    y, observed, X, covariate, contrast = random_trial(6)
    observed[:, :5] = False
    before = ols(y, observed, X, covariate, contrast)
    y[~observed] = np.nan
    covariate[:, :5] = np.nan
    assert_same(before, ols(y, observed, X, covariate, contrast))


def test_failed_replicates_leave_the_others_alone():
    y, observed, X, covariate, contrast = random_trial(7)
    good = ols(y, observed, X, covariate, contrast)
    observed[0] = False
    observed[1, :, 2] = False  # the columns of visit 3 are empty
    covariate[2, :, 1] = 2.0 * covariate[2, :, 0] - 1.0
    observed[3].flat[np.flatnonzero(observed[3])[8:]] = False  # as many observations as coefficients
    y[4].flat[np.flatnonzero(observed[4])[0]] = np.nan
    fit = ols(y, observed, X, covariate, contrast)
    assert fit.status.dtype == np.int8 and fit.status.tolist() == [2, 2, 2, 2, 2, 0]
    assert fit.n_obs.tolist() == observed.sum(axis=(1, 2)).tolist()
    for name in ("estimate", "standard_error", "df", "residual_variance", "coefficient"):
        assert np.all(np.isnan(getattr(fit, name)[:5]))
        np.testing.assert_array_equal(getattr(fit, name)[5], getattr(good, name)[5])


def test_rounded_dependence_is_found():
    y, observed, X, covariate, contrast = random_trial(8)
    covariate[:, :, 1] = 0.3 + 0.1 * covariate[:, :, 0] + 0.7 * X[None, :, 0, 3]
    assert np.all(ols(y, observed, X, covariate, contrast).status == 2)


@given(seed=st.integers(0, 10_000), shift=st.floats(-1e3, 1e3), scale=st.floats(0.01, 100.0))
@settings(max_examples=30, deadline=None)
def test_shift_and_scale(seed, shift, scale):
    y, observed, X, covariate, _ = random_trial(seed, R=1)
    contrast = np.array([[0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0, 0.0]])
    before, after = (ols(a, observed, X, covariate, contrast) for a in (y, shift + scale * y))
    np.testing.assert_allclose(after.estimate, scale * before.estimate, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(after.standard_error, scale * before.standard_error, rtol=1e-7)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_swapped_arms_flip_the_sign_and_order_of_participants_is_free(seed):
    y, observed, X, covariate, _ = random_trial(seed, R=1)
    contrast = np.zeros((1, 8))
    contrast[0, 5] = 1.0
    swapped = X.copy()
    swapped[:, :, 3:6] = X[:, :, :3] - X[:, :, 3:6]
    order = np.random.default_rng(seed).permutation(y.shape[1])
    fit = ols(y, observed, X, covariate, contrast)
    other = ols(y[:, order], observed[:, order], swapped[order], covariate[:, order], contrast)
    np.testing.assert_allclose(other.estimate, -fit.estimate, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(other.standard_error, fit.standard_error, rtol=1e-8)
