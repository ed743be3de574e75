"""The REML kernel against R (lme4 + lmerTest, nlme), against dense matrices, and against its own symmetries."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reference.dense_mixed import DenseMixed, components

from sim.kernels.mixed import FAILED, OK, SINGULAR, reml

FOLDER = Path(__file__).parents[1] / "reference" / "r"


# ---- R's answers -----------------------------------------------------------------------------------------------------


def columns_of(formula, data):
    """Fixed-effect columns of an R formula whose terms are numeric columns and products of them."""
    fixed = re.sub(r"\([^)]*\)", "", formula.split("~")[1])
    terms = [t.strip() for t in fixed.split("+") if t.strip() not in ("", "1")]
    order = sorted(terms, key=lambda t: ":" in t)  # R puts interactions last
    return np.stack([np.ones(len(data))] + [data[t.split(":")].prod(axis=1) for t in order], axis=1)


def arrange(data, formula, person, block=(), column=(), residual_class=None):
    """Long rows to the kernel's (1, N, T) arrays; person names the column that identifies a participant."""
    rows = data.assign(v2=(data["visit"] == 2) * 1.0, v3=(data["visit"] == 3) * 1.0) if "visit" in data else data
    i = pd.factorize(rows[person])[0] if person else np.arange(len(rows))
    t = rows["visit"].to_numpy() - 1 if person else np.zeros(len(rows), int)
    shape = (i.max() + 1, t.max() + 1)
    x = columns_of(formula, rows)
    y, seen, X = np.full((1, *shape), np.nan), np.zeros((1, *shape), bool), np.full((*shape, x.shape[1]), np.nan)
    y[0, i, t], seen[0, i, t], X[i, t] = rows.iloc[:, rows.columns.get_loc("y")], True, x
    col = np.full((*shape, len(column)), -1)
    for k, values in enumerate(column):
        col[i, t, k] = values
    unit, cls = np.full(shape[0], -1), np.zeros(shape[0], int)
    if len(block):
        unit[i] = block
    if residual_class is not None:
        cls[i] = residual_class
    return dict(  # noqa: C408
        y=y, observed=seen, X=X, covariate=np.empty((1, shape[0], 0)), contrast=np.eye(x.shape[1]), residual_class=cls,
        has_participant=bool(person), block=unit, column=col,
    )  # fmt: skip


def within(outer, inner):
    """Codes 0, 1, .. of inner, starting again in each outer unit."""
    frame = pd.DataFrame({"outer": outer, "inner": inner})
    return frame.groupby("outer")["inner"].transform(lambda s: pd.factorize(s)[0]).to_numpy()


def read(name):
    return pd.read_csv(FOLDER / "data" / f"{name}.csv")


def case(name):
    """(kernel arguments, R's fit, R's variances in the kernel's order)."""
    fixture = json.loads((FOLDER / f"{name.split('/')[0]}.json").read_text())
    if name.startswith("partial_nested_reml"):
        d = read("partial_nested")
        treated = d["trt"].to_numpy() == 1
        block = np.where(treated, pd.factorize(d["group"])[0], -1)
        column = [np.where(treated, 0, -1)]
        if name.endswith("homo"):
            fit = fixture["homoscedastic"]
            return arrange(d, fit["model"]["formula"], None, block, column), fit, ["Residual", "group"]
        fit = fixture["heteroscedastic"]["lmer_equivalent"]
        formula = "y ~ base + trt"
        return arrange(d, formula, None, block, column, d["trt"]), fit, [("Residual", "idf"), "Residual", "group"]
    if name == "classic_Penicillin":
        d = read("Penicillin").rename(columns={"diameter": "y"})
        sample = pd.factorize(d["sample"])[0]
        column = [pd.factorize(d["plate"])[0] + sample.max() + 1, sample]
        return (
            arrange(d, "y ~ 1", None, np.zeros(len(d), int), column),
            fixture["fits"][0],
            ["Residual", "plate", "sample"],
        )
    if name == "classic_Dyestuff2":
        d = read("Dyestuff2").rename(columns={"Yield": "y"})
        args = arrange(d, "y ~ 1", None, pd.factorize(d["Batch"])[0], [np.zeros(len(d), int)])
        return args, fixture["fits"][0], ["Residual", "Batch"]
    formula = fixture["model"]["formula"]
    if name == "crt_ancova_lmm_reml":
        d = read("crt3_month6")
        return arrange(d, formula, None, d["village"], [np.zeros(len(d), int)]), fixture, ["Residual", "village"]
    d = read(Path(fixture["data"]).stem)
    zero = np.zeros(len(d), int)
    if name.startswith("lmm2"):
        return arrange(d, formula, "id"), fixture, ["Residual", "id"]
    if name == "lmm3_vilvisit_reml":
        args = arrange(d, formula, "id", d["village"], [zero, d["visit"]])
        return args, fixture, ["Residual", "id", "village", "village:visitf"]
    if name == "lmm4_reml":
        args = arrange(d, formula, "id", d["district"], [zero, 1 + within(d["district"], d["village"])])
        return args, fixture, ["Residual", "id", "district", "village"]
    return arrange(d, formula, "id", d["village"], [zero]), fixture, ["Residual", "id", "village"]


