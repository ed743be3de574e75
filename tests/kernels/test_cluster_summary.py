"""Two-stage cluster summaries against R's t.test, scipy's t test on dense residuals, and their algebra."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sim.kernels.cluster_summary import ClusterSummaryFit, cluster_summary, n_between_clusters

R_FOLDER = Path(__file__).parents[1] / "reference" / "r"


def random_trial(seed, R=6, N=72, n_cluster=12, c=1, missing=0.2, partially_nested=False):
    """Arguments of cluster_summary up to contrast_arm; cluster j is in arm j % 3."""
    rng = np.random.default_rng(seed)
    cluster = rng.permutation(np.arange(N) % n_cluster)
    arm = cluster % 3
    if partially_nested:
        cluster = np.where(arm == 0, -1, cluster)
    X = np.column_stack([np.ones(N), rng.integers(0, 2, N)]).astype(float)
    covariate = rng.normal(30.0, 8.0, size=(R, N, c))
    y = rng.normal(20.0, 5.0, size=(R, N)) + 0.5 * covariate.sum(axis=2) + rng.normal(size=n_cluster)[arm]
    return y, rng.random((R, N)) > missing, X, covariate, cluster.astype(np.int32), arm, (1, 0)


def slow(y, observed, X, covariate, cluster, arm, contrast_arm, equal_variance):
    """One replicate by dense least squares, pandas means and scipy's t test."""
    row = observed & np.isin(arm, contrast_arm)
    D = np.column_stack([X, covariate])[row]
    residual = y[row] - D @ np.linalg.lstsq(D, y[row])[0] if D.shape[1] else y[row]
    label = np.where(cluster >= 0, cluster, 1000 + np.arange(cluster.size))[row]
    mean = pd.DataFrame({"arm": arm[row], "cluster": label, "e": residual}).groupby(["arm", "cluster"]).e.mean()
    return stats.ttest_ind(*(mean[a].to_numpy() for a in contrast_arm), equal_var=equal_variance)


def assert_same(a, b):
    for name, left, right in zip(ClusterSummaryFit._fields, a, b, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


def unadjusted(N):
    return np.zeros((N, 0)), np.zeros((1, N, 0))


@pytest.mark.parametrize("name, equal_variance", [("t_equal_var", True), ("t_welch", False)])
def test_against_t_test_in_r(name, equal_variance):
    answer = json.loads((R_FOLDER / "cluster_ttest.json").read_text())[name]
    data = pd.read_csv(R_FOLDER / "data" / "crt3.csv")
    data = data[data.visit == 3]
    N = len(data)
    fit = cluster_summary(
        data.y.to_numpy()[None],
        np.ones((1, N), bool),
        *unadjusted(N),
        data.village.to_numpy(np.int32),
        data.arm.to_numpy(),
        (1, 0),
        equal_variance,
    )
    np.testing.assert_allclose(fit.estimate[0], answer["means"][1] - answer["means"][0], rtol=1e-9)
    np.testing.assert_allclose(fit.standard_error[0], answer["se"], rtol=1e-9)
    np.testing.assert_allclose(fit.df[0], answer["df"], rtol=1e-9)
    np.testing.assert_allclose(fit.estimate[0] / fit.standard_error[0], -answer["t"], rtol=1e-9)  # R: control first
    assert fit.n_cluster.tolist() == [[4, 4]] and fit.status[0] == 0


@pytest.mark.parametrize("equal_variance", [True, False])
@pytest.mark.parametrize("partially_nested", [True, False])
@pytest.mark.parametrize("c", [0, 2])
def test_against_slow_version(equal_variance, partially_nested, c):
    trial = random_trial(1, c=c, partially_nested=partially_nested)
    fit = cluster_summary(*trial, equal_variance)
    y, observed, X, covariate, *rest = trial
    for r in range(y.shape[0]):
        answer = slow(y[r], observed[r], X, covariate[r], *rest, equal_variance)
        np.testing.assert_allclose(fit.estimate[r] / fit.standard_error[r], answer.statistic, rtol=1e-9)
        np.testing.assert_allclose(fit.df[r], answer.df, rtol=1e-9)
        interval = answer.confidence_interval()
        np.testing.assert_allclose(fit.estimate[r], (interval.low + interval.high) / 2, rtol=1e-9, atol=1e-9)


def test_partially_nested_by_hand():
    y = np.array([[7.0, 9.0, 4.0, 6.0, 11.0, 13.0, 1.0, 2.0, 4.0, 99.0]])
    observed = np.ones((1, 10), bool)
    observed[0, 9] = False
    cluster = np.array([0, 0, 1, 1, 2, 2, -1, -1, -1, 3], np.int32)
    arm = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 1])
    fit = cluster_summary(y, observed, *unadjusted(10), cluster, arm, (1, 0), equal_variance=False)
    answer = stats.ttest_ind([8.0, 5.0, 12.0], [1.0, 2.0, 4.0], equal_var=False)
    np.testing.assert_allclose(fit.estimate[0], 25 / 3 - 7 / 3, rtol=1e-12)
    np.testing.assert_allclose(fit.standard_error[0] ** 2, (37 / 3 + 7 / 3) / 3, rtol=1e-12)
    np.testing.assert_allclose(fit.estimate[0] / fit.standard_error[0], answer.statistic, rtol=1e-12)
    np.testing.assert_allclose(fit.df[0], answer.df, rtol=1e-12)
    assert fit.n_cluster.tolist() == [[3, 3]]  # the cluster with nobody observed does not count


