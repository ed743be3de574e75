"""A comparison of designs as tables, and as plain data."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sim.evaluate.compare import LEVEL, ranking
from sim.run.compare import Comparison


def compare_tables(found: Comparison) -> Group:
    """Differences in power, pair by pair; then, of designs that were all compared, their ranking."""
    parts: list[RenderableType] = [_differences(found)]
    if found.among_all:
        parts += [Text(), _ranking(found)]
    return Group(*parts)


def compare_json(found: Comparison) -> dict[str, Any]:
    """The comparison as plain data."""
    ranked = ranking(found.table) if found.among_all else pd.DataFrame()
    return {
        "primary_analysis": found.primary_analysis,
        "paired": found.is_paired,
        "why": found.why,
        "level": LEVEL,
        "differences": _records(found.table),
        "ranking": _records(ranked),
    }


def _differences(found: Comparison) -> Table:
    table, net = found.table, _net(found)
    how = (
        f"Replicates are compared as pairs: {found.why}. Only a, only b: replicates in which one of the two rejects. "
        if found.is_paired
        else f"Replicates are not pairs ({found.why}): the errors are those of independent runs. "
    )
    shown = _table(
        f"Difference in power of the primary analysis ({found.primary_analysis}){net}: a - b",
        f"± Monte Carlo standard error; 95% interval of each difference by itself. {how}Real: Holm's p over all "
        f"{len(table)} differences shown is at most {LEVEL:g}.",
        ["outcome", "", "a", "b", "a - b", "95% interval", "only a", "only b", "replicates", "real"],
    )
    for (a, b), rows in table.groupby(["design_a", "design_b"], sort=False):
        shown.add_row(Text(f"{a} (a) and {b} (b)", style="bold"))
        last = len(rows) - 1
        for i, row in enumerate(rows.to_dict("records")):
            shown.add_row(
                str(row["outcome"]),
                "" if row["analysis"] == "none" else str(row["analysis"]),
                f"{row['power_a']:.3f}",
                f"{row['power_b']:.3f}",
                f"{row['difference']:+.3f} ±{row['mcse']:.3f}",
                f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}",
                *(_count(row[f"n_only_{one}"]) for one in "ab"),
                f"{row['n_replicate']:,}",
                "yes" if row["is_real"] else "no",
                end_section=i == last,
            )
    return shown


def _ranking(found: Comparison) -> Table:
    ranked = ranking(found.table)
    shown = _table(
        "Ranking",
        "Power of each design, the best first; designs that share a letter cannot be told apart.",
        ["outcome", "", "designs"],
    )
    for (outcome, analysis), rows in ranked.groupby(["outcome", "analysis"], sort=False):
        each = (f"{row['design']} {row['power']:.3f} {row['letters']}" for row in rows.to_dict("records"))
        shown.add_row(str(outcome), "" if analysis == "none" else str(analysis), " · ".join(each))
    return shown


def _net(found: Comparison) -> str:
    return ", net of demand inflation" if (found.table["measure"] == "power_net_of_demand").any() else ""


def _count(number: float) -> str:
    return "-" if pd.isna(number) else f"{number:,.0f}"


def _table(title: str, caption: str, columns: list[str]) -> Table:
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", title_style="bold")
    for column in columns:
        left = column in ("outcome", "", "designs")
        table.add_column(column, justify="left" if left else "right")
    return table


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): (None if pd.isna(v) else v) for k, v in row.items()} for row in table.to_dict("records")]
