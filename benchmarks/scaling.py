"""How far a run scales: what two workers gain, what storing costs, and where one parent stops keeping up.

    python benchmarks/scaling.py [--pairs N]

Pairs of runs of the Rwandan main job, one worker and two, alternating, local and under Dask, by the clock; the time of
a block and of what the parent does with it; a simulation (SimPy) of up to 10,000 workers with these times in it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simpy
from distributed import Client, LocalCluster, wait

from sim.run.blocks import blocks_of
from sim.run.packed import compute
from sim.run.store import Store
from sim.scenario.load import read_scenario

ROOT = Path(__file__).parents[1]
SCENARIO = ROOT / "scenarios" / "crm_rwanda.yaml"
WORKERS = (1, 2, 10, 100, 300, 1_000, 3_000, 10_000)
PER_THREAD = 3


def run_seconds(*options: str) -> float:
    """By the clock, the whole command."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "sim", "run", str(SCENARIO), "--quiet", "--out", out, *options]
        began = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - began


def idleness(seconds: float = 2.0) -> float:
    """Share of the processor time of all cores that nobody uses."""

    def ticks() -> tuple[int, int]:
        field = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return field[3] + field[4], sum(field)

    (idle, total), _ = ticks(), time.sleep(seconds)
    idle_now, total_now = ticks()
    return (idle_now - idle) / (total_now - total)


def parent_seconds() -> tuple[float, float, int]:
    """Medians over the blocks of two designs: computing a block, storing it, and its bytes."""
    scenario = read_scenario(SCENARIO)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "run", scenario)
        store.open()
        computing, storing, size = [], [], []
        for design in ("ind_1", "ind_8", "vil_8"):
            for block in list(blocks_of(design, 2_000, scenario.file.calendars)):
                began = time.perf_counter()
                packed = compute(scenario, block)
                middle = time.perf_counter()
                store.put(packed)
                storing.append(time.perf_counter() - middle)
                computing.append(middle - began)
                size.append(len(packed.rows) + len(packed.flow))
        store.close()
    return statistics.median(computing), statistics.median(storing), int(statistics.median(size))


def dask_seconds(size: int, n: int = 400) -> float:
    """Of a task that does nothing but return so many bytes, one after the other at the parent: what each costs it."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=True) as client,
    ):
        began = time.perf_counter()
        futures = [client.submit(bytes, size, key=f"nothing-{i}", pure=False) for i in range(n)]
        wait(futures)
        for future in futures:
            future.result()
        return (time.perf_counter() - began) / n


def efficiency(n_worker: int, block: float, scheduling: float, storing: float, rng: np.random.Generator) -> float:
    """Share of the workers' time that goes into blocks, with one scheduler and one parent that take turns for each.

    Every worker has PER_THREAD blocks with it or on the way. A block takes `block` seconds on average (lognormal, a
    third of it the standard deviation); handing it out and taking it back cost the scheduler `scheduling`, receiving
    and storing it the parent `storing`, one at a time.
    """
    environment = simpy.Environment()
    scheduler, parent = simpy.Resource(environment), simpy.Resource(environment)
    n_block = max(20 * n_worker, 200)
    spread = np.sqrt(np.log(1 + 1 / 9))
    busy, left = [0.0], [n_block]

    def slot(worker: simpy.Resource) -> object:
        while left[0] > 0:
            left[0] -= 1
            with scheduler.request() as turn:
                yield turn
                yield environment.timeout(scheduling)
            with worker.request() as turn:
                yield turn
                seconds = block * rng.lognormal(-(spread**2) / 2, spread)
                busy[0] += seconds
                yield environment.timeout(seconds)
            with parent.request() as turn:
                yield turn
                yield environment.timeout(storing)

    for _ in range(n_worker):
        worker = simpy.Resource(environment)
        for _ in range(PER_THREAD):
            environment.process(slot(worker))
    environment.run()
    return busy[0] / (n_worker * environment.now)


def table(heading: list[str], rows: list[list[str]]) -> None:
    for row in (heading, ["---:"] * len(heading), *rows):
        print("| " + " | ".join(row) + " |")


def pairs(n: int, label: str, one: Callable[[], float], two: Callable[[], float]) -> None:
    gains = []
    for _ in range(n):
        idle = idleness()
        a, b = one(), two()
        gains.append(a / b)
        print(f"{label}: {a:.1f} s with one worker, {b:.1f} s with two, {a / b:.2f} times ({idle:.0%} idle before)")
    print(f"{label}: median {statistics.median(gains):.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=3)
    n = parser.parse_args().pairs
    run_seconds("--replicates", "64")  # compiled code is in the cache
    pairs(n, "local", lambda: run_seconds("--workers", "1"), lambda: run_seconds("--workers", "2"))
    dask = ("--dask", "local", "--workers")
    pairs(1, "Dask", lambda: run_seconds(*dask, "1"), lambda: run_seconds(*dask, "2"))
    block, storing, size = parent_seconds()
    scheduling = dask_seconds(1)
    receiving = dask_seconds(size) - scheduling
    print(f"a block: {block:.2f} s to compute, {1e3 * storing:.1f} ms to store ({storing / block:.2%}), {size:,} bytes")
    print(f"Dask: {1e3 * scheduling:.2f} ms a task, {1e3 * receiving:.1f} ms more to bring its bytes to the parent")
    rng = np.random.default_rng(1)
    lengths = (0.1, 1.0, 3.0, 10.0)
    rows = []
    for workers in WORKERS:
        # storing grows with the block: its bytes are those of its replicates
        found = [efficiency(workers, x, scheduling, (storing + receiving) * x / block, rng) for x in lengths]
        rows.append([f"{workers:,}", *(f"{share:.0%}" for share in found)])
    table(["workers", *(f"blocks of {x:g} s" for x in lengths)], rows)


if __name__ == "__main__":
    main()