def test_cluster_covariates_take_their_df_from_the_sum_of_squares():
    trial = random_trial(2)
    plain, adjusted = cluster_summary(*trial, True), cluster_summary(*trial, True, n_cluster_covariate=2)
    np.testing.assert_array_equal(plain.df, 6.0)
    wider = plain.standard_error * np.sqrt(plain.df / (plain.df - 2.0))
    np.testing.assert_allclose(adjusted.standard_error, wider, rtol=1e-12)
    np.testing.assert_array_equal(adjusted.df, plain.df - 2.0)
    np.testing.assert_array_equal(adjusted.estimate, plain.estimate)


def test_dimensions_between_clusters_are_those_fitted():
    cluster = np.repeat(np.arange(12, dtype=np.int32), 4)
    one, within = np.ones(48), np.tile([0.0, 1.0], 24)
    stratum, district = cluster % 2, np.array([0, 2, 3])[cluster // 4]  # nobody is in district 1
    dummies = np.eye(4)[district]

    def q(*columns, of=cluster):
        return n_between_clusters(np.column_stack(columns), of)

    assert q(one, within) == 0
    assert q(one, dummies[:, 1:]) == q(dummies) == 2
    assert q(one, stratum) == 1  # every cluster is of one stratum
    assert q(one, np.where(cluster == 5, within, stratum)) == 0  # all but one are
    assert q(one, dummies, stratum, within) == 3
    assert q(one, within, within + 100.0 * stratum) == 1  # neither column is constant within clusters but their gap is
    grouped = np.where(district == 3, -1, cluster).astype(np.int32)
    assert q(one, dummies, of=grouped) == 1  # districts of the clusters alone count
    assert q(one, np.arange(48.0), of=np.full(48, -1, np.int32)) == 0
    assert n_between_clusters(np.zeros((48, 0)), cluster) == 0


@pytest.mark.parametrize("by", ["district", "stratum"])
def test_balanced_districts_or_strata_of_clusters_against_regression_of_cluster_means(by):
    """Equal clusters, arms balanced within district, or within stratum where every cluster is of one: the same as least
    squares of the means on arm and district or stratum.
    """
    rng = np.random.default_rng(12)
    n_district, per_arm, size = (4, 3, 5) if by == "district" else (2, 6, 5)
    district = np.repeat(np.arange(n_district), 2 * per_arm)
    arm = np.tile(np.repeat([1, 0], per_arm), n_district)
    mean = rng.normal(size=len(arm)) + district
    y = np.repeat(mean, size) + np.tile(rng.normal(size=size), len(arm))
    person = np.repeat(np.arange(len(arm)), size)
    X = np.concatenate([np.ones((len(y), 1)), np.eye(n_district)[district[person]][:, 1:]], axis=1)
    fit = cluster_summary(
        y[None], np.ones((1, len(y)), bool), X, np.zeros((1, len(y), 0)), person.astype(np.int32), arm[person], (1, 0),
        equal_variance=True, n_cluster_covariate=n_between_clusters(X, person.astype(np.int32)),
    )  # fmt: skip
    means = y.reshape(len(arm), size).mean(axis=1)
    Z = np.column_stack([arm, np.eye(n_district)[district]]).astype(float)
    beta, ss, *_ = np.linalg.lstsq(Z, means, rcond=None)
    df = len(arm) - Z.shape[1]
    np.testing.assert_allclose(fit.estimate[0], beta[0], rtol=1e-10)
    np.testing.assert_allclose(fit.standard_error[0], np.sqrt(ss[0] / df * np.linalg.inv(Z.T @ Z)[0, 0]), rtol=1e-10)
    assert fit.df[0] == df


def test_welch_takes_cluster_covariates_from_the_arm_of_clusters_only():
    trial = random_trial(2, partially_nested=True)
    plain, adjusted = cluster_summary(*trial, False), cluster_summary(*trial, False, n_cluster_covariate=1)
    k1 = plain.n_cluster[:, 0]
    assert (adjusted.standard_error > plain.standard_error).all()
    assert (adjusted.standard_error < plain.standard_error * np.sqrt((k1 - 1) / (k1 - 2))).all()
    np.testing.assert_array_equal(adjusted.estimate, plain.estimate)


def test_cluster_covariate_shrinks_the_estimate_against_theory():
    rng = np.random.default_rng(10)
    R, K = 20_000, 8
    arm, own = np.arange(K) % 2, np.full(K, -1, np.int32)
    y, covariate = arm + 0.5 * rng.normal(size=(R, K)), rng.normal(size=(R, K, 1))
    fit = cluster_summary(y, np.ones((1, K), bool), np.ones((K, 1)), covariate, own, arm, (1, 0), True)
    mcse = fit.estimate.std() / np.sqrt(R)  # the mean of a squared correlation of independent normals is 1/(K - 1)
    assert abs(fit.estimate.mean() - (1.0 - 1.0 / (K - 1))) < 4 * mcse


def test_cluster_in_both_arms_message():
    y, observed, X, covariate, cluster, arm, contrast_arm = random_trial(3)
    arm = arm.copy()
    arm[np.flatnonzero(cluster == 4)[0]] = 0
    with pytest.raises(ValueError, match="cluster 4 has participants in both arms"):
        cluster_summary(y, observed, X, covariate, cluster, arm, contrast_arm, True)


def test_other_arms_enter_neither_stage():
    y, observed, X, covariate, cluster, arm, contrast_arm = random_trial(4)
    before = cluster_summary(y, observed, X, covariate, cluster, arm, contrast_arm, True)
    y[:, arm == 2] = np.nan
    covariate[:, arm == 2] = np.nan
    assert_same(before, cluster_summary(y, observed, X, covariate, cluster, arm, contrast_arm, True))


def test_batch_equals_singles():
    y, observed, X, covariate, *rest = random_trial(5)
    batch = cluster_summary(y, observed, X, covariate, *rest, False)
    single = [
        cluster_summary(y[r : r + 1], observed[r : r + 1], X, covariate[r : r + 1], *rest, False) for r in range(6)
    ]
    assert_same(batch, [np.concatenate(field) for field in zip(*single, strict=True)])


def test_replicate_axis_of_one_is_shared():
    y, observed, X, covariate, *rest = random_trial(6)
    shared = cluster_summary(y, observed[:1], X, covariate[:1], *rest, True)
    assert_same(
        shared, cluster_summary(y, np.repeat(observed[:1], 6, 0), X, np.repeat(covariate[:1], 6, 0), *rest, True)
    )


def test_value_under_the_mask_is_not_read():
    y, observed, X, covariate, *rest = random_trial(7)
    before = cluster_summary(y, observed, X, covariate, *rest, True)
    y[~observed] = np.nan
    covariate[~observed] = np.nan
    assert_same(before, cluster_summary(y, observed, X, covariate, *rest, True))


def test_failed_replicates_leave_the_others_alone():
    y, observed, X, covariate, cluster, arm, contrast_arm = random_trial(8)
    good = cluster_summary(y, observed, X, covariate, cluster, arm, contrast_arm, False)
    observed[0] = False
    observed[1, (arm == 1) & (cluster != 1)] = False  # one treated cluster left: Welch has no variance
    covariate[2] = X[None, :, 1:]
    y[3, np.flatnonzero(observed[3] & (arm == 0))[0]] = np.nan
    observed[4, arm == 0] = False
    fit = cluster_summary(y, observed, X, covariate, cluster, arm, contrast_arm, False)
    assert fit.status.dtype == np.int8 and fit.status.tolist() == [2, 2, 2, 2, 2, 0]
    assert fit.n_cluster[[0, 1, 4]].tolist() == [[0, 0], [1, 4], [4, 0]]
    for name in ("estimate", "standard_error", "df"):
        assert np.all(np.isnan(getattr(fit, name)[:5]))
        assert getattr(fit, name)[5] == getattr(good, name)[5]
    student = cluster_summary(y, observed, X, covariate, cluster, arm, contrast_arm, True)
    assert student.status.tolist() == [2, 0, 2, 2, 2, 0] and student.df[1] == 3.0
    too_many = cluster_summary(y, observed, X, covariate, cluster, arm, contrast_arm, True, n_cluster_covariate=6)
    assert np.all(too_many.status == 2)


def test_summaries_that_do_not_vary_fail():
    y, observed, _, _, *rest = random_trial(9)
    for equal_variance in (True, False):
        fit = cluster_summary(np.full_like(y, 2.5), observed, *unadjusted(y.shape[1]), *rest, equal_variance)
        assert np.all(fit.status == 2) and np.all(np.isnan(fit.df))


@given(
    seed=st.integers(0, 10_000),
    shift=st.floats(-1e3, 1e3),
    scale=st.floats(0.01, 100.0),
    equal_variance=st.booleans(),
    partially_nested=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_shift_scale_swapped_arms_and_relabelled_clusters(seed, shift, scale, equal_variance, partially_nested):
    y, observed, X, covariate, cluster, arm, _ = random_trial(seed, R=1, partially_nested=partially_nested)
    label = np.random.default_rng(seed).permutation(50).astype(np.int32)
    relabelled = np.where(cluster >= 0, label[cluster], -1).astype(np.int32)
    fit = cluster_summary(y, observed, X, covariate, cluster, arm, (1, 0), equal_variance)
    other = cluster_summary(shift + scale * y, observed, X, covariate, relabelled, arm, (0, 1), equal_variance)
    np.testing.assert_allclose(other.estimate, -scale * fit.estimate, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(other.standard_error, scale * fit.standard_error, rtol=1e-7)
    np.testing.assert_allclose(other.df, fit.df, rtol=1e-7)
    assert other.n_cluster.tolist() == fit.n_cluster[:, ::-1].tolist()
