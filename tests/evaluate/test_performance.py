"""Performance measures against hand-computed tables, textbook formulas, theory and meta-replication."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import fail, make_rows
from scipy import stats

from sim.evaluate.performance import COLUMNS, normal, proportion, summarise

ALPHA = 0.05
BAD = (np.nan, np.inf, -np.inf)


def random_rows(seed, n_replicate=12, n_design=2):
    """Two outcomes, analyses and truths, some fits singular or failed, in random order."""
    rng = np.random.default_rng(seed)
    cell = [[f"design {d}" for d in range(n_design)], range(n_replicate), ["a", "b"], ["gee", "lmm"]]
    names = ["design", "replicate", "outcome", "analysis", "truth"]
    key = pd.MultiIndex.from_product([*cell, ["alternative", "null"]], names=names).to_frame(index=False)
    n = len(key)
    estimate = rng.normal(np.where(key["truth"] == "null", 0.0, 1.0), 1.0)
    rows = make_rows(estimate, rng.uniform(0.3, 1.0, n), rng.uniform(3, 30, n), **{c: key[c] for c in names})
    rows["status"] = rng.choice(["ok", "singular"], n, p=[0.8, 0.2])
    return fail(rows, rng.random(n) < 0.15).sample(frac=1, random_state=seed)


def truths(rows, value=1.0, demand=0.3):
    key = rows[["design", "outcome", "truth"]].drop_duplicates().itertuples(index=False)
    return {tuple(k): (value, demand) if k.truth == "alternative" else (0.0, 0.0) for k in key}


def one_cell(rows, true_value, demand=0.0, **keywords):
    """The measures of the only cell in the rows, by name."""
    cell = tuple(rows[["design", "outcome", "truth"]].iloc[0])
    return summarise([rows], {cell: (true_value, demand)}, ALPHA, **keywords).set_index("measure")


def slow_measures(cell, true, demand, is_null, alpha=ALPHA, inflation=0.3):
    """Morris, White, Crowther 2019, table 6, one cell at a time, in the book's words: measure -> (estimate, MCSE)."""
    n = len(cell)
    ok = cell[cell["status"] != "failed"]
    estimate, se, m = ok["estimate"].to_numpy(), ok["standard_error"].to_numpy(), len(ok)
    significant = ok[ok["p_value"] <= alpha]["estimate"].to_numpy()
    n_reject, n_significant = len(significant), len(significant)

    def share(count, of):
        return (count / of, np.sqrt(count / of * (1 - count / of) / of)) if of else None

    def covers(value):
        return share(int(((ok["ci_low"] <= value) & (value <= ok["ci_high"])).sum()), m)

    name = "type_1_error" if is_null else "power"
    among = "type_1_error_among_ok" if is_null else "power_among_ok"
    result = {
        name: share(n_reject, n),
        f"{name}_if_failures_reject": share(n_reject + n - m, n),
        among: share(n_reject, m),
        "coverage": covers(true),
        "singular_rate": share(int((cell["status"] == "singular").sum()), n),
        "failure_rate": share(n - m, n),
        "true_value": (true, 0.0),
    }
    if m >= 2:
        empirical, model = np.std(estimate, ddof=1), np.sqrt(np.mean(se**2))
        spread, error = np.var(se**2, ddof=1), (estimate - true) ** 2
        relative = np.sqrt(spread / (4 * m * model**4) + 1 / (2 * (m - 1)))
        result |= {
            "bias": (np.mean(estimate) - true, empirical / np.sqrt(m)),
            "empirical_se": (empirical, empirical / np.sqrt(2 * (m - 1))),
            "model_se": (model, np.sqrt(spread / (4 * m * model**2))),
            "relative_error_model_se": (100 * (model / empirical - 1), 100 * model / empirical * relative),
            "bias_eliminated_coverage": covers(np.mean(estimate)),
            "mse": (np.mean(error), np.std(error, ddof=1) / np.sqrt(m)),
        }
    if is_null:
        p_inflated = 2 * stats.t.sf(np.abs(estimate + inflation) / se, ok["df"])
        result["type_1_error_with_demand"] = share(int((p_inflated <= alpha).sum()), n)
    if not is_null:
        p_net = 2 * stats.t.sf(np.abs(estimate - demand) / se, ok["df"])
        result["demand_inflation"] = (demand, 0.0)
        result["coverage_net_of_demand"] = covers(true + demand)
        result["power_net_of_demand"] = share(int((p_net <= alpha).sum()), n)
        result["power_correct_sign"] = share(int((significant * true > 0).sum()), n)
        result["type_s"] = share(int((significant * true < 0).sum()), n_significant)
        if n_significant >= 2:
            ratio = np.abs(significant / true)
            result["type_m"] = (ratio.mean(), ratio.std(ddof=1) / np.sqrt(n_significant))
    return {measure: value for measure, value in result.items() if value is not None}


