"""lmm, mmrm and partially-nested give, from the file on, what lme4 + lmerTest + pbkrtest, nlme and mmrm give."""

import numpy as np
import pytest
from dataset.reference import LMER, VISITS, analysed, fixture, our_term
from scipy import stats

SD = {  # group and variable of lme4 -> ours, for each fixture's levels
    ("id", "(Intercept)"): "sd_participant", ("id", "months"): "sd_slope", ("village", "(Intercept)"): "sd_cluster",
    ("village:visitf", "(Intercept)"): "sd_cluster_visit", ("district", "(Intercept)"): "sd_district",
    ("group", "trt"): "sd_training_group", ("Subject", "(Intercept)"): "sd_participant",
    ("Subject", "Days"): "sd_slope",
    ("plate", "(Intercept)"): "sd_participant", ("sample", "(Intercept)"): "sd_cluster",
    ("Batch", "(Intercept)"): "sd_cluster", ("Residual", None): "sd_residual",
}  # fmt: skip
AT_BOUNDARY = {"lmm3_singular_reml", "lmm2_slope_boundary_reml", "classic_Dyestuff2/fits/0"}


def same_terms(analysis, expected, error, df, p):
    """Every term of the fixture, by name: estimate and SE to 1e-6, df to 1e-4 relative, p to 1e-6 absolute."""
    ours = {term.term: term for term in analysis.terms}
    assert set(ours) == {our_term(row["term"]) for row in expected}
    for row in expected:
        term = ours[our_term(row["term"])]
        assert term.estimate == pytest.approx(row["estimate"], rel=1e-6, abs=1e-8)
        assert term.standard_error == pytest.approx(error(row), rel=1e-6)
        assert term.df == pytest.approx(df(row), rel=1e-4)
        assert term.p_value == pytest.approx(p(row), abs=1e-6)
        half = stats.t.ppf(0.975, term.df) * term.standard_error
        assert (term.ci_low, term.ci_high) == pytest.approx((term.estimate - half, term.estimate + half))


def same_fit(analysis, expected):
    """Criterion to 1e-6, SDs to 1e-6 relative (to 1e-4 of the residual's at the boundary), and the status."""
    (criterion,) = analysis.criterion.values()
    assert criterion == pytest.approx(expected["criterion"]["value"], abs=1e-6)
    assert analysis.status == ("singular" if expected["singular"] else "ok")
    sd = {(row["grp"], row["var1"]): row for row in expected["varcomp"] if row["var2"] is None}
    if ("idf", "ctl") in sd:  # lme4 writes the controls' residual variance as a sum
        residual = sd.pop(("Residual", None))["vcov"]
        assert analysis.variance["sd_residual[1]"] == pytest.approx(residual**0.5, rel=1e-6)
        total = residual + sd.pop(("idf", "ctl"))["vcov"]
        assert analysis.variance["sd_residual[0]"] == pytest.approx(total**0.5, rel=1e-6)
    small = 1e-6 * expected["sigma"]
    for key, row in sd.items():
        assert analysis.variance[SD[key]] == pytest.approx(row["sdcor"], rel=1e-6, abs=small)
    for row in expected["varcomp"]:
        if row["var2"] is not None:
            assert analysis.variance["cor_intercept_slope"] == pytest.approx(row["sdcor"], rel=1e-5)


def same_joint(joint, terms, f, ddf, p):
    assert joint.terms == tuple(map(our_term, terms))
    assert joint.ndf == len(terms)
    assert joint.f == pytest.approx(f, rel=1e-6)
    assert joint.ddf == pytest.approx(ddf, rel=1e-4)
    assert joint.p_value == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize("name", LMER)
def test_satterthwaite_against_lmertest(name):
    data, request = LMER[name]
    expected = fixture(name)
    analysis = analysed(data, **request, all_terms=True)
    same_fit(analysis, expected)
    same_terms(
        analysis, expected["fixed"], lambda row: row["se"],
        lambda row: row["satterthwaite"]["df"], lambda row: row["satterthwaite"]["p"],
    )  # fmt: skip
    assert analysis.count["n_obs"] == expected["n_obs"]
    if "joint" in expected:
        r = expected["joint"]["satterthwaite"]
        same_joint(analysis.joint, expected["joint"]["terms"], r["F"], r["ddf"], r["p"])


@pytest.mark.parametrize("name", [name for name in LMER if name != "lmm2_ml"])
def test_kenward_roger_against_pbkrtest(name):
    """At the boundary pbkrtest keeps the variance that is 0 as a parameter."""
    data, request = LMER[name]
    expected = fixture(name)
    boundary = {"boundary": "keep"} if name in AT_BOUNDARY else {}
    analysis = analysed(data, **request, **boundary, all_terms=True, df="kenward-roger")
    same_terms(
        analysis, expected["fixed"], lambda row: row["kenward_roger"]["se"],
        lambda row: row["kenward_roger"]["df"], lambda row: row["kenward_roger"]["p"],
    )  # fmt: skip
    if "joint" in expected:
        r = expected["joint"]["kenward_roger"]
        same_joint(analysis.joint, expected["joint"]["terms"], r["F_scaled"], r["ddf"], r["p"])


@pytest.mark.parametrize("contrast", ["final", "change"])
def test_contrast_is_the_sum_of_its_terms(contrast):
    """Against lme4's covariance matrix of the terms."""
    expected = fixture("lmm2_reml")
    term = analysed("ind2", **VISITS, contrast=contrast).terms[0]
    weight = np.array([0, 0, 0, contrast == "final", 0, 1.0])
    estimate = weight @ [row["estimate"] for row in expected["fixed"]]
    variance = weight @ np.array(expected["vcov"]["values"]) @ weight
    assert term.term == ("arm[1] + " if contrast == "final" else "") + "visit[3]:arm[1]"
    assert (term.estimate, term.standard_error) == pytest.approx((estimate, variance**0.5), rel=1e-6)


