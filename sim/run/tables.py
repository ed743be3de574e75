"""The tables of a run, as pure functions of its stored rows, which are read span by span and never all at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sim.estimands.estimand import OnAverage
from sim.evaluate.columns import Columns
from sim.evaluate.medians import Medians
from sim.evaluate.multiplicity import Families
from sim.evaluate.performance import COLUMNS, Performance
from sim.evaluate.spans import Summary, read
from sim.run.costs import cost_table, price_of
from sim.run.flow import flow_table, sum_flow
from sim.run.local import in_processes
from sim.scenario.load import Scenario
from sim.trial import TRUTHS, Names

TABLES = ("summary", "designs", "estimands", "flow", "costs")


@dataclass(frozen=True)
class Result:
    """The tables of a run, as data frames: summary.csv, designs.csv, estimands.csv, flow.csv and costs.csv.

    n_replicate : design -> replicates that were there; a design without any is in no table.
    """

    scenario: Scenario
    summary: pd.DataFrame
    designs: pd.DataFrame
    estimands: pd.DataFrame
    flow: pd.DataFrame
    costs: pd.DataFrame
    n_computed: int
    n_replicate: dict[str, int]

    @cached_property
    def by_measure(self) -> dict[str, pd.DataFrame]:
        """The rows of the summary, by their measure."""
        return {str(measure): rows for measure, rows in self.summary.groupby("measure", sort=False)}

    @property
    def failure_rate(self) -> float:
        """Largest share of failed fits in any design x outcome x analysis x truth."""
        return float((self.summary["n_failed"] / self.summary["n_replicate"]).max())

    @property
    def is_complete(self) -> bool:
        """Whether every design had all of its replicates."""
        return all(n == self.scenario.file.replicates for n in self.n_replicate.values())


class Kept(Protocol):
    """Where the finished replicates of a run are. Each call begins a fresh pass over spans.

    A span holds those of replicates SPAN * k .. SPAN * (k + 1) - 1 that are there, sorted by replicate, then in one
    order; spans come in ascending order, however their rows are stored.
    """

    def rows(self, design: str, analysis: str) -> Iterator[pd.DataFrame]:
        """The rows of one analysis."""

    def flow(self, design: str) -> Iterator[pd.DataFrame]:
        """Who was due and seen: a row per replicate."""


@dataclass(frozen=True)
class Anew:
    """A pass begins with each iteration."""

    begin: Callable[[], Iterator[pd.DataFrame]]

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return self.begin()


@dataclass(frozen=True)
class Part:
    """The part of one design in each table."""

    n_replicate: int
    summary: pd.DataFrame
    designs: pd.DataFrame
    estimands: pd.DataFrame
    flow: pd.DataFrame
    costs: pd.DataFrame


_NOTHING = Part(0, pd.DataFrame(columns=COLUMNS), *(pd.DataFrame(columns=["design"]) for _ in range(4)))


def evaluate(scenario: Scenario, store: Kept, n_computed: int = 0, workers: int = 1) -> Result:
    """Summaries of the replicates that are there, design by design."""
    each = ((scenario, store, design) for design in scenario.file.designs)
    found = in_processes(evaluate_design, each, workers)
    return together(scenario, dict(zip(scenario.file.designs, found, strict=True)), n_computed)


def together(scenario: Scenario, parts: dict[str, Part], n_computed: int = 0) -> Result:
    """The tables of a run from those of its designs."""
    there = [part for part in parts.values() if part.n_replicate]
    table = {
        name: pd.concat([getattr(part, name) for part in there or [_NOTHING]], ignore_index=True) for name in TABLES
    }
    n_replicate = {design: part.n_replicate for design, part in parts.items()}
    return Result(scenario, **table, n_computed=n_computed, n_replicate=n_replicate)


def evaluate_design(scenario: Scenario, store: Kept, design: str) -> Part:
    hypotheses, n_calendar = scenario.file.hypotheses, scenario.file.calendars
    flow = sum_flow(store.flow(design), n_calendar, price_of(scenario))
    if not flow.n_replicate:
        return _NOTHING
    estimands = estimand_table(scenario, design, flow)
    summary = []
    for analysis in scenario.file.analyses:
        found: list[Summary] = [
            Performance(estimands, hypotheses.alpha, hypotheses.sides),
            Medians(),
            Families(hypotheses.multiplicity, hypotheses.alpha, estimands, hypotheses.sides),
        ]
        n_row = read(Anew(partial(store.rows, design, analysis)), n_calendar, found)
        if n_row != (expected := flow.n_replicate * len(scenario.names.outcome) * len(TRUTHS)):
            raise ValueError(f"{design}, {analysis}: {n_row} rows where {flow.n_replicate} replicates have {expected}")
        summary += [table for one in found if len(table := one.table())]
    row = pd.DataFrame([design_row(design, flow, scenario)])
    together = pd.concat(summary, ignore_index=True)
    return Part(
        flow.n_replicate, together, row, estimands, flow_table(design, flow), cost_table(scenario, design, flow)
    )


def estimand_table(scenario: Scenario, design: str, flow: Columns) -> pd.DataFrame:
    """A row per outcome x truth: the estimand's true value and what it is made of, in baseline SDs; the value in points
    as well where an outcome declares what an SD is in them.

    Where the value comes from the replicates' draws it is their mean, and what it is made of is as if nobody left and
    scores had no bounds; `window` is what the windows make of the arms' difference at the final visit. flow : of the
    replicates over which what the calendars make of the arms is averaged.
    """
    plan, file, names = scenario.design(design), scenario.file, scenario.names
    arms, contrast = plan.arm_list, plan.contrast_arms
    average = OnAverage(
        window=flow.mean("window_difference"),
        buffering=flow.mean("buffering_difference"),
        dose=np.array([flow.mean(f"dose|{arm.name}") for arm in arms]),
        has_villages=flow.mean("has_villages") > 0,
    )
    value = file.estimand.true_value(file.model, names, scenario.effect, arms, contrast, average)
    error = None
    if f"true_value|{names.outcome[0]}" in flow:
        drawn, inflation = ([f"{name}|{o}" for o in names.outcome] for name in ("true_value", "inflation"))
        true_value, demand = (np.array([flow.mean(column) for column in x]) for x in (drawn, inflation))
        value = replace(value, true_value=true_value, demand_inflation=demand)
        error = np.array([flow.mcse(column) for column in drawn])
    rows: list[dict[str, Any]] = []
    for truth, components in zip(TRUTHS, (value, value.under_null()), strict=True):
        rows += _by_outcome(design, truth, scenario.names, vars(components))
    table = pd.DataFrame(rows)
    if error is not None:
        table["true_value_mcse"] = np.where(table["truth"] == "null", 0.0, np.tile(error, len(TRUTHS)))
    if points := file.model.points():
        table["sd_points"] = table["outcome"].map({outcome: sd for outcome, (_, sd) in points.items()})
        table["true_value_points"] = table["true_value"] * table["sd_points"]
    return table


def _by_outcome(design: str, truth: str, names: Names, components: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"design": design, "outcome": outcome, "truth": truth} | {key: float(v[k]) for key, v in components.items()}
        for k, outcome in enumerate(names.outcome)
    ]


MEANS = (
    "n_participant", "n_cluster", "n_district", "n_visit_planned", "n_visit_observed", "share_observed_final",
    "share_observed_final_trained", "share_observed_final_untreated", "share_final_in_window", "team_days",
    "travel_days", "n_appointment", "interviewer_days",
)  # fmt: skip


def design_row(design: str, flow: Columns, scenario: Scenario) -> dict[str, Any]:
    """One row of designs.csv: means over replicates, each random one with its Monte Carlo standard error.

    Replicates on one calendar share its people and dates, so the error is that of a mean over calendars. Dates are
    medians: a mean could fall on a day on which nobody is trained. Without unit costs there is no cost.
    """
    row: dict[str, Any] = {"design": design}
    by_window = [c for c in flow.names if re.fullmatch("share_.*_in_.*", c) and c not in MEANS]
    for column in (*MEANS, *by_window):
        row |= _mean_and_mcse(column, flow)
    row |= {"start_date": _date("start_day", flow), "last_visit_date": _date("last_visit_day", flow)}
    row |= {"end_date": _date("end_day", flow)}
    row |= _mean_and_mcse("duration_days", flow)
    costs = scenario.file.costs
    if costs is None:
        return row | {"cost": None, "currency": None}
    return row | _mean_and_mcse("cost", flow) | {"currency": costs.currency}


def _mean_and_mcse(name: str, flow: Columns) -> dict[str, float]:
    mean, error = flow.mean(name), flow.mcse_over_calendars(name)
    return {name: mean} | ({f"{name}_mcse": error} if flow.varies(name) and np.isfinite(error) else {})


def _date(name: str, flow: Columns) -> str:
    return str(np.datetime64(int(flow.lower_median(name)), "D"))
