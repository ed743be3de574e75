"""Blocks in parallel on this machine, stored as they finish. The parent writes; workers only compute."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import joblib
import pandas as pd
from joblib.externals.loky import get_reusable_executor

from sim.run.blocks import Block, blocks_of, simulate_block
from sim.run.store import Store
from sim.scenario.load import Scenario

Progress = Callable[[int, int], None]
T = TypeVar("T")


def all_blocks(scenario: Scenario) -> list[Block]:
    """Every block of every design, the largest designs first, so that no worker ends long after the others."""
    plans = scenario.file.designs
    by_size = sorted(plans, key=lambda design: plans[design].n_planned, reverse=True)
    return [b for design in by_size for b in blocks_of(design, scenario.file.replicates, scenario.file.calendars)]


def run_blocks(scenario: Scenario, store: Store, workers: int, progress: Progress) -> int:
    """Compute and store every block that is not there yet; returns how many were. Calls progress(done, of)."""
    blocks = all_blocks(scenario)
    missing = [block for block in blocks if not store.has(block)]
    progress(len(blocks) - len(missing), len(blocks))
    for done, (block, rows, flow) in enumerate(_compute(scenario, missing, workers), start=1):
        store.put(block, rows, flow)
        progress(len(blocks) - len(missing) + done, len(blocks))
    return len(missing)


def _simulate(scenario: Scenario, block: Block) -> tuple[Block, pd.DataFrame, pd.DataFrame]:
    return block, *simulate_block(scenario, block)


def _compute(
    scenario: Scenario, blocks: list[Block], workers: int
) -> Iterator[tuple[Block, pd.DataFrame, pd.DataFrame]]:
    """The blocks as they are finished; with one worker, in order."""
    return in_processes(_simulate, ((scenario, block) for block in blocks), workers, in_order=False)


def in_processes(
    function: Callable[..., T], arguments: Iterable[tuple[Any, ...]], workers: int, *, in_order: bool = True
) -> Iterator[T]:
    """function(*one) for each one of the arguments, as they are finished; with one worker, in this process.

    The processes stay for the next call, until `let_go`.
    """
    if workers == 1:
        yield from (function(*one) for one in arguments)
        return
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        order = "generator" if in_order else "generator_unordered"
        tasks = (joblib.delayed(function)(*one) for one in arguments)
        yield from joblib.Parallel(n_jobs=workers, return_as=order, batch_size=1)(tasks)


def let_go(workers: int) -> None:
    """End the processes: idle, they would keep their memory."""
    if workers > 1:
        get_reusable_executor().shutdown()


def n_worker(asked: str) -> int:
    """`auto` is the number of cores this process may use."""
    if asked != "auto":
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
