"""Conditional rejection probabilities against counted rejections of the very same fits, and their summary by hand."""

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_support import nested_trial
from scipy import stats

from sim.evaluate.multiplicity import family
from sim.evaluate.performance import summarise
from sim.fused.conditional import reject_probability
from sim.fused.trials import Answer
from sim.run.blocks import Block, simulate_block

ALPHA, R = 0.05, 6000
VILLAGES = {"kind": "village", "districts": 1, "villages_per_district": 12, "village_size": {"mean": 10}}
PEOPLE = {"kind": "individual", "districts": 1, "participants_per_district": 100}
CASES: dict[str, dict[str, Any]] = {
    "villages": {"design": VILLAGES, "analysis": {"kind": "lmm", "baseline": "constrained"}},
    "villages, Kenward-Roger": {
        "design": VILLAGES, "analysis": {"kind": "lmm", "baseline": "free", "df": "kenward-roger"},
    },
    "villages, z": {"design": VILLAGES, "analysis": {"kind": "lmm", "baseline": "constrained", "df": "z"}},
    "one district that varies": {
        "design": VILLAGES, "analysis": {"kind": "lmm", "baseline": "constrained"}, "sd": {"sd_district": 0.5},
    },
    "random districts": {
        "design": VILLAGES | {"districts": 3, "villages_per_district": 6}, "sd": {"sd_district": 0.3},
        "analysis": {"kind": "lmm", "baseline": "constrained", "district": "random"},
    },
    "individuals": {"design": PEOPLE, "analysis": {"kind": "lmm", "baseline": "constrained"}},
    "partial nesting": {
        "design": PEOPLE | {"training_group_size": 5},
        "sd": {"sd_training_group": 0.2, "sd_residual_trained": 0.8, "sd_district": 0.4},
        "analysis": {"kind": "mixed_ancova", "residual_by_arm": True},
    },
}  # fmt: skip
TENS = {"alternative": 10, "null": 30}  # times that the variance falls at least; few groups learn less


@lru_cache(maxsize=32)
def rows_of(case: str, slope: float, sides: int) -> pd.DataFrame:
    """Rows of R replicates of a case, with conditional probabilities."""
    given = dict(CASES[case])
    analyses = {"one": given.pop("analysis")}
    scenario = nested_trial(
        **given, analyses=analyses, slope=slope, effect=0.5, calendars=1, estimator="conditional", sides=sides
    )
    return simulate_block(scenario, Block("plain", 0, R))[0]


def rejections(rows: pd.DataFrame) -> Any:
    return (rows["p_value"] <= ALPHA).to_numpy(float)


@pytest.mark.parametrize("sides", [2, 1])
@pytest.mark.parametrize("truth", ["alternative", "null"])
@pytest.mark.parametrize("case", CASES)
def test_mean_is_the_share_of_rejections_with_less_variance(case, truth, sides):
    rows = rows_of(case, 0.0, sides)
    rows = rows[rows["truth"] == truth]
    assert (rows["status"] != "failed").all()
    p, counted = rows["reject_probability"].to_numpy(), rejections(rows)
    difference = counted - p
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(R)
    reduction = p.mean() * (1 - p.mean()) / p.var()
    assert reduction > (5 if case == "partial nesting" else TENS[truth])


@pytest.mark.parametrize("case", ["villages", "individuals"])
def test_missing_at_random_the_approximation_is_close(case):
    for truth in ("alternative", "null"):
        rows = rows_of(case, -0.8, 2)
        rows = rows[rows["truth"] == truth]
        difference = rejections(rows) - rows["reject_probability"].to_numpy()
        assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(R) + 0.002


def test_probability_is_that_of_a_normal_estimate_about_the_noise():
    """By integration: the estimate is normal about effect + noise, and rejects beyond its t quantile."""
    n = 5
    rng = np.random.default_rng(1)
    estimate, known, error = rng.normal(0, 0.2, n), rng.normal(0, 0.2, n), rng.uniform(0.1, 0.3, n)
    df, root = np.array([3.5, 10.0, 40.0, 1e9, np.inf]), rng.uniform(0.1, 0.3, n)
    empty = np.zeros(0)
    answer = Answer(
        estimate, error, df, known, root, *(empty,) * 2, np.zeros(0, np.int8), *(np.zeros(0, int),) * 2, empty
    )
    z = (np.arange(400_000) + 0.5) / 400_000
    draw = 0.3 + estimate - known + root * stats.norm.ppf(z)[:, None]
    for sides in (2, 1):
        t = draw / error
        p_value = stats.t.sf(np.abs(t), df) * 2 if sides == 2 else stats.t.sf(t, df)
        expected = (p_value <= ALPHA).mean(axis=0)
        np.testing.assert_allclose(reject_probability(answer, 0.3, ALPHA, sides), expected, atol=1e-5)


# ---- when it is used ------------------------------------------------------------------------------------------------


def test_off_unless_asked_for():
    scenario = nested_trial(VILLAGES, analyses={"lmm": {"kind": "lmm", "baseline": "constrained"}})
    assert scenario.file.hypotheses.estimator == "counting"
    rows, _ = simulate_block(scenario, Block("plain", 0, 8))
    assert "reject_probability" not in rows
    measures = set(summarise([rows], truths(), ALPHA)["measure"])
    assert not measures & {"variance_reduction", "power_counted", "type_1_error_counted"}


