"""Evidence for the dry run: right in order of magnitude, and a request that can never be met is refused at once."""

import time

import pytest
from run_support import small_scenario

from sim.run.blocks import blocks_of
from sim.run.packed import compute
from sim.run.pilot import Estimate, guess, in_words, measure, obstacle

SCENARIO = small_scenario(replicates=512, designs=("ind_1",))


def test_bytes_against_the_run_itself():
    """Within a fifth below and a half above. Of the time only that there is one: benchmarks/scaling.py has seconds."""
    compute(SCENARIO, next(blocks_of("ind_1", 64, 64)))
    estimate = measure(SCENARIO, 1)
    done = [compute(SCENARIO, block) for block in blocks_of("ind_1", 512, SCENARIO.file.calendars)]
    assert estimate.measured and estimate.cpu_seconds > 0
    assert 0.8 < estimate.disk / sum(len(one.rows) + len(one.flow) for one in done) < 1.5


def test_workers_share_the_time_and_not_the_memory():
    one, four = guess(SCENARIO, 1), guess(SCENARIO, 4)
    assert four.seconds == one.seconds / 4
    assert four.memory == pytest.approx(4 * one.memory, rel=0.05)


def test_a_huge_request_is_refused_in_no_time_message(tmp_path):
    """R20: 10^9 replicates of the designs, by arithmetic alone."""
    began = time.process_time()
    why = obstacle(guess(SCENARIO.with_changes(replicates=10**9), 2), tmp_path, 3600.0)
    assert time.process_time() - began < 1
    assert "it needs" in why or "it takes about" in why


def test_what_stands_in_the_way_message(tmp_path):
    def estimate(**changes):
        fine = {"n_replicate": 100, "n_design": 1, "cpu_seconds": 1.0, "seconds": 1.0, "memory": 1.0, "disk": 1.0}
        return Estimate(**{**fine, **changes}, measured=True)

    assert obstacle(estimate(), tmp_path, 3600) == ""
    assert obstacle(estimate(seconds=7300.0), tmp_path, 3600) == "it takes about 2.0 h, and the budget is 60.0 min"
    assert "of disk and" in obstacle(estimate(disk=1e18), tmp_path / "not" / "there", 3600)
    assert "of memory and this machine has" in obstacle(estimate(memory=1e15), tmp_path, 3600)
    assert in_words(1.0) == "1 s"


def test_expected_error():
    assert Estimate(10_000, 1, 1, 1, 1, 1, measured=True).mcse[0.8] == pytest.approx(0.004)
