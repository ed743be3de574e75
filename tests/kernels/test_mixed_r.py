"""The mixed-model kernel against R: lme4 + lmerTest + pbkrtest, mmrm, nlme."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reference.dense_mixed import DenseMixed, components, linear
from scipy import stats

from sim.kernels.mixed import BOUNDARIES, MixedModel, fit_mixed
from sim.trial import FAILED, OK, SINGULAR

FOLDER = Path(__file__).parents[1] / "reference" / "r"


def terms_of(formula):
    """Fixed-effect terms of an R formula, in R's order: main effects, then products of numeric columns."""
    fixed = re.sub(r"\([^)]*\)", "", formula.split("~")[1])
    fixed = re.sub(r"(\w+) \* (\w+)", r"\1 + \2 + \1:\2", fixed)
    terms = [t.strip() for t in fixed.split("+") if t.strip() not in ("", "1")]
    return sorted(terms, key=lambda t: ":" in t)


def columns_of(formula, data):
    return np.stack([np.ones(len(data))] + [data[t.split(":")].prod(axis=1) for t in terms_of(formula)], axis=1)


def arrange(data, formula, person, block=(), column=(), residual_class=None, participant=None, time=None):
    """Long rows to the kernel's (1, N, T) arrays; person names the column that identifies a participant."""
    rows = data.assign(v2=(data["visit"] == 2) * 1.0, v3=(data["visit"] == 3) * 1.0) if "visit" in data else data
    i = pd.factorize(rows[person])[0] if person else np.arange(len(rows))
    t = rows["visit"].to_numpy() - 1 if person else np.zeros(len(rows), int)
    shape = (i.max() + 1, t.max() + 1)
    x = columns_of(formula, rows)
    y, seen, X = np.full((1, *shape), np.nan), np.zeros((1, *shape), bool), np.zeros((*shape, x.shape[1]))
    y[0, i, t], seen[0, i, t], X[i, t] = rows["y"], True, x
    col = np.full((*shape, len(column)), -1)
    for k, values in enumerate(column):
        col[i, t, k] = values
    unit, cls = np.full(shape[0], -1), np.zeros(shape[0], int)
    if len(block):
        unit[i] = block
    if residual_class is not None:
        cls[i] = residual_class
    structure = participant or ("intercept" if person else "independent")
    model = MixedModel(X, structure, time=time, residual_class=cls, block=unit, column=col)
    joint = [k for k, term in enumerate(terms_of(formula)) if term in ("v2:arm", "v3:arm")]
    eye = np.eye(x.shape[1])
    return {
        "model": model, "y": y, "observed": seen, "covariate": np.empty((1, shape[0], 0)), "contrast": eye,
        "joint": [eye[[1 + k for k in joint]]] if len(joint) == 2 else [],
    }  # fmt: skip


def within(outer, inner):
    """Codes 0, 1, .. of inner, starting again in each outer unit."""
    frame = pd.DataFrame({"outer": outer, "inner": inner})
    return frame.groupby("outer")["inner"].transform(lambda s: pd.factorize(s)[0]).to_numpy()


def read(name):
    return pd.read_csv(FOLDER / "data" / f"{name}.csv")


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def sleepstudy():
    d = read("sleepstudy").rename(columns={"Reaction": "y"})
    return d.assign(visit=d["Days"] + 1)


