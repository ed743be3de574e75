"""Costs: recounted by hand from the calendars; a new price needs no new run."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from run_support import small_scenario

from sim.run.blocks import realise
from sim.run.job import run
from sim.run.local import Local
from sim.run.store import Store

PRIMARY, N = "mixed_ancova", 64


def primary_alone(costs=True):
    """The shipped scenario with its unit costs, or without, and one analysis."""
    scenario = small_scenario(replicates=N, designs=("ind_1", "vil_4"))
    changes = {"analyses": {PRIMARY: scenario.file.analyses[PRIMARY]}} | ({} if costs else {"costs": None})
    return replace(scenario, file=scenario.file.model_copy(update=changes))


def priced(scenario, **value):
    """The scenario with other unit costs."""
    costs = scenario.file.costs
    new = {key: getattr(costs, key).model_copy(update={"value": x, "high": x}) for key, x in value.items()}
    return replace(scenario, file=scenario.file.model_copy(update={"costs": costs.model_copy(update=new)}))


def go(folder, scenario):
    return run(scenario, Store(folder, scenario), Local(1), lambda done, of: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    scenario, folder = primary_alone(), tmp_path_factory.mktemp("costs") / "r"
    return scenario, folder, go(folder, scenario)


def test_total_against_a_sum_over_calendars(finished):
    """64 calendars, each with one replicate: operations, people and interviews of each, times their prices."""
    scenario, folder, result = finished
    value = {key: price.value for key, price in scenario.file.costs.prices.items()}
    designs = pd.read_csv(folder / "designs.csv").set_index("design")
    for design in scenario.file.designs:
        flow = pd.concat(pd.read_parquet(path) for path in (folder / "flow").glob(f"{design}-*.parquet"))
        held = flow.set_index("replicate")["n_visit_observed"]
        cost = []
        for number in range(N):
            one = realise(scenario, design, number)
            people, operations = one.allocation, one.operations
            villages = len(np.unique(people.village)) if design == "vil_4" else 0
            cost.append(
                value["per_district"] * len(np.unique(people.district)) + value["per_village"] * villages
                + value["per_participant"] * people.n_participant + value["per_facilitator_team"] * 6
                + value["per_training_day"] * operations.team_days + value["per_travel_day"] * operations.travel_days
                + value["per_appointment"] * operations.appointments.sum() + value["per_interview"] * held[number]
            )  # fmt: skip
        row = designs.loc[design]
        assert row["currency"] == "USD"
        assert row["cost"] == pytest.approx(np.mean(cost))
        assert row["cost_mcse"] == pytest.approx(np.std(cost, ddof=1) / np.sqrt(N))
        items = result.costs[result.costs["design"] == design]
        assert items["amount"].sum() == pytest.approx(row["cost"])
        assert items["share"].sum() == pytest.approx(1)
        assert (items["amount_low"] <= items["amount"]).all() and (items["amount"] <= items["amount_high"]).all()


def test_training_groups_are_no_villages(finished):
    _, _, result = finished
    villages = result.costs[result.costs["item"] == "village"].set_index("design")["quantity"]
    assert villages["ind_1"] == 0 and villages["vil_4"] == 24


def test_a_new_price_computes_no_block_and_moves_the_cost_alone(finished, tmp_path):
    scenario, _, _ = finished
    before = go(tmp_path, scenario)
    blocks = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    dearer = priced(scenario, per_district=10_000.0)
    assert dearer.fingerprint == scenario.fingerprint
    after = go(tmp_path, dearer)
    assert after.n_computed == 0
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == blocks
    districts = before.designs["n_district"]
    np.testing.assert_allclose(after.designs["cost"] - before.designs["cost"], 4000 * districts)
    pd.testing.assert_frame_equal(after.summary, before.summary)
    again = go(tmp_path, dearer)
    pd.testing.assert_frame_equal(again.costs, after.costs)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "costs.csv"), after.costs)


def test_without_unit_costs_there_is_no_cost(finished, tmp_path):
    result = go(tmp_path, primary_alone(costs=False))
    assert result.costs.empty and result.designs["cost"].isna().all() and result.designs["currency"].isna().all()
    again = go(tmp_path, primary_alone(costs=False))
    assert again.costs.empty and again.n_computed == 0
