"""Type I error of each way to test, over a grid of trials; writes docs/type_1_error.md.

    python benchmarks/type_1_error.py [--replicates 200000] [--workers 2]

Every trial is drawn under the null with normal scores of variance 1 and fitted by REML; nominal level 5%, two-sided.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from scipy import special

from sim.fused.trials import Hot, Population, Scores, at_final_visit, over_visits
from sim.kernels.lanes_climb import (
    DF_EXPECTED,
    DF_EXPECTED_KEPT,
    DF_OBSERVED,
    DF_OBSERVED_KEPT,
    ESTIMATE,
    KR_STANDARD_ERROR,
    STANDARD_ERROR,
)  # fmt: skip
from sim.lanes import LANES
from sim.streams import Streams
from sim.trial import FAILED, SINGULAR

OUT = Path(__file__).parents[1] / "docs" / "type_1_error.md"
ALPHA = 0.05
CHUNK = 20_000
METHODS = (
    "z", "Satterthwaite, observed, dropped", "Satterthwaite, observed, kept", "Satterthwaite, expected, dropped",
    "Satterthwaite, expected, kept", "Kenward-Roger", "Satterthwaite, negative allowed", "between-within",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One trial of the grid and the analysis it gets.

    n_cluster : villages of both arms, training groups of the treated arm, or 0.  sizes : people per cluster, repeated.
    icc : share of the variance between clusters at one visit; of a village's, `cac` is the same at all visits.
    loss : share lost by the final visit.  slope : log odds of leaving per SD of the last score.
    """

    part: str
    n_cluster: int
    sizes: tuple[int, ...]
    icc: float
    loss: float
    slope: float = 0.0
    cac: float = 0.625
    without_visit_term: bool = False
    by_arm: bool = True

    @property
    def name(self) -> str:
        people = "/".join(map(str, self.sizes))
        words = {
            "village": f"{self.n_cluster} villages of {people}",
            "individual": f"2 arms of {people}",
            "group": f"{self.n_cluster} training groups of {people}, as many people untreated",
        }[self.part]
        lost = f"{self.loss:.0%} lost" + (", by score" if self.slope else "") if self.loss else "nobody lost"
        alike = ", villages alike at every visit" if self.part == "village" and self.cac == 1 else ""
        return f"{words}{alike}; {lost}"


def grid() -> Iterator[Cell]:
    """The trials of the table."""
    for n in (4, 6, 8, 12, 24, 60):
        yield Cell("village", n, (20,), 0.05, 0.2)
    for icc in (0.0, 0.01, 0.1, 0.2):
        for n in (8, 24):
            yield Cell("village", n, (20,), icc, 0.2)
    for n in (6, 12, 24):
        yield Cell("village", n, (8, 12, 20, 40), 0.05, 0.2)
    yield Cell("village", 12, (20,), 0.05, 0.0)
    yield Cell("village", 12, (20,), 0.05, 0.4)
    yield Cell("village", 12, (20,), 0.05, 0.4, slope=-1.0)
    yield Cell("village", 12, (8, 12, 20, 40), 0.2, 0.4, slope=-1.0)
    yield Cell("village", 12, (20,), 0.05, 0.2, cac=1.0)
    yield Cell("village", 24, (25,), 0.08, 0.2, without_visit_term=True)
    yield Cell("village", 8, (25,), 0.08, 0.2, without_visit_term=True)
    for n in (3, 5, 8, 12, 25):
        yield Cell("group", n, (12,), 0.05, 0.2)
    for icc in (0.0, 0.2):
        for n in (3, 8, 25):
            yield Cell("group", n, (12,), icc, 0.2)
    yield Cell("group", 8, (6, 10, 14, 18), 0.05, 0.4)
    yield Cell("group", 8, (12,), 0.05, 0.0, by_arm=False)
    for people in (10, 300):
        yield Cell("individual", 0, (people,), 0.0, 0.2)
    yield Cell("individual", 0, (50,), 0.0, 0.4, slope=-1.0)


def people(cell: Cell) -> Population:
    """Villages alternate between the arms; training groups are treated, beside as many people who are not."""
    if cell.part == "individual":
        size, arm = np.array(cell.sizes * 2), np.array([0, 1])
        village = group = np.full(2, -1)
    else:
        pattern = np.repeat(cell.sizes, 2) if cell.part == "village" else np.array(cell.sizes)
        size = np.resize(pattern, cell.n_cluster)
        if cell.part == "village":
            arm, village, group = np.arange(cell.n_cluster) % 2, np.arange(cell.n_cluster), np.full(cell.n_cluster, -1)
        else:
            size, arm = np.append(size, size.sum()), np.append(np.ones(cell.n_cluster, int), 0)
            village, group = np.full(len(size), -1), np.append(np.arange(cell.n_cluster), -1)
    cluster = np.repeat(np.arange(len(size)), size)
    member = np.concatenate([np.arange(n) for n in size])
    return Population(size, arm, np.zeros(len(size), int), village, group, arm > 0, cluster, member)


