"""Pictures of a run: SVG for print, PNG for a page. Colour is never the only sign."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from sim.run.job import Result

TARGET = 0.8
INSIDE = 0.5  # a design counts as inside a window when more than this share of its final visits is


def power_figure(result: Result, folder: Path) -> Path:
    """Power of the primary analysis by design and outcome with 95% Monte Carlo intervals; writes power.svg and .png."""
    outcomes = result.scenario.names.outcome
    primary = result.scenario.file.hypotheses.primary_analysis
    measure = "power_net_of_demand" if (result.estimands["demand_inflation"] != 0).any() else "power"
    is_shown = (result.summary["measure"] == measure) & (result.summary["analysis"] == primary)
    power = result.summary[is_shown]
    designs = list(result.scenario.file.designs)
    inside = result.designs.set_index("design")["share_final_in_window"] > INSIDE
    blue, vermilion = matplotlib.color_sequences["okabe_ito"][5], matplotlib.color_sequences["okabe_ito"][6]

    height = 1.6 + 0.32 * len(designs)
    figure, axes = plt.subplots(
        1, len(outcomes), figsize=(2.1 + 2.3 * len(outcomes), height), sharey=True, squeeze=False
    )
    for axis, outcome in zip(axes[0], outcomes, strict=True):
        by_design = power[power["outcome"] == outcome].set_index("design")
        for y, design in enumerate(designs):
            if inside[design]:
                axis.axhspan(y - 0.5, y + 0.5, color=vermilion, alpha=0.12, linewidth=0)
            _point(
                axis, by_design.loc[design], y, vermilion if inside[design] else blue, "D" if inside[design] else "o"
            )
        axis.axvline(TARGET, color="0.4", linestyle="--", linewidth=1)
        axis.set(xlim=(0, 1), title=outcome.replace("_", " "), xlabel="power")
        axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0], ["0", ".2", ".4", ".6", ".8", "1"])
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0][0].set_yticks(range(len(designs)), [_label(result, d) for d in designs])
    axes[0][0].set_ylim(len(designs) - 0.5, -0.5)
    windows = ", ".join(result.scenario.names.window) or "none"
    figure.suptitle(result.scenario.file.title, x=0.01, ha="left", fontweight="bold")
    note = (
        f"{primary}, {result.scenario.file.replicates:,} replicates a design, bars: 95% Monte Carlo interval. "
        f"Diamonds on a tinted row: final visits inside the window ({windows}). Dashed: power {TARGET:g}."
    )
    figure.text(0.01, 0.012, note, fontsize=8, color="0.25")
    figure.tight_layout(rect=(0, 0.035, 1, 0.985))
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": "nexttrial"}):
        figure.savefig(folder / "power.svg", metadata={"Date": None})
    figure.savefig(folder / "power.png", dpi=130)
    plt.close(figure)
    return folder / "power.svg"


def _point(axis: Axes, row: pd.Series, y: int, colour: object, marker: str) -> None:
    power = float(row["estimate"])
    low, high = power - float(row["ci_low"]), float(row["ci_high"]) - power
    axis.errorbar(
        power,
        y,
        xerr=[[low], [high]],
        fmt=marker,
        color=colour,
        markersize=5,
        capsize=2.5,
        linewidth=1.2,
        clip_on=False,
    )


def _label(result: Result, design: str) -> str:
    people = result.designs.loc[result.designs["design"] == design, "n_participant"].iloc[0]
    return f"{design}  ({people:.0f})"