FIXTURES = [
    "lmm2_reml", "lmm2_clda_reml", "lmm3_reml", "lmm3_clda_reml", "lmm3_vilvisit_reml", "lmm3_singular_reml",
    "lmm4_reml", "crt_ancova_lmm_reml", "partial_nested_reml/homo", "partial_nested_reml/hetero", "classic_Penicillin",
    "classic_Dyestuff2",
]  # fmt: skip


@pytest.mark.parametrize("name", FIXTURES)
def test_against_lmertest(name):
    args, expected, order = case(name)
    fit = reml(**args)
    vcov = {row["grp"]: row["vcov"] for row in expected["varcomp"]}
    variance = np.array([sum(vcov[g] for g in ((o,) if isinstance(o, str) else o)) for o in order])
    assert fit.status[0] == (SINGULAR if expected["singular"] else OK)
    assert abs(fit.criterion[0] - expected["criterion"]["value"]) < 1e-6
    np.testing.assert_allclose(fit.estimate[0], [f["estimate"] for f in expected["fixed"]], rtol=1e-6)
    np.testing.assert_allclose(fit.standard_error[0], [f["se"] for f in expected["fixed"]], rtol=1e-6)
    np.testing.assert_allclose(fit.variance[0], variance, rtol=1e-6, atol=1e-6 * vcov["Residual"])
    np.testing.assert_allclose(fit.df[0], [f["satterthwaite"]["df"] for f in expected["fixed"]], rtol=1e-4)


# ---- the dense twin --------------------------------------------------------------------------------------------------

SHAPES = ["participant", "village", "village and visit", "nested", "partial", "crossed", "residual", "empty term"]


