"""What a run will take, from a little of it: time, memory, disk and the Monte Carlo error to expect."""

from __future__ import annotations

import math
import os
import resource
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sim.run.blocks import N_PART, SPAN, Block, blocks_of
from sim.run.packed import Packed, compute
from sim.scenario.load import Scenario
from sim.trial import TRUTHS

SECONDS_PER_VALUE = 1e-7
"""A guess before anything is measured: a score of one person, visit, outcome, truth and analysis."""
LONG = 120.0
"""Seconds that a run must promise to take before a pilot is worth its own."""
FEW, MANY = 8, 32
"""Replicates of a pilot: to load everything, and to measure."""
COPIES = 8
"""Arrays of the size of all scores of a calendar's replicates that are alive at once."""
MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class Estimate:
    """What a run takes. `seconds` : by the clock, with the workers asked for.  `memory` : bytes, of all workers."""

    n_replicate: int
    n_design: int
    cpu_seconds: float
    seconds: float
    memory: float
    disk: float
    measured: bool

    @property
    def mcse(self) -> dict[float, float]:
        """Monte Carlo standard error of a power of .5, .8, .9 and of a type I error of .05."""
        return {p: math.sqrt(p * (1 - p) / self.n_replicate) for p in (0.5, 0.8, 0.9, 0.05)}


def guess(scenario: Scenario, workers: int) -> Estimate:
    """By arithmetic alone, in no time, also for a request that could never be run."""
    names, file = scenario.names, scenario.file
    per_person = len(names.visit) * len(names.outcome) * len(TRUTHS)
    people = [plan.n_planned for plan in file.designs.values()]
    cpu = SECONDS_PER_VALUE * per_person * len(file.analyses) * sum(people) * file.replicates
    rows = len(names.outcome) * len(TRUTHS) * len(file.analyses)
    disk = 60.0 * rows * len(people) * file.replicates
    return Estimate(file.replicates, len(people), cpu, cpu / workers, _memory(scenario, workers), disk, measured=False)


def measure(scenario: Scenario, workers: int) -> Estimate:
    """From a few replicates of one calendar of each design, once everything is loaded."""
    cpu, disk = 0.0, 0.0
    n_calendar = scenario.file.calendars
    for design in scenario.file.designs:
        few = Block(design, 0, FEW * n_calendar, 0, n_calendar, n_calendar)
        many = Block(design, 0, MANY * n_calendar, n_calendar - 1, n_calendar, n_calendar)
        small = _size(compute(scenario, few))
        began = time.process_time()
        large = _size(compute(scenario, many))
        cpu += (time.process_time() - began) / len(many.replicate) * scenario.file.replicates
        each = (large - small) / (len(many.replicate) - len(few.replicate))
        n_block = _n_block(design, scenario.file.replicates, n_calendar)
        disk += each * scenario.file.replicates + (small - each * len(few.replicate)) * n_block
    found = guess(scenario, workers)
    return Estimate(
        found.n_replicate, found.n_design, cpu, cpu / workers, _memory(scenario, workers), disk, measured=True
    )


def obstacle(estimate: Estimate, folder: Path, budget_seconds: float) -> str:
    """Why a run should not begin without a yes: more time than the budget, memory or disk than there is; or ''."""
    room, there = shutil.disk_usage(_existing(folder)).free, _physical_memory()
    if estimate.disk > room:
        return f"it needs {in_bytes(estimate.disk)} of disk and {_existing(folder)} has {in_bytes(room)} free"
    if estimate.memory > MEMORY_SHARE * there:
        return f"it needs about {in_bytes(estimate.memory)} of memory and this machine has {in_bytes(there)}"
    if estimate.seconds > budget_seconds:
        return f"it takes about {in_words(estimate.seconds)}, and the budget is {in_words(budget_seconds)}"
    return ""


def in_words(seconds: float) -> str:
    """
    >>> [in_words(x) for x in (3.2, 200, 9000, 1e6, 1e12)]
    ['3 s', '3.3 min', '2.5 h', '11.6 days', '31,710 years']
    """
    for unit, size, limit in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}" if unit == "s" else f"{seconds / size:.1f} {unit}"
    days = seconds / 86_400
    return f"{days:.1f} days" if days < 730 else f"{days / 365:,.0f} years"


def in_bytes(n: float) -> str:
    """
    >>> [in_bytes(x) for x in (2e3, 5e7, 3e11)]
    ['0.0 MB', '50.0 MB', '300.0 GB']
    """
    return f"{n / 1e6:,.1f} MB" if n < 1e9 else f"{n / 1e9:,.1f} GB"


def _memory(scenario: Scenario, workers: int) -> float:
    """What this process takes now, in each worker, and the scores of one calendar's replicates."""
    names, file = scenario.names, scenario.file
    each = math.ceil(min(file.replicates, SPAN) / file.calendars)
    largest = max(plan.n_planned for plan in file.designs.values())
    scores = 8.0 * len(names.visit) * len(names.outcome) * len(TRUTHS) * each * largest
    return float(workers * (_resident() + COPIES * scores))


def _resident() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak * (1 if sys.platform == "darwin" else 1024))


def _physical_memory() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _size(packed: Packed) -> int:
    return len(packed.rows) + len(packed.flow)


def _n_block(design: str, n_replicate: int, n_calendar: int) -> int:
    whole, rest = divmod(n_replicate, SPAN)
    return N_PART[-1] * whole + len(list(blocks_of(design, rest, n_calendar)))


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
