"""Lanes against the ordinary route - scores stored, generic kernel - on the same replicates of real scenarios."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_support import TWO_ARMS, nested_trial, plain_trial, small_scenario

from sim.fused.choice import Route
from sim.run import blocks
from sim.run.blocks import Block, realise, routes, simulate_block
from sim.trial import FAILED, Fit

VILLAGES = {"kind": "village", "districts": 1, "villages_per_district": 10, "village_size": {"mean": 8, "cv": 0.4}}
DISTRICTS = VILLAGES | {"districts": 3, "villages_per_district": 6}
PEOPLE = {"kind": "individual", "districts": 1, "participants_per_district": 60}
GROUPS = PEOPLE | {"training_group_size": 6}
THREE_ARMS = {"control": {"format": "none"}, "first": {"format": "one"}, "second": {"format": "two"}}

OPTIONS = {
    f"{df.replace('-', '_')}_{boundary}": {"df": df, "boundary": boundary}
    for df in ("satterthwaite", "satterthwaite-expected", "kenward-roger", "z")
    for boundary in ("drop", "keep", "negative")
}


def lmm(**options: object) -> dict[str, object]:
    return {"kind": "lmm", "baseline": "constrained"} | options


def mixed_ancova(**options: object) -> dict[str, object]:
    return {"kind": "mixed_ancova"} | options


def every(analysis: Any, **options: object) -> dict[str, Any]:
    return {name: analysis(**options, **one) for name, one in OPTIONS.items()}


VILLAGE_LMM = {
    "by_visit": lmm(),
    "no_visit": lmm(village_by_visit=False),
    "free": lmm(baseline="free"),
    "free_no_visit": lmm(baseline="free", village_by_visit=False),
    "ancova": mixed_ancova(),
    "ancova_by_arm": mixed_ancova(residual_by_arm=True),
}
CASES: dict[str, dict[str, Any]] = {
    "villages": {"design": VILLAGES, "analyses": VILLAGE_LMM},
    "villages, every option": {"design": VILLAGES, "analyses": every(lmm)},
    "villages, two visits": {"design": VILLAGES, "analyses": VILLAGE_LMM, "loss": (0.2,)},
    "villages, mcar": {"design": VILLAGES, "analyses": VILLAGE_LMM, "slope": 0.0},
    "villages, nobody leaves": {"design": VILLAGES, "analyses": VILLAGE_LMM, "slope": 0.0, "loss": (0.0, 0.0)},
    "villages that do not vary": {
        "design": VILLAGES, "analyses": every(lmm), "sd": {"sd_village": 0.0, "sd_village_by_visit": 0.0},
    },
    "villages, three arms": {
        "design": VILLAGES | {"arms": THREE_ARMS, "contrast": "second - first", "villages_per_district": 12},
        "analyses": VILLAGE_LMM,
    },
    "random districts": {
        "design": DISTRICTS, "sd": {"sd_district": 0.3},
        "analyses": {"district": lmm(district="random"), "no_visit": lmm(district="random", village_by_visit=False),
                     "free_kr": lmm(district="random", baseline="free", df="kenward-roger"),
                     "negative": lmm(district="random", boundary="negative")},
    },
    "individuals": {"design": PEOPLE, "analyses": {"constrained": lmm(), "free": lmm(baseline="free", boundary="keep"),
                                                   "kr": lmm(df="kenward-roger")}},
    "partial nesting": {
        "design": GROUPS, "sd": {"sd_training_group": 0.4, "sd_residual_trained": 0.9},
        "analyses": {"one_residual": mixed_ancova(), **every(mixed_ancova, residual_by_arm=True)},
    },
    "groups that do not vary": {
        "design": GROUPS, "sd": {"sd_training_group": 0.0}, "analyses": every(mixed_ancova), "loss": (0.2,),
    },
}  # fmt: skip


def both_ways(scenario: Any, replicate: Any) -> Iterator[tuple[str, Fit, Fit]]:
    """Each analysis of calendar 0 in lanes and by the ordinary route, from starts of their own."""
    realisation = realise(scenario, "plain", 0)
    trial = blocks.draw(scenario, realisation, scenario.streams("plain"), replicate).trial
    for (name, analysis), way in zip(scenario.file.analyses.items(), routes(scenario, "plain", 0), strict=True):
        assert way.hot is not None, way.why
        fast, _ = way.analyse(analysis, replicate, scenario.file.hypotheses)
        yield name, fast, analysis.analyse(trial)


def worst(fast: Fit, slow: Fit) -> dict[str, float]:
    """Largest difference: of estimates in standard errors, of the others relative; NaN only where both failed."""
    np.testing.assert_array_equal(fast.status, slow.status)
    ok = fast.status != FAILED
    x, y = ({k: getattr(fit, k)[ok] for k in ("estimate", "standard_error", "df")} for fit in (fast, slow))
    off = {"estimate": np.abs(x["estimate"] - y["estimate"]) / y["standard_error"]}
    off["standard_error"] = np.abs(x["standard_error"] / y["standard_error"] - 1)
    np.testing.assert_array_equal(np.isfinite(x["df"]), np.isfinite(y["df"]))
    finite = np.isfinite(y["df"])
    off["df"] = np.abs(x["df"][finite] / y["df"][finite] - 1)
    return {key: float(value.max(initial=0.0)) for key, value in off.items()}


@pytest.mark.parametrize("case", CASES)
def test_lanes_against_the_ordinary_route(case):
    """From starts of their own: a climb ends where the step left to take is 1e-10 standard errors of the variances."""
    scenario = nested_trial(**CASES[case], calendars=1)
    for name, fast, slow in both_ways(scenario, np.arange(5, 69, dtype=np.int32)):
        off = worst(fast, slow)
        assert max(off.values()) < 1e-9, (name, off)


def by_the_ordinary_route(scenario: Any, block: Block, monkeypatch: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    with monkeypatch.context() as changed:
        changed.setattr(blocks, "routes", lambda *key: tuple(replace(route, hot=None) for route in routes(*key)))
        return simulate_block(scenario, block)


@pytest.mark.parametrize("common", [True, False])
@pytest.mark.parametrize("case", ["villages", "partial nesting", "random districts", "individuals"])
def test_rows_of_both_routes(case, common, monkeypatch):
    """Every row, of several calendars."""
    scenario = nested_trial(**CASES[case], calendars=3)
    scenario = replace(scenario, file=scenario.file.model_copy(update={"common_random_numbers": common}))
    block = Block("plain", 7, 12)
    fast, fast_flow = simulate_block(scenario, block)
    slow, slow_flow = by_the_ordinary_route(scenario, block, monkeypatch)
    pd.testing.assert_frame_equal(fast_flow, slow_flow, check_exact=True)
    names = ["design", "replicate", "outcome", "analysis", "truth", "status", "reason"]
    pd.testing.assert_frame_equal(fast[names], slow[names])
    error = slow["standard_error"]
    for column in ("estimate", "ci_low", "ci_high"):
        assert ((fast[column] - slow[column]).abs() / error).max() < 1e-9, column
    for column in ("standard_error", "df"):
        np.testing.assert_allclose(fast[column], slow[column], rtol=1e-9, err_msg=column)
    np.testing.assert_allclose(fast["p_value"], slow["p_value"], atol=1e-9)


def test_lanes_and_the_ordinary_route_side_by_side():
    """One analysis in lanes and one not see the same people, and neither changes the other's rows."""
    both = nested_trial(VILLAGES, analyses={"lmm": lmm(), "ancova": {"kind": "ancova"}})
    alone = nested_trial(VILLAGES, analyses={"lmm": lmm()})
    assert [bool(route.hot) for route in routes(both, "plain", 0)] == [True, False]
    rows, flow = simulate_block(both, Block("plain", 0, 10))
    other, other_flow = simulate_block(alone, Block("plain", 0, 10))
    pd.testing.assert_frame_equal(flow, other_flow, check_exact=True)
    mine = rows[rows["analysis"] == "lmm"].reset_index(drop=True)
    numbers = ["estimate", "standard_error", "df", "p_value", "ci_low", "ci_high"]
    pd.testing.assert_frame_equal(mine[numbers], other[numbers], check_exact=True)


