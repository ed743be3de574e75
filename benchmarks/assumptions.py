"""Which assumption moves power most: each in turn at the ends of its range; writes docs/assumptions.md.

    python benchmarks/assumptions.py [SCENARIO] [--design D ...] [--replicates N]

The primary analysis of each design on common random numbers: the same people, calendars and draws with every value, so
that differences are those of pairs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from sim.errors import InvalidInput
from sim.run.blocks import blocks_of, simulate_block
from sim.run.flow import sum_flow
from sim.run.local import in_processes, n_worker
from sim.run.tables import estimand_table
from sim.scenario.assumptions import assuming, assumptions
from sim.scenario.load import Scenario, read_scenario
from sim.scenario.seed_study import planning_effects

ROOT = Path(__file__).parents[1]


def only_primary(scenario: Scenario, design: str, replicates: int) -> Scenario:
    primary = scenario.file.hypotheses.primary_analysis
    small = scenario.with_changes(replicates=replicates, designs=[design])
    changes = {"analyses": {primary: scenario.file.analyses[primary]}}
    return replace(small, file=small.file.model_copy(update=changes))


def rejections(scenario: Scenario) -> pd.DataFrame | str:
    """(R, K) whether each replicate rejects under the alternative, net of demand inflation; or why that cannot be."""
    (design,) = scenario.file.designs
    try:
        blocks = blocks_of(design, scenario.file.replicates, scenario.file.calendars)
        rows, flow = map(pd.concat, zip(*(simulate_block(scenario, block) for block in blocks), strict=True))
    except np.linalg.LinAlgError:
        return "no such covariance"
    except InvalidInput:
        return "no calendar"
    rows = rows[rows["truth"] == "alternative"]
    summed = sum_flow([flow], scenario.file.calendars)
    truth = estimand_table(scenario, design, summed).set_index(["outcome", "truth"])["demand_inflation"]
    demand = rows["outcome"].astype(str).map(truth.xs("alternative", level="truth"))
    t = (rows["estimate"] - demand) / rows["standard_error"]
    p_value = 2 * special.stdtr(rows["df"], -t.abs())
    rejected = pd.DataFrame({"replicate": rows["replicate"], "outcome": rows["outcome"].astype(str), "p": p_value})
    table: pd.DataFrame = rejected.pivot(index="replicate", columns="outcome", values="p")
    return (table <= scenario.file.hypotheses.alpha).astype(float)


def varied(scenario: Scenario) -> dict[str, dict[str, Scenario]]:
    """By name of an assumption, the scenario with its low and with its high end, as far as they differ from it."""
    found: dict[str, dict[str, Scenario]] = {}
    moving = {at: one for at, one in assumptions(scenario).items() if at[0] != "costs"}  # a price moves no power
    for at, assumption in moving.items():
        ends = {end: getattr(assumption, end) for end in ("low", "high")}
        found[".".join(at)] = {e: assuming(scenario, at, x) for e, x in ends.items() if x != assumption.value}
    source = scenario.file.evidence
    if scenario.evidence is not None and source is not None:
        planned = planning_effects(scenario.evidence, source.prior, source.reading)
        for k, outcome in enumerate(scenario.names.outcome):
            only = np.arange(len(scenario.effect)) == k
            found[f"planned effect on {outcome} ({source.prior})"] = {
                end: replace(scenario, effect=np.where(only, getattr(planned[outcome], end), scenario.effect))
                for end in ("low", "high")
            }
    return found


def moved(base: pd.DataFrame, other: pd.DataFrame | str) -> tuple[Any, Any]:
    """Difference in power, mean over the outcomes, and its Monte Carlo standard error over pairs of replicates."""
    if isinstance(other, str):
        return other, np.nan
    difference = (other - base).mean(axis=1)
    return float(difference.mean()), float(difference.std() / np.sqrt(len(difference)))


def table_of(scenario: Scenario, design: str, replicates: int, workers: int) -> pd.DataFrame:
    scenario = only_primary(scenario, design, replicates)
    tasks = [(name, end, one) for name, ends in varied(scenario).items() for end, one in ends.items()]
    base, *results = in_processes(rejections, ((one,) for one in (scenario, *(t[2] for t in tasks))), workers)
    assert not isinstance(base, str)
    rows: dict[str, dict[str, Any]] = {}
    for (name, end, _), result in zip(tasks, results, strict=True):
        row = rows.setdefault(name, {"assumption": name})
        row[end], row[f"{end}_mcse"] = moved(base, result)
    table = pd.DataFrame(list(rows.values()))
    numbers = table[["low", "high"]].apply(pd.to_numeric, errors="coerce")
    table["swing"] = numbers.abs().max(axis=1)
    table.attrs["power"] = base.mean().to_dict()
    return table.sort_values("swing", ascending=False, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", nargs="?", type=Path, default=ROOT / "scenarios" / "crm_rwanda.yaml")
    parser.add_argument("--design", action="append")
    parser.add_argument("--replicates", type=int, default=1024)
    arguments = parser.parse_args()
    scenario = read_scenario(arguments.scenario)
    lines = [
        "# Which assumption moves power most",
        "",
        f"`{scenario.name}`, primary analysis `{scenario.file.hypotheses.primary_analysis}`, "
        f"{arguments.replicates:,} replicates on common random numbers, made by `benchmarks/assumptions.py`. Each "
        "assumption in turn is put to the low and the high end of its range, all others stay; shown is the change in "
        "power, mean over the outcomes (a planned effect belongs to one of them, whose own power it moves as many "
        "times more), ± Monte Carlo standard error of the difference. What is not listed changes nothing measurable "
        "(less than two standard errors either way).",
    ]
    for design in arguments.design or ["ind_4", "vil_4"]:
        table = table_of(scenario, design, arguments.replicates, n_worker("auto"))
        power = ", ".join(f"{outcome} {p:.2f}" for outcome, p in table.attrs["power"].items())
        lines += ["", f"## {design}: {scenario.design(design).label}", "", f"Power as assumed: {power}.", ""]
        lines += ["| assumption | at its low end | at its high end |", "| --- | ---: | ---: |"]
        for row in table.to_dict("records"):
            ends = [(row.get(end), row.get(f"{end}_mcse")) for end in ("low", "high")]
            if not any(isinstance(x, str) or (x == x and x is not None and abs(x) > 2 * e) for x, e in ends):
                continue
            cells = [
                x if isinstance(x, str) else f"{x:+.3f} ± {e:.3f}" if x is not None and x == x else "-" for x, e in ends
            ]
            lines.append(f"| {row['assumption']} | {cells[0]} | {cells[1]} |")
    (ROOT / "docs" / "assumptions.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
