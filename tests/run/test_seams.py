"""Where stages meet: what one of them declares comes out of the others."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from everything import SUM
from run_support import plain_trial, small_scenario

from sim.estimands.estimand import declared_weight
from sim.evaluate.performance import summarise
from sim.generate.response import SumOfItems
from sim.parts import MISSINGNESS
from sim.run.blocks import Block, realise, routes, simulate_block
from sim.run.flow import sum_flow
from sim.run.tables import estimand_table
from sim.trial import Allocation


def number(value):
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "test"}


def with_model(scenario, **changes):
    model = scenario.file.model
    return replace(scenario, file=scenario.file.model_copy(update={"model": model.model_copy(update=changes)}))


def bounded(demand):
    """ind_1 on a scale whose ceiling is near, nothing shared in training, visits lost by chance."""
    scenario = small_scenario(designs=("ind_1",), replicates=512)
    model = scenario.file.model
    scale = SumOfItems.model_validate({**SUM, "mean": "30 points", "sd": "6 points"})
    outcomes = {name: one.model_copy(update={"response": scale}) for name, one in model.outcomes.items()}
    nothing = {"icc_training_group": 0.0, "icc_facilitator": 0.0}
    same = {name: getattr(model, name).model_copy(update={"value": x}) for name, x in nothing.items()}
    inflation = model.demand_inflation.model_copy(update={"value": demand})
    scenario = with_model(scenario, outcomes=outcomes, demand_inflation=inflation, **same)
    chance = MISSINGNESS.discover()["mcar"].model_validate(
        {"kind": "mcar", "loss": {v: number("5%") for v in scenario.names.visit[1:]}}
    )
    analyses = {"mixed_ancova": scenario.file.analyses["ancova"]}
    changes = {"missingness": chance, "analyses": analyses}
    return replace(scenario, file=scenario.file.model_copy(update=changes))


@pytest.mark.parametrize("demand", [0.0, 0.2])
def test_a_bounded_scale_is_unbiased_for_the_value_from_its_draws(demand):
    """Net of what inflation the ceiling leaves; the closed form, which knows no ceiling, is far too high."""
    scenario = bounded(demand)
    assert not scenario.file.model.is_continuous
    rows, flow = simulate_block(scenario, Block("ind_1", 0, scenario.file.replicates))
    table = estimand_table(scenario, "ind_1", sum_flow([flow], scenario.file.calendars))
    truth = table.query("truth == 'alternative'").set_index("outcome")
    for outcome in scenario.names.outcome:
        mine = rows[(rows["outcome"] == outcome) & (rows["truth"] == "alternative")].sort_values("replicate")
        expected = flow[f"true_value|{outcome}"] + flow[f"inflation|{outcome}"]
        error = mine["estimate"].to_numpy() - expected.to_numpy()
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(error)), outcome
        assert truth.loc[outcome, "true_value"] == pytest.approx(flow[f"true_value|{outcome}"].mean())
        assert 0 < truth.loc[outcome, "true_value_mcse"] < 0.02
        assert truth.loc[outcome, "demand_inflation"] <= 0.95 * demand
    closed = truth[["planned", "format", "modification", "attendance", "contamination"]].sum(axis=1)
    assert (truth["true_value"] < 0.93 * closed).all()


def test_strata_have_their_declared_shares_whoever_was_recruited():
    scenario = small_scenario(designs=("ind_1",))
    a = realise(scenario, "ind_1", 0).allocation
    few = a.keep((a.stratum == 0) | (np.arange(a.n_participant) % 3 == 0))
    weight = declared_weight(scenario.names, few)
    assert [weight[few.stratum == s].sum() for s in range(2)] == pytest.approx(scenario.names.share)
    assert np.mean(few.stratum) < 0.4  # which are not the shares of those there are


def test_every_calendar_of_a_design_takes_the_same_route():
    """Lanes where every visit is held on every calendar, and nowhere else."""
    design = {"kind": "village", "districts": 1, "villages_per_district": 8, "village_size": {"mean": 6}}
    scenario = plain_trial(design)
    assert all(way.hot for number in range(8) for way in routes(scenario, "plain", number))
    plan = scenario.file.calendar
    open_days = plan.model_copy(update={"working_days": "monday to friday"})
    other = replace(scenario, file=scenario.file.model_copy(update={"calendar": open_days}))
    assert not any(way.hot for number in range(8) for way in routes(other, "plain", number))


def test_the_order_of_analyses_is_part_of_the_identity():
    scenario = small_scenario()
    turned = dict(reversed(scenario.file.analyses.items()))
    other = replace(scenario, file=scenario.file.model_copy(update={"analyses": turned}))
    assert other.fingerprint != scenario.fingerprint
    first, second = (simulate_block(s, Block("ind_1", 0, 8))[0] for s in (scenario, other))
    for name in scenario.file.analyses:
        one, two = (rows[rows["analysis"] == name] for rows in (first, second))
        columns = ["estimate", "standard_error", "p_value"]
        pd.testing.assert_frame_equal(one[columns].reset_index(drop=True), two[columns].reset_index(drop=True))


def test_an_arm_that_nobody_is_left_in_leaves_the_others_their_scores():
    scenario = small_scenario(designs=("ind_8_formats",))
    realisation = realise(scenario, "ind_8_formats", 0)
    a: Allocation = realisation.allocation
    without = a.keep(a.arm != 2)
    dose = scenario.file.model.expected_dose(without, realisation.schedule)
    assert np.isfinite(dose).all() and dose[0] == 0 and (dose[1:] > 0.5).all()


def test_summary_says_how_sure_a_value_from_draws_is():
    scenario = bounded(0.0)
    rows, flow = simulate_block(scenario, Block("ind_1", 0, 256))
    table = estimand_table(scenario, "ind_1", sum_flow([flow], scenario.file.calendars))
    summary = summarise([rows], table, 0.05).query("measure == 'true_value' and truth == 'alternative'")
    error = table.query("truth == 'alternative'").set_index("outcome")["true_value_mcse"]
    assert (error > 0).all()
    found = summary.set_index("outcome")["mcse"]
    assert found.to_dict() == pytest.approx(error.to_dict())
    plain = summarise([rows], table.drop(columns="true_value_mcse"), 0.05).query("measure == 'true_value'")
    assert (plain["mcse"] == 0).all()
