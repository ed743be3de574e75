"""All that trials of one design are drawn, tallied and fitted with, as the fused kernels take it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sim.fused.draw import Layout, Model
from sim.kernels.lanes_climb import N_RESULT, Climbs, Results, new_climbs, new_results
from sim.kernels.mixed_layout import Float, Int
from sim.lanes import LANES, new_lanes
from sim.records import Addressed


class Given(NamedTuple):
    """What a trial is: who and what is drawn, the analysis, and the sums expected of the design."""

    visits: tuple[int, ...]  # 0 .. T - 1, see Nested
    layout: Layout
    model: Model
    shape: Any  # Nested or Ancova
    at: Any  # Places of that kernel
    sums: Any  # Sums of that kernel (.., LANES), residuals zero


class Asked(NamedTuple):
    """What is to be fitted and inferred."""

    contrasts: Float  # (Q, p)
    bound: Int  # (m,) as in mixed_optimise
    start: Float  # (m,) where the climbs start, and the variances of the known-variance estimate
    wanted: np.ndarray  # (N_RESULT,) bool, what is to be inferred
    most: int  # steps of a climb


class Task(NamedTuple):
    """Replicates, and room for them."""

    replicate: np.ndarray  # (blocks, LANES) uint64
    given: Given
    asked: Asked
    sums: Any  # those of LANES replicates
    room: Float  # (places, LANES)
    climbs: Climbs
    lanes: Float  # (Q, N_RESULT, LANES)
    seen: Float  # (blocks, 2, T, LANES) untreated and trained participants seen at each visit
    results: Results


def new_task(replicate: Any, given: Given, asked: Asked) -> Task:
    """Room for the replicates of `replicate`, (blocks, LANES) uint64."""
    n_block, T, (Q, _), m = len(replicate), len(given.visits), asked.contrasts.shape, len(asked.start)
    sums = type(given.sums)(*(new_lanes(one.size // LANES).reshape(one.shape) for one in given.sums))
    for one, expected in zip(sums, given.sums, strict=True):
        one[:] = expected
    return Task(
        replicate, given, asked, sums, new_lanes(given.at.end + 3 * T), new_climbs(m), np.zeros((Q, N_RESULT, LANES)),
        np.zeros((n_block, 2, T, LANES)), new_results(n_block * LANES, Q, m),
    )  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """A trial with the compiled function that draws and fits it."""

    simulate: Callable[[Addressed], None]
    given: Given

    def fit(self, replicate: Any, asked: Asked) -> tuple[Results, Int]:
        """Fits of the replicates of `replicate` (R / LANES, LANES) uint64, and participants seen (R, 2, T)."""
        task = new_task(replicate, self.given, asked)
        self.simulate(Addressed(task))
        n_block, n_kind, T, _ = task.seen.shape
        seen = task.seen.transpose(0, 3, 1, 2).reshape(n_block * LANES, n_kind, T).astype(np.int64)
        return task.results, seen

    def expected(self, asked: Asked) -> tuple[float, Float, Float]:
        """(f, df/d theta (m,), information (m, m)) of the first contrast at `start`, expected of the design."""
        task = new_task(np.zeros((0, LANES), np.uint64), self.given, asked)
        self.simulate(Addressed(task))
        climbs = task.climbs
        return float(climbs.contrast[1, 0]), climbs.gradient[1, :, 0], climbs.expected