def case(name):
    """(kernel arguments, R's fit, R's variances in the kernel's order)."""
    fixture = load(name.split("/")[0])
    if name.startswith("partial_nested_reml"):
        d = read("partial_nested")
        treated = d["trt"].to_numpy() == 1
        block = np.where(treated, pd.factorize(d["group"])[0], -1)
        column = [np.where(treated, 0, -1)]
        if name.endswith("homo"):
            fit = fixture["homoscedastic"]
            return arrange(d, fit["model"]["formula"], None, block, column), fit, ["Residual", "group"]
        fit = fixture["heteroscedastic"]["lmer_equivalent"]
        order = [("Residual", "idf"), "Residual", "group"]
        return arrange(d, "y ~ base + trt", None, block, column, d["trt"]), fit, order
    if name == "classic_Penicillin":
        d = read("Penicillin").rename(columns={"diameter": "y"})
        sample = pd.factorize(d["sample"])[0]
        column = [pd.factorize(d["plate"])[0] + sample.max() + 1, sample]
        args = arrange(d, "y ~ 1", None, np.zeros(len(d), int), column)
        return args, fixture["fits"][0], ["Residual", "plate", "sample"]
    if name == "classic_Dyestuff2":
        d = read("Dyestuff2").rename(columns={"Yield": "y"})
        args = arrange(d, "y ~ 1", None, pd.factorize(d["Batch"])[0], [np.zeros(len(d), int)])
        return args, fixture["fits"][0], ["Residual", "Batch"]
    if name.startswith("classic_sleepstudy"):
        d = sleepstudy()
        if name.endswith("intercept"):
            return arrange(d, "y ~ Days", "Subject"), fixture["fits"][1], ["Residual", "Subject"]
        slope = arrange(d, "y ~ Days", "Subject", participant="slope", time=np.arange(10))
        return slope, fixture["fits"][0], slope_order("Subject", "Days")
    formula = fixture["model"]["formula"]
    if name == "crt_ancova_lmm_reml":
        d = read("crt3_month6")
        return arrange(d, formula, None, d["village"], [np.zeros(len(d), int)]), fixture, ["Residual", "village"]
    d = read(Path(fixture["data"]).stem)
    zero = np.zeros(len(d), int)
    if name.startswith("lmm2_slope"):
        time = d.groupby("visit")["months"].first().to_numpy()
        return arrange(d, formula, "id", participant="slope", time=time), fixture, slope_order("id", "months")
    if name.startswith("lmm2"):
        return arrange(d, formula, "id"), fixture, ["Residual", "id"]
    if name == "lmm3_vilvisit_reml":
        args = arrange(d, formula, "id", d["village"], [zero, d["visit"]])
        return args, fixture, ["Residual", "id", "village", "village:visitf"]
    if name == "lmm4_reml":
        args = arrange(d, formula, "id", d["district"], [zero, 1 + within(d["district"], d["village"])])
        return args, fixture, ["Residual", "id", "district", "village"]
    return arrange(d, formula, "id", d["village"], [zero]), fixture, ["Residual", "id", "village"]


def slope_order(unit, time):
    return ["Residual", f"{unit}/(Intercept)", f"{unit}/(Intercept)/{time}", f"{unit}/{time}"]


FIXTURES = [
    "lmm2_reml", "lmm2_ml", "lmm2_clda_reml", "lmm2_slope_reml", "lmm2_slope_boundary_reml", "lmm3_reml",
    "lmm3_clda_reml", "lmm3_vilvisit_reml", "lmm3_singular_reml", "lmm4_reml", "crt_ancova_lmm_reml",
    "partial_nested_reml/homo", "partial_nested_reml/hetero", "classic_sleepstudy/slope",
    "classic_sleepstudy/intercept", "classic_Penicillin", "classic_Dyestuff2",
]  # fmt: skip


def variances(fit, order):
    """R's table of variances in the kernel's order; a tuple is a sum."""
    vcov = {}
    for row in fit["varcomp"]:
        vcov[row["grp"]] = row["vcov"]
        vcov["/".join(x for x in (row["grp"], row["var1"], row["var2"]) if x)] = row["vcov"]
    return np.array([sum(vcov[g] for g in ((o,) if isinstance(o, str) else o)) for o in order]), vcov["Residual"]


