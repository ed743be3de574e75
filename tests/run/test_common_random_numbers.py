"""Evidence for common random numbers: the larger trial holds the smaller, bit for bit, and differences are quieter."""

from dataclasses import replace

import numpy as np
import pytest
from mistakes import SIMPLE
from run_support import ROOT, small_scenario

from sim.run.blocks import Block, draw, realise, simulate_block
from sim.scenario.load import read_scenario

REPLICATE = np.arange(40, dtype=np.int32)
SMALLER, LARGER = "villages_22", "villages_24"


def scenario_with(common: bool, **villages: int):
    """parallel_cluster.yaml with designs of these numbers of villages, the t test of village means and no lmm."""
    scenario = read_scenario(ROOT / "scenarios" / "parallel_cluster.yaml")
    plan = scenario.design("villages_24")
    designs = {name: plan.model_copy(update={"villages_per_district": n}) for name, n in villages.items()}
    analyses = {"mixed_ancova": scenario.file.analyses["mixed_ancova"]}
    changes = {"designs": designs, "analyses": analyses, "common_random_numbers": common}
    return replace(scenario, file=scenario.file.model_copy(update=changes))


def drawn(scenario, design):
    realisation = realise(scenario, design, 0)
    return draw(scenario, realisation, scenario.streams(design), REPLICATE).trial


def people(trial):
    a = trial.allocation
    return list(zip(a.cluster.tolist(), a.member.tolist(), strict=True))


def check_contained(small, large):
    """Scores, what is seen, and arms of those in both."""
    where = {name: i for i, name in enumerate(people(large))}
    kept = [where[name] for name in people(small)]
    np.testing.assert_array_equal(large.y[:, kept], small.y)
    np.testing.assert_array_equal(large.observed[:, kept], small.observed)
    np.testing.assert_array_equal(large.allocation.arm[kept], small.allocation.arm)


def test_the_larger_trial_contains_the_smaller_one_bit_for_bit():
    scenario = scenario_with(True, villages_22=22, villages_24=24)
    check_contained(drawn(scenario, SMALLER), drawn(scenario, LARGER))


def test_designs_of_their_own_streams_share_nothing():
    scenario = scenario_with(False, villages_22=22, villages_24=24)
    small, large = drawn(scenario, SMALLER), drawn(scenario, LARGER)
    assert not np.isin(small.y, large.y).any()


@pytest.mark.parametrize("designs", [("ind_4", "ind_8"), ("vil_4", "vil_8")])
def test_so_it_does_with_several_outcomes_in_more_districts(designs):
    """Where nothing depends on dates or teams: these differ, because more districts share the teams."""
    scenario = small_scenario(designs=designs, path=SIMPLE)
    calendar = scenario.file.calendar.model_copy(update={"windows": {}})
    file = scenario.file.model_copy(update={"common_random_numbers": True, "calendar": calendar})
    scenario = replace(scenario, file=file)
    check_contained(*(drawn(scenario, design) for design in designs))


def test_difference_in_power_is_less_variable_than_that_of_independent_trials():
    """Twice as precise at least: the variance over replicates of one rejection less the other, with its MCSE."""
    spread = {}
    n = 1000
    for common in (True, False):
        scenario = scenario_with(common, villages_22=22, villages_24=24)
        rejects = []
        for design in (SMALLER, LARGER):
            rows, _ = simulate_block(scenario, Block(design, 0, n))
            rejects.append((rows[rows["truth"] == "alternative"]["p_value"] <= 0.05).to_numpy(float))
        squares = (rejects[1] - rejects[0] - np.mean(rejects[1] - rejects[0])) ** 2
        spread[common] = squares.mean(), squares.std() / np.sqrt(n)
    (with_common, mcse), (without, mcse_without) = spread[True], spread[False]
    assert 2 * with_common + 4 * np.hypot(2 * mcse, mcse_without) < without