def test_an_analysis_that_lacks_a_term_of_the_scores_is_counted():
    analyses = {
        "lmm": {"kind": "lmm", "baseline": "constrained"},
        "wrong": {"kind": "lmm", "baseline": "constrained", "village_by_visit": False},
        "generic": {"kind": "lmm"},
    }
    scenario = nested_trial(VILLAGES, analyses=analyses, estimator="conditional")
    rows, _ = simulate_block(scenario, Block("plain", 0, 8))
    has = rows["reject_probability"].notna().groupby(rows["analysis"], observed=True)
    assert has.any().to_dict() == {"lmm": True, "wrong": False, "generic": False}
    assert has.all()["lmm"]
    table = summarise([rows], truths(), ALPHA)
    is_conditional = table[table["measure"] == "variance_reduction"]
    assert set(is_conditional["analysis"]) == {"lmm"}


def truths() -> dict[tuple[str, str, str], tuple[float, float]]:
    return {("plain", "score", "alternative"): (0.35, 0.0), ("plain", "score", "null"): (0.0, 0.0)}


# ---- summary --------------------------------------------------------------------------------------------------------

PROBABILITY = [0.9, 0.6, 0.8, 0.3]


def small(probability: list[float], *, failed: int = 0, truth: str = "alternative") -> pd.DataFrame:
    """Fits of which the first two reject, with these conditional probabilities; then failed ones."""
    n, m = len(probability), len(probability) + failed
    rows = pd.DataFrame(
        {"design": "plain", "outcome": "score", "analysis": "lmm", "truth": truth, "replicate": range(m)}
    )
    number = {"estimate": 0.5, "standard_error": 0.2, "df": 20.0, "ci_low": 0.1, "ci_high": 0.9}
    rows = rows.assign(
        **number, p_value=np.where(np.arange(m) < 2, 0.01, 0.2), reject_probability=[*probability, *[np.nan] * failed]
    )
    rows["status"] = ["ok"] * n + ["failed"] * failed
    rows.loc[rows["status"] == "failed", [*number, "p_value"]] = np.nan
    return rows


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    return summarise([rows], truths(), ALPHA).set_index("measure")


def test_summary_by_hand():
    table = measured(small(PROBABILITY))
    mean, sd = 0.65, np.sqrt((0.25**2 + 0.05**2 + 0.15**2 + 0.35**2) / 3)
    assert tuple(table.loc["power", ["estimate", "mcse"]]) == pytest.approx((mean, sd / 2))
    assert table.loc["power", "ci_high"] == pytest.approx(min(mean + 1.959964 * sd / 2, 1))
    assert tuple(table.loc["power_counted", ["estimate", "mcse"]]) == pytest.approx((0.5, 0.25))
    assert table.loc["variance_reduction", "estimate"] == pytest.approx(0.65 * 0.35 / sd**2)
    assert table.loc["power_net_of_demand", "estimate"] == pytest.approx(mean)
    assert table.loc["power_correct_sign", "estimate"] == 0.5  # counted: it has no conditional form


def test_failed_fits_count_as_not_rejecting_and_as_rejecting():
    table = measured(small(PROBABILITY, failed=1))
    zero, one = np.array([*PROBABILITY, 0.0]), np.array([*PROBABILITY, 1.0])
    for name, x in (("power", zero), ("power_if_failures_reject", one), ("power_among_ok", np.array(PROBABILITY))):
        expected = (x.mean(), x.std(ddof=1) / np.sqrt(len(x)))
        assert tuple(table.loc[name, ["estimate", "mcse"]]) == pytest.approx(expected), name
    assert table.loc["power_counted", "estimate"] == pytest.approx(0.4)
    assert table.loc["power", "n_failed"] == 1


def test_a_valid_fit_without_a_probability_makes_the_cell_counted():
    table = measured(small([0.9, 0.6, 0.8, np.nan]))
    assert table.loc["power", "estimate"] == 0.5
    assert not {"variance_reduction", "power_counted"} & set(table.index)


def test_under_the_null_the_counted_error_stands_beside():
    table = measured(small([0.04, 0.05, 0.06], truth="null"))
    assert table.loc["type_1_error", "estimate"] == pytest.approx(0.05)
    assert table.loc["type_1_error_counted", "estimate"] == pytest.approx(2 / 3)


def test_mcse_of_the_variance_reduction_against_meta_replication():
    """400 studies of 200 replicates: the mean MCSE is the SD of the ratio over the studies."""
    n_study, n = 400, 200
    probability = np.random.default_rng(8).beta(12, 4, n_study * n)
    many = pd.concat([small([0.5] * n)] * n_study, ignore_index=True).assign(reject_probability=probability)
    many["design"] = np.repeat([f"{i:03}" for i in range(n_study)], n)
    known = {(f"{i:03}", "score", "alternative"): (0.5, 0.0) for i in range(n_study)}
    table = summarise([many], known, ALPHA).query("measure == 'variance_reduction'")
    sd = table["estimate"].std()
    assert abs(table["mcse"].mean() - sd) < 4 * sd / np.sqrt(2 * n_study) + 0.03 * sd


def test_family_measures_stay_counted():
    rows = small(PROBABILITY)
    both = pd.concat([rows, rows.assign(outcome="other")])
    known = truths() | {("plain", "other", "alternative"): (0.35, 0.0)}
    with_p = family([both], "holm", ALPHA, known, 2)
    without = family([both.drop(columns="reject_probability")], "holm", ALPHA, known, 2)
    pd.testing.assert_frame_equal(with_p, without)
