"""Evidence for the whole engine: simulated power and type I error against closed forms and published tables.

Each case strips the Rwandan scenario to the plain design that the theory is about - no loss, no strata, no districts'
variance, full attendance, nothing leaking - and lets the pipeline of the main job simulate and analyse it.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mistakes import SIMPLE
from scipy import stats

from sim.kernels.noncentral import t_power
from sim.run.blocks import Block, simulate_block
from sim.scenario.document import Document
from sim.scenario.load import Scenario, read_scenario
from sim.scenario.schema import ScenarioFile

N = 4000


def number(value: Any) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "theory"}


def plain_scenario(
    design: dict[str, Any],
    analyses: dict[str, Any],
    *,
    effect: float,
    icc_village: float = 0.0,
    icc_group: float = 0.0,
    correlation: float = 0.0,
) -> Scenario:
    """One outcome of variance 1, correlated `correlation` between any two visits, and one design called 'plain'."""
    path = SIMPLE
    content = Document.read(path).content
    content["strata"] = {"everyone": "100%"}
    content["calendar"] |= {"windows": {}, "closed": {}, "recruitment_per_district": "1000 per week"}
    zero, everyone = number("0 SD"), {"everyone": number("0 SD")}
    outcome = {"correlation_baseline_final": number(correlation), "icc_village": number(icc_village)}
    content["model"] |= {
        "outcomes": {"score": outcome},
        "correlation_baseline_post": number(correlation),
        "correlation_post_final": number(correlation),
        "icc_district": number(0.0),
        "icc_training_group": number(icc_group),
        "untreated_change": zero,
        "baseline_difference": everyone,
        "effect_modification": everyone,
        "format_effect": {"mixed": zero},
        "sd_effect_district": zero,
        "attendance": number("100%"),
        "contamination": number("0%"),
        "demand_inflation": zero,
        "window_shift": {},
    }
    content["missingness"] |= {
        "loss": {"post": number("0%"), "six_months": number("0%")},
        "extra_loss_untreated": number("0%"),
        "window_odds_ratio": {},
    }
    content["effect"] = {"score": f"{effect} SD"}
    content["designs"] = {"plain": design}
    content["analyses"] = analyses
    content["hypotheses"] |= {"primary_analysis": next(iter(analyses))}
    file = ScenarioFile.model_validate(content)
    return replace(read_scenario(path), file=file, effect=np.array([effect]))


TWO_ARMS = {"control": {"format": "none"}, "mixed": {"format": "mixed"}}


def villages(per_arm: int, size: int, cv: float = 0.0) -> dict[str, Any]:
    return {
        "kind": "village", "label": "plain", "arms": TWO_ARMS, "contrast": "mixed - control", "districts": 1,
        "villages_per_district": 2 * per_arm, "village_size": {"mean": size, "cv": cv}, "start": "2027-07-05",
    }  # fmt: skip


def individuals(groups: int, size: int, n_control: int) -> dict[str, Any]:
    arms = {"control": {"format": "none", "allocation": n_control / (groups * size)}, "mixed": {"format": "mixed"}}
    return {
        "kind": "individual", "label": "plain", "arms": arms, "contrast": "mixed - control", "districts": 1,
        "participants_per_district": groups * size + n_control, "training_group_size": size, "start": "2027-07-05",
    }  # fmt: skip


def rejection(scenario: Scenario, n: int = N) -> pd.DataFrame:
    """Share of rejections, of singular fits and of failed ones, by analysis and truth."""
    rows, _ = simulate_block(scenario, Block("plain", 0, n))
    status = {name: rows["status"] == name for name in ("singular", "failed")}
    rows = rows.assign(reject=rows["p_value"] <= 0.05, **status)
    return rows.groupby(["analysis", "truth"], observed=True)[["reject", "singular", "failed"]].mean()


def close(found: float, expected: float, n: int = N, slack: float = 0.0) -> None:
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / n) + slack


@pytest.mark.parametrize(
    ("per_arm", "size", "d", "icc"),
    [(16, 10, 1 / np.sqrt(5), 0.1), (5, 20, 0.6, 0.1), (5, 100, 0.6, 0.1), (2, 40, 0.5, 0.017)],
    ids=["16 a arm", "5 a arm of 20", "5 a arm of 100", "2 a arm"],
)
def test_village_randomised_power_against_theory(per_arm, size, d, icc):
    """Noncentral t of the cluster means; .80177, .59017, .71190 and .210 in the published tables.

    The shortcut through an effective sample size, published with .47 for the last case, is wrong.
    """
    scenario = plain_scenario(
        villages(per_arm, size), {"cluster_summary": {"kind": "cluster_summary"}}, effect=d, icc_village=icc
    )
    found = rejection(scenario)["reject"]
    df = 2 * per_arm - 2
    ncp = d / np.sqrt(2 / per_arm * (icc + (1 - icc) / size))
    close(found["cluster_summary", "alternative"], float(t_power(df, ncp)), slack=0.003)
    close(found["cluster_summary", "null"], 0.05, slack=0.003)


def test_ignoring_villages_against_theory():
    """Type I error of least squares that ignores a design effect, 2 (1 - Phi(1.96 / sqrt(DEFF)))."""
    scenario = plain_scenario(villages(10, 20), {"ancova": {"kind": "ancova"}}, effect=0.0, icc_village=0.1)
    found = rejection(scenario)["reject"]
    close(found["ancova", "null"], 2 * stats.norm.sf(1.96 / np.sqrt(1 + 19 * 0.1)), slack=0.01)


def test_baseline_adjustment_against_theory():
    """An ANCOVA with correlation .5 needs (1 - .25) of the people: N = 96 for d = .5 and power .80."""
    scenario = plain_scenario(individuals(4, 12, 48), {"ancova": {"kind": "ancova"}}, effect=0.5, correlation=0.5)
    expected = float(t_power(93, 0.5 / np.sqrt(0.75 * 4 / 96)))
    found = rejection(scenario)["reject"]["ancova", "alternative"]
    assert abs(expected - 0.80) < 0.01
    close(found, expected, slack=0.003)


@pytest.mark.parametrize(("groups", "singular", "ols"), [(3, 0.505, 0.0716), (6, 0.367, 0.0741)])
def test_partially_nested_against_lmertest(groups, singular, ols):
    """Posttest, groups of 10, ICC .05: singular rate from 1,200 lme4 fits (MCSE .014), OLS level in closed form.

    The fits with a group variance of 0 are evidence, not failures: they are kept.
    """
    analyses = {"mixed_ancova": {"kind": "mixed_ancova"}, "ancova": {"kind": "ancova"}}
    scenario = plain_scenario(individuals(groups, 10, 10 * groups), analyses, effect=0.0, icc_group=0.05)
    found = rejection(scenario)
    assert abs(found["singular"]["mixed_ancova", "null"] - singular) < 0.05
    assert found["failed"].max() == 0
    close(found["reject"]["ancova", "null"], ols, slack=0.006)
    assert found["reject"]["mixed_ancova", "null"] < 0.06


def test_wald_z_with_few_clusters_against_theory():
    """Reading the same t statistic as normal rejects .189 of true nulls with 4 clusters: 2 P(T_2 < -1.96)."""
    scenario = plain_scenario(
        villages(2, 30), {"cluster_summary": {"kind": "cluster_summary"}}, effect=0.0, icc_village=0.1
    )
    rows, _ = simulate_block(scenario, Block("plain", 0, N))
    null = rows[rows["truth"] == "null"]
    z = np.abs(null["estimate"] / null["standard_error"])
    close(float((z > 1.959964).mean()), 0.18906, slack=0.003)


def test_villages_trained_in_two_groups_hold_the_level():
    """Mixed against separate groups in villages: without a training-group intercept 6 to 7% of true nulls fell."""
    path = SIMPLE
    scenario = read_scenario(path)
    plan = scenario.design("vil_8")
    formats = plan.model_copy(
        update={
            "arms": scenario.design("ind_8_formats").arms,
            "contrast": "mixed - separate",
        }
    )
    analyses = {"mixed_ancova": scenario.file.analyses["mixed_ancova"]}
    file = scenario.file.model_copy(update={"designs": {"plain": formats}, "analyses": analyses})
    rows, _ = simulate_block(replace(scenario, file=file), Block("plain", 0, 512))
    null = rows[rows["truth"] == "null"]
    by_replicate = (null["p_value"] <= 0.05).to_numpy().reshape(512, -1).mean(axis=1)
    assert abs(by_replicate.mean() - 0.05) < 4 * by_replicate.std() / np.sqrt(512)
