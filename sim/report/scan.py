"""A design started on many dates, as a table and as the picture that says when to start."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from rich.table import Table

from sim.report.figures import OKABE_ITO, SERIES, TARGET, save
from sim.report.tables import headline_measure
from sim.run.scan import Started
from sim.scenario.load import Scenario

MARKERS = "osD^vP*X"


def scan_frame(found: Iterable[Started]) -> pd.DataFrame:
    """A row per start date and outcome: first training, last visit, power, losses, final visits inside the windows.

    power : the headline measure of the primary analysis, `power_mcse` its Monte Carlo standard error.  lost : share of
    participants not seen at the final visit.  why : the reason where a date has no calendar, and then nothing else.
    """
    rows: list[dict[str, Any]] = []
    for one in found:
        if one.result is None:
            rows.append({"start": str(one.start), "why": one.why})
            continue
        design = one.result.designs.iloc[0]
        summary = one.result.summary
        power = summary[
            (summary["measure"] == headline_measure(one.result)) & ~summary["analysis"].str.contains("+", regex=False)
        ]
        for outcome in one.result.scenario.names.outcome:
            at = power[power["outcome"] == outcome].iloc[0]
            rows.append(
                {
                    "start": str(one.start),
                    "first_training": design["start_date"],
                    "last_visit": design["last_visit_date"],
                    "n_participant": design["n_participant"],
                    "outcome": outcome,
                    "measure": at["measure"],
                    "power": at["estimate"],
                    "power_mcse": at["mcse"],
                    "lost": 1 - design["share_observed_final"],
                    "lost_mcse": design.get("share_observed_final_mcse", 0.0),
                    "final_in_window": design["share_final_in_window"],
                    "why": "",
                }
            )
    return pd.DataFrame(rows)


def scan_table(scenario: Scenario, design: str, frame: pd.DataFrame) -> Table:
    """A line per start date: power of every outcome, losses, final visits inside the windows."""
    table = Table(
        title=f"{scenario.design(design).label}: started on {frame['start'].nunique()} dates", title_justify="left",
        title_style="bold", caption_justify="left",
        caption=f"{scenario.file.hypotheses.primary_analysis}, {scenario.file.replicates:,} replicates a date, the "
        f"same people on every date; power{_net(frame)} ± Monte Carlo standard error, outcomes one by one. Lost: not "
        "seen at the final visit.",
    )  # fmt: skip
    for column in ("start", "first training", "last visit", *scenario.names.outcome, "lost", "in window"):
        table.add_column(column, justify="left" if column == "start" else "right")
    for start, rows in frame.groupby("start", sort=False):
        row = rows.iloc[0]
        if row["why"]:
            table.add_row(str(start), row["why"])
            continue
        power = [f"{p:.2f} ±{e:.3f}" for p, e in zip(rows["power"], rows["power_mcse"], strict=True)]
        shares = (f"{row['lost']:.1%}", f"{row['final_in_window']:.0%}")
        table.add_row(str(start), row["first_training"], row["last_visit"], *power, *shares)
    return table


def scan_figure(scenario: Scenario, design: str, frame: pd.DataFrame, path: Path) -> Path:
    """Power, final visits inside the windows and losses against the date on which the first group is trained."""
    held = frame[frame["why"] == ""] if "first_training" in frame else frame.iloc[:0]
    figure, axes = plt.subplots(3, 1, figsize=(8.4, 7.4), sharex=True, height_ratios=(3, 1.3, 1.3))
    for number, outcome in enumerate(scenario.names.outcome):
        one = held[held["outcome"] == outcome]
        day, power = _days(one["first_training"]), one["power"].to_numpy(float)
        half = 1.96 * one["power_mcse"].to_numpy(float)
        colour = SERIES[number % len(SERIES)]
        axes[0].fill_between(day, power - half, power + half, color=colour, alpha=0.18, linewidth=0)
        style = ("-", "--", "-.", ":")[number % 4]
        axes[0].plot(
            day, power, color=colour, linestyle=style, marker=MARKERS[number % len(MARKERS)], markersize=4,
            label=outcome.replace("_", " "),
        )  # fmt: skip
    axes[0].axhline(TARGET, color="0.4", linestyle="--", linewidth=1)
    axes[0].set(ylim=(0, 1.02), ylabel="power")
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=len(scenario.names.outcome), frameon=False)
    once = held.drop_duplicates("start")
    day = _days(once["first_training"])
    _filled(axes[1], day, once["final_in_window"].to_numpy(float), "final visits\ninside a window", OKABE_ITO[6])
    _filled(axes[2], day, once["lost"].to_numpy(float), "lost by the\nfinal visit", OKABE_ITO[5])
    axes[2].set_ylim(0, max(0.05, 1.15 * float(once["lost"].max()) if len(once) else 0.05))
    axes[2].set_xlabel("first training")
    locator = AutoDateLocator(minticks=6, maxticks=14)  # type: ignore[no-untyped-call]
    axes[2].xaxis.set_major_locator(locator)
    axes[2].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    for axis in axes:
        axis.grid(color="0.92")
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    label = scenario.design(design).label
    figure.suptitle(f"{label}: when to start", x=0.01, ha="left", fontweight="bold")
    file = scenario.file
    said = f"{file.hypotheses.primary_analysis}, {file.replicates:,} replicates a date, the same people on every date. "
    said += f"Power{_net(frame)} outcomes one by one.\nBands: 95% Monte Carlo interval; dashed: power {TARGET:g}."
    missing = frame.loc[frame["why"] != "", "start"]
    if len(missing):
        said += f" No calendar on {len(missing)} dates, the first {missing.iloc[0]}."
    figure.text(0.01, 0.008, said, fontsize=8, color="0.25")
    figure.tight_layout(rect=(0, 0.025, 1, 0.985))
    return save(figure, path)


def _net(frame: pd.DataFrame) -> str:
    """What is taken out of the estimates before their tests."""
    measured = set(frame["measure"].dropna()) if "measure" in frame else set()
    return " net of demand inflation," if measured == {"power_net_of_demand"} else ","


def _days(column: pd.Series[Any]) -> np.ndarray:
    return column.to_numpy("datetime64[D]")


def _filled(axis: Axes, day: np.ndarray, share: np.ndarray, label: str, colour: Any) -> None:
    axis.fill_between(day, 0, share, color=colour, alpha=0.25, linewidth=0)
    axis.plot(day, share, color=colour, marker="o", markersize=3)
    axis.set(ylim=(0, 1.02), ylabel=label)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
