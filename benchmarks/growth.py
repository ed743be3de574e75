"""What a replicate costs as the trial grows, in lanes and by the generic kernel; writes docs/growth.md.

    python benchmarks/growth.py

Village-randomised trials, village and village-by-visit intercepts, 20% dropout; processor time of one core. The fit
is timed apart, on sums that are there already. Memory is the growth of the process's peak over a run.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
from numba import njit

from sim.fused.nested import _fit, tally
from sim.fused.task import Asked, new_task
from sim.fused.trials import Hot, Population, Scores, over_visits
from sim.kernels.lanes_climb import CHORD_FROM, N_RESULT
from sim.kernels.mixed import MixedModel, fit_mixed
from sim.kernels.mixed_optimise import NONNEGATIVE, POSITIVE
from sim.lanes import LANES, load
from sim.records import Addressed
from sim.streams import Streams

OUT = Path(__file__).parents[1] / "docs" / "growth.md"
PARTICIPANTS = ((24, n // 24, 3) for n in (100, 1_000, 10_000, 100_000))
CLUSTERS = ((n, 20, 3) for n in (6, 20, 60, 200, 600, 2_000))
VISITS = ((24, 25, n) for n in (2, 3, 4, 6, 8, 12))


def trial(n_cluster: int, size: int, n_visit: int) -> Hot:
    """A village trial of one of the tables."""
    village = np.arange(n_cluster)
    people = Population(
        np.full(n_cluster, size), village % 2, np.zeros(n_cluster, int), village, np.full(n_cluster, -1),
        village % 2 > 0, np.repeat(village, size), np.tile(np.arange(size), n_cluster),
    )  # fmt: skip
    step = 1 - 0.8 ** (1 / (n_visit - 1))
    intercept = np.full((2, n_visit), np.log(step / (1 - step)))
    intercept[:, 0] = -np.inf
    own = 0.46 * (1 + np.eye(n_visit))
    scores = Scores(np.stack([own, own]), 0.0, 0.05**0.5, 0.03**0.5, 0.0, intercept, 0.0,
                    0.8 ** np.linspace(0, 1, n_visit), np.ones(n_visit))  # fmt: skip
    terms = frozenset({"village", "village by visit"})
    return over_visits(people, scores, Streams(1, "growth"), {1: 1.0, 0: -1.0}, baseline="constrained", terms=terms)


@njit(cache=True, error_model="numpy", _nrt=False)
def _fit_again(task, n):  # type: ignore[no-untyped-def]
    """Draw LANES replicates once and fit them n times."""
    given, sums, w, at = task.given, task.sums, task.room, task.given.at
    _fit(sums, given.shape, at, w, task.asked, task.climbs, task.lanes, CHORD_FROM, True)
    tally(w, at.end, given.visits, given.layout, given.model, load(task.replicate, 0), sums, task.seen[0])
    for _ in range(n):
        _fit(sums, given.shape, at, w, task.asked, task.climbs, task.lanes, CHORD_FROM, False)


def fit_seconds(hot: Hot, n: int) -> float:
    """Seconds a replicate of fitting alone, from sums that are there already."""
    bound = np.array([POSITIVE] + [NONNEGATIVE] * (len(hot.start) - 1))
    asked = Asked(hot.contrast[None], bound, hot.start, np.ones(N_RESULT, bool), 60)
    task = new_task(np.arange(LANES, dtype=np.uint64)[None], hot.trial.given, asked)

    def seconds(repeats: int) -> float:
        began = time.thread_time()
        _fit_again(Addressed(task), repeats)
        return time.thread_time() - began

    seconds(1)
    return (seconds(n + 1) - seconds(1)) / n / LANES  # what drawing once takes is in both


def generic_seconds(n_cluster: int, size: int, n_visit: int) -> float:
    """Seconds a fit of the generic kernel, on scores that are there already."""
    N = n_cluster * size
    R = int(np.clip(200_000 // (N * n_visit), 2, 60))
    rng, village = np.random.default_rng(1), np.repeat(np.arange(n_cluster), size)
    y = rng.standard_normal((R, N, n_visit)) + 0.7 * rng.standard_normal((R, N, 1))
    y += 0.2 * rng.standard_normal((R, n_cluster, 1))[:, village]
    last = np.where(rng.random((R, N)) < 0.2, rng.integers(1, n_visit + 1, (R, N)), n_visit)
    seen = np.arange(n_visit) < last[:, :, None]
    X = np.zeros((N, n_visit, 2 * n_visit))
    X[:, np.arange(n_visit), np.arange(n_visit)] = 1.0
    X[:, np.arange(n_visit), n_visit + np.arange(n_visit)] = (village % 2)[:, None]
    by_visit = np.broadcast_to(1 + np.arange(n_visit), (N, n_visit))
    column = np.stack([np.zeros((N, n_visit), int), by_visit], axis=2)
    model, contrast = MixedModel(X, "intercept", block=village, column=column), np.zeros((1, 2 * n_visit))
    contrast[0, -1] = 1.0
    nothing = np.empty((R, N, 0))
    fit_mixed(model, y[:1], seen[:1], nothing[:1], contrast, df="kenward-roger")
    began = time.thread_time()
    fit_mixed(model, y, seen, nothing, contrast, df="kenward-roger")
    return (time.thread_time() - began) / R


def measure(n_cluster: int, size: int, n_visit: int) -> tuple[float, float, float, float]:
    """Seconds a replicate in all and of the fit, megabytes, and seconds of the generic kernel's fit."""
    hot = trial(n_cluster, size, n_visit)
    n = int(np.clip(4_000_000 // (n_cluster * size * n_visit) // LANES, 2, 200))
    hot.fit(np.arange(LANES), "kenward-roger")
    began = time.thread_time()
    hot.fit(np.arange(n * LANES), "kenward-roger")
    total = (time.thread_time() - began) / n / LANES
    of_fit = fit_seconds(hot, max(4, 20_000 // n_cluster // n_visit**2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hot.fit(np.arange(min(3_200, 4 * n * LANES)), "kenward-roger")
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return total, of_fit, memory, generic_seconds(n_cluster, size, n_visit)


def table(rows: list[tuple[int, int, int]]) -> str:
    """Each trial measured in a process of its own, in Markdown."""
    lines = [
        "| villages | people each | people | visits | us a replicate | a fit alone | MB more | generic fit, us |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for n_cluster, size, n_visit in rows:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            total, fit, memory, generic = pool.apply(measure, (n_cluster, size, n_visit))
        lines.append(
            f"| {n_cluster:,} | {size:,} | {n_cluster * size:,} | {n_visit} | {total * 1e6:,.1f} | {fit * 1e6:,.1f} "
            f"| {memory:.1f} | {generic * 1e6:,.0f} |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parts = {"People": PARTICIPANTS, "Villages": CLUSTERS, "Visits": VISITS}
    text = "\n\n".join(f"### {name}\n\n{table(list(rows))}" for name, rows in parts.items())
    marker = "<!-- tables -->"
    before = OUT.read_text().split(marker)[0] if OUT.exists() else "# How cost grows\n\n"
    OUT.write_text(f"{before}{marker}\n\n{text}\n")


if __name__ == "__main__":
    main()