@pytest.mark.parametrize("name", FIXTURES)
def test_satterthwaite_against_lmertest(name):
    args, expected, order = case(name)
    fit = fit_mixed(**args, method="ml" if name.endswith("_ml") else "reml")
    variance, residual = variances(expected, order)
    fixed = expected["fixed"]
    assert fit.status[0] == (SINGULAR if expected["singular"] else OK)
    assert abs(fit.criterion[0] - expected["criterion"]["value"]) < 1e-6
    np.testing.assert_allclose(fit.estimate[0], [f["estimate"] for f in fixed], rtol=1e-6)
    np.testing.assert_allclose(fit.standard_error[0], [f["se"] for f in fixed], rtol=1e-6)
    np.testing.assert_allclose(fit.variance[0], variance, rtol=1e-6, atol=1e-6 * residual)
    np.testing.assert_allclose(fit.df[0], [f["satterthwaite"]["df"] for f in fixed], rtol=1e-4)
    p = 2 * stats.t.sf(np.abs(fit.estimate[0] / fit.standard_error[0]), fit.df[0])
    np.testing.assert_allclose(p, [f["satterthwaite"]["p"] for f in fixed], atol=1e-6)
    if "joint" in expected:
        check_joint(fit, expected["joint"]["satterthwaite"])


def check_joint(fit, expected):
    assert fit.joint_ndf[0, 0] == expected["ndf"]
    np.testing.assert_allclose(fit.joint_f[0, 0], expected.get("F_scaled", expected.get("F")), rtol=1e-5)
    np.testing.assert_allclose(fit.joint_ddf[0, 0], expected["ddf"], rtol=1e-4)
    p = stats.f.sf(fit.joint_f[0, 0], fit.joint_ndf[0, 0], fit.joint_ddf[0, 0])
    np.testing.assert_allclose(p, expected["p"], atol=1e-6)


@pytest.mark.parametrize("name", [name for name in FIXTURES if name != "lmm2_ml"])
def test_kenward_roger_against_pbkrtest(name):
    args, expected, _ = case(name)
    fit = fit_mixed(**args, df="kenward-roger")
    kr = [f["kenward_roger"] for f in expected["fixed"]]
    np.testing.assert_allclose(fit.standard_error[0], [f["se"] for f in kr], rtol=1e-6)
    np.testing.assert_allclose(fit.df[0], [f["df"] for f in kr], rtol=1e-4)
    p = 2 * stats.t.sf(np.abs(fit.estimate[0] / fit.standard_error[0]), fit.df[0])
    np.testing.assert_allclose(p, [f["p"] for f in kr], atol=1e-6)
    if "vcov_kr" in expected:
        np.testing.assert_allclose(fit.coefficient_covariance[0], expected["vcov_kr"]["values"], rtol=1e-5, atol=1e-9)
    if "joint" in expected:
        check_joint(fit, expected["joint"]["kenward_roger"])


MMRM = {"Satterthwaite": 0, "Kenward-Roger": 1, "Kenward-Roger-Linear": 2}
OF_MMRM = {"Satterthwaite": "satterthwaite", "Kenward-Roger": "kenward-roger-second-order",
           "Kenward-Roger-Linear": "kenward-roger-observed"}  # fmt: skip


MMRM_FORMULA = "y ~ v2 + v3 + arm + v2:arm + v3:arm"


@pytest.mark.parametrize("structure", ["us", "cs", "csh", "ar1", "ar1h"])
def test_estimates_against_tight_gls(structure):
    expected = load("gls_tight")[structure]
    fit = fit_mixed(**arrange(read("ind2"), MMRM_FORMULA, "id", participant=structure))
    assert fit.status[0] == OK
    assert abs(fit.criterion[0] - expected["minus2_reml_loglik"]) < 1e-6
    np.testing.assert_allclose(fit.estimate[0], expected["estimate"], rtol=1e-6)
    np.testing.assert_allclose(fit.standard_error[0], expected["se"], rtol=1e-6)
    np.testing.assert_allclose(fit.covariance[0, 0].ravel(), expected["cov"], rtol=1e-6)


