"""One design started on many dates: what is lost, what falls inside the windows and what the power is, by date.

Every date keeps the design's name in the random streams: replicate r has the same people on every date, so that dates
are compared as pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

import pandas as pd

from sim.errors import InvalidInput
from sim.run.blocks import blocks_of, in_spans, simulate_block
from sim.run.job import Progress
from sim.run.local import in_processes
from sim.run.tables import Result, evaluate
from sim.scenario.load import Scenario


@dataclass(frozen=True)
class InMemory:
    """The blocks of one design that are not stored: what `evaluate` asks a store for."""

    blocks: tuple[tuple[pd.DataFrame, pd.DataFrame], ...]

    def rows(self, design: str, analysis: str) -> Iterator[pd.DataFrame]:
        """The rows of one analysis, span by span."""
        del design
        return in_spans(pd.concat([rows[rows["analysis"] == analysis] for rows, _ in self.blocks]))

    def flow(self, design: str) -> Iterator[pd.DataFrame]:
        """Who was due and seen in every replicate, span by span."""
        del design
        return in_spans(pd.concat([flow for _, flow in self.blocks]))


@dataclass(frozen=True)
class Started:
    """A design started on a date: its result, or why there is none."""

    start: date
    result: Result | None
    why: str = ""


def dates_between(first: date, last: date, step: timedelta) -> list[date]:
    """The dates from first to last, both counted, `step` apart."""
    return [first + k * step for k in range((last - first) // step + 1)]


def started_on(scenario: Scenario, design: str, start: date) -> Scenario:
    """The scenario with that design alone, its start moved, and only the primary analysis."""
    file = scenario.file
    plan = scenario.design(design).model_copy(update={"start": start})
    primary = file.hypotheses.primary_analysis
    changes = {"designs": {design: plan}, "analyses": {primary: file.analyses[primary]}}
    return replace(scenario, file=file.model_copy(update=changes))


def scan(scenario: Scenario, design: str, starts: list[date], workers: int, progress: Progress) -> Iterator[Started]:
    """The design on each date, in the order given; a calendar that cannot be had says why. Calls progress(done, of)."""
    tasks = ((started_on(scenario, design, start), design) for start in starts)
    for done, one in enumerate(in_processes(_one, tasks, workers), start=1):
        progress(done, len(starts))
        yield one


def _one(scenario: Scenario, design: str) -> Started:
    start = scenario.design(design).start
    try:
        blocks = list(blocks_of(design, scenario.file.replicates, scenario.file.calendars))
        kept = InMemory(tuple(simulate_block(scenario, block) for block in blocks))
    except InvalidInput as error:
        return Started(start, None, "; ".join(problem.message for problem in error.problems))
    return Started(start, evaluate(scenario, kept, len(blocks)))