# ---- proportions ----------------------------------------------------------------------------------------------------


def test_mcse_of_power_against_powerlmm():
    # MC-01: powerlmm, get_monte_carlo_se; its interval is the normal one, equal to Wilson's at two decimals
    n = np.array([1000, 2000, 5000])
    power = proportion(0.6515515 * n, n)
    np.testing.assert_allclose(power.mcse, [0.0151, 0.0107, 0.0067], atol=5e-5)
    expected = [[0.62, 0.68], [0.63, 0.67], [0.64, 0.66]]
    np.testing.assert_array_equal(np.round(np.stack([power.ci_low, power.ci_high], axis=1), 2), expected)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_proportion_against_scipy_wilson(count_n):
    count, n = count_n
    ours, theirs = proportion(count, n), stats.binomtest(count, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose([ours.ci_low, ours.ci_high], [theirs.low, theirs.high], atol=1e-12)
    assert 0 <= ours.ci_low <= ours.estimate <= ours.ci_high <= 1


def test_proportion_of_none_is_nan():
    assert all(np.isnan(x) for x in proportion(0, 0))


# ---- whole tables ---------------------------------------------------------------------------------------------------


def test_hand_computed_table():
    rows = make_rows([1.0, 2.0, 3.0, 4.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0])
    rows.loc[1, "status"] = "singular"
    table = one_cell(fail(rows, 4), true_value=2.0, demand=1.5)
    by_hand = {
        "power": 3 / 5,  # z = 2, 3, 4 of five replicates
        "power_correct_sign": 3 / 5,
        "power_net_of_demand": 1 / 5,  # z = -0.5, 0.5, 1.5, 2.5
        "power_if_failures_reject": 4 / 5,
        "power_among_ok": 3 / 4,
        "bias": 0.5,
        "empirical_se": np.sqrt(5 / 3),
        "model_se": 1.0,
        "relative_error_model_se": 100 * (np.sqrt(3 / 5) - 1),
        "coverage": 3 / 4,  # 4 - 1.96 > 2
        "coverage_net_of_demand": 3 / 4,  # 1 + 1.96 < 2 + 1.5
        "bias_eliminated_coverage": 1.0,
        "mse": 1.5,
        "type_s": 0.0,
        "type_m": 1.5,
        "true_value": 2.0,
        "demand_inflation": 1.5,
        "singular_rate": 1 / 5,
        "failure_rate": 1 / 5,
    }
    assert table["estimate"].to_dict() == pytest.approx(by_hand)
    mcse = {"bias": np.sqrt(5 / 3) / 2, "mse": np.sqrt(3) / 2, "type_m": 0.5 / np.sqrt(3), "model_se": 0.0}
    assert table.loc[list(mcse), "mcse"].to_dict() == pytest.approx(mcse)  # errors squared: 1, 0, 1, 4
    assert (table[["n_replicate", "n_ok", "n_singular", "n_failed"]] == [5, 3, 1, 1]).all(axis=None)
    assert table.loc["bias", "ci_high"] == pytest.approx(0.5 + 1.959964 * np.sqrt(5 / 3) / 2)


@pytest.mark.parametrize("seed", range(8))
def test_every_cell_against_slow_version(seed):
    """The slow version has all rows at once, ours has them span by span."""
    rows = random_rows(seed, n_replicate=int(np.random.default_rng(seed).integers(1, 40)))
    table = summarise([span for _, span in rows.groupby(rows["replicate"] // 7)], truths(rows), ALPHA)
    assert list(table.columns) == COLUMNS
    n_expected = 0
    for key, cell in rows.groupby(["design", "outcome", "analysis", "truth"]):
        is_null = key[3] == "null"
        expected = slow_measures(cell, *((0.0, 0.0) if is_null else (1.0, 0.3)), is_null)
        mine = table[(table[["design", "outcome", "analysis", "truth"]] == list(key)).all(axis=1)].set_index("measure")
        assert set(mine.index) == set(expected), key
        for measure, (estimate, mcse) in expected.items():
            assert tuple(mine.loc[measure, ["estimate", "mcse"]]) == pytest.approx((estimate, mcse), abs=1e-12), measure
        n_expected += len(expected)
    assert len(table) == n_expected


def test_each_mcse_against_meta_replication():
    # 800 simulation studies of 150 replicates each: the mean MCSE is the SD of the measure over the studies
    n_study, n = 800, 150
    rng = np.random.default_rng(20190124)
    df = 30
    standard_error = np.sqrt(rng.chisquare(df, n_study * n) / df)
    study = np.repeat([f"{i:03}" for i in range(n_study)], n)
    replicate = np.tile(np.arange(n), n_study)
    rows = make_rows(rng.normal(1.5, 1.0, n_study * n), standard_error, df, design=study, replicate=replicate)
    table = summarise([rows], {(s, "score", "alternative"): (1.5, 0.0) for s in np.unique(study)}, ALPHA)
    for measure in (
        "power",
        "bias",
        "empirical_se",
        "model_se",
        "relative_error_model_se",
        "coverage",
        "mse",
        "type_m",
    ):
        mine = table[table["measure"] == measure]
        x = mine["estimate"].to_numpy()
        assert len(x) == n_study
        sd_error = x.std(ddof=1) * np.sqrt((stats.kurtosis(x) + 2) / (4 * n_study))  # MCSE of a standard deviation
        np.testing.assert_allclose(
            mine["mcse"].mean(), x.std(ddof=1), atol=4 * sd_error + 0.01 * x.std(), err_msg=measure
        )
        inside = ((mine["ci_low"] <= x.mean()) & (x.mean() <= mine["ci_high"])).mean()
        assert 0.92 < inside < 0.98, measure


@pytest.mark.parametrize(
    ("effect", "power", "type_s", "type_m"),
    [
        (0.1, 0.0501052, 0.4646377, 77.15667),
        (0.3, 0.05094724, 0.3953041, 25.74305),
        (1, 0.06058446, 0.1950669, 7.795564),
    ],
)
def test_type_s_and_m_against_retrodesign(effect, power, type_s, type_m):
    # SM-01: Gelman & Carlin's sex-ratio example, standard error 3.3
    estimate = np.random.default_rng(2014).normal(effect, 3.3, 200_000)
    table = one_cell(make_rows(estimate, 3.3), true_value=effect)
    for measure, expected in {"power": power, "type_s": type_s, "type_m": type_m}.items():
        assert abs(table.loc[measure, "estimate"] - expected) < 4 * table.loc[measure, "mcse"], measure


# ---- sides and demand -----------------------------------------------------------------------------------------------


def test_power_net_of_demand_is_power_without_demand():
    rows = random_rows(5)
    table = summarise([rows], truths(rows, demand=0.0), ALPHA).set_index("measure")
    columns = ["estimate", "mcse", "ci_low", "ci_high"]
    np.testing.assert_array_equal(table.loc["power", columns], table.loc["power_net_of_demand", columns])


def test_power_net_of_demand_same_as_power_of_shifted_estimates():
    rng = np.random.default_rng(3)
    estimate, se = rng.normal(1.0, 0.4, 500), rng.uniform(0.3, 0.5, 500)
    for sides in (1, 2):
        inflated = one_cell(make_rows(estimate + 0.7, se, 12.5, sides), 1.0, demand=0.7, sides=sides)
        clean = one_cell(make_rows(estimate, se, 12.5, sides), 1.0, sides=sides)
        assert inflated.loc["power_net_of_demand", "estimate"] == clean.loc["power", "estimate"]
        assert inflated.loc["power", "estimate"] > clean.loc["power", "estimate"]


def test_two_sided_power_counts_both_directions_and_one_sided_only_the_upper():
    both = one_cell(make_rows([-3.0, 3.0, 3.0, 0.0], 1.0), true_value=2.0)["estimate"]
    assert (both["power"], both["power_correct_sign"], both["type_s"]) == pytest.approx((0.75, 0.5, 1 / 3))
    upper = one_cell(make_rows([-3.0, 3.0, 1.7, 0.0], 1.0, sides=1), true_value=2.0, sides=1)["estimate"]
    assert (upper["power"], upper["type_s"]) == (0.5, 0.0)
    lower = one_cell(make_rows([-3.0, 3.0, 3.0, 0.0], 1.0), true_value=-2.0)["estimate"]
    assert (lower["power_correct_sign"], lower["type_m"]) == (0.25, 1.5)


def test_one_sided_rejection_needs_an_estimate_above_zero():
    rows = make_rows([-0.5, 0.5], 1.0).assign(p_value=0.04)  # as a randomisation test may return
    assert one_cell(rows, 1.0, sides=1).loc[["power", "power_net_of_demand"], "estimate"].tolist() == [0.5, 0.5]
    assert one_cell(rows, 1.0, sides=2).loc["power", "estimate"] == 1.0


def test_without_df_only_the_power_net_of_demand_is_left_out():
    rows = make_rows([1.0, 3.0, 4.0], 1.0).assign(df=np.nan)
    assert "power_net_of_demand" in one_cell(rows, 1.0, demand=0.0).index
    table = one_cell(rows, 1.0, demand=0.5)
    assert "power_net_of_demand" not in table.index
    assert table.loc["power", "estimate"] == pytest.approx(2 / 3)


def test_interval_without_limits_covers_nothing():
    rows = make_rows([1.0, 1.0, 1.0, 1.0], [1.0, 1.1, 1.0, 1.2])
    rows.loc[0, "ci_low"] = np.nan
    assert one_cell(rows, 1.0).loc["coverage", "estimate"] == 0.75
    assert not one_cell(rows.assign(ci_low=np.nan), 1.0).index.str.contains("coverage").any()


def test_true_value_of_zero_has_no_type_s_m_or_correct_sign():
    measure = set(one_cell(make_rows([3.0, -3.0, 0.5], 1.0), true_value=0.0).index)
    assert not measure & {"type_s", "type_m", "power_correct_sign"}
    assert {"power", "bias", "true_value"} <= measure


# ---- failures -------------------------------------------------------------------------------------------------------


def test_no_valid_fit_at_all_still_has_a_power():
    rows = fail(make_rows([1.0, 2.0, 3.0], 1.0), slice(None))
    table = one_cell(rows, 1.0, demand=0.5)
    expected = {"power": 0, "power_correct_sign": 0, "power_net_of_demand": 0, "power_if_failures_reject": 1}
    expected |= {"true_value": 1.0, "demand_inflation": 0.5, "singular_rate": 0, "failure_rate": 1}
    assert table["estimate"].to_dict() == expected


def test_one_valid_fit_has_no_measure_without_mcse():
    table = one_cell(fail(make_rows([3.0, 2.0], 1.0), 1), 1.0)
    assert not set(table.index) & {"bias", "empirical_se", "model_se", "mse", "type_m", "relative_error_model_se"}
    assert table.loc[["power", "power_among_ok", "coverage"], "estimate"].tolist() == [0.5, 1.0, 0.0]


def test_equal_estimates_divide_nothing_by_zero():
    table = one_cell(make_rows([3.0, 3.0, 3.0], 1.0), 1.0)
    assert table.loc["empirical_se", "estimate"] == 0.0
    assert "relative_error_model_se" not in table.index


@given(st.integers(0, 10_000), st.sampled_from(["estimate", "standard_error", "p_value"]), st.sampled_from(BAD))
@settings(max_examples=25, deadline=None)
def test_nan_or_infinity_counts_as_failed(seed, column, bad):
    rows = random_rows(seed)
    at = np.random.default_rng(seed).random(len(rows)) < 0.2
    injected = rows.copy()
    injected.loc[at, column] = bad
    table = summarise([injected], truths(rows), ALPHA)
    pd.testing.assert_frame_equal(table, summarise([fail(rows, at)], truths(rows), ALPHA), check_exact=True)
    assert np.isfinite(table[["estimate", "mcse", "ci_low", "ci_high"]]).all(axis=None)


def test_huge_estimates_do_not_warn_or_print_infinity():
    rows = make_rows([3.0, -3.0, 2.0], 1.0).assign(estimate=[1e300, -1e300, 2.0], standard_error=[1e-300, 1.0, 1.0])
    table = one_cell(rows, 1e-300, demand=1.0)
    assert np.isfinite(table[["estimate", "mcse", "ci_low", "ci_high"]]).all(axis=None)
    assert table.loc["power", "estimate"] == 1.0


def test_rows_of_failed_fits_are_not_read():
    rows = random_rows(8)
    filled = rows.fillna({"estimate": 99.0, "standard_error": 0.1, "p_value": 0.0, "ci_low": -9.0, "ci_high": 9.0})
    assert (filled["status"] == "failed").any()
    pd.testing.assert_frame_equal(summarise([filled], truths(rows), ALPHA), summarise([rows], truths(rows), ALPHA))


# ---- algebra --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_order_of_rows_changes_no_bit(seed, n_replicate):
    rows = random_rows(seed, n_replicate)
    shuffled = rows.sample(frac=1, random_state=seed + 1)
    table = summarise([rows], truths(rows), ALPHA)
    pd.testing.assert_frame_equal(table, summarise([shuffled], truths(rows), ALPHA), check_exact=True)


def test_one_design_alone_same_bits_as_among_others():
    rows = random_rows(4, n_replicate=501, n_design=3)
    table = summarise([rows], truths(rows), ALPHA)
    alone = summarise([rows[rows["design"] == "design 1"]], truths(rows), ALPHA)
    among = table[table["design"] == "design 1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among, check_exact=True)


@given(st.integers(0, 10_000), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_counts_add_up_and_powers_are_ordered(seed, n_replicate):
    table = summarise([rows := random_rows(seed, n_replicate)], truths(rows), ALPHA)
    assert (table["n_replicate"] == n_replicate).all()
    assert (table["n_ok"] + table["n_singular"] + table["n_failed"] == n_replicate).all()
    assert (table["ci_low"] <= table["estimate"]).all()
    assert (table["estimate"] <= table["ci_high"]).all()
    wide = table.pivot(index=COLUMNS[:4], columns="measure", values="estimate")
    alternative = wide.xs("alternative", level="truth")
    assert (alternative["power_if_failures_reject"] >= alternative["power"]).all()
    assert not (alternative["power_among_ok"] < alternative["power"]).any()
    assert (alternative["power_correct_sign"] <= alternative["power"]).all()
    null = wide.xs("null", level="truth")
    assert (null["type_1_error_if_failures_reject"] >= null["type_1_error"]).all()


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_swapped_arms_turn_the_bias_and_nothing_else(seed):
    rows = random_rows(seed, n_replicate=20)
    swapped = rows.assign(estimate=-rows["estimate"], ci_low=-rows["ci_high"], ci_high=-rows["ci_low"])
    table = summarise([rows], truths(rows, 1.0, 0.3), ALPHA)
    turned = summarise([swapped], truths(rows, -1.0, -0.3), ALPHA)
    sign = np.where(table["measure"].isin(["bias", "true_value", "demand_inflation"]), -1.0, 1.0)
    np.testing.assert_allclose(turned["estimate"], sign * table["estimate"], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(turned["mcse"], table["mcse"], rtol=1e-12)


# ---- inputs ---------------------------------------------------------------------------------------------------------


def test_true_values_as_table_or_mapping_and_categories_in_their_order():
    rows = random_rows(2)
    known = truths(rows)
    names = ["design", "outcome", "truth", "true_value", "demand_inflation"]
    as_table = pd.DataFrame([[*k, *v] for k, v in known.items()], columns=names)
    table = summarise([rows], known, ALPHA)
    pd.testing.assert_frame_equal(table, summarise([rows], as_table, ALPHA))
    pd.testing.assert_frame_equal(table, summarise([rows], as_table.set_index(names[:3]), ALPHA))
    ordered = rows.assign(design=pd.Categorical(rows["design"], ["design 1", "design 0", "not in this run"]))
    turned = summarise([ordered.astype({"status": "category"})], known, ALPHA)
    assert turned["design"].unique().tolist() == ["design 1", "design 0"]
    pd.testing.assert_frame_equal(turned.sort_values("design", kind="stable", ignore_index=True), table)


def test_missing_true_value_message():
    rows = make_rows([1.0, 2.0], 1.0)
    with pytest.raises(ValueError, match=r"no true value for .*'rct', 'score', 'alternative'.*known.*'rct2'"):
        summarise([rows], {("rct2", "score", "alternative"): (1.0, 0.0)}, ALPHA)


def test_row_read_twice_message():
    rows = random_rows(1)
    row = rows.iloc[7]
    with pytest.raises(ValueError, match=f"1 rows occur twice, the first is replicate {row['replicate']} of design"):
        summarise([pd.concat([rows, rows.iloc[[7]]])], truths(rows), ALPHA)


def test_no_rows_give_an_empty_table():
    table = summarise([random_rows(1).iloc[:0]], {}, ALPHA)
    assert list(table.columns) == COLUMNS
    assert table.empty


def test_normal_interval():
    assert normal(np.array([1.0]), np.array([0.5])).ci_low == pytest.approx(1 - 0.5 * 1.959963984540054)