def check_against_mmrm(fit, expected, covariance):
    """mmrm stops early: up to 5e-7 above the least criterion, 5e-5 of a standard error from the estimates."""
    fixed = expected["fixed"]
    estimate, se = (np.array([f[name] for f in fixed]) for name in ("estimate", "se"))
    assert expected["minus2_reml_loglik"] - 1e-6 < fit.criterion[0] < expected["minus2_reml_loglik"] + 1e-9
    np.testing.assert_allclose((fit.estimate[0] - estimate) / se, 0, atol=5e-5)
    np.testing.assert_allclose(fit.standard_error[0], se, rtol=5e-5)
    np.testing.assert_allclose(fit.df[0], [f["df"] for f in fixed], rtol=1e-4)
    np.testing.assert_allclose(fit.covariance[0, 0], expected[covariance]["values"], rtol=2e-4)


@pytest.mark.parametrize("method", MMRM)
def test_unstructured_against_mmrm(method):
    expected = load("mmrm_us_reml")["mmrm"][MMRM[method]]
    fit = fit_mixed(**arrange(read("ind2"), MMRM_FORMULA, "id", participant="us"), df=OF_MMRM[method])
    check_against_mmrm(fit, expected, "cov_unstructured")
    joint = expected["joint"]
    np.testing.assert_allclose(fit.joint_f[0, 0], joint["F"], rtol=5e-5)
    np.testing.assert_allclose(fit.joint_ddf[0, 0], joint["ddf"], rtol=1e-4)


@pytest.mark.parametrize("structure, at", [("cs", 0), ("csh", 1), ("ar1", 2)])
def test_other_structures_against_mmrm(structure, at):
    fit = fit_mixed(**arrange(read("ind2"), MMRM_FORMULA, "id", participant=structure))
    check_against_mmrm(fit, load("mmrm_other_cov")["fits"][at], "cov")


@pytest.mark.parametrize(
    "data, has_village, expected",
    [("crt3", True, [91, 91, 91, 6, 91, 91]), ("ind2", False, [89, 89, 89, 58, 89, 89])],
)
def test_between_within_against_nlme(data, has_village, expected):
    """summary(lme(y ~ v2 + v3 + arm + v2:arm + v3:arm, random = ~ 1 | village/id)) of nlme 3.1-162; ~ 1 | id."""
    d = read(data)
    village = (d["village"], [np.zeros(len(d), int)]) if has_village else ()
    fit = fit_mixed(**arrange(d, MMRM_FORMULA, "id", *village), df="between-within")
    np.testing.assert_array_equal(fit.df[0], expected)
    assert fit.joint_ddf[0, 0] == expected[-1]


def test_between_within_counts_the_intercept_that_a_full_set_of_dummies_stands_for():
    """nlme 3.1-162, lme(y ~ v2 + v3 + [arm +] a2 + a3 + x, random = ~ 1 | village/id); what it says of y ~ 0 + v1 + ..
    has 5 for arm, 18 for x and 41 for v1: it gives the intercept's degree of freedom to every level but the outermost.
    """
    rng, N, T = np.random.default_rng(1), 24, 3
    village, observed = np.arange(N) // 4, np.ones((1, N, T), bool)
    observed[0, [1, 9, 16], [2, 2, 1]] = False
    y, x = rng.normal(size=(1, N, T)), rng.normal(size=(1, N, 1))
    visit, one = np.broadcast_to(np.eye(T), (N, T, T)), np.ones((N, T, 1))
    arm = (village % 2)[:, None, None] * one
    later = arm * visit[:, :, 1:]

    def df(*columns):
        X = np.concatenate(columns, axis=2)
        model = MixedModel(X, "intercept", block=village, column=np.zeros((N, T, 1), int))
        return fit_mixed(model, y, observed, x, np.eye(X.shape[2] + 1), df="between-within").df[0].tolist()

    assert df(one, visit[:, :, 1:], later) == [41, 41, 41, 41, 41, 17]
    assert df(visit, later) == [41, 41, 41, 41, 41, 17]
    assert df(one, visit[:, :, 1:], arm, later) == [41, 41, 41, 4, 41, 41, 17]
    assert df(visit, arm, later) == [41, 41, 41, 4, 41, 41, 17]


