"""The main job: every block of a scenario, then the tables that are pure functions of their rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import pandas as pd

from sim.errors import WorkersLost
from sim.run.blocks import Block
from sim.run.journal import Journal
from sim.run.packed import Packed
from sim.run.replay import failures
from sim.run.stopping import calendars_bind, largest_error, next_replicates
from sim.run.store import Store, Stored
from sim.run.tables import TABLES, Result, evaluate, evaluate_design, together
from sim.scenario.load import Scenario

Progress = Callable[[int, int], None]
FAILURES, MOST_FAILURES = "failures.csv", 1000
"""Where fits that failed are listed, and how many of them: the summary counts all."""
PICTURES = ("*.svg", "*.png")
"""What others draw of the tables, and draw again when there are new ones."""
PARTIAL, PARTIAL_SECONDS = "summary.partial.csv", 3.0
"""The summary of a run that was told to stop, and the seconds there are for it: five later the run must be gone."""


class Executor(Protocol):
    """Where blocks are computed."""

    @property
    def workers(self) -> int:
        """Processes of this machine, for the tables."""

    def blocks(self, scenario: Scenario, blocks: list[Block], journal: Journal) -> Iterator[Packed]:
        """The blocks as they are finished, in any order."""

    def close(self, *, at_once: bool = False) -> None:
        """End what was started for it."""


class Stopped(Exception):
    """A run that ended before it was complete: why, and the tables of what was finished; None where nothing was."""

    def __init__(self, cause: BaseException, partial: Result | None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.partial = partial


def run(
    scenario: Scenario,
    store: Store,
    executor: Executor,
    progress: Progress,
    *,
    new_run: bool = False,
    extend: bool = False,
    mcse: float | None = None,
) -> Result:
    """Compute what is missing, summarise everything, write the result folder.

    mcse : go on, beyond the scenario's replicates, until every Monte Carlo standard error is at most this.
    Whatever ends it, the blocks that were finished are safe, and the same call goes on from them. Raises Stopped, with
    the tables of what there is, if it is interrupted or blocks are left that nobody could compute.
    """
    store.open(new_run=new_run, extend=extend)
    try:
        result = _stage(scenario, store, executor, progress)
        while mcse is not None and (n := next_replicates(result.summary, mcse)):
            store.journal.note("extended", f"error above {mcse:g}: on to {n:,} replicates", replicates=n)
            store.reach(n)
            result = _stage(scenario, store, executor, progress)
        if mcse is not None and (reached := largest_error(result.summary)) > mcse:
            store.journal.note("calendars bind", calendars_bind(reached, mcse), reached=reached)
        executor.close()
        return result
    except BaseException as error:
        executor.close(at_once=True)
        store.journal.note("stopped", why=type(error).__name__)
        if isinstance(error, KeyboardInterrupt | WorkersLost):
            raise Stopped(error, _partial(scenario, store)) from error
        raise
    finally:
        store.close()


def _stage(scenario: Scenario, store: Store, executor: Executor, progress: Progress) -> Result:
    """Everything up to the replicates that the store is asked for."""
    blocks = _blocks(scenario, store)
    missing = [block for block in blocks if not store.has(block)]
    if not missing and (finished := _finished(scenario, store)):
        return finished
    n_there = len(blocks) - len(missing)
    store.write_manifest("partial")
    aloud = f"resumed: {n_there} of {len(blocks)} blocks are there" if n_there else ""
    store.journal.note("resumed" if n_there else "started", aloud, blocks=len(blocks), missing=len(missing))
    store.forget(*PICTURES)
    began = time.perf_counter()
    _compute(scenario, store, executor, missing, len(blocks), progress)
    result = evaluate(_as_far_as(scenario, store), store.stored(), len(missing), executor.workers)
    for name in TABLES:
        store.write_table(f"{name}.csv", getattr(result, name))
    store.forget(PARTIAL, FAILURES)
    if len(failed := _failures(scenario, store.stored())):
        store.write_table(FAILURES, failed)
    seconds = round(time.perf_counter() - began, 1)
    done = {
        "content": store.content(),
        "unit_costs": scenario.unit_costs,
        "tables": _table_sums(store),
        "timing": {"seconds": seconds},
    }
    store.write_manifest("complete", **done)
    store.journal.note("finished", seconds=seconds, blocks=len(blocks))
    return result


def _blocks(scenario: Scenario, store: Store) -> list[Block]:
    """Every block of every design, the largest designs first, so that no worker ends long after the others."""
    plans = scenario.file.designs
    by_size = sorted(plans, key=lambda design: plans[design].n_planned, reverse=True)
    return [block for design in by_size for block in store.blocks(design)]


def _compute(
    scenario: Scenario, store: Store, executor: Executor, missing: list[Block], n_block: int, progress: Progress
) -> None:
    """Store every block that is missing as it comes; a block that comes twice is the same block."""
    waiting = set(missing)
    progress(n_block - len(waiting), n_block)
    for packed in executor.blocks(scenario, missing, store.journal):
        if packed.block in waiting:
            store.put(packed)
            waiting.discard(packed.block)
            progress(n_block - len(waiting), n_block)


def _finished(scenario: Scenario, store: Store) -> Result | None:
    """The tables of a run that is complete, as they lie there; None if a block or a table is not what it was."""
    found = store.manifest()
    is_whole = found.get("state") == "complete" and found.get("content") == store.content()
    is_priced_so = found.get("unit_costs") == scenario.unit_costs
    if not is_whole or not is_priced_so or found.get("tables") != _table_sums(store):
        return None
    table = {name: store.read_table(f"{name}.csv") for name in TABLES}
    n_replicate = dict.fromkeys(scenario.file.designs, store.n_replicate)
    return Result(_as_far_as(scenario, store), **table, n_computed=0, n_replicate=n_replicate)


def _as_far_as(scenario: Scenario, store: Store) -> Scenario:
    """The scenario with as many replicates as the folder is to hold."""
    return scenario.with_changes(replicates=store.n_replicate)


def _failures(scenario: Scenario, stored: Stored) -> pd.DataFrame:
    """The first fits that failed, each with the command that replays it."""
    spans = chain.from_iterable(stored.failed(design) for design in scenario.file.designs)
    found: list[pd.DataFrame] = []
    for span in spans:
        if sum(map(len, found)) >= MOST_FAILURES:
            break
        found.append(failures(scenario, span))
    return pd.concat(found)[:MOST_FAILURES] if found else pd.DataFrame()


def _table_sums(store: Store) -> dict[str, str]:
    return store.sums([f"{name}.csv" for name in TABLES])


def _partial(scenario: Scenario, store: Store) -> Result | None:
    """The tables of the designs that there is time to summarise."""
    until, parts = _Until(store.stored(), time.perf_counter() + PARTIAL_SECONDS), {}
    for design in scenario.file.designs:
        try:
            parts[design] = evaluate_design(scenario, until, design)
        except TimeoutError:
            break
    result = together(_as_far_as(scenario, store), parts)
    if result.summary.empty:
        return None
    store.write_table(PARTIAL, result.summary)
    return result


@dataclass(frozen=True)
class _Until:
    """Rows as long as there is time."""

    store: Stored
    moment: float

    def rows(self, design: str, analysis: str) -> Iterator[pd.DataFrame]:
        return self._in_time(self.store.rows(design, analysis))

    def flow(self, design: str) -> Iterator[pd.DataFrame]:
        return self._in_time(self.store.flow(design))

    def _in_time(self, spans: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for span in spans:
            if time.perf_counter() > self.moment:
                raise TimeoutError
            yield span
