"""Adjusted p-values against R and Mediana, family measures against brute force and against PUMP's benchmark."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import slow_growth
from scipy import stats

from sim.evaluate.multiplicity import adjust, family
from sim.evaluate.performance import COLUMNS, summarise

ALPHA = 0.05
RULES = ("none", "bonferroni", "holm", "hochberg")
R_CASES = json.loads((Path(__file__).parents[1] / "reference" / "r" / "p_adjust.json").read_text())["cases"]
families = st.lists(st.floats(0, 1) | st.just(np.nan) | st.sampled_from([0.01, 0.025, 0.05]), min_size=1, max_size=7)


def make_rows(t, df=np.inf, truth="alternative", design="rct", analysis="lmm", sides=2):
    """One row per replicate and outcome from an (R, M) array of t statistics, all with standard error 1."""
    p = 2 * stats.t.sf(np.abs(t), df) if sides == 2 else stats.t.sf(t, df)
    replicate, outcome = np.indices(t.shape)
    name = np.array([f"outcome {m}" for m in range(t.shape[1])])
    columns = {"design": design, "replicate": replicate.ravel(), "outcome": name[outcome.ravel()], "analysis": analysis}
    number = {"estimate": t.ravel(), "standard_error": 1.0, "df": df, "p_value": p.ravel()}
    interval = {"ci_low": t.ravel() - 2, "ci_high": t.ravel() + 2}
    return pd.DataFrame(columns | {"truth": truth} | number | interval | {"status": "ok", "reason": ""})


def random_rows(seed, n_replicate=15, n_outcome=3, sides=2):
    rng = np.random.default_rng(seed)
    rows = pd.concat(
        make_rows(rng.normal(mean, 1.0, (n_replicate, n_outcome)), 20.0, truth, design, analysis, sides)
        for design in ("crt", "rct")
        for analysis in ("gee", "lmm")
        for truth, mean in (("alternative", 2.4), ("null", 0.0))
    ).reset_index(drop=True)
    rows["status"] = rng.choice(["ok", "singular", "failed"], len(rows), p=[0.85, 0.1, 0.05])
    rows.loc[rows["status"] == "failed", ["estimate", "standard_error", "df", "p_value", "ci_low", "ci_high"]] = np.nan
    return rows.sample(frac=1, random_state=seed)


def truths(rows, demand=0.4):
    key = rows[["design", "outcome", "truth"]].drop_duplicates().itertuples(index=False)
    return {tuple(k): (2.4, demand) if k.truth == "alternative" else (0.0, 0.0) for k in key}


def slow_adjust(p, rule):
    """The rules in words, one hypothesis at a time."""
    p = [1.0 if np.isnan(x) else x for x in p]
    size, order = len(p), sorted(range(len(p)), key=lambda i: p[i])
    if rule == "none":
        return p
    if rule == "bonferroni":
        return [min(1.0, size * x) for x in p]
    step = [(size - rank) * p[i] for rank, i in enumerate(order)]
    adjusted = [0.0] * size
    for rank, i in enumerate(order):
        adjusted[i] = min(1.0, max(step[: rank + 1]) if rule == "holm" else min(step[rank:]))
    return adjusted


# ---- adjusted p-values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", R_CASES)
@pytest.mark.parametrize("rule", RULES[1:])
def test_adjust_against_r(case, rule):
    np.testing.assert_allclose(adjust(case["p"], rule), case["adjusted"][rule], atol=1e-12)


def test_adjust_against_mediana():  # MU-08
    p = [0.012, 0.009, 0.023]
    expected = {"bonferroni": [0.036, 0.027, 0.069], "holm": [0.027] * 3, "hochberg": [0.023] * 3, "none": p}
    for rule, adjusted in expected.items():
        np.testing.assert_allclose(adjust(p, rule), adjusted, atol=1e-12)


@given(families)
def test_adjust_against_slow_version(p):
    for rule in RULES:
        np.testing.assert_allclose(adjust(p, rule), slow_adjust(p, rule), rtol=1e-14)


@given(families, st.permutations(range(7)))
def test_adjust_ignores_the_order_of_outcomes(p, order):
    order = [i for i in order if i < len(p)]
    for rule in RULES:
        np.testing.assert_array_equal(adjust(np.array(p)[order], rule), adjust(p, rule)[order])


@given(families)
def test_rules_from_strict_to_lenient(p):
    for strict, lenient in pairwise(("bonferroni", "holm", "hochberg", "none")):
        assert (adjust(p, strict) >= adjust(p, lenient)).all()
    assert adjust(p, "holm").min() == adjust(p, "bonferroni").min()


def test_adjust_batch_equals_singles():
    p = np.random.default_rng(1).random((4, 50, 3))
    p[0, :5, 1] = np.nan
    for rule in RULES:
        singles = [[adjust(one, rule) for one in batch] for batch in p]
        np.testing.assert_array_equal(adjust(p, rule), singles)


def test_nan_stays_in_the_family_and_never_rejects():
    np.testing.assert_array_equal(adjust([0.02, np.nan], "holm"), [0.04, 1.0])
    np.testing.assert_array_equal(adjust([np.nan, np.nan], "hochberg"), [1.0, 1.0])


def test_unknown_rule_message():
    with pytest.raises(ValueError, match="'sidak' is not a known multiplicity rule; known: none, bonferroni, holm"):
        adjust([0.1, 0.2], "sidak")


# ---- families -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sides", [1, 2])
def test_family_against_brute_force(rule, sides):
    rows = random_rows(11, sides=sides)
    spans = [span for _, span in rows.groupby(rows["replicate"] // 4)]
    table = family(spans, rule, ALPHA, truths(rows), sides)
    assert list(table.columns) == COLUMNS
    expected = []
    for (design, analysis, truth), block in rows.groupby(["design", "analysis", "truth"]):
        for measure, demand in {"power": 0.0, "power_net_of_demand": 0.4}.items():
            if truth == "null" and demand:
                continue
            for used in {"none", rule}:
                hit, status = [], []
                for _, one in block.groupby("replicate"):
                    one = one.sort_values("outcome")
                    t = (one["estimate"] - demand) / one["standard_error"]
                    p = stats.t.sf(t, one["df"]) if sides == 1 else 2 * stats.t.sf(t.abs(), one["df"])
                    p[(t < 0) & (sides == 1)] = 1.0
                    hit.append([x <= ALPHA for x in slow_adjust(p, used)])
                    status.append(list(one["status"]))
                suffix = "" if used == "none" else f"+{used}"
                name = {"power": measure, "null": "type_1_error"}.get("null" if truth == "null" else "", measure)
                number = {"*any": [max(h) for h in hit], "*all": [min(h) for h in hit]}
                number |= {"*at_least_2": [sum(h) >= 2 for h in hit], "*mean": [sum(h) / 3 for h in hit]}
                family_status = ["failed" if "failed" in s else max(s) for s in status]  # 'singular' > 'ok'
                for outcome, value in number.items():
                    label = "family_wise_error" if (outcome, truth) == ("*any", "null") else name
                    count = [family_status.count(s) for s in ("ok", "singular", "failed")]
                    expected.append([design, outcome, analysis + suffix, truth, label, np.mean(value), *count])
                for m in range(3 if suffix else 0):
                    own = [s[m] for s in status]
                    count = [own.count(s) for s in ("ok", "singular", "failed")]
                    share = np.mean([h[m] for h in hit])
                    expected.append([design, f"outcome {m}", analysis + suffix, truth, name, share, *count])
    columns = [*COLUMNS[:6], "n_ok", "n_singular", "n_failed"]
    expected = pd.DataFrame(expected, columns=columns).sort_values(columns[:5], ignore_index=True)
    found = table[columns].sort_values(columns[:5], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected)


def test_family_of_spans_same_bits_as_of_one_table():
    """All of it is counting."""
    rows = random_rows(4, n_replicate=40)
    spans = [span for _, span in rows.groupby(rows["replicate"] // 7)]
    one, other = (family(x, "holm", ALPHA, truths(rows), n_calendar=8) for x in (spans, [rows]))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_growth_of_the_family_against_all_replicates_at_once():
    rng, calendar = np.random.default_rng(8), np.arange(240) % 12
    t = rng.normal(2.0, 1.0, (240, 3)) + rng.normal(0.0, 1.0, 12)[calendar][:, None]
    rows = make_rows(t)
    known = truths(rows, demand=0.0)
    shared, alone = (family([rows], "none", ALPHA, known, n_calendar=k).query("measure == 'power'") for k in (12, 1))
    share = (2 * stats.norm.sf(np.abs(t)) <= ALPHA).mean(axis=1)
    value = {"*any": share > 0, "*all": share == 1, "*at_least_2": share > 0.5, "*mean": share}
    for outcome, x in value.items():
        mine = [table.set_index("outcome").loc[outcome, "mcse"] for table in (shared, alone)]
        assert (mine[0] / mine[1]) ** 2 == pytest.approx(slow_growth(x.astype(float), calendar)), outcome
        assert mine[0] > mine[1], outcome


def test_mcse_of_the_mean_share_is_the_sd_over_replicates():
    t = np.array([[3.0, 3.0], [0.0, 3.0], [0.0, 0.0], [3.0, 0.0]])  # shares 1, 1/2, 0, 1/2
    rows = make_rows(t)
    table = family([rows], "none", ALPHA, truths(rows, demand=0.0)).set_index(["outcome", "measure"])
    mean = table.loc[("*mean", "power")]
    assert mean["estimate"] == 0.5
    assert mean["mcse"] == pytest.approx(np.sqrt(0.5 / 3) / 2)
    assert table.loc[("*any", "power"), "estimate"] == 0.75
    assert table.loc[("*all", "power"), "mcse"] == pytest.approx(np.sqrt(0.25 * 0.75 / 4))
    assert set(table["analysis"]) == {"lmm"}


def test_individual_and_family_power_against_pump():
    # MU-01: PUMP's benchmark of Porter 2018, three outcomes, correlation .2; ours = independent Monte Carlo
    n, df, rho, t_mean = 20_000, 978, 0.2, 0.125 / 0.0447214
    rng = np.random.default_rng(2018)
    noise = np.sqrt(1 - rho) * rng.standard_normal((n, 3)) + np.sqrt(rho) * rng.standard_normal((n, 1))
    rows = make_rows(t_mean + noise, df)
    known = truths(rows, demand=0.0)
    expected = {
        "lmm": {"*mean": 0.797, "*any": 0.979, "*all": 0.545},
        "lmm+bonferroni": {"*mean": 0.654, "*any": 0.928, "*at_least_2": 0.703, "*all": 0.333},
        "lmm+holm": {"*mean": 0.74, "*any": 0.928, "*at_least_2": 0.766, "*all": 0.527},
    }
    for rule in ("bonferroni", "holm"):
        table = family([rows], rule, ALPHA, known).set_index(["analysis", "outcome", "measure"])
        for analysis in ("lmm", f"lmm+{rule}"):
            for outcome, value in expected[analysis].items():
                mine = table.loc[(analysis, outcome, "power")]
                assert abs(mine["estimate"] - value) < 4 * mine["mcse"] + 0.003, (analysis, outcome)
        for m in range(3):
            mine = table.loc[(f"lmm+{rule}", f"outcome {m}", "power")]
            assert abs(mine["estimate"] - expected[f"lmm+{rule}"]["*mean"]) < 4 * mine["mcse"] + 0.003


def test_family_wise_error_of_bonferroni_against_theory():
    rows = make_rows(np.random.default_rng(7).standard_normal((20_000, 4)), truth="null")
    table = family([rows], "bonferroni", ALPHA, truths(rows)).set_index(["analysis", "outcome"])
    assert set(table["measure"]) == {"type_1_error", "family_wise_error"}
    for analysis, error in {"lmm": 1 - 0.95**4, "lmm+bonferroni": 1 - (1 - 0.05 / 4) ** 4}.items():
        mine = table.loc[(analysis, "*any")]
        assert mine["measure"] == "family_wise_error"
        assert abs(mine["estimate"] - error) < 4 * mine["mcse"]


@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from(RULES))
@settings(max_examples=20, deadline=None)
def test_family_measures_are_ordered_and_finite(seed, n_outcome, rule):
    rows = random_rows(seed, n_replicate=10, n_outcome=n_outcome)
    table = family([rows], rule, ALPHA, truths(rows))
    shuffled = family([rows.sample(frac=1, random_state=seed + 1)], rule, ALPHA, truths(rows))
    pd.testing.assert_frame_equal(table, shuffled, check_exact=True)
    number = table[["estimate", "mcse", "ci_low", "ci_high"]]
    assert np.isfinite(number).all(axis=None)
    assert (number["estimate"].between(number["ci_low"], number["ci_high"])).all()
    assert number["ci_low"].min() >= 0
    assert number["ci_high"].max() <= 1
    assert (table["n_ok"] + table["n_singular"] + table["n_failed"] == table["n_replicate"]).all()
    assert ("*at_least_2" in set(table["outcome"])) == (n_outcome > 1)
    table["measure"] = table["measure"].replace("family_wise_error", "type_1_error")
    index = ["design", "analysis", "truth", "measure"]
    wide = table[table["outcome"].str.startswith("*")].pivot(index=index, columns="outcome", values="estimate")
    assert (wide["*all"] <= wide["*mean"] + 1e-12).all()
    assert (wide["*mean"] <= wide["*any"] + 1e-12).all()


def test_holm_power_between_bonferroni_and_none():
    rows = random_rows(3, n_replicate=60)
    known = truths(rows)
    key = ["design", "outcome", "truth", "measure"]
    adjusted = {}
    for rule in ("bonferroni", "holm"):
        table = family([rows], rule, ALPHA, known)
        adjusted[rule] = table[table["analysis"] == f"lmm+{rule}"].set_index(key)["estimate"]
    table = pd.concat([summarise([rows], known, ALPHA), family([rows], "none", ALPHA, known)])
    unadjusted = table[table["analysis"] == "lmm"].set_index(key)["estimate"]
    assert (adjusted["bonferroni"] <= adjusted["holm"]).all()
    assert (adjusted["holm"] <= unadjusted.reindex(adjusted["holm"].index)).all()


def test_net_of_demand_is_left_out_where_an_outcome_has_no_df():
    rows = make_rows(np.random.default_rng(1).normal(2.5, 1.0, (20, 2)))
    rows.loc[rows["outcome"] == "outcome 1", "df"] = np.nan
    assert set(family([rows], "holm", ALPHA, truths(rows))["measure"]) == {"power"}


def test_family_of_failed_fits_rejects_nothing():
    rows = make_rows(np.full((5, 2), 9.0)).assign(status="failed", p_value=np.nan)
    table = family([rows], "holm", ALPHA, truths(rows))
    assert (table["estimate"] == 0).all()
    assert (table["n_failed"] == 5).all()
    assert "power_net_of_demand" in set(table["measure"])


def test_one_sided_family_needs_estimates_above_zero():
    rows = make_rows(np.array([[-0.5, 0.5], [0.5, 0.5]])).assign(p_value=0.01)  # as a randomisation test may return
    table = family([rows], "holm", ALPHA, truths(rows, demand=0.0), sides=1)
    table = table.set_index(["analysis", "outcome", "measure"])
    for measure in ("power", "power_net_of_demand"):
        assert table.loc[("lmm+holm", "*all", measure), "estimate"] == 0.5
        assert table.loc[("lmm", "*any", measure), "estimate"] == 1.0


def test_incomplete_family_message():
    rows = make_rows(np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"rct, lmm, alternative: .*outcome 0 4, outcome 1 3.*needs the same in each"):
        family([rows.iloc[:-1]], "holm", ALPHA, truths(rows))


def test_no_rows_give_an_empty_family_table():
    table = family([make_rows(np.zeros((1, 2))).iloc[:0]], "holm", ALPHA, {})
    assert list(table.columns) == COLUMNS
    assert table.empty
