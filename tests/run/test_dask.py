"""Evidence for Dask: the same bytes as here, whoever dies, with real processes for a scheduler and its workers."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import faults
import pytest
from run_support import small_scenario

from sim.errors import WorkersLost
from sim.run.blocks import blocks_of
from sim.run.dask import Dask, is_private
from sim.run.identity import software
from sim.run.journal import Journal
from sim.run.packed import compute

SCENARIO = small_scenario(replicates=64, designs=("ind_1",))
BLOCKS = list(blocks_of("ind_1", 64, SCENARIO.file.calendars))
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


class Cluster:
    """A scheduler and workers on the loopback address."""

    def __init__(self, port, n_worker):
        self.address = f"tcp://127.0.0.1:{port}"
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(port))
        self.workers = [self.add() for _ in range(n_worker)]

    def _start(self, *words):
        command = [sys.executable, "-m", "dask", *words, "--no-dashboard"]
        where = {**os.environ, "PYTHONPATH": str(Path(faults.__file__).parent)}
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=where)

    def add(self):
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny")

    def end(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def alone():
    return {block: compute(SCENARIO, block) for block in BLOCKS}


@pytest.fixture
def cluster(unused_port):
    cluster = Cluster(unused_port, 1)
    yield cluster
    cluster.end()


@pytest.fixture
def unused_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def journal(tmp_path):
    said = []
    journal = Journal(tmp_path / "log", said.append)
    journal.said = said
    return journal


def computed(executor, journal, when=lambda n: None):
    """Everything an executor gives, by block; `when` hears how many there are."""
    found = {}
    try:
        for packed in executor.blocks(SCENARIO, BLOCKS, journal):
            assert packed.block not in found
            found[packed.block] = packed
            when(len(found))
    finally:
        executor.close()
    return found


def test_blocks_same_bytes_on_workers_of_a_scheduler(alone, cluster, journal):
    assert computed(Dask(cluster.address, 1), journal) == alone


@pytest.mark.reliability
def test_a_worker_that_dies_and_one_that_joins_change_nothing(alone, cluster, journal, monkeypatch, tmp_path):
    """R03: one worker ends while it computes, another is added; the log says both."""
    faults.plan(monkeypatch, tmp_path / "deaths", BLOCKS[1].name, 1)
    second = cluster.add()  # with the plan in its surroundings
    cluster.workers[0].kill()
    cluster.workers += [second]
    threading.Timer(6.0, lambda: cluster.workers.append(cluster.add())).start()
    found = computed(Dask(cluster.address, 1, work=faults.dies), journal)
    assert found == alone
    assert len(list((tmp_path / "deaths").iterdir())) == 1


@pytest.mark.reliability
def test_a_block_that_ends_every_worker_is_left_out_and_named_message(alone, journal, monkeypatch, tmp_path):
    faults.plan(monkeypatch, tmp_path / "deaths", BLOCKS[0].name, 99)
    with pytest.raises(WorkersLost, match=f"ended every worker that tried them: {BLOCKS[0].name}") as error:
        computed(Dask("local", 1, work=faults.dies), journal)
    assert error.value.exit_code == 4


@pytest.mark.reliability
def test_a_scheduler_that_is_lost_ends_the_run_with_what_came_back_message(cluster, journal):
    """Within half a minute, with the way on."""
    came = []

    def end(n):
        came.append(n)
        cluster.scheduler.kill()

    began = time.perf_counter()
    try:
        computed(Dask(cluster.address, 1), journal, end)
    except WorkersLost as error:
        assert "is lost" in str(error) and "give the same command again" in str(error)
        assert error.exit_code == 4
    else:
        assert len(came) == len(BLOCKS)  # all were on the way back already
    assert time.perf_counter() - began < 60


def test_no_scheduler_message(unused_port, journal, monkeypatch):
    monkeypatch.setattr("sim.run.dask.CONNECT_SECONDS", 1.0)
    with pytest.raises(WorkersLost, match=f"no Dask scheduler at tcp://127.0.0.1:{unused_port}"):
        computed(Dask(f"tcp://127.0.0.1:{unused_port}", 1), journal)


@pytest.mark.reliability
def test_workers_of_another_version_are_refused_message(cluster, journal, monkeypatch):
    other = {**software(), "numpy": "1.0"}
    monkeypatch.setattr("sim.run.dask.software", lambda: other)
    with pytest.raises(WorkersLost, match=r"runs other versions than this process(.|\n)*Install the same"):
        computed(Dask(cluster.address, 1), journal)


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("tls://cluster.example:8786", True),
        ("tcp://127.0.0.1:8786", True),
        ("tcp://localhost:8786", True),
        ("tcp://[::1]:8786", True),
        ("tcp://10.0.0.7:8786", False),
        ("tcp://cluster.example:8786", False),
    ],
)
def test_what_counts_as_private(address, private):
    """R27: results travel as pickles between scheduler and workers, on this machine or under TLS."""
    assert is_private(address) is private
