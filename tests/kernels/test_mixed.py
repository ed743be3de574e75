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
    return dict(
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
        return arrange(d, "y ~ 1", None, np.zeros(len(d), int), column), fixture["fits"][0], ["Residual", "plate", "sample"]
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
    "lmm2_reml", "lmm2_clda_reml", "lmm3_reml", "lmm3_clda_reml", "lmm3_vilvisit_reml", "lmm3_singular_reml", "lmm4_reml",
    "crt_ancova_lmm_reml", "partial_nested_reml/homo", "partial_nested_reml/hetero", "classic_Penicillin", "classic_Dyestuff2",
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