def problem(shape, seed, n_replicate=2, sd=(1.0, 0.9, 0.8), shift=0.0):
    """A small unbalanced trial with intermittent missingness; sd of residual, participant and random terms."""
    rng = np.random.default_rng(seed)
    N, T, K = 36, 3, 6
    arm, unit = np.arange(N) % K % 2, np.arange(N) % K
    has_participant, cls, block = True, np.zeros(N, int), unit.copy()
    column = np.zeros((N, T, 1), int)
    if shape == "participant":
        block, column = np.full(N, -1), np.zeros((N, T, 0), int)
    elif shape == "village and visit":
        column = np.stack([np.zeros((N, T), int), np.tile(1 + np.arange(T), (N, 1))], axis=2)
    elif shape == "nested":
        block = 5 * (unit // 3) + 2  # labels need not be 0, 1, ..
        column = np.stack([np.zeros((N, T), int), np.repeat(1 + unit[:, None] % 3, T, axis=1)], axis=2)
    elif shape == "partial":
        T, has_participant, cls = 1, False, arm
        block, column = np.where(arm == 1, unit, -1), np.where(arm == 1, 0, -1)[:, None, None]
    elif shape == "crossed":
        has_participant, block = False, np.zeros(N, int)
        column = np.stack([np.repeat(unit[:, None], T, 1), K + (np.arange(N)[:, None] // K + np.arange(T)) % 5], axis=2)
    elif shape == "residual":
        block, column, cls = np.full(N, -1), np.full((N, T, 0), -1), unit // 2 % 2
    elif shape == "empty term":
        cls = arm
        column = np.where((arm[:, None] == 1) & (np.arange(T) > 0), 2, -1)[:, :, None]
    X = np.stack(
        [np.ones((N, T)), np.tile(np.arange(T) > 0, (N, 1)), arm[:, None] * np.ones(T), rng.normal(size=(N, T))], 2
    )
    X = X[:, :, [0, 2, 3]] if T == 1 else X
    covariate = rng.normal(size=(n_replicate, N, 1))
    y = shift + X[..., -1] + covariate + sd[0] * rng.normal(size=(n_replicate, N, T)) * (1 + cls[:, None])
    y += sd[1] * rng.normal(size=(n_replicate, N, 1)) * has_participant
    for k in range(column.shape[2]):
        effect = sd[2] * rng.normal(size=(n_replicate, 100))
        hit = np.where((column[:, :, k] >= 0) & (block[:, None] >= 0), 10 * block[:, None] + column[:, :, k], -1)
        y += np.where(hit >= 0, effect[:, hit % 100], 0.0)
    observed = rng.random((n_replicate, N, T)) > 0.25
    contrast = np.concatenate([np.eye(X.shape[2] + 1), rng.normal(size=(1, X.shape[2] + 1))])
    return dict(  # noqa: C408
        y=y, observed=observed, X=X, covariate=covariate, contrast=contrast, residual_class=cls,
        has_participant=has_participant, block=block, column=column,
    )  # fmt: skip


def dense(args, r=0):
    seen = args["observed"][r if len(args["observed"]) > 1 else 0]
    person, _ = np.nonzero(seen)
    X = np.concatenate([args["X"][seen], args["covariate"][r][person]], axis=1)
    V = components(seen, args["residual_class"], args["has_participant"], args["block"], args["column"])
    return DenseMixed(args["y"][r][seen], X, V)


def one(args, r):
    return {**args, **{k: args[k][r : r + 1] for k in ("y", "observed", "covariate")}}


def equal(a, b, **tolerance):
    for name in a._fields:
        if name != "n_iteration":
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), err_msg=name, **tolerance)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES)
def test_against_slow_version(shape, seed):
    args = problem(shape, seed, sd=(1.0, 0.9, 0.8) if seed else (1.0, 0.0, 0.0))
    fit = reml(**args)
    for r in range(2):
        twin, theta = dense(args, r), fit.variance[r]
        assert fit.status[r] == (SINGULAR if np.any(theta == 0) else OK)
        score, free = twin.score(theta), theta > 0
        spread = np.sqrt(np.diag(np.linalg.inv(twin.information(theta)[np.ix_(free, free)])))
        assert np.all(np.abs(score[free]) * spread < 1e-6)  # stationary ..
        assert np.all(score[~free] <= 0)  # .. and held at zero only where the likelihood falls inwards
        best = twin.fit(args["residual_class"].max() + 1)
        assert fit.criterion[r] <= twin.criterion(best) + 1e-7  # no worse optimum than a general optimiser's
        np.testing.assert_allclose(theta, best, rtol=2e-3, atol=2e-3 * theta[0])
        assert fit.criterion[r] == pytest.approx(twin.criterion(theta), abs=1e-8)
        inference = np.array([twin.satterthwaite(theta, c) for c in args["contrast"]]).T
        np.testing.assert_allclose([fit.estimate[r], fit.standard_error[r], fit.df[r]], inference, rtol=1e-7)
        np.testing.assert_allclose(args["contrast"] @ fit.coefficient[r], fit.estimate[r], rtol=1e-10)


def test_derivatives_of_the_slow_version_against_differences():
    twin = dense(problem("village and visit", 3))
    theta, step = np.array([1.2, 0.7, 0.4, 0.3]), 1e-4 * np.eye(4)
    slope = [-0.5 * (twin.criterion(theta + d) - twin.criterion(theta - d)) / 2e-4 for d in step]
    bend = [-(twin.score(theta + d) - twin.score(theta - d)) / 2e-4 for d in step]
    np.testing.assert_allclose(twin.score(theta), slope, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(twin.information(theta), bend, rtol=1e-6, atol=1e-6)


def test_balanced_nested_data_against_anova():
    """Balanced two-way nested data: the REML variances are those of the ANOVA table, df of the mean is villages - 1."""
    rng = np.random.default_rng(5)
    y = rng.normal(size=(1, 8, 5, 3)) + rng.normal(size=(1, 8, 5, 1)) + 2 * rng.normal(size=(1, 8, 1, 1))
    ms_village = 15 * y.mean((2, 3)).var(ddof=1)
    ms_participant = 3 * np.sum((y.mean(3) - y.mean((2, 3))[..., None]) ** 2) / 32
    ms_within = np.sum((y - y.mean(3)[..., None]) ** 2) / 80
    fit = reml(
        y.reshape(1, 40, 3), np.ones((1, 40, 3), bool), np.ones((40, 3, 1)), np.empty((1, 40, 0)), np.ones((1, 1)),
        has_participant=True, block=np.repeat(np.arange(8), 5), column=np.zeros((40, 3, 1), int),
    )  # fmt: skip
    anova = [ms_within, (ms_participant - ms_within) / 3, (ms_village - ms_participant) / 15]
    np.testing.assert_allclose(fit.variance[0], anova, rtol=1e-9)
    np.testing.assert_allclose(fit.df[0], 7, rtol=1e-9)


# ---- its own symmetries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_equals_singles(shape):
    args = problem(shape, 11, n_replicate=4)
    batch = reml(**args)
    for r in range(4):
        for whole, single in zip(batch, reml(**one(args, r)), strict=True):
            np.testing.assert_array_equal(whole[r], single[0])


@pytest.mark.parametrize("value", [np.nan, 1e9])
def test_values_under_the_mask_do_not_matter(value):
    args = problem("village and visit", 12)
    masked = {**args, "y": np.where(args["observed"], args["y"], value)}
    for a, b in zip(reml(**args), reml(**masked), strict=True):
        np.testing.assert_array_equal(a, b)


def test_observed_of_length_one_is_shared():
    args = problem("nested", 13)
    shared = {**args, "observed": args["observed"][:1]}
    full = {**args, "observed": np.repeat(args["observed"][:1], 2, axis=0)}
    for a, b in zip(reml(**shared), reml(**full), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", SHAPES)
def test_scale_and_shift_equivariance(shape):
    args = problem(shape, 14)
    a, b = reml(**args), reml(**{**args, "y": 50 + 1000 * args["y"]})
    moved = 50 * args["contrast"][:, 0]  # the first column of X is the intercept
    np.testing.assert_allclose(b.estimate, 1000 * a.estimate + moved, rtol=1e-7, atol=1e-5)
    np.testing.assert_allclose(b.standard_error, 1000 * a.standard_error, rtol=1e-7)
    np.testing.assert_allclose(b.variance, 1e6 * a.variance, rtol=1e-6)
    np.testing.assert_allclose(b.df, a.df, rtol=1e-6)
    np.testing.assert_array_equal(a.status, b.status)
    assert np.all(np.abs(a.n_iteration - b.n_iteration) <= 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_relabelled_blocks_columns_and_participants(shape):
    args = problem(shape, 15)
    order = np.random.default_rng(0).permutation(args["X"].shape[0])
    column = args["column"]
    top = column.max(initial=0)
    moved = {
        **args,
        "y": args["y"][:, order], "observed": args["observed"][:, order], "covariate": args["covariate"][:, order],
        "X": args["X"][order], "residual_class": args["residual_class"][order],
        "block": np.where(args["block"] >= 0, 91 - 3 * args["block"], -1)[order],
        "column": np.where(column >= 0, top - column + 2, -1)[order],
    }  # fmt: skip
    equal(reml(**args), reml(**moved), rtol=1e-6, atol=1e-9)


def test_start_does_not_matter():
    args = problem("village and visit", 16)
    for start in ([1.0, 0.0, 0.0, 0.0], [0.01, 5.0, 5.0, 5.0], [100.0, 1e-6, 3.0, 0.0]):
        equal(reml(**args), reml(**args, start=start), rtol=1e-6, atol=1e-9)


def test_converges_on_many_small_trials():
    """Eight-village trials whose true variances are at or near zero: nearly all at a boundary, none may fail."""
    for shape in ("village", "village and visit", "nested", "partial"):
        fit = reml(**problem(shape, 17, n_replicate=300, sd=(1.0, 0.1, 0.1)))
        assert np.all(fit.status != FAILED)
        assert np.all(fit.df > 0)
        assert fit.n_iteration.max() <= 30


# ---- failures --------------------------------------------------------------------------------------------------------


def assert_failed(fit):
    assert np.all(fit.status == FAILED)
    for name in ("estimate", "standard_error", "df", "variance", "coefficient", "criterion"):
        assert np.all(np.isnan(getattr(fit, name)))


def test_rank_deficient_fixed_effects_fail():
    args = problem("village", 18)
    assert_failed(reml(**{**args, "covariate": np.repeat(args["X"][None, :, 0, 2:3] + 1, 2, axis=0)}))


def test_nobody_observed_in_an_arm_fails():
    args = problem("village", 19)
    assert_failed(reml(**{**args, "observed": args["observed"] & (args["X"][:, :, 2] == 0)}))


def test_no_observations_constant_outcome_and_infinite_outcome_fail():
    args = problem("village", 20)
    assert_failed(reml(**{**args, "observed": np.zeros_like(args["observed"])}))
    assert_failed(reml(**{**args, "y": np.full_like(args["y"], 7.0)}))
    assert_failed(reml(**{**args, "y": np.where(args["observed"], np.inf, 0.0)}))


def test_variances_that_cannot_be_told_apart_fail():
    args = problem("partial", 21)
    assert_failed(reml(**{**args, "has_participant": True, "residual_class": None}))


def test_one_failure_does_not_touch_the_others():
    args = problem("village", 22, n_replicate=3)
    y = args["y"].copy()
    y[1] = np.nan
    fit, good = reml(**{**args, "y": y}), reml(**args)
    assert fit.status[1] == FAILED
    for a, b in zip(fit, good, strict=True):
        np.testing.assert_array_equal(a[[0, 2]], b[[0, 2]])


def test_no_iterations_allowed_fails():
    assert_failed(reml(**problem("village", 23), max_iteration=0))


def test_shape_and_column_messages():
    args = problem("village and visit", 24)
    with pytest.raises(ValueError, match="covariate has shape"):
        reml(**{**args, "covariate": args["covariate"][:1]})
    with pytest.raises(ValueError, match="random term 1 uses a column of Z"):
        reml(**{**args, "column": np.zeros_like(args["column"])})
