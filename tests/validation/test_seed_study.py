"""Evidence for the re-enactment: the simulated seed study prints what the seed study printed."""

import numpy as np
import pytest
from run_support import ROOT

from sim.evaluate.medians import medians
from sim.run.blocks import Block, simulate_block
from sim.scenario.load import read_scenario


@pytest.fixture(scope="module")
def study():
    scenario = read_scenario(ROOT / "scenarios" / "habimana_2026_reenacted.yaml")
    rows, flow = simulate_block(scenario, Block("seed_study", 0, 2000))
    return scenario, rows, flow, medians([rows]).set_index(["truth", "measure", "outcome"])[["estimate", "mcse"]]


@pytest.mark.parametrize("outcome", ["compassion", "cohesion", "forgiveness", "resilience"])
def test_median_f_and_partial_eta_squared_against_print(study, outcome):
    scenario, _, _, median = study
    printed = scenario.evidence.outcomes[outcome].printed
    f, mcse = median.loc[("alternative", "median_f_linear", outcome)]
    assert abs(f - printed.f) < 4 * mcse
    eta, mcse = median.loc[("alternative", "median_partial_eta_squared_linear", outcome)]
    assert abs(eta - printed.partial_eta_squared) < 4 * mcse + 0.005  # printed with two decimals


def test_number_analysed_against_the_window_of_the_printed_pairs(study):
    _, _, flow, median = study
    assert (flow["n_participant"] == 152).all()
    assert 144 <= median.loc[("alternative", "median_n_complete", "compassion")]["estimate"] <= 148


def test_missing_control_costs_the_untreated_change(study):
    """The before-after estimate is off by the whole secular change, and finds it when training does nothing."""
    scenario, rows, _, _ = study
    untreated = scenario.file.model.untreated_change.value
    for k, outcome in enumerate(scenario.names.outcome):
        mine = rows[rows["outcome"] == outcome]
        for truth, effect in (("alternative", scenario.effect[k]), ("null", 0.0)):
            estimate = mine.loc[mine["truth"] == truth, "estimate"].to_numpy()
            bias = estimate.mean() - effect
            assert abs(bias - untreated) < 4 * estimate.std() / np.sqrt(len(estimate))
        assert (mine.loc[mine["truth"] == "null", "p_value"] <= 0.05).mean() > 0.25
