"""One block: a run of replicates of one design, generated and analysed. This is the engine; all else calls it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from sim.calendar.schedule import schedule
from sim.estimands.estimand import realised_inflation
from sim.fused.choice import Route, choose
from sim.run.flow import Flow, flow_of_counts, flow_of_people, operations_columns, people_columns
from sim.scenario.load import Scenario
from sim.streams import Streams
from sim.trial import FAILED, STATUS, TRUTHS, Allocation, Fit, Floats, Ints, Operations, Outcome, Schedule, Trial

N_PART, MOST = (4, 8, 16, 32), 512
SPAN = N_PART[-1] * MOST
"""Replicates of a design that lie in one set of blocks and are summarised together."""
REASONS = ("", "not estimable or not converged", "not finite")
NAMED = ("replicate", "outcome", "truth", "analysis", "estimate", "standard_error", "df", "status")

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Block:
    """Part of the replicates first .. first + size - 1 of a design: one of n_part equal shares, in order of calendars.

    Replicate r is on calendar r modulo n_calendar. Few calendars with many replicates each cost less than many with
    few: a calendar is drawn, and its matrices are made, once for all of its replicates in a block.
    """

    design: str
    first: int
    size: int
    part: int = 0
    n_part: int = 1
    n_calendar: int = 1

    @property
    def name(self) -> str:
        return f"{self.design}-{self.first:09d}-{self.size}-{self.part + 1}of{self.n_part}"

    @property
    def span(self) -> int:
        """The span of replicates that it is part of."""
        return self.first // SPAN

    @property
    def replicate(self) -> Ints:
        number = np.arange(self.first, self.first + self.size, dtype=np.int32)
        by_calendar = number[np.argsort(number % self.n_calendar, kind="stable")]
        return np.sort(np.array_split(by_calendar, self.n_part)[self.part])


@dataclass(frozen=True)
class Realisation:
    """One calendar: who was recruited in time, on which dates, and what it took."""

    allocation: Allocation
    schedule: Schedule
    operations: Operations


def blocks_of(design: str, n_replicate: int, n_calendar: int, first: int = 0) -> Iterator[Block]:
    """The blocks that make up replicates first .. n_replicate - 1: four a span, or as many more as MOST asks for.

    Spans are replicates 0 .. SPAN - 1, SPAN .. 2 SPAN - 1 and so on, wherever `first` is: what is added up span by span
    is the same however the replicates came to be stored. More blocks would cost more; fewer leave workers idle, need
    more memory, and lose more when one is lost.
    """
    while first < n_replicate:
        size = min(SPAN - first % SPAN, n_replicate - first)
        n_part = next(n for n in N_PART if size <= n * MOST)
        blocks = (Block(design, first, size, part, n_part, n_calendar) for part in range(n_part))
        yield from (block for block in blocks if len(block.replicate))
        first += size


def in_spans(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A table with the column `replicate`, sorted by it and cut at every multiple of SPAN."""
    ordered = table.sort_values("replicate", kind="stable", ignore_index=True)
    for _, span in ordered.groupby(ordered["replicate"] // SPAN):
        yield span


@functools.lru_cache(maxsize=64)
def realise(scenario: Scenario, design: str, number: int) -> Realisation:
    """Calendar `number` of a design: a pure function of (seed, design, number), or of what the design shares."""
    streams, nested = scenario.streams(design), scenario.file.common_random_numbers
    plan = scenario.design(design)
    allocation = plan.allocate(scenario.names, streams.generator("allocation", number), nested=nested)
    dice = streams.generator("calendar", number)
    return Realisation(*schedule(scenario.file.calendar, allocation, plan.start, dice, scenario.names))


@functools.lru_cache(maxsize=256)
def routes(scenario: Scenario, design: str, number: int) -> tuple[Route, ...]:
    """How each analysis of calendar `number` of a design is computed, in the order of the file."""
    file, allocation = scenario.file, realise(scenario, design, number).allocation
    model, missingness, streams = file.model, file.missingness, scenario.streams(design)
    is_held = not file.calendar.on_working_days  # else a visit may find no open day, or nobody, in its window
    return tuple(
        choose(scenario.names, model, missingness, scenario.effect, allocation, is_held, streams, analysis)
        for analysis in file.analyses.values()
    )


def simulate_block(scenario: Scenario, block: Block) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of every replicate x outcome x analysis x truth, and one row per replicate of who was seen when.

    The result is the same whichever block, process or machine of the same kind a replicate is computed in.
    """
    fits: list[Columns] = []
    flow: list[pd.DataFrame] = []
    calendar = block.replicate % scenario.file.calendars
    for number in np.unique(calendar).tolist():
        replicate = block.replicate[calendar == number]
        trial = _trial(scenario, block.design, number, replicate)
        fits += [_columns(scenario, replicate, position, fit) for position, fit in enumerate(trial.fits)]
        flow.append(_flow(scenario, block.design, realise(scenario, block.design, number), trial, replicate))
    who = pd.concat(flow, ignore_index=True).sort_values("replicate", ignore_index=True)
    return _rows(scenario, block.design, fits), who


@dataclass(frozen=True)
class Analysed:
    """R replicates of one calendar: their fits, the flow of people, the estimand's value in their draws.

    true_value, inflation : (K, R) value, and what demand inflation adds to the difference; None where these have a
    closed form.
    """

    fits: list[Fit]
    flow: Flow
    true_value: Floats | None
    inflation: Floats | None


def _trial(scenario: Scenario, design: str, number: int, replicate: Ints) -> Analysed:
    """Every analysis of some replicates of one calendar, in lanes where there is such a kernel.

    Scores are stored only if an analysis or the estimand needs them.
    """
    file, ways = scenario.file, routes(scenario, design, number)
    realisation, streams = realise(scenario, design, number), scenario.streams(design)
    is_drawn = file.estimand.from_draws(file.model, file.missingness)
    data = None
    if is_drawn or not all(way.hot for way in ways):
        data = draw(scenario, realisation, streams, replicate)
    fits, counted = [], None
    for method, way in zip(file.analyses.values(), ways, strict=True):
        if way.hot is None:
            assert data is not None
            fits.append(method.analyse(data.trial))
        else:
            fit, answer = way.analyse(method, replicate, file.hypotheses)
            fits.append(fit)
            counted = flow_of_counts(scenario.names, realisation.allocation, answer.seen, file.missingness.reasons[0])
    flow = counted if data is None else data.flow
    assert flow is not None
    value, inflation = None, None
    if data is not None and is_drawn:
        value, inflation = data.true_value(scenario, realisation, streams, replicate)
    return Analysed(fits, flow, value, inflation)


@dataclass(frozen=True)
class Drawn:
    """R replicates of one realisation: K x 2 x R data sets (outcome, truth, replicate), scores and flow of people."""

    trial: Trial
    outcome: Outcome
    flow: Flow

    def true_value(
        self, scenario: Scenario, realisation: Realisation, streams: Streams, replicate: Ints
    ) -> tuple[Floats, Floats]:
        """(K, R) each, under the alternative: the estimand's value in these draws, and what demand inflation adds."""
        names, file = scenario.names, scenario.file
        allocation, dates = realisation.allocation, realisation.schedule
        given = (names, scenario.effect, allocation, dates, streams, replicate)
        as_it_is = score = file.model.potential(*given)
        if file.estimand.everyone_attends:
            score = file.model.potential(*given, everyone_attends=True)
        absence = None
        if file.estimand.heeds_leaving(file.missingness):
            absence = file.missingness.absence(names, allocation, dates, self.outcome, streams, replicate)
        reported = self.outcome.score[:, TRUTHS.index("alternative")]
        value: Floats = file.estimand.realised_value(names, allocation, score, absence)
        return value, realised_inflation(reported, as_it_is, allocation)


def draw(scenario: Scenario, realisation: Realisation, streams: Streams, replicate: Ints) -> Drawn:
    """The data of R replicates of one realisation."""
    names, file = scenario.names, scenario.file
    allocation, dates = realisation.allocation, realisation.schedule
    outcome = file.model.generate(names, scenario.effect, allocation, dates, streams, replicate)
    cause = file.missingness.cause(names, allocation, dates, outcome, streams, replicate)
    observed = dates.is_held & (cause == 0)
    n_outcome, n_truth = outcome.score.shape[:2]
    y = outcome.score.reshape(-1, *outcome.score.shape[3:])
    team = np.where(allocation.is_trained, dates.team[allocation.clock], -1).astype(np.int32)
    trial = Trial(y, np.tile(observed, (n_outcome * n_truth, 1, 1)), allocation, team)
    return Drawn(trial, outcome, flow_of_people(names, allocation, cause, dates.is_held, file.missingness.reasons))


def _columns(scenario: Scenario, replicate: Ints, analysis: int, fit: Fit) -> Columns:
    """One analysis of the K x 2 x R data sets of a trial, with the numbers that name each of them."""
    n_outcome, each = len(scenario.names.outcome), len(replicate)
    n = n_outcome * len(TRUTHS) * each
    return {
        "replicate": np.tile(replicate, n_outcome * len(TRUTHS)),
        "outcome": np.repeat(np.arange(n_outcome), len(TRUTHS) * each),
        "truth": np.tile(np.repeat(np.arange(len(TRUTHS)), each), n_outcome),
        "analysis": np.full(n, analysis),
        "estimate": fit.estimate,
        "standard_error": fit.standard_error,
        "df": fit.df,
        "status": fit.status,
        **fit.extra,
    }


def _rows(scenario: Scenario, design: str, fits: list[Columns]) -> pd.DataFrame:
    """Every fit as a row with its test and interval; what cannot be computed is failed, with a reason."""
    keys = list(dict.fromkeys(key for fit in fits for key in fit))
    part = {key: [fit.get(key, np.full(len(fit["replicate"]), np.nan)) for fit in fits] for key in keys}
    column = {key: np.concatenate(values) for key, values in part.items()}
    order = np.lexsort([column[key] for key in ("truth", "analysis", "outcome", "replicate")])
    column = {key: values[order] for key, values in column.items()}

    hypotheses = scenario.file.hypotheses
    estimate, standard_error, df = column["estimate"], column["standard_error"], column["df"]
    finite = np.isfinite(estimate) & np.isfinite(standard_error) & (standard_error > 0) & (df > 0)
    returned = column["status"]
    status = np.where(finite, returned, FAILED)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = estimate / standard_error
        p_value = hypotheses.sides * special.stdtr(df, -np.abs(t) if hypotheses.sides == 2 else -t)
        half = special.stdtrit(df, 1 - hypotheses.alpha / 2) * standard_error
    reason = np.where(status != FAILED, 0, np.where(returned == FAILED, 1, 2))
    numbers = {
        "estimate": estimate,
        "standard_error": standard_error,
        "df": df,
        "p_value": p_value,
        "ci_low": estimate - half,
        "ci_high": estimate + half,
        **{key: column[key] for key in keys if key not in NAMED},
    }
    return pd.DataFrame(
        {
            "design": _categories(np.zeros(len(order), dtype=np.int8), [design]),
            "replicate": column["replicate"],
            "outcome": _categories(column["outcome"], scenario.names.outcome),
            "analysis": _categories(column["analysis"], scenario.file.analyses),
            "truth": _categories(column["truth"], TRUTHS),
            **{key: np.where(status == FAILED, np.nan, value) for key, value in numbers.items()},
            "status": _categories(status, STATUS),
            "reason": _categories(reason, REASONS),
        }
    )


def _categories(code: NDArray[np.integer[Any]], names: Iterable[str]) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(code, categories=pd.Index(list(names)))


def _flow(scenario: Scenario, design: str, realisation: Realisation, trial: Analysed, replicate: Ints) -> pd.DataFrame:
    """One row per replicate: who was due, seen and lost, what the field work took, and what the estimand was."""
    names, allocation, dates = scenario.names, realisation.allocation, realisation.schedule
    operations, people, model = realisation.operations, trial.flow, scenario.file.model
    n = allocation.n_participant
    n_trained = int(allocation.is_trained.sum())
    seen = people.seen
    final, trained = seen[:, :, -1], people.is_trained
    n_cluster = len(np.unique(allocation.random_cluster[allocation.random_cluster >= 0]))
    inside = dates.inside.mean(axis=1)  # (W, T)
    value, inflation = (() if x is None else x for x in (trial.true_value, trial.inflation))
    return pd.DataFrame(
        {
            "design": design,
            "replicate": replicate,
            "n_participant": n,
            "n_cluster": n_cluster,
            "n_district": len(np.unique(allocation.district)),
            "n_visit_planned": n * len(names.visit),
            "n_visit_observed": seen.sum(axis=(1, 2)),
            "share_observed_final": final.sum(axis=1) / n,
            "share_observed_final_trained": final[:, trained].sum(axis=1) / n_trained,
            "share_observed_final_untreated": final[:, ~trained].sum(axis=1) / (n - n_trained)
            if n > n_trained
            else np.nan,
            "share_final_in_window": float(dates.inside[:, :, -1].any(axis=0).mean()),
            **{
                f"share_{visit}_in_{window}": inside[w, t]
                for w, window in enumerate(names.window)
                for t, visit in enumerate(names.visit)
            },
            "window_difference": model.window_shift_difference(names, allocation, dates),
            "buffering_difference": model.buffering_difference(names, allocation, dates),
            "has_villages": allocation.has_villages,
            **{
                f"dose|{arm.name}": dose
                for arm, dose in zip(allocation.arms, model.expected_dose(allocation, dates), strict=True)
            },
            "start_day": int(dates.training_start.min()),
            "last_visit_day": int(dates.visit_day.max()),
            "end_day": operations.last_day,
            "team_days": operations.team_days,
            "travel_days": operations.travel_days,
            "n_appointment": int(operations.appointments.sum()),
            "interviewer_days": np.nan if operations.interviewer_days is None else operations.interviewer_days,
            **{f"true_value|{outcome}": one for outcome, one in zip(names.outcome, value, strict=False)},
            **{f"inflation|{outcome}": one for outcome, one in zip(names.outcome, inflation, strict=False)},
            **operations_columns(names, operations),
            **people_columns(names, people),
        }
    )
