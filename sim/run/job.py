"""The main job: every block of a scenario, then the tables that are pure functions of their rows."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sim.estimands.estimand import OnAverage
from sim.evaluate.calendars import spread
from sim.evaluate.medians import medians
from sim.evaluate.multiplicity import family
from sim.evaluate.performance import summarise
from sim.run.blocks import Block
from sim.run.flow import flow_table
from sim.run.local import Progress, all_blocks, in_processes, let_go, run_blocks
from sim.run.store import Store
from sim.scenario.load import Scenario
from sim.trial import TRUTHS, Names


@dataclass(frozen=True)
class Result:
    """The tables of a run, as data frames: summary.csv, designs.csv, estimands.csv and flow.csv."""

    scenario: Scenario
    summary: pd.DataFrame
    designs: pd.DataFrame
    estimands: pd.DataFrame
    flow: pd.DataFrame
    n_computed: int

    @property
    def failure_rate(self) -> float:
        """Largest share of failed fits in any design x outcome x analysis x truth."""
        return float((self.summary["n_failed"] / self.summary["n_replicate"]).max())


def run(scenario: Scenario, store: Store, workers: int, progress: Progress, *, new_run: bool) -> Result:
    """Compute what is missing, summarise everything, write the result folder."""
    store.open(new_run=new_run)
    n_computed = run_blocks(scenario, store, workers, progress)
    result = evaluate(scenario, store, n_computed, workers)
    let_go(workers)
    for name in ("summary", "designs", "estimands", "flow"):
        store.write_table(f"{name}.csv", getattr(result, name))
    return result


class Kept(Protocol):
    """Where the finished blocks of a run are."""

    def rows(self, blocks: list[Block], analysis: str) -> pd.DataFrame:
        """The rows of one analysis in these blocks."""

    def flow(self, blocks: list[Block]) -> pd.DataFrame:
        """Who was due and seen in every replicate of these blocks."""


def evaluate(scenario: Scenario, store: Kept, n_computed: int = 0, workers: int = 1) -> Result:
    """Summaries of the finished blocks, design by design."""
    each = ((scenario, store, design) for design in scenario.file.designs)
    by_design = list(in_processes(_evaluate_design, each, workers))
    summary, designs, estimands, flow = (pd.concat(x, ignore_index=True) for x in zip(*by_design, strict=True))
    return Result(scenario, summary, designs, estimands, flow, n_computed)


def _evaluate_design(
    scenario: Scenario, store: Kept, design: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Summary, row of designs.csv, estimands and flow of one design; one analysis's rows are in memory at a time."""
    hypotheses, n_calendar = scenario.file.hypotheses, scenario.file.calendars
    blocks = [block for block in all_blocks(scenario) if block.design == design]
    flow = store.flow(blocks)
    estimands = estimand_table(scenario, design, flow)
    summary = []
    for analysis in scenario.file.analyses:
        rows = store.rows(blocks, analysis)
        alpha, sides = hypotheses.alpha, hypotheses.sides
        summary.append(summarise(rows, estimands, alpha, sides, n_calendar))
        summary.append(medians(rows))
        summary.append(family(rows, hypotheses.multiplicity, alpha, estimands, sides, n_calendar))
    row = pd.DataFrame([design_row(design, flow, n_calendar)])
    return pd.concat(summary, ignore_index=True), row, estimands, flow_table(design, flow, n_calendar)


def estimand_table(scenario: Scenario, design: str, flow: pd.DataFrame) -> pd.DataFrame:
    """A row per outcome x truth: the estimand's true value and what it is made of, in baseline SDs; the value in points
    as well where an outcome declares what an SD is in them.

    Where the value comes from the replicates' draws it is their mean, and what it is made of is as if nobody left and
    scores had no bounds; `window` is what the windows make of the arms' difference at the final visit. flow : a row per
    replicate, over which what the calendars make of the arms is averaged.
    """
    plan, file, names = scenario.design(design), scenario.file, scenario.names
    arms, contrast = plan.arm_list, plan.contrast_arms
    mean = flow.mean(numeric_only=True)
    average = OnAverage(
        window=float(mean["window_difference"]),
        buffering=float(mean["buffering_difference"]),
        dose=mean[[f"dose|{arm.name}" for arm in arms]].to_numpy(),
        has_villages=bool(flow["has_villages"].iloc[0]),
    )
    value = file.estimand.true_value(file.model, names, scenario.effect, arms, contrast, average)
    error = None
    if f"true_value|{names.outcome[0]}" in flow:
        drawn, inflation = (flow[[f"{name}|{o}" for o in names.outcome]] for name in ("true_value", "inflation"))
        value = replace(value, true_value=drawn.mean().to_numpy(), demand_inflation=inflation.mean().to_numpy())
        calendar, one_cell = flow["replicate"].to_numpy() % file.calendars, np.zeros(len(flow), dtype=np.int64)
        growth = [spread(x, one_cell, 1, calendar).growth[0] for x in drawn.to_numpy().T]
        error = (drawn.std() * np.sqrt(np.array(growth) / len(drawn))).to_numpy()
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


def design_row(design: str, flow: pd.DataFrame, n_calendar: int) -> dict[str, Any]:
    """One row of designs.csv: means over replicates, each random one with its Monte Carlo standard error.

    Replicates on one calendar share its people and dates, so the error is that of a mean over calendars. Dates are
    medians: a mean could fall on a day on which nobody is trained.
    """
    row: dict[str, Any] = {"design": design}
    by_window = [c for c in map(str, flow) if re.fullmatch("share_.*_in_.*", c) and c not in MEANS]
    for column in (*MEANS, *by_window):
        row |= _mean_and_mcse(column, flow[column], flow["replicate"] % n_calendar)
    row |= {"start_date": _date(flow["start_day"]), "last_visit_date": _date(flow["last_visit_day"])}
    row |= {"end_date": _date(flow["end_day"])}
    duration = flow["last_visit_day"] - flow["start_day"]
    row |= _mean_and_mcse("duration_days", duration, flow["replicate"] % n_calendar)
    return row | {"cost": None, "currency": None}


def _mean_and_mcse(name: str, value: pd.Series[float], calendar: pd.Series[int]) -> dict[str, float]:
    by_calendar = value.groupby(calendar).mean()
    found = {name: float(value.mean())}
    if len(by_calendar) > 1 and value.min() < value.max():
        found[f"{name}_mcse"] = float(by_calendar.std() / np.sqrt(len(by_calendar)))
    return found


def _date(day: pd.Series[int]) -> str:
    return str(np.datetime64(int(day.quantile(0.5, interpolation="lower")), "D"))
