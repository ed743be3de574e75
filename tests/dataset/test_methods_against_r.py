"""ancova, cluster-summary, gee, rm-anova and randomisation, from the file on, against R or against enumeration."""

import itertools

import numpy as np
import pandas as pd
import pytest
from dataset.reference import FOLDER, LAST, TRIAL, analysed, fixture, our_term
from scipy import stats

TWO = {"outcome": "y", "arm": "arm"}


def at_month_6():
    return pd.read_csv(FOLDER / "data" / "crt3.csv").query("visit == 3")


# ---- ancova ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("se", ["cr0", "cr1", "cr2", "cr3", None])
def test_ancova_against_clubsandwich(se):
    """CR2 is what a cluster gets unless another correction is asked for."""
    expected = fixture(f"ancova_cr2/tests/{(se or 'cr2').upper()}")
    analysis = analysed("crt3", **LAST, method="ancova", cluster="village", se=se, all_terms=True)
    ours = {term.term: term for term in analysis.terms}
    assert set(ours) == {our_term(row["term"]) for row in expected}
    for row in expected:
        term = ours[our_term(row["term"])]
        assert (term.estimate, term.standard_error) == pytest.approx((row["estimate"], row["se"]), rel=1e-9)
        assert (term.statistic, term.df) == pytest.approx((row["t"], row["df_satt"]), rel=1e-9)
        assert term.p_value == pytest.approx(row["p_satt"], abs=1e-9)
    assert analysis.variance["sd_residual"] == pytest.approx(fixture("ancova_cr2/sigma_ols"), rel=1e-9)
    assert analysis.count == {"n_obs": 41, "n_participant": 41, "n_cluster": 8, "n_visit": 1, "n_unseen": 0}


def test_joint_test_against_clubsandwich():
    expected = fixture("ancova_cr2/wald_HTZ_arm_baseline")
    joint = analysed("crt3", **LAST, method="ancova", cluster="village", joint=("arm[1]", "baseline")).joint
    found = (joint.f, joint.ndf, joint.ddf, joint.p_value)
    assert found == pytest.approx([expected[key] for key in ("F", "df_num", "df_denom", "p")], rel=1e-9)


def test_ancova_against_lm():
    expected = fixture("ancova_ols")
    analysis = analysed("crt3", **LAST, method="ancova", all_terms=True)
    ours = {term.term: term for term in analysis.terms}
    for name, estimate, error in zip(expected["term"], expected["estimate"], expected["se"], strict=True):
        term = ours[our_term(name)]
        assert (term.estimate, term.standard_error, term.df) == pytest.approx((estimate, error, 36), rel=1e-9)


def test_joint_test_of_least_squares_is_the_f_test_of_nested_models():
    analysis = analysed("crt3", **LAST, method="ancova", joint=("age", "sex"))
    data = at_month_6()
    full = np.column_stack([np.ones(len(data)), data[["baseline", "arm", "age", "sex"]]])
    rss = [np.linalg.lstsq(x, data["y"], rcond=None)[1][0] for x in (full[:, :3], full)]
    assert analysis.joint.f == pytest.approx((rss[0] - rss[1]) / 2 / (rss[1] / 36), rel=1e-9)
    assert (analysis.joint.ndf, analysis.joint.ddf) == (2, 36)


def test_two_arms_without_covariates_is_students_test():
    expected = fixture("cluster_ttest/individual_level_student")
    term = analysed("crt3", **TRIAL, visit="visit", method="ancova").terms[0]
    assert (term.statistic, term.df, term.p_value) == pytest.approx((-expected["t"], 39, expected["p"]), rel=1e-9)
    assert [-term.ci_high, -term.ci_low] == pytest.approx(expected["conf"], rel=1e-9)


# ---- cluster-summary -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("welch, name", [(False, "t_equal_var"), (True, "t_welch")])
def test_cluster_means_against_t_test(welch, name):
    expected = fixture(f"cluster_ttest/{name}")
    analysis = analysed("crt3", **TRIAL, visit="visit", cluster="village", method="cluster-summary", welch=welch)
    term = analysis.terms[0]
    assert term.estimate == pytest.approx(expected["means"][1] - expected["means"][0], rel=1e-9)
    assert (term.standard_error, term.df) == pytest.approx((expected["se"], expected["df"]), rel=1e-9)
    assert (term.statistic, term.p_value) == pytest.approx((-expected["t"], expected["p"]), rel=1e-9)
    assert [-term.ci_high, -term.ci_low] == pytest.approx(expected["conf"], rel=1e-9)


