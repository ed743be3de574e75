"""The preview's standard errors, degrees of freedom and power: closed forms of balanced trials, and simulated power."""

from typing import Any

import numpy as np
import pytest
from run_support import nested_trial
from scipy import stats

from sim.fused.preview import preview
from sim.report.explain import preview_rows
from sim.run.blocks import Block, routes, simulate_block

T, K, N = 3, 12, 10  # visits, villages, people a village
VILLAGE, BY_VISIT, PERSON, RESIDUAL = 0.05, 0.03, 0.45, 0.47  # variances
SD = {
    name: float(np.sqrt(value))
    for name, value in {
        "sd_village": VILLAGE, "sd_village_by_visit": BY_VISIT, "sd_participant": PERSON, "sd_residual": RESIDUAL,
    }.items()
}  # fmt: skip
VILLAGES = {"kind": "village", "districts": 1, "villages_per_district": K, "village_size": {"mean": N}}
PEOPLE = {"kind": "individual", "districts": 1, "participants_per_district": K * N}


def row_of(design: Any, analysis: dict[str, Any], **changes: Any) -> dict[str, Any]:
    changes = {"loss": (0.0, 0.0), "slope": 0.0, "sd": SD} | changes
    return preview_rows(nested_trial(design, analyses={"one": analysis}, **changes))[0]


def by_t(effect: float, error: float, df: float) -> float:
    critical = stats.t.ppf(0.975, df)
    return float(stats.nct.sf(critical, df, effect / error) + stats.nct.cdf(-critical, df, effect / error))


def satterthwaite(*part: tuple[float, float]) -> float:
    """df of a sum of mean squares (Satterthwaite 1946, doi:10.2307/3002019); part: (share of the variance, df)."""
    return sum(x for x, _ in part) ** 2 / sum(x * x / df for x, df in part)


def test_villages_against_the_analysis_of_variance():
    """The mean of a village at a visit is made of the mean squares of villages and of villages by visit."""
    between = RESIDUAL + T * PERSON + N * BY_VISIT + N * T * VILLAGE
    by_visit = RESIDUAL + N * BY_VISIT
    parts = ((between / T, K - 2), (by_visit * (T - 1) / T, (K - 2) * (T - 1)))
    error = np.sqrt(4 / K * sum(x for x, _ in parts) / N)
    row = row_of(VILLAGES, {"kind": "lmm", "baseline": "free"}, effect=0.5)
    assert row["standard_error"] == pytest.approx(error, rel=1e-9)
    assert row["df"] == pytest.approx(satterthwaite(*parts), rel=1e-9)
    assert row["power"] == pytest.approx(by_t(0.5, error, satterthwaite(*parts)), abs=1e-9)


def test_individuals_against_the_analysis_of_variance():
    """Without a term between, the variances of villages are those of the people who come from them."""
    n, person, residual = K * N, PERSON + VILLAGE, RESIDUAL + BY_VISIT
    parts = (((residual + T * person) / T, n - 2), (residual * (T - 1) / T, (n - 2) * (T - 1)))
    error = np.sqrt(4 / n)
    row = row_of(PEOPLE, {"kind": "lmm", "baseline": "free"}, effect=0.4)
    assert row["standard_error"] == pytest.approx(error, rel=1e-9)
    assert row["df"] == pytest.approx(satterthwaite(*parts), rel=1e-9)
    assert row["power"] == pytest.approx(by_t(0.4, error, row["df"]), abs=1e-9)


def test_constrained_baseline_saves_what_the_baseline_tells():
    """Two visits: the variance is (1 - rho^2) of that of the final visit alone."""
    row = row_of(PEOPLE, {"kind": "lmm", "baseline": "constrained"}, loss=(0.0,))
    rho = PERSON + VILLAGE
    assert row["standard_error"] == pytest.approx(np.sqrt(4 / (K * N) * (1 - rho**2)), rel=1e-9)


