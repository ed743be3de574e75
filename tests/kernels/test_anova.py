"""Split-plot ANOVA against R's aov and car::Anova, against contrasts computed person by person, and its algebra."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sim.kernels.anova import AnovaFit, repeated_measures_anova

R_FOLDER = Path(__file__).parents[1] / "reference" / "r"
DIFFERENCE = np.array([-1.0, 1.0])


def reference(name):
    return json.loads((R_FOLDER / name).read_text())


def formats(left_out=()):
    wide = pd.read_csv(R_FOLDER / "data" / "rmanova.csv").pivot(index=["id", "format"], columns="visit", values="y")
    observed = np.ones((1, *wide.shape), bool)
    observed[0, np.isin(wide.index.get_level_values("id"), left_out), 2] = False
    return wide.to_numpy()[None], observed, wide.index.get_level_values("format").to_numpy() - 1


def random_trial(seed, R=6, N=40, T=3, G=2, missing=0.1):
    rng = np.random.default_rng(seed)
    y = rng.normal(20.0, 5.0, size=(R, N, 1)) + rng.normal(size=(R, N, T)) + np.arange(T)
    return y, rng.random((R, N, T)) > missing, np.arange(N) % G


def assert_same(a, b):
    for name, left, right in zip(AnovaFit._fields, a, b, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_balanced_against_aov():
    answer = reference("rm_anova.json")
    fit = repeated_measures_anova(*formats(), 3, np.array([-1.0, 0.0, 1.0]))
    between, within = answer["aov"]["between"], answer["aov"]["within"]
    close([fit.ss_between[0], fit.ss_participant[0]], between["SS"])
    close([fit.df_between[0], fit.df[0]], between["df"])
    close(fit.f_between[0], between["F"][0])
    close([fit.ss_visit[0], fit.ss_interaction[0], fit.ss_residual[0]], within["SS"])
    close([fit.df_visit[0], fit.df_interaction[0], fit.df_residual[0]], within["df"])
    close([fit.f_visit[0], fit.f_interaction[0]], within["F"][:2])
    eta = answer["partial_eta2"]
    close(fit.partial_eta_squared_visit[0], eta["visit"])
    close(fit.partial_eta_squared_interaction[0], eta["format_visit"])
    close(fit.partial_eta_squared_between[0], eta["format"])
    close(fit.greenhouse_geisser[0], answer["pval_adjustments"]["values"][0][0])
    close(stats.f.sf(fit.f_visit[0], fit.df_visit[0], fit.df_residual[0]), within["p"][0])


@pytest.mark.parametrize("name", ["rm_anova.json", "rm_anova_unbalanced.json"])
def test_type_3_against_car(name):
    answer = reference(name)
    left_out = answer.get("left_out", [])
    fit = repeated_measures_anova(*formats(left_out), 3, np.array([-1.0, 0.0, 1.0]))
    _, between, visit, interaction = answer["car_type3"]["values"]
    close([fit.ss_between[0], fit.df_between[0], fit.ss_participant[0], fit.df[0], fit.f_between[0]], between[:5])
    close([fit.ss_visit[0], fit.df_visit[0], fit.ss_residual[0], fit.df_residual[0], fit.f_visit[0]], visit[:5])
    close([fit.ss_interaction[0], fit.df_interaction[0], fit.f_interaction[0]], [interaction[j] for j in (0, 1, 4)])
    assert fit.n_complete[0] == 36 - len(left_out) and fit.status[0] == 0


def test_linear_contrasts_against_lm():
    answer = reference("rm_anova_unbalanced.json")
    linear, contrast = answer["linear"], answer["contrast"]
    fit = repeated_measures_anova(*formats(answer["left_out"]), 3, np.array(contrast["weights"], float))
    close([fit.change[0], fit.change_standard_error[0], fit.df[0]], [linear["estimate"], linear["se"], linear["df"]])
    close(fit.f_linear[0], (linear["estimate"] / linear["se"]) ** 2)
    close(fit.partial_eta_squared_linear[0], fit.f_linear[0] / (fit.f_linear[0] + linear["df"]))
    close([fit.estimate[0], fit.standard_error[0]], [contrast["estimate"], contrast["se"]])
    close(fit.greenhouse_geisser[0], answer["gg_eps"])


@pytest.mark.parametrize("T", [2, 3, 4])
def test_change_of_two_arms_against_t_test(T):
    y, observed, arm = random_trial(1, T=T)
    fit = repeated_measures_anova(y, observed, arm, 2, DIFFERENCE)
    slope = {2: [-1, 1], 3: [-1, 0, 1], 4: [-0.9, -0.3, 0.3, 0.9]}[T]  # per first-to-last change
    for r in range(y.shape[0]):
        complete = observed[r].all(axis=1)
        change = y[r] @ slope
        student = stats.ttest_ind(change[complete & (arm == 1)], change[complete & (arm == 0)])
        close(fit.estimate[r] / fit.standard_error[r], student.statistic)
        close(fit.df[r], student.df)
        assert fit.n_complete[r] == complete.sum()


@pytest.mark.parametrize("T", [2, 4])
def test_one_level_against_one_sample_formulas(T):
    y, observed, _ = random_trial(2, T=T)
    fit = repeated_measures_anova(y, observed, np.zeros(40, int), 1, np.ones(1))
    for r in range(y.shape[0]):
        x = y[r][observed[r].all(axis=1)]
        long = np.repeat(x.mean(axis=1), T).reshape(x.shape)
        visit = x.shape[0] * np.sum((x.mean(axis=0) - x.mean()) ** 2)
        residual = np.sum((x - long - x.mean(axis=0) + x.mean()) ** 2)
        close([fit.ss_visit[r], fit.ss_residual[r]], [visit, residual])
        close(fit.estimate[r], fit.change[r])
        if T == 2:
            close(fit.f_visit[r], stats.ttest_rel(x[:, 1], x[:, 0]).statistic ** 2)
            close(fit.f_linear[r], fit.f_visit[r])
            close(fit.greenhouse_geisser[r], 1.0)


def test_level_minus_one_is_left_out():
    y, observed, arm = random_trial(3)
    some = np.where(np.arange(40) < 8, -1, arm)
    assert_same(
        repeated_measures_anova(y, observed, some, 2, DIFFERENCE),
        repeated_measures_anova(y[:, 8:], observed[:, 8:], arm[8:], 2, DIFFERENCE),
    )


def test_batch_equals_singles():
    y, observed, arm = random_trial(4)
    batch = repeated_measures_anova(y, observed, arm, 2, DIFFERENCE)
    single = [repeated_measures_anova(y[r : r + 1], observed[r : r + 1], arm, 2, DIFFERENCE) for r in range(6)]
    assert_same(batch, [np.concatenate(field) for field in zip(*single, strict=True)])


def test_participants_with_a_missing_visit_are_not_read():
    y, observed, arm = random_trial(5)
    before = repeated_measures_anova(y, observed, arm, 2, DIFFERENCE)
    y[~observed.all(axis=2)] = np.nan
    assert_same(before, repeated_measures_anova(y, observed, arm, 2, DIFFERENCE))


def test_failed_replicates_leave_the_others_alone():
    y, observed, arm = random_trial(6)
    good = repeated_measures_anova(y, observed, arm, 2, DIFFERENCE)
    observed[0, arm == 1, 2] = False
    observed[1, 2:, 0] = False
    observed[1, :2] = True  # one completer in each arm
    y[2] = 3.25
    y[3, :, 2] = y[3, :, 0]  # nobody changes between first and last visit
    y[4][observed[4].all(axis=1)] = np.nan
    fit = repeated_measures_anova(y, observed, arm, 2, DIFFERENCE)
    assert fit.status.dtype == np.int8 and fit.status.tolist() == [2, 2, 2, 2, 2, 0]
    assert fit.n_complete.tolist() == observed.all(axis=2).sum(axis=1).tolist()
    for name in AnovaFit._fields[:-2]:
        assert np.all(np.isnan(getattr(fit, name)[:5])), name
        assert getattr(fit, name)[5] == getattr(good, name)[5]


@given(seed=st.integers(0, 10_000), shift=st.floats(-1e3, 1e3), scale=st.floats(0.01, 100.0))
@settings(max_examples=30, deadline=None)
def test_shift_and_scale(seed, shift, scale):
    y, observed, arm = random_trial(seed, R=1)
    before, after = (repeated_measures_anova(a, observed, arm, 2, DIFFERENCE) for a in (y, shift + scale * y))
    for name in ("estimate", "standard_error", "change", "change_standard_error"):
        np.testing.assert_allclose(getattr(after, name), scale * getattr(before, name), rtol=1e-7, atol=1e-9)
    for name in ("f_visit", "f_interaction", "f_linear", "greenhouse_geisser", "partial_eta_squared_visit"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-6, atol=1e-9)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_swapped_arms_flip_the_sign_and_reversed_visits_the_change(seed):
    y, observed, arm = random_trial(seed, R=1)
    fit = repeated_measures_anova(y, observed, arm, 2, DIFFERENCE)
    swapped = repeated_measures_anova(y, observed, 1 - arm, 2, DIFFERENCE)
    reversed_visits = repeated_measures_anova(y[:, :, ::-1], observed[:, :, ::-1], arm, 2, DIFFERENCE)
    np.testing.assert_allclose(swapped.estimate, -fit.estimate, rtol=1e-9)
    np.testing.assert_allclose(swapped.f_visit, fit.f_visit, rtol=1e-9)
    np.testing.assert_allclose(reversed_visits.change, -fit.change, rtol=1e-9)
    np.testing.assert_allclose(reversed_visits.standard_error, fit.standard_error, rtol=1e-9)
