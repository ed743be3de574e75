"""Evidence for local processes: the same bytes whatever dies, and a block that kills its workers is named."""

import faults
import pytest
from run_support import small_scenario

from sim.errors import WorkersLost
from sim.run.blocks import blocks_of
from sim.run.journal import Journal
from sim.run.local import Local, n_worker
from sim.run.packed import compute

SCENARIO = small_scenario(replicates=64, designs=("ind_1",))
BLOCKS = list(blocks_of("ind_1", 64, SCENARIO.file.calendars))


@pytest.fixture(scope="module")
def alone():
    return {block: compute(SCENARIO, block) for block in BLOCKS}


@pytest.fixture
def said(tmp_path):
    return []


def test_blocks_same_bytes_in_processes(alone, tmp_path, said):
    executor = Local(2)
    found = {
        packed.block: packed for packed in executor.blocks(SCENARIO, BLOCKS, Journal(tmp_path / "log", said.append))
    }
    executor.close()
    assert found == alone
    assert not said


def test_a_worker_that_dies_costs_a_line(alone, tmp_path, monkeypatch, said):
    """R03: the block that was being computed, and those beside it, are computed again."""
    faults.plan(monkeypatch, tmp_path / "deaths", BLOCKS[1].name, 2)
    executor = Local(2, faults.dies)
    came = list(executor.blocks(SCENARIO, BLOCKS, Journal(tmp_path / "log", said.append)))
    executor.close()
    assert len(came) == len(BLOCKS)
    assert {packed.block: packed for packed in came} == alone
    assert [line.startswith("a worker was lost (SIGKILL(-9))") for line in said] == [True, True]


def test_a_block_that_kills_three_workers_is_left_out_and_named_message(alone, tmp_path, monkeypatch, said):
    faults.plan(monkeypatch, tmp_path / "deaths", BLOCKS[0].name, 99)
    executor, came = Local(2, faults.dies), []
    with pytest.raises(WorkersLost, match=f"1 blocks ended every worker that tried them: {BLOCKS[0].name}") as error:
        came.extend(executor.blocks(SCENARIO, BLOCKS, Journal(tmp_path / "log", said.append)))
    executor.close()
    assert error.value.exit_code == 4
    assert {packed.block for packed in came} | {BLOCKS[0]} == set(BLOCKS) or len(came) == 0


def test_number_of_workers():
    assert n_worker("3") == 3
    assert n_worker("auto") >= 1
