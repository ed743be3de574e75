"""Blocks in parallel processes of this machine. A process that dies costs what it was at, never the run.

joblib is imported where it is used: a run that is finished already answers without it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from typing import Any, TypeVar

from sim.run.blocks import Block
from sim.run.journal import Journal
from sim.run.packed import Packed, compute
from sim.run.quarantine import ALONE_AFTER, Quarantine
from sim.scenario.load import Scenario

T = TypeVar("T")
LOOK_SECONDS = 0.5
"""How often a worker looks whether its parent is there."""


class Local:
    """joblib's loky processes; with one worker, this process. work : what is done to a block."""

    def __init__(self, workers: int | str, work: Callable[[Scenario, Block], Packed] = compute) -> None:
        self._asked = str(workers)
        self.work = work

    @cached_property
    def workers(self) -> int:
        """Processes; `auto` counts the cores when somebody needs to know."""
        return n_worker(self._asked)

    def blocks(self, scenario: Scenario, blocks: list[Block], journal: Journal) -> Iterator[Packed]:
        """The blocks as they are finished; with one worker, in order.

        When a process dies, loky ends them all: what the others were at is computed again, one block at a time, so that
        the next death has one cause. Raises WorkersLost, after all other blocks, if a block ended three.
        """
        if self.workers == 1:
            yield from (self.work(scenario, block) for block in blocks)
            return
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        waiting, quarantine = dict.fromkeys(blocks), Quarantine(journal)
        while waiting:
            suspect = next((block for block in waiting if quarantine.deaths[block] >= ALONE_AFTER), None)
            batch = list(waiting) if suspect is None else [suspect]
            try:
                tasks = ((scenario, block) for block in batch)
                for packed in in_processes(self.work, tasks, self.workers, in_order=False):
                    del waiting[packed.block]
                    yield packed
            except TerminatedWorkerError as error:
                begun = [block for block in batch if block in waiting][: self.workers]
                journal.note(
                    "worker lost",
                    f"a worker was lost ({_exit_codes(error)}); {len(waiting)} blocks go on with new ones",
                    blocks=[block.name for block in begun],
                )
                for block in quarantine.died(begun):
                    del waiting[block]
        quarantine.report()

    def close(self, *, at_once: bool = False) -> None:
        """End the processes: idle, they would keep their memory."""
        if "workers" in vars(self) and self.workers > 1:
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor().shutdown(wait=not at_once, kill_workers=at_once)


def _exit_codes(error: Exception) -> str:
    """`SIGKILL(-9)` of loky's message, if it says so."""
    text = str(error)
    return text[text.index("{") + 1 : text.index("}")] if "{" in text and "}" in text else "no exit code"


def in_processes(
    function: Callable[..., T], arguments: Iterable[tuple[Any, ...]], workers: int, *, in_order: bool = True
) -> Iterator[T]:
    """function(*one) for each one of the arguments, as they are finished; with one worker, in this process."""
    if workers == 1:
        yield from (function(*one) for one in arguments)
        return
    import joblib

    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        order = "generator" if in_order else "generator_unordered"
        tasks = (joblib.delayed(_following)(os.getpid(), function, *one) for one in arguments)
        yield from joblib.Parallel(n_jobs=workers, return_as=order, batch_size=1)(tasks)


def _following(parent: int, function: Callable[..., T], *one: Any) -> T:
    """The function in a worker that ends when its parent does, also if that is killed and can tell nobody."""
    _watch(parent)
    return function(*one)


@cache
def _watch(parent: int) -> None:
    """Look after the parent from now on."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


def n_worker(asked: str) -> int:
    """`auto` is the number of cores this process may use, those of its control group included."""
    if asked != "auto":
        return int(asked)
    from joblib.externals.loky import cpu_count

    return int(cpu_count())