def test_cluster_means_of_residuals_cost_df_for_what_varies_between_clusters_only(tmp_path):
    data = at_month_6().assign(altitude=lambda d: d["village"] * 100.0)
    data.to_csv(tmp_path / "data.csv", index=False)
    request = {**TRIAL, "cluster": "village", "method": "cluster-summary", "baseline": "baseline"}
    person = analysed(tmp_path / "data", **request)
    place = analysed(tmp_path / "data", **request, covariates=("altitude",))
    assert (person.terms[0].df, place.terms[0].df) == (6, 5)
    x = np.column_stack([np.ones(len(data)), data["baseline"]])
    residual = data["y"] - x @ np.linalg.lstsq(x, data["y"], rcond=None)[0]
    mean = residual.groupby([data["arm"], data["village"]]).mean()
    expected = stats.ttest_ind(mean[1], mean[0])
    assert (person.terms[0].statistic, person.terms[0].p_value) == pytest.approx(expected, rel=1e-9)


def test_training_groups_against_ungrouped_controls_is_welch():
    """Every control counts as a cluster of one."""
    request = {"outcome": "y", "arm": "trt", "training_group": "group", "method": "cluster-summary"}
    term = analysed("partial_nested", **request).terms[0]
    data = pd.read_csv(FOLDER / "data" / "partial_nested.csv")
    groups = data[data["trt"] == 1].groupby("group")["y"].mean()
    expected = stats.ttest_ind(groups, data.loc[data["trt"] == 0, "y"], equal_var=False)
    assert (term.statistic, term.p_value) == pytest.approx(expected, rel=1e-9)


# ---- gee -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("se, name", [(None, "LZ"), ("kc", "KC"), ("md", "MD"), ("fg", "FG")])
@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_gee_against_gee(family, se, name):
    expected = fixture(f"gee_exch/{family}/small_sample_by_hand")
    change = {"outcome": "ybin", "family": "binomial"} if family == "binomial" else {"baseline": "baseline"}
    request = {**TRIAL, **change, "cluster": "village", "method": "gee", "se": se, "all_terms": True}
    analysis = analysed("crt3_month6", **request)
    ours = {term.term: term for term in analysis.terms}
    order = ["(Intercept)", "baseline", "arm[1]"] if family == "gaussian" else ["(Intercept)", "arm[1]"]
    assert [ours[term].estimate for term in order] == pytest.approx(expected["estimate"], rel=1e-8)
    assert [ours[term].standard_error for term in order] == pytest.approx(expected[name]["se"], rel=1e-8)
    assert analysis.variance["working_correlation"] == pytest.approx(expected["rho"], rel=1e-8)
    assert ours["arm[1]"].df == (np.inf if se is None else 8 - len(order))


# ---- rm-anova --------------------------------------------------------------------------------------------------------


def test_rm_anova_against_car():
    request = {"outcome": "y", "arm": "format", "participant": "id", "visit": "visit", "method": "rm-anova"}
    analysis = analysed("rmanova", **request)
    expected = fixture("rm_anova")
    rows = {row["term"]: row for row in analysis.anova}
    f, p = np.array(expected["car_type3"]["values"])[1:, 4:].T
    ours = [rows[name] for name in ("arm", "visit", "visit:arm")]
    assert [row["f"] for row in ours] == pytest.approx(f, rel=1e-9)
    assert [row["p_value"] for row in ours] == pytest.approx(p, rel=1e-9)
    gg, p_gg, hf, p_hf = np.array(expected["pval_adjustments"]["values"]).T
    for row, values in zip(ours[1:], zip(gg, p_gg, hf, p_hf, strict=True), strict=True):
        names = (
            "epsilon_greenhouse_geisser",
            "p_value_greenhouse_geisser",
            "epsilon_huynh_feldt",
            "p_value_huynh_feldt",
        )
        assert [row[name] for name in names] == pytest.approx(values, rel=1e-9)
    eta = expected["partial_eta2"]
    assert rows["visit"]["partial_eta_squared"] == pytest.approx(eta["visit"], rel=1e-9)
    assert rows["visit:arm"]["partial_eta_squared"] == pytest.approx(eta["format_visit"], rel=1e-9)


def test_rm_anova_of_two_visits_is_the_t_test_of_changes(tmp_path):
    data = pd.read_csv(FOLDER / "data" / "ind2.csv").query("visit < 3")
    data.to_csv(tmp_path / "data.csv", index=False)
    analysis = analysed(tmp_path / "data", **TRIAL, participant="id", visit="visit", method="rm-anova")
    wide = data.pivot(index=["id", "arm"], columns="visit", values="y").dropna().reset_index("arm")
    change = wide[2] - wide[1]
    expected = stats.ttest_ind(change[wide["arm"] == 1], change[wide["arm"] == 0])
    term = analysis.terms[0]
    assert (term.term, term.df) == ("change: arm[1] - arm[0]", len(wide) - 2)
    assert (term.statistic, term.p_value) == pytest.approx(expected, rel=1e-9)
    assert analysis.count["n_complete"] == len(wide) < analysis.count["n_participant"]
    assert "left out whole" in analysis.notes[0]


