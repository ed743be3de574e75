"""How a scenario's analyses are computed, and a first answer without any replicate."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table

from sim.fused.preview import preview
from sim.run.blocks import routes
from sim.scenario.load import Scenario


def explain_table(scenario: Scenario) -> Table:
    """Which kernel fits each analysis of each design, how its power is estimated, and why."""
    table = Table(title=f"{scenario.name}: how it is computed", title_justify="left")
    for heading in ("design", "analysis", "kernel", "power by", "because"):
        table.add_column(heading, overflow="fold")
    for row in explain_rows(scenario):
        table.add_row(*(str(row[key]) for key in ("design", "analysis", "kernel", "estimator", "because")))
    return table


def explain_rows(scenario: Scenario) -> list[dict[str, str]]:
    """One row per design and analysis; each calendar of a design is computed alike."""
    asked = scenario.file.hypotheses.estimator
    rows = []
    for design in scenario.file.designs:
        for label, route in zip(scenario.file.analyses, routes(scenario, design, 0), strict=True):
            estimator, because = "counting", route.why
            if asked == "conditional" and route.hot and not route.counted:
                estimator = "conditional, approximate" if route.approximate else "conditional"
                because = "missing at random given scores, which the condition ignores" if route.approximate else ""
            elif asked == "conditional" and route.hot:
                because = f"counted: {route.counted}"
            rows.append(
                {
                    "design": design,
                    "analysis": label,
                    "kernel": "lanes" if route.hot else "generic",
                    "estimator": estimator,
                    "because": because,
                }
            )
    return rows


def preview_rows(scenario: Scenario) -> list[dict[str, Any]]:
    """Power by the noncentral t of each design and analysis that can be had without replicates; else why not.

    An analysis whose model is not the one that scores are drawn from has none: its standard error is not that of the
    model. df: None for a z test.
    """
    hypotheses, rows = scenario.file.hypotheses, []
    for design in scenario.file.designs:
        for (label, analysis), route in zip(scenario.file.analyses.items(), routes(scenario, design, 0), strict=True):
            row: dict[str, Any] = dict.fromkeys(("design", "analysis", "power", "standard_error", "df", "because"))
            row |= {"design": design, "analysis": label, "because": route.why or route.counted}
            if route.hot and not route.counted:
                level, effect = (hypotheses.alpha, hypotheses.sides), float(route.effect[0])
                found = preview(route.hot.expected(), effect, *level, is_normal=analysis.df == "z")
                row |= {"power": found.power, "standard_error": found.standard_error}
                row["df"] = found.df if np.isfinite(found.df) else None
            rows.append(row)
    return rows


def preview_table(scenario: Scenario) -> Table:
    """The preview as a table that says what it is."""
    table = Table(
        title=f"{scenario.name}: PREVIEW of power, noncentral t, nothing simulated",
        caption="Expected numbers seen, variances as if known. Run the scenario for the power that counts.",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("design", "analysis", "standard error", "df", "power", "because"):
        table.add_column(heading, overflow="fold")
    for row in preview_rows(scenario):
        if row["power"] is None:
            table.add_row(row["design"], row["analysis"], "", "", "", f"no preview: {row['because']}")
        else:
            df = "inf" if row["df"] is None else f"{row['df']:.1f}"
            numbers = (f"{row['standard_error']:.4f}", df, f"{row['power']:.3f}")
            table.add_row(row["design"], row["analysis"], *numbers, "")
    return table
