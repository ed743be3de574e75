"""Evidence that a run loses nothing and changes no bit, whatever happens to it: the command itself, killed and asked
again. Numbers and names are those of docs/reliability.md; the first of each pair is the small form of the second."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from reliability.command import (
    ROOT,
    children,
    digest,
    finish,
    is_alive,
    n_block,
    small,
    start,
    wait_until,
    workers,
)  # fmt: skip

KILLS = [pytest.param(2, id="small"), pytest.param(20, id="full", marks=pytest.mark.reliability)]
MOMENTS = [pytest.param(1, id="small"), pytest.param(10, id="full", marks=pytest.mark.reliability)]
N_BLOCK = 8
ONE, BOTH = ("--design", "ind_1"), ("--design", "ind_1", "--design", "vil_1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A scenario of eight blocks of a second or so, and its run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    path = small(folder, replicates=2048)
    code, text = finish(path, folder / "out", "--workers", "2", *BOTH)
    assert code == 0, text
    assert n_block(folder / "out") == N_BLOCK
    return path, digest(folder / "out")


def begun(path, out, n_worker, luck, seconds):
    """A run some way on its way: a block is there, and up to so many seconds have passed since."""
    process = start(path, out, "--workers", n_worker, *BOTH)
    assert wait_until(lambda: n_block(out) > 0)
    time.sleep(luck.uniform(0.0, seconds))
    return process


@pytest.mark.parametrize("times", KILLS)
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(whole, tmp_path, times):
    """R01: kill -9 midway; what was stored before is never computed again."""
    path, expected = whole
    luck = random.Random(times)
    for number in range(times):
        out = tmp_path / str(number)
        process = begun(path, out, "2", luck, 4.0)
        crew = children(process.pid)
        process.kill()
        process.wait()
        assert wait_until(lambda crew=crew: not any(map(is_alive, crew)), 10), "workers outlive their parent"
        process.communicate()
        stored = {p.name: p.stat().st_mtime_ns for p in (out / "blocks").glob("*.parquet")}
        code, text = finish(path, out, "--workers", "2", *BOTH)
        assert code == 0, text
        assert digest(out) == expected
        assert all((out / "blocks" / name).stat().st_mtime_ns == when for name, when in stored.items())
        shutil.rmtree(out)


@pytest.mark.reliability
def test_killed_while_it_writes_the_tables_it_goes_on_to_the_same_bytes(whole, tmp_path):
    """R01: five kills during the final write."""
    path, expected = whole
    for number in range(5):
        out = tmp_path / str(number)
        process = start(path, out, "--workers", "2", *BOTH)
        assert wait_until(lambda out=out: n_block(out) == N_BLOCK, 120)
        time.sleep(0.2 * number)
        process.kill()
        process.communicate()
        code, text = finish(path, out, "--workers", "2", *BOTH)
        assert code == 0, text
        assert digest(out) == expected


@pytest.mark.parametrize("times", KILLS)
def test_told_to_stop_it_stops_with_what_there_is(whole, tmp_path, times):
    """R02: Ctrl-C and SIGTERM; gone within 5 s, nobody left, a partial summary with the errors of what was finished."""
    path, _ = whole
    luck = random.Random(times)
    for number in range(times):
        out = tmp_path / str(number)
        process = begun(path, out, "2", luck, 1.5)
        before = children(process.pid)
        told = time.monotonic()
        how = (signal.SIGINT, signal.SIGTERM)[number % 2]
        process.send_signal(how)
        _, text = process.communicate(timeout=60)
        took = time.monotonic() - told
        if json.loads((out / "manifest.json").read_text())["state"] == "complete":
            continue  # it had finished
        assert process.returncode == (130, 143)[number % 2], text
        assert took < 5, took
        assert "give the same command" in text and "Traceback" not in text, text
        assert wait_until(lambda before=before: not any(map(is_alive, before)), 2)
        assert (out / "summary.partial.csv").read_text().count("power") > 0
        assert not (out / "summary.csv").exists()


@pytest.mark.parametrize("times", MOMENTS)
def test_a_worker_killed_at_any_moment_changes_nothing(whole, tmp_path, times):
    """R03: one of the workers, by its number; the run goes on and says so in its log."""
    path, expected = whole
    luck = random.Random(times)
    for number in range(times):
        out = tmp_path / str(number)
        process = begun(path, out, "2" if times == 1 else "4", luck, 2.0)
        crew = workers(process.pid)
        if crew and process.poll() is None and n_block(out) < N_BLOCK - 1:
            os.kill(luck.choice(crew), signal.SIGKILL)
        _, text = process.communicate(timeout=300)
        assert process.returncode == 0, text
        assert digest(out) == expected
        shutil.rmtree(out)


def test_another_process_in_the_folder_is_refused_at_once(whole, tmp_path):
    """R16: the second says who the first is; after a kill the folder is free."""
    path, _ = whole
    out = tmp_path / "out"
    first = start(path, out, "--workers", "1", *BOTH)
    assert wait_until(lambda: (out / "blocks").exists())
    code, text = finish(path, out, "--workers", "1", *BOTH)
    assert code == 4
    assert f"in use by process {first.pid} on " in text
    first.kill()
    first.communicate()


@pytest.mark.reliability
def test_twenty_races_have_one_winner_each(whole, tmp_path):
    """R16."""
    path, _ = whole
    for number in range(20):
        out = tmp_path / str(number)
        pair = [start(path, out, "--workers", "1", "--replicates", "64", *ONE) for _ in range(2)]
        codes = []
        for process in pair:
            _, text = process.communicate(timeout=120)
            codes.append(process.returncode)
            assert "Traceback" not in text
        assert sorted(codes) in ([0, 4], [0, 0])  # one came when the other had finished
        assert 0 in codes


def test_a_finished_run_answers_without_computing(whole, tmp_path):
    path, _ = whole
    out = tmp_path / "out"
    finish(path, out, "--workers", "2", "--replicates", "64", *ONE)
    before = digest(out), {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.name not in (".lock", "log.jsonl")}
    code, text = finish(path, out, "--workers", "2", "--replicates", "64", *ONE)
    assert code == 0, text
    assert before == (
        digest(out),
        {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.name not in (".lock", "log.jsonl")},
    )


def test_replicates_raised_add_to_what_is_there(whole, tmp_path):
    """R17: the first part is unchanged, and the tables are those of a run that asked for all at once."""
    path, expected = whole
    out = tmp_path / "out"
    assert finish(path, out, "--workers", "2", "--replicates", "100", *BOTH)[0] == 0
    first = digest(out)
    assert finish(path, out, "--workers", "2", *BOTH)[0] == 0
    now = digest(out)
    assert all(now[name] == value for name, value in first.items() if name.endswith(".parquet"))
    tables = [name for name in expected if name.endswith(".csv")]
    assert {name: now[name] for name in tables} == {name: expected[name] for name in tables}


ANY = [
    pytest.param(("2",), id="small"),
    pytest.param(("1", "4", "8"), id="full", marks=pytest.mark.reliability),
]


@pytest.mark.parametrize("crews", ANY)
def test_any_number_of_workers_and_of_threads_gives_the_same_bytes(whole, tmp_path, crews):
    """R05, with the blocks of a run that was extended above and of Dask in tests/run/test_dask.py."""
    path, expected = whole
    for crew in crews:
        for threads in ("1", "2"):
            out = tmp_path / f"{crew}-{threads}"
            given = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
            code, text = finish(path, out, "--workers", crew, *BOTH, env=given)
            assert code == 0, text
            assert digest(out) == expected


@pytest.mark.reliability
def test_dask_gives_the_same_bytes(whole, tmp_path):
    """R05."""
    path, expected = whole
    code, text = finish(path, tmp_path / "out", "--dask", "local", "--workers", "2", *BOTH)
    assert code == 0, text
    assert digest(tmp_path / "out") == expected


def test_a_request_beyond_the_budget_is_refused_message(whole, tmp_path):
    """R20: nothing is begun, and nothing is left behind."""
    path, _ = whole
    code, text = finish(path, tmp_path / "out", "--replicates", "1000000000")
    assert code == 2
    assert "not begun: it " in text and "--yes" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.reliability
def test_memory_does_not_grow_with_replicates(tmp_path):
    """R20: the resident memory of the parent at 10^5 replicates is at most 1.2 times that at 10^4 (10^6: docs)."""
    path = small(tmp_path)
    code = (
        "import resource, sys\n"
        "from sim.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peak = []
    for n in (10_000, 100_000):
        command = [sys.executable, "-c", code, "run", str(path), "--out", str(tmp_path / str(n)), "--quiet", "--yes",
                   "--workers", "2", "--replicates", str(n), *ONE]  # fmt: skip
        said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        peak.append(int(said.split("peak ")[1]))
    assert peak[1] <= 1.2 * peak[0], peak