def test_rm_anova_without_arms_is_the_change_of_all():
    analysis = analysed("rmanova", outcome="y", participant="id", visit="visit", method="rm-anova")
    wide = pd.read_csv(FOLDER / "data" / "rmanova.csv").pivot(index="id", columns="visit", values="y")
    expected = stats.ttest_1samp(wide[3] - wide[1], 0.0)
    assert (analysis.terms[0].statistic, analysis.terms[0].p_value) == pytest.approx(expected, rel=1e-9)


# ---- randomisation ---------------------------------------------------------------------------------------------------


def test_exact_test_of_villages_by_enumeration():
    analysis = analysed("crt3", **TRIAL, visit="visit", cluster="village", method="randomisation")
    data = at_month_6()
    mean = data.groupby("village")["y"].mean()
    treated = data.groupby("village")["arm"].first() == 1
    differences = [
        mean[list(way)].mean() - mean.drop(list(way)).mean() for way in itertools.combinations(mean.index, 4)
    ]
    observed = mean[treated].mean() - mean[~treated].mean()
    term = analysis.terms[0]
    assert term.estimate == pytest.approx(observed)
    assert term.p_value == pytest.approx(np.mean(np.abs(differences) >= abs(observed) - 1e-12))
    assert "all 70 ways" in analysis.notes[0]


def test_interval_holds_the_shifts_that_are_not_rejected(tmp_path):
    request = {**TRIAL, "visit": "visit", "cluster": "village", "method": "randomisation"}
    term = analysed("crt3", **request).terms[0]
    for shift, rejected in (
        (term.ci_low - 0.01, True), (term.ci_low + 0.01, False), (term.ci_high - 0.01, False),
        (term.ci_high + 0.01, True),
    ):  # fmt: skip
        data = at_month_6().assign(y=lambda d, shift=shift: d["y"] - shift * d["arm"])
        data.to_csv(tmp_path / "data.csv", index=False)
        p = analysed(tmp_path / "data", **request).terms[0].p_value
        assert (p <= 0.05) == rejected


def test_drawn_dealings_agree_with_all_of_them_and_with_the_seed():
    request = {**TRIAL, "visit": "visit", "cluster": "village", "method": "randomisation"}
    exact = analysed("crt3", **request).terms[0].p_value
    person = {**TRIAL, "visit": "visit", "method": "randomisation", "permutations": 4_000}
    one, same, other = (analysed("crt3", **person, seed=seed).terms[0] for seed in (1, 1, 2))
    assert one == same != other
    student = analysed("crt3", **TRIAL, visit="visit", method="ancova").terms[0].p_value
    mcse = (student * (1 - student) / 4_000) ** 0.5
    assert one.p_value == pytest.approx(student, abs=4 * mcse + 0.005)  # the two tests differ a little in themselves
    assert 0 < exact < 1


def test_covariates_are_regressed_out_without_the_arm():
    """Estimate is that of the regression with the arm (Frisch, Waugh 1933)."""
    request = {**TRIAL, "visit": "visit", "baseline": "baseline", "covariates": ("age",)}
    permuted = analysed("crt3", **request, method="randomisation", permutations=999).terms[0]
    regressed = analysed("crt3", **request, method="ancova").terms[0]
    assert permuted.estimate == pytest.approx(regressed.estimate, rel=1e-9)


def test_three_units_in_all_reject_nothing(tmp_path):
    (tmp_path / "data.csv").write_text("y,arm\n1,0\n2,0\n9,1\n", encoding="utf-8")
    term = analysed(tmp_path / "data", **TWO, method="randomisation").terms[0]
    assert term.p_value == pytest.approx(1 / 3)
    assert (term.ci_low, term.ci_high) == (-np.inf, np.inf)


def test_large_trials_have_more_ways_than_a_float_holds(tmp_path):
    rng = np.random.default_rng(1)
    pd.DataFrame({"y": rng.normal(size=3000), "arm": np.arange(3000) % 2}).to_csv(tmp_path / "data.csv", index=False)
    analysis = analysed(tmp_path / "data", **TWO, method="randomisation", permutations=999)
    assert "999 of about 10^901 ways" in analysis.notes[0]
    assert np.isfinite(analysis.terms[0].ci_low)


def test_constant_outcome_has_nothing_to_permute(tmp_path):
    (tmp_path / "data.csv").write_text("y,arm\n7,0\n7,0\n7,1\n7,1\n", encoding="utf-8")
    analysis = analysed(tmp_path / "data", **TWO, method="randomisation")
    assert analysis.is_failed and "does not vary" in analysis.notes[0]