# ---- random terms that are hard, or impossible, to tell apart ----------------------------------------------------


def teams_and_groups(name):
    """Arguments of fit_mixed: random intercepts of facilitator team and of training group, trained arm only."""
    data = pd.read_csv(FOLDER / "data" / f"{name}.csv")
    trained, n = data["arm"].to_numpy() == 1, len(data)
    team, group = (pd.factorize(data[k])[0] for k in ("team", "group"))
    column = np.where(trained[:, None], np.stack([team, 100 + group], axis=1), -1)[:, None]
    X = np.stack([np.ones(n), data["arm"], data["stratum"], data["base"]], axis=1)[:, None]
    model = MixedModel(X, "independent", block=np.where(trained, 0, -1), column=column)
    y = data["y"].to_numpy()[None, :, None]
    return model, y, np.ones(y.shape, bool), np.zeros((1, n, 0)), np.array([[0.0, 1.0, 0.0, 0.0]])


@pytest.mark.parametrize("boundary", BOUNDARIES[:2])
def test_ridge_between_two_components_against_lmertest(boundary):
    """Observed information is indefinite on the way: steps by the expected one would creep along the ridge."""
    fit, r = fit_mixed(*teams_and_groups("teams_ridge"), boundary=boundary), load("teams")["teams_ridge"]
    assert fit.status[0] == SINGULAR and fit.n_iteration[0] < 20
    np.testing.assert_allclose(fit.criterion[0], r["criterion"], rtol=1e-12)
    np.testing.assert_allclose(fit.variance[0], [r["residual"], r["team"], r["group"]], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose([fit.estimate[0, 0], fit.standard_error[0, 0]], [r["estimate"], r["se"]], rtol=1e-6)
    if boundary == "drop":
        np.testing.assert_allclose(fit.df[0, 0], r["df"], rtol=1e-5)


def test_ridge_that_falls_to_the_edge_of_the_definite_has_no_maximum():
    """With negative variances allowed the likelihood rises until the covariance of the data is singular."""
    model, y, observed, covariate, contrast = teams_and_groups("teams_ridge")
    assert fit_mixed(model, y, observed, covariate, contrast, boundary="negative").status[0] == FAILED
    V = components(observed[0], model.residual_class, False, model.block, model.column)
    twin = DenseMixed(y[0, :, 0], model.X[:, 0], linear(V))
    way = [twin.criterion(np.array([0.914, t, g])) for t, g in ((0.0, 0.037), (-0.05, 0.08), (-0.10, 0.135))]
    near = np.array([0.9153, -0.11385, 0.15612])
    assert way[0] > way[1] > way[2] > twin.criterion(near)
    assert np.linalg.eigvalsh(twin.covariance[0](near)).min() < 0.01


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("df", ["satterthwaite", "satterthwaite-expected", "kenward-roger", "z"])
def test_of_terms_that_coincide_one_stands_for_both(boundary, df):
    model, *rest = teams_and_groups("teams_of_one_group")
    alone = MixedModel(model.X, "independent", block=model.block, column=model.column[:, :, :1])
    both, one = (fit_mixed(m, *rest, boundary=boundary, df=df) for m in (model, alone))
    assert both.status[0] == SINGULAR and one.status[0] == OK
    for name in ("estimate", "standard_error", "df", "coefficient_covariance", "criterion"):
        np.testing.assert_allclose(getattr(both, name), getattr(one, name), rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(both.variance[0], [*one.variance[0], 0.0], rtol=1e-9)


def test_terms_that_coincide_against_lmertest():
    fit, r = fit_mixed(*teams_and_groups("teams_of_one_group")), load("teams")["teams_of_one_group"]
    found = fit.estimate[0, 0], fit.standard_error[0, 0], fit.df[0, 0]
    np.testing.assert_allclose(found, [r["estimate"], r["se"], r["df"]], rtol=1e-5)
    np.testing.assert_allclose(fit.variance[0], [r["residual"], r["team"] + r["group"], 0.0], rtol=1e-5)