def test_penicillin_is_the_same_whatever_the_levels_are_called():
    """Crossed levels: plate and sample as participant and cluster, or as cluster and district."""
    request = {"method": "lmm", "outcome": "diameter", "all_terms": True}
    one = analysed("Penicillin", **request, participant="plate", cluster="sample")
    other = analysed("Penicillin", **request, cluster="plate", district="sample")
    assert one.criterion == pytest.approx(other.criterion)
    assert one.variance["sd_participant"] == pytest.approx(other.variance["sd_cluster"])


MMRM = {**VISITS, "method": "mmrm", "all_terms": True}
STRUCTURE = {
    "compound symmetry (homogeneous)": "cs",
    "heterogeneous compound symmetry": "csh",
    "AR(1) homogeneous over visit index": "ar1",
}


def fits_of_mmrm():
    structures = [(STRUCTURE[fit["structure"]], "satterthwaite", fit) for fit in fixture("mmrm_other_cov/fits")]
    df = ("satterthwaite", "kenward-roger-second-order", "kenward-roger")
    return [*zip(["us"] * 3, df, fixture("mmrm_us_reml/mmrm"), strict=True), *structures]


@pytest.mark.parametrize("covariance, df, expected", fits_of_mmrm(), ids=lambda v: v if isinstance(v, str) else "")
def test_mmrm_against_mmrm(covariance, df, expected):
    """mmrm stops up to 5e-7 of the criterion short of the maximum, where we go on: its numbers carry that error.

    Half a millionth of the criterion moves an estimate by some 1e-5 of its standard error. Where there is a second
    witness, lme4 for cs and tight fits by nlme for csh and ar1, estimates and standard errors agree to 1e-6 below.
    """
    analysis = analysed("ind2", **MMRM, covariance=covariance, df=df)
    ahead = expected["minus2_reml_loglik"] - analysis.criterion["reml_criterion"]
    assert -1e-9 <= ahead <= 1e-6
    ours = {term.term: term for term in analysis.terms}
    assert set(ours) == {our_term(row["term"]) for row in expected["fixed"]}
    for row in expected["fixed"]:
        term = ours[our_term(row["term"])]
        assert term.estimate == pytest.approx(row["estimate"], abs=5e-5 * row["se"])
        assert term.standard_error == pytest.approx(row["se"], rel=5e-5)
        assert term.df == pytest.approx(row["df"], rel=1e-4)
        assert term.p_value == pytest.approx(row["p"], abs=2e-5)
    matrix = expected.get("cov_unstructured") or expected["cov"]
    np.testing.assert_allclose(analysis.variance["covariance"], matrix["values"], rtol=1e-4)
    if "joint" in expected:
        joint, r = analysis.joint, expected["joint"]
        assert joint.terms == tuple(map(our_term, r["terms"]))
        assert (joint.ndf, joint.f) == (r["ndf"], pytest.approx(r["F"], rel=1e-4))
        assert joint.ddf == pytest.approx(r["ddf"], rel=1e-4)
        assert joint.p_value == pytest.approx(r["p"], abs=2e-5)


@pytest.mark.parametrize("covariance", ["csh", "ar1", "ar1h"])
def test_mmrm_against_gls_fitted_tightly(covariance):
    expected = fixture(f"gls_tight/{covariance}")
    analysis = analysed("ind2", **MMRM, covariance=covariance)
    assert analysis.criterion["reml_criterion"] == pytest.approx(expected["minus2_reml_loglik"], abs=1e-6)
    ours = {term.term: term for term in analysis.terms}
    order = [our_term(name) for name in ("(Intercept)", "v2", "v3", "arm", "v2:arm", "v3:arm")]
    assert [ours[name].estimate for name in order] == pytest.approx(expected["estimate"], rel=1e-6)
    assert [ours[name].standard_error for name in order] == pytest.approx(expected["se"], rel=1e-6)


def test_compound_symmetry_is_the_random_intercept_of_lmer():
    expected = fixture("lmm2_reml")
    analysis = analysed("ind2", **MMRM, covariance="cs")
    assert analysis.criterion["reml_criterion"] == pytest.approx(expected["criterion"]["value"], abs=1e-6)
    same_terms(
        analysis, expected["fixed"], lambda row: row["se"],
        lambda row: row["satterthwaite"]["df"], lambda row: row["satterthwaite"]["p"],
    )  # fmt: skip


def test_mmrm_with_a_cluster_intercept_is_lmer_where_covariances_agree():
    expected = fixture("lmm3_reml")
    analysis = analysed("crt3", **MMRM, covariance="cs", cluster="village")
    assert analysis.criterion["reml_criterion"] == pytest.approx(expected["criterion"]["value"], abs=1e-6)
    sd = {row["grp"]: row["sdcor"] for row in expected["varcomp"]}
    assert analysis.variance["sd_cluster"] == pytest.approx(sd["village"], rel=1e-6)
    assert analysis.variance["covariance"][0][1] == pytest.approx(sd["id"] ** 2, rel=1e-6)
    same_terms(
        analysis, expected["fixed"], lambda row: row["se"],
        lambda row: row["satterthwaite"]["df"], lambda row: row["satterthwaite"]["p"],
    )  # fmt: skip