def trial(cell: Cell, seed: int) -> Hot:
    """The trial in lanes: three visits, or baseline and final for training groups."""
    n_visit = 2 if cell.part == "group" else 3
    between = cell.icc if cell.part == "village" else 0.0
    group = cell.icc / (1 - cell.icc) * 0.5 if cell.part == "group" else 0.0
    rest = 1.0 - between
    own = rest * (0.5 + 0.5 * np.eye(n_visit))
    intercept = np.full((2, n_visit), -np.inf)
    if cell.loss:
        step = 1 - (1 - cell.loss) ** (1 / (n_visit - 1))
        intercept[:, 1:] = special.logit(step) - 0.5 * cell.slope**2 * (0.5 - step)  # about: the marginal of a normal
    scores = Scores(
        np.stack([own, own]), 0.0, np.sqrt(between * cell.cac), np.sqrt(between * (1 - cell.cac)), np.sqrt(group),
        intercept, cell.slope, (1 - cell.loss) ** np.linspace(0, 1, n_visit), np.ones(n_visit),
    )  # fmt: skip
    streams, weight = Streams(seed, f"{cell}"), {1: 1.0, 0: -1.0}
    if cell.part == "group":
        return at_final_visit(people(cell), scores, streams, weight, random="training group", by_arm=cell.by_arm)
    terms = {"village"} if cell.part == "village" else set()
    if cell.part == "village" and not cell.without_visit_term:
        terms.add("village by visit")
    return over_visits(people(cell), scores, streams, weight, baseline="constrained", terms=frozenset(terms))


def count(cell: Cell, first: int, n: int, seed: int) -> np.ndarray:
    """(methods + 3,) rejections of each method, singular fits, failed fits, and those of negative variances."""
    hot = trial(cell, seed)
    number = np.arange(first, first + n)
    answer, free = hot.fit(number, every=True), hot.fit(number, boundary="negative")
    x, y = answer.result, free.result
    error, df_out = x[:, STANDARD_ERROR], np.full(n, max(cell.n_cluster - 2, 1))
    if cell.part == "group":
        df_out = np.full(n, cell.n_cluster - 1)
    if cell.part == "individual":
        df_out = np.full(n, people(cell).size.sum() - 2)
    tests = (
        (x[:, ESTIMATE], error, np.full(n, np.inf)),
        (x[:, ESTIMATE], error, x[:, DF_OBSERVED]),
        (x[:, ESTIMATE], error, x[:, DF_OBSERVED_KEPT]),
        (x[:, ESTIMATE], error, x[:, DF_EXPECTED]),
        (x[:, ESTIMATE], error, x[:, DF_EXPECTED_KEPT]),
        (x[:, ESTIMATE], x[:, KR_STANDARD_ERROR], x[:, DF_EXPECTED_KEPT]),
        (y[:, ESTIMATE], y[:, STANDARD_ERROR], y[:, DF_OBSERVED_KEPT]),
        (x[:, ESTIMATE], error, df_out),
    )
    with np.errstate(invalid="ignore"):
        rejections = [(2 * special.stdtr(df, -np.abs(b / s)) <= ALPHA).sum() for b, s, df in tests]
    return np.array(
        [*rejections, (answer.status == SINGULAR).sum(), (answer.status == FAILED).sum(), (free.status == FAILED).sum()]
    )


def table(counts: dict[Cell, np.ndarray], n: int) -> str:
    """The table of one part of the grid, in Markdown."""
    head = ["trial", "ICC", *METHODS, "singular", "failed", "failed, negative allowed"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" + " ---: |" * (len(head) - 1)]
    for cell, found in counts.items():
        rate = found[: len(METHODS)] / n
        cells = [f"**{r:.4f}**" if r > 0.055 else f"*{r:.4f}*" if r < 0.045 else f"{r:.4f}" for r in rate]
        rest = [f"{found[-3] / n:.1%}", f"{found[-2]}", f"{found[-1]}"]
        lines.append("| " + " | ".join([cell.name, f"{cell.icc:g}", *cells, *rest]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=20261)
    choice = parser.parse_args()
    n = choice.replicates // LANES * LANES
    jobs = [(cell, first, min(CHUNK, n - first)) for cell in grid() for first in range(0, n, CHUNK)]
    began = time.perf_counter()
    found = Parallel(n_jobs=choice.workers)(delayed(count)(cell, first, m, choice.seed) for cell, first, m in jobs)
    counts: dict[Cell, np.ndarray] = {}
    for (cell, _, _), one in zip(jobs, found, strict=True):
        counts[cell] = counts.get(cell, 0) + one
    parts = {
        "Villages randomised, all visits, village and village-by-visit intercepts": [
            c for c in counts if c.part == "village" and not c.without_visit_term
        ],
        "The same, fitted without the village-by-visit intercept: wrong on purpose": [
            c for c in counts if c.without_visit_term
        ],
        "Partial nesting: final visit given the baseline, training groups in the treated arm only": [
            c for c in counts if c.part == "group"
        ],
        "Individuals randomised, all visits": [c for c in counts if c.part == "individual"],
    }
    text = [f"### {title}\n\n{table({c: counts[c] for c in cells}, n)}\n" for title, cells in parts.items()]
    body = "\n".join(text)
    marker = "<!-- tables -->"
    before = OUT.read_text().split(marker)[0] if OUT.exists() else "# Type I error\n\n"
    OUT.write_text(
        f"{before}{marker}\n\n{n:,} replicates a trial, MCSE {np.sqrt(ALPHA * (1 - ALPHA) / n):.4f} at .05; seed "
        f"{choice.seed}; {len(counts)} trials.\n\n{body}"
    )
    print(f"{OUT}: {len(counts)} trials x {n:,} replicates in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