# ---- which route, and why -------------------------------------------------------------------------------------------


def route_of(design: Any, analysis: dict[str, object], **changes: Any) -> Route:
    return routes(nested_trial(design, analyses={"one": analysis}, **changes), "plain", 0)[0]


TWO_DISTRICTS = VILLAGES | {"districts": 2}


@pytest.mark.parametrize(
    ("design", "analysis", "changes", "why"),
    [
        (VILLAGES, {"kind": "ancova"}, {}, "analysis kind `ancova` has no kernel in lanes"),
        (VILLAGES, lmm(method="ml"), {}, "method `ml` with df `satterthwaite` has no kernel in lanes"),
        (VILLAGES, lmm(df="between-within"), {}, "method `reml` with df `between-within` has no kernel in lanes"),
        (TWO_DISTRICTS, lmm(), {}, "strata or districts are fixed effects"),
        (TWO_DISTRICTS, mixed_ancova(), {}, "strata or districts are fixed effects"),
        (PEOPLE | {"districts": 2}, lmm(district="random"), {}, "districts cross the training groups"),
        (PEOPLE, mixed_ancova(), {}, "there is no cluster"),
        (VILLAGES, lmm(baseline="covariate"), {}, "baseline `covariate` fits the later visits only"),
        (GROUPS, lmm(), {}, "training groups are random from the training on, not at the baseline"),
        (VILLAGES, lmm(), {"sd": {"sd_residual_trained": 0.9}}, "the residual variance differs between the arms"),
        (VILLAGES, lmm(), {}, ""),
        (TWO_DISTRICTS, lmm(district="random"), {}, ""),
        (VILLAGES, lmm(district="random"), {}, ""),
        (GROUPS, mixed_ancova(), {"sd": {"sd_residual_trained": 0.9}}, ""),
    ],
)
def test_why_an_analysis_is_not_in_lanes(design, analysis, changes, why):
    route = route_of(design, analysis, **changes)
    assert route.why == why
    assert (route.hot is None) == bool(why)


