"""Assumptions found by their place, and one changed at a time."""

from pathlib import Path

import pytest
from run_support import small_scenario

from sim.scenario.assumptions import assuming, assumptions

SCENARIO = small_scenario()


def test_every_assumption_of_the_file_is_found():
    text = (Path(__file__).parents[2] / "scenarios" / "crm_rwanda.yaml").read_text(encoding="utf-8")
    assert len(assumptions(SCENARIO)) == text.count("basis: ")
    assert assumptions(SCENARIO)["model", "outcomes", "cohesion", "icc_village"].value == 0.08


@pytest.mark.parametrize("at", list(assumptions(SCENARIO)), ids=".".join)
def test_one_change_moves_one_assumption(at):
    before = assumptions(SCENARIO)
    changed = assuming(SCENARIO, at, before[at].high)
    after = assumptions(changed)
    assert after[at].value == before[at].high
    assert {k: v for k, v in after.items() if k != at} == {k: v for k, v in before.items() if k != at}
    assert changed.file.designs == SCENARIO.file.designs
    if before[at].high != before[at].value:  # a price moves the cost alone
        assert (changed.fingerprint != SCENARIO.fingerprint) == (at[0] != "costs")