def test_partial_nesting_against_theory():
    size, group = 10, 0.09
    design, sd = PEOPLE | {"training_group_size": size}, SD | {"sd_training_group": np.sqrt(group)}
    row = row_of(design, {"kind": "mixed_ancova", "residual_by_arm": True}, loss=(0.0,), sd=sd)
    n, rho = K * N / 2, PERSON + VILLAGE
    untreated, trained = (1 - rho**2) / n, (1 - rho**2 + size * group) / n
    assert row["standard_error"] == pytest.approx(np.sqrt(untreated + trained), rel=1e-9)
    # the slope of the baseline score takes a df of those within
    assert row["df"] == pytest.approx(satterthwaite((untreated, n - 1.5), (trained, n / size - 1)), rel=0.01)


@pytest.mark.parametrize("df", [4.0, 30.0])
def test_sides_and_z_against_scipy(df):
    expected = (np.float64(0.04), np.array([1.0]), np.array([[df / (2 * 0.04**2)]]))  # one variance known to df
    upper = preview(expected, 0.5, 0.05, 1, is_normal=False)
    assert upper.df == pytest.approx(df)
    assert upper.power == pytest.approx(stats.nct.sf(stats.t.ppf(0.95, df), df, 2.5), abs=1e-9)
    both = preview(expected, 0.5, 0.05, 2, is_normal=True)
    assert both.df == np.inf
    assert both.power == pytest.approx(stats.norm.sf(1.959964 - 2.5) + stats.norm.cdf(-1.959964 - 2.5), abs=1e-6)
    one = preview(expected, 0.5, 0.05, 1, is_normal=True)
    assert one.power == pytest.approx(stats.norm.sf(1.644854 - 2.5), abs=1e-6)


@pytest.mark.parametrize(
    ("design", "analysis", "sd", "margin"),
    [
        (VILLAGES, {"kind": "lmm", "baseline": "constrained"}, SD, 0.02),
        (VILLAGES | {"village_size": {"mean": N, "cv": 0.4}}, {"kind": "lmm", "baseline": "free"}, SD, 0.02),
        (PEOPLE, {"kind": "lmm", "baseline": "constrained"}, SD, 0.005),
        (
            PEOPLE | {"training_group_size": 6}, {"kind": "mixed_ancova", "residual_by_arm": True},
            SD | {"sd_training_group": 0.2, "sd_residual_trained": 0.8}, 0.03,
        ),
    ],
    ids=["villages", "villages of unequal size", "individuals", "partial nesting"],
)  # fmt: skip
@pytest.mark.parametrize("slope", [0.0, -0.4])
def test_power_against_simulated_power(design, analysis, sd, margin, slope):
    """With dropout; the simulated power is the conditional one, of MCSE below .005.

    Without clusters the preview is exact but for the dropout. Of 12 villages or 10 groups it is 1 to 2.5 points off:
    a variance estimated at zero cannot make up for one estimated too large, which the noncentral t knows nothing of.
    """
    scenario = nested_trial(
        design, analyses={"one": analysis}, sd=sd, slope=slope, effect=0.5, calendars=1, estimator="conditional"
    )
    rows, _ = simulate_block(scenario, Block("plain", 0, 4000))
    p = rows.loc[rows["truth"] == "alternative", "reject_probability"]
    assert p.std() / np.sqrt(len(p)) < 0.005
    assert abs(preview_rows(scenario)[0]["power"] - p.mean()) < margin


def test_no_preview_where_the_model_is_not_that_of_the_scores():
    wrong = {"kind": "lmm", "baseline": "constrained", "village_by_visit": False}
    scenario = nested_trial(VILLAGES, analyses={"wrong": wrong, "ancova": {"kind": "mixed_ancova"}})
    rows = preview_rows(scenario)
    assert [row["power"] for row in rows] == [None, None]
    assert [row["because"] for row in rows] == [route.counted for route in routes(scenario, "plain", 0)]