def test_scores_that_are_stored_are_not_in_lanes():
    scenario = small_scenario(designs=("vil_1",))
    why = [route.why for route in routes(scenario, "vil_1", 0)]
    kinds = [analysis.kind for analysis in scenario.file.analyses.values()]
    assert why[kinds.index("mixed_ancova")] == "scores of model kind `gaussian` are stored before they are analysed"
    assert all(why)


@pytest.mark.parametrize("trained_format", ["programme", "separate"])
def test_strata_are_not_in_lanes(trained_format):
    scenario = plain_trial(VILLAGES | {"arms": TWO_ARMS | {"treated": {"format": trained_format}}})
    file = scenario.file.model_copy(update={"strata": {"a": 0.5, "b": 0.5}})
    route = routes(replace(scenario, file=file), "plain", 0)[0]
    assert route.why == "strata or districts are fixed effects"


GROUPS_VARY = {"sd_training_group": 0.3}
VILLAGES_ALIKE = {"sd_village": 0.0, "sd_village_by_visit": 0.0}


@pytest.mark.parametrize(
    ("design", "analysis", "sd", "counted"),
    [
        (VILLAGES, lmm(), {}, ""),
        (VILLAGES, lmm(), {"sd_district": 0.5}, ""),
        (VILLAGES, lmm(village_by_visit=False), {}, "villages vary by visit and the analysis has no such term"),
        (VILLAGES, lmm(village_by_visit=False), {"sd_village_by_visit": 0.0}, ""),
        (VILLAGES, lmm(), GROUPS_VARY, "training groups vary and the analysis has no such term"),
        (VILLAGES, mixed_ancova(), {}, "given the baseline scores, villages do not vary as the analysis says"),
        (VILLAGES, mixed_ancova(), VILLAGES_ALIKE, ""),
        (
            VILLAGES, mixed_ancova(), VILLAGES_ALIKE | GROUPS_VARY,
            "training groups vary and the analysis has no such term",
        ),
        (TWO_DISTRICTS, lmm(district="random"), {"sd_district": 0.5}, ""),
        (GROUPS, mixed_ancova(), GROUPS_VARY, ""),
        (
            GROUPS, mixed_ancova(), {"sd_residual_trained": 0.9},
            "the residual variance differs between the arms and the analysis has one",
        ),
        (GROUPS, mixed_ancova(residual_by_arm=True), {"sd_residual_trained": 0.9}, ""),
    ],
)  # fmt: skip
def test_why_rejections_must_be_counted(design, analysis, sd, counted):
    route = route_of(design, analysis, sd=sd)
    assert route.hot is not None
    assert route.counted == counted


def test_effect_of_each_truth_is_that_of_the_contrast():
    assert route_of(VILLAGES, lmm(), effect=0.7).effect.tolist() == [0.7, 0.0]
    second_against_first = VILLAGES | {"arms": THREE_ARMS, "contrast": "second - first", "villages_per_district": 12}
    assert route_of(second_against_first, lmm(), effect=0.7).effect.tolist() == [0.0, 0.0]  # both are trained


def test_a_single_district_is_no_random_effect():
    """It cannot be told from the mean: half of such fits failed, the others depended on rounding."""
    one, none = (
        simulate_block(nested_trial(VILLAGES, analyses={"one": analysis}), Block("plain", 0, 16))[0]
        for analysis in (lmm(district="random"), lmm())
    )
    pd.testing.assert_frame_equal(one, none, check_exact=True)
