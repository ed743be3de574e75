"""One block: a run of replicate numbers of one design, generated and analysed. This is the engine; all else calls it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from sim.calendar.schedule import schedule
from sim.scenario.load import Scenario
from sim.streams import Streams
from sim.trial import FAILED, STATUS, TRUTHS, Allocation, Fit, Flags, Floats, Ints, Schedule, Trial

BLOCK_SIZE = 256


@dataclass(frozen=True)
class Block:
    """Replicates first .. first + size - 1 of a design, numbered from 0."""

    design: str
    first: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.design}-{self.first:09d}-{self.size}"

    @property
    def replicate(self) -> Ints:
        return np.arange(self.first, self.first + self.size, dtype=np.int32)


@dataclass(frozen=True)
class Realisation:
    """One allocation with its calendar."""

    allocation: Allocation
    schedule: Schedule


def blocks_of(design: str, n_replicate: int) -> list[Block]:
    """The blocks that make up replicates 0 .. n_replicate - 1."""
    return [Block(design, first, min(BLOCK_SIZE, n_replicate - first)) for first in range(0, n_replicate, BLOCK_SIZE)]


def realise(scenario: Scenario, design: str, number: int) -> Realisation:
    """Calendar `number` of a design: a pure function of (seed, design, number)."""
    streams = Streams(scenario.file.seed, design)
    plan = scenario.design(design)
    allocation = plan.allocate(scenario.names, streams.generator("allocation", number))
    dates = schedule(scenario.file.calendar, allocation, plan.start, streams.generator("calendar", number))
    return Realisation(allocation, dates)


@functools.lru_cache(maxsize=4)
def realisations(scenario: Scenario, design: str) -> list[Realisation]:
    """All calendars of a design, drawn once per process."""
    return [realise(scenario, design, number) for number in range(scenario.file.calendars)]


def simulate_block(scenario: Scenario, block: Block) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of every replicate x outcome x analysis x truth, and one row per replicate of who was seen when.

    The result is the same whichever block, process or machine of the same kind a replicate is computed in.
    """
    calendars = realisations(scenario, block.design)
    streams = Streams(scenario.file.seed, block.design)
    rows, flow = [], []
    for number, realisation in enumerate(calendars):
        replicate = block.replicate[block.replicate % len(calendars) == number]
        if len(replicate):
            fits, seen = _simulate(scenario, block.design, realisation, streams, replicate)
            rows.append(fits)
            flow.append(seen)
    order = ["replicate", "outcome", "analysis", "truth"]
    return (
        pd.concat(rows, ignore_index=True).sort_values(order, kind="stable", ignore_index=True),
        pd.concat(flow, ignore_index=True).sort_values("replicate", ignore_index=True),
    )


def trials(scenario: Scenario, realisation: Realisation, streams: Streams, replicate: Ints) -> tuple[Trial, Flags]:
    """The data sets of R replicates as one Trial with K x 2 x R data sets (outcome, truth, replicate), and (R, N, T)."""
    names, file = scenario.names, scenario.file
    allocation, dates = realisation.allocation, realisation.schedule
    outcome = file.model.generate(names, scenario.effect, allocation, dates, streams, replicate)
    observed = file.missingness.observe(names, allocation, dates, outcome, streams, replicate)
    n_outcome, n_truth = outcome.score.shape[:2]
    y = outcome.score.reshape(-1, *outcome.score.shape[3:])
    return Trial(y, np.tile(observed, (n_outcome * n_truth, 1, 1)), allocation), observed


def _simulate(
    scenario: Scenario, design: str, realisation: Realisation, streams: Streams, replicate: Ints
) -> tuple[pd.DataFrame, pd.DataFrame]:
    trial, observed = trials(scenario, realisation, streams, replicate)
    sides, alpha = scenario.file.hypotheses.sides, scenario.file.hypotheses.alpha
    label = list(_labels(scenario, design, replicate))
    fits = [_rows(label, name, method.analyse(trial), sides, alpha) for name, method in scenario.file.analyses.items()]
    return pd.concat(fits, ignore_index=True), _flow(design, realisation, observed, replicate)


def _labels(scenario: Scenario, design: str, replicate: Ints) -> Iterator[tuple[str, Any]]:
    """Columns that name each data set of a trial, in the order of its first axis."""
    outcomes = scenario.names.outcome
    each = len(replicate)
    yield "design", pd.Categorical.from_codes([0] * (len(outcomes) * 2 * each), [design])
    yield "replicate", np.tile(replicate, len(outcomes) * 2)
    yield "outcome", pd.Categorical.from_codes(np.repeat(np.arange(len(outcomes)), 2 * each), list(outcomes))
    yield "truth", pd.Categorical.from_codes(np.tile(np.repeat([0, 1], each), len(outcomes)), list(TRUTHS))


def _rows(label: list[tuple[str, Any]], analysis: str, fit: Fit, sides: int, alpha: float) -> pd.DataFrame:
    """One analysis of every data set: estimate, test and interval; what cannot be computed is failed, with a reason."""
    finite = np.isfinite(fit.estimate) & np.isfinite(fit.standard_error) & (fit.standard_error > 0) & (fit.df > 0)
    status = np.where(finite, fit.status, FAILED)
    reason = np.where(fit.status == FAILED, "not estimable or not converged", "not finite")
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = fit.estimate / fit.standard_error
        tail = special.stdtr(fit.df, -np.abs(statistic) if sides == 2 else -statistic)
        half = special.stdtrit(fit.df, 1 - alpha / 2) * fit.standard_error
    value = {
        "estimate": fit.estimate,
        "standard_error": fit.standard_error,
        "df": fit.df,
        "p_value": sides * tail,
        "ci_low": fit.estimate - half,
        "ci_high": fit.estimate + half,
        **fit.extra,
    }
    kept = {key: np.where(status == FAILED, np.nan, column) for key, column in value.items()}
    return pd.DataFrame(
        {
            **dict(label),
            "analysis": analysis,
            **kept,
            "status": np.array(STATUS)[status],
            "reason": np.where(status == FAILED, reason, ""),
        }
    )


def _flow(design: str, realisation: Realisation, observed: Flags, replicate: Ints) -> pd.DataFrame:
    """Who was due and seen in each replicate, overall and inside the windows."""
    allocation, dates = realisation.allocation, realisation.schedule
    n = allocation.n_participant
    exposed: Floats = (dates.exposure > 0).any(axis=0) if len(dates.exposure) else np.zeros(dates.visit_day.shape)
    n_cluster = len(np.unique(allocation.random_cluster[allocation.random_cluster >= 0]))
    treated = allocation.is_trained
    return pd.DataFrame(
        {
            "design": design,
            "replicate": replicate,
            "n_participant": n,
            "n_cluster": n_cluster,
            "n_district": len(np.unique(allocation.district)),
            "n_visit_planned": n * dates.visit_day.shape[1],
            "n_visit_observed": observed.sum(axis=(1, 2)),
            "share_observed_final": observed[:, :, -1].mean(axis=1),
            "share_observed_final_trained": observed[:, treated, -1].mean(axis=1),
            "share_observed_final_untreated": observed[:, ~treated, -1].mean(axis=1) if (~treated).any() else np.nan,
            "share_final_in_window": float(exposed[:, -1].mean()),
            "start_day": int(dates.training_start.min()),
            "last_visit_day": int(dates.visit_day.max()),
        }
    )
