"""Evidence that a replicate is a pure function of (scenario, design, replicate number)."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from run_support import plain_trial, small_scenario

from sim.analyses.ancova import Ancova
from sim.run.blocks import Block, blocks_of, realise, simulate_block
from sim.trial import Fit


def same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.fixture(scope="module")
def scenario():
    return small_scenario()


def test_blocks_cover_every_replicate_once():
    for n_replicate in (1, 3, 64, 2000, 5000):
        for n_calendar in (1, 3, 64):
            blocks = list(blocks_of("d", n_replicate, n_calendar))
            numbers = np.concatenate([b.replicate for b in blocks])
            assert np.array_equal(np.sort(numbers), np.arange(n_replicate))
            assert len({b.name for b in blocks}) == len(blocks)
            assert all(len(b.replicate) for b in blocks)


@pytest.mark.parametrize("design", ["ind_1", "vil_1"])
def test_rows_same_bits_for_any_block_size_and_order(scenario, design):
    whole, flow = simulate_block(scenario, Block(design, 0, 70))
    blocks = (Block(design, 65, 5), Block(design, 0, 1), Block(design, 1, 64, 1, 2, 64), Block(design, 1, 64, 0, 2, 64))
    parts = [simulate_block(scenario, block) for block in blocks]
    rows = pd.concat([p[0] for p in parts]).sort_values("replicate", kind="stable", ignore_index=True)
    same(whole, rows)
    same(flow, pd.concat([p[1] for p in parts]).sort_values("replicate", kind="stable", ignore_index=True))


@pytest.mark.parametrize(
    "design",
    [
        {"kind": "village", "districts": 2, "villages_per_district": 6, "village_size": {"mean": 8, "cv": 0.3}},
        {"kind": "individual", "districts": 2, "participants_per_district": 60},
        {"kind": "individual", "districts": 1, "participants_per_district": 60, "training_group_size": 10},
    ],
    ids=["villages", "individuals", "partially nested"],
)
def test_rows_of_plain_trials_same_bits_for_any_block_size_and_order(design):
    plain = plain_trial(design)
    whole, flow = simulate_block(plain, Block("plain", 0, 20))
    blocks = (
        Block("plain", 15, 5),
        Block("plain", 0, 1),
        Block("plain", 1, 14, 1, 2, 4),
        Block("plain", 1, 14, 0, 2, 4),
    )
    parts = [simulate_block(plain, block) for block in blocks]
    rows = pd.concat([p[0] for p in parts]).sort_values("replicate", kind="stable", ignore_index=True)
    same(whole, rows)
    same(flow, pd.concat([p[1] for p in parts]).sort_values("replicate", kind="stable", ignore_index=True))
    assert (whole["status"] != "failed").all()


def test_rows_same_bits_alone_or_with_other_designs(scenario):
    alone = small_scenario(designs=("vil_1",))
    same(simulate_block(scenario, Block("vil_1", 0, 8))[0], simulate_block(alone, Block("vil_1", 0, 8))[0])


def test_rows_same_bits_alone_or_with_other_analyses(scenario):
    """A new analysis does not move the data that the others see."""
    only = {"ancova": scenario.file.analyses["ancova"]}
    fewer = replace(scenario, file=scenario.file.model_copy(update={"analyses": only}))
    rows = simulate_block(scenario, Block("ind_1", 0, 8))[0]
    other = simulate_block(fewer, Block("ind_1", 0, 8))[0]
    columns = ["replicate", "estimate", "standard_error", "p_value"]
    expected = rows[rows["analysis"] == "ancova"][columns].reset_index(drop=True)
    same(expected, other[columns])


def test_another_seed_moves_every_estimate(scenario):
    other = small_scenario(seed=1)
    a, b = (simulate_block(s, Block("ind_1", 0, 8))[0]["estimate"] for s in (scenario, other))
    assert not np.any(a.to_numpy() == b.to_numpy())


def test_replicates_share_the_calendar_of_their_number(scenario):
    flow = simulate_block(scenario, Block("vil_1", 0, 130))[1]
    n = flow["n_participant"].to_numpy()
    calendars = [realise(scenario, "vil_1", number).allocation.n_participant for number in range(64)]
    assert np.array_equal(n, np.array(calendars)[np.arange(130) % 64])


def test_failed_fits_are_counted_with_a_reason(scenario):
    """An analysis that returns nonsense in one data set fails there and nowhere else."""

    class Broken(Ancova):
        def analyse(self, trial):
            n = len(trial.y)
            estimate, se, df = np.ones(n), np.ones(n), np.full(n, 10.0)
            estimate[0], se[1], df[2] = np.nan, 0.0, -1.0
            status = np.zeros(n, np.int8)
            status[3] = 2
            return Fit(estimate, se, df, status)

    broken = replace(scenario, file=scenario.file.model_copy(update={"analyses": {"broken": Broken(kind="ancova")}}))
    rows = simulate_block(broken, Block("ind_1", 0, 1))[0]
    failed = rows[rows["status"] == "failed"]
    assert len(failed) == 4
    assert sorted(failed["reason"]) == ["not estimable or not converged", *["not finite"] * 3]
    assert failed[["estimate", "standard_error", "p_value", "ci_low"]].isna().all(axis=None)
    assert rows[rows["status"] == "ok"][["estimate", "p_value"]].notna().all(axis=None)
