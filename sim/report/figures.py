"""Pictures of a run: SVG for print, PNG for a page. Colour is never the only sign."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.report.tables import headline_measure
from sim.run.tables import Result

matplotlib.rcParams["text.parse_math"] = False  # a $ in a user's text begins no formula

OKABE_ITO = matplotlib.color_sequences["okabe_ito"]
SERIES = [OKABE_ITO[number] for number in (5, 6, 3, 7, 1, 2, 0)]
"""Colours of lines, those that are told apart on white first."""
TARGET = 0.8
INSIDE = 0.5  # a design counts as inside a window when more than this share of its final visits is


def power_figure(result: Result, folder: Path) -> Path:
    """Power of the primary analysis by design and outcome with 95% Monte Carlo intervals; writes power.svg and .png."""
    outcomes = result.scenario.names.outcome
    primary = result.scenario.file.hypotheses.primary_analysis
    is_shown = (result.summary["measure"] == headline_measure(result)) & (result.summary["analysis"] == primary)
    power = result.summary[is_shown]
    designs = result.designs["design"].to_list()

    size = (2.1 + 2.3 * len(outcomes), 1.6 + 0.32 * len(designs))
    figure, axes = plt.subplots(1, len(outcomes), figsize=size, sharey=True, squeeze=False)
    inside = (result.designs["share_final_in_window"] > INSIDE).to_list()
    for axis, outcome in zip(axes[0], outcomes, strict=True):
        by_design = power[power["outcome"] == outcome].set_index("design").loc[designs]
        _panel(axis, outcome.replace("_", " "), by_design, inside)
    people = result.designs["n_participant"].to_list()
    axes[0][0].set_yticks(range(len(designs)), [f"{d}  ({n:.0f})" for d, n in zip(designs, people, strict=True)])
    axes[0][0].set_ylim(len(designs) - 0.5, -0.5)
    net = "" if headline_measure(result) == "power" else ", net of demand inflation"
    windows = ", ".join(result.scenario.names.window)
    tinted = f"Diamonds on a tinted row: final visits inside the {windows} window. " if windows else ""
    figure.suptitle(result.scenario.file.title, x=0.01, ha="left", fontweight="bold")
    note = (
        f"{primary}{net}, {result.scenario.file.replicates:,} replicates a design (people in brackets), bars: 95% "
        f"Monte Carlo interval.\n{tinted}Dashed: power "
        f"{TARGET:g}."
    )
    figure.text(0.01, 0.012, note, fontsize=8, color="0.25")
    figure.tight_layout(rect=(0, 0.055, 1, 0.985))
    save(figure, folder / "power.png")
    return save(figure, folder / "power.svg")


def save(figure: Figure, path: Path) -> Path:
    """The figure in the format of the path's suffix, the same bytes each time.

    It is drawn beside its place and then put there: a reader never sees half of it, and a link that stands there is
    replaced, not followed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    metadata = {"Date": None} if path.suffix == ".svg" else None
    try:
        with plt.rc_context({"svg.hashsalt": "nexttrial"}):
            figure.savefig(beside, format=path.suffix[1:], dpi=130, metadata=metadata)
        beside.replace(path)
    finally:
        plt.close(figure)
        beside.unlink(missing_ok=True)
    return path


def _panel(axis: Axes, title: str, power: pd.DataFrame, inside: list[bool]) -> None:
    """Power of one outcome, a row per design; inside a window: a diamond on a tinted row."""
    blue, vermilion = OKABE_ITO[5], OKABE_ITO[6]
    estimate, low, high = (power[column].to_numpy(float) for column in ("estimate", "ci_low", "ci_high"))
    for y, is_inside in enumerate(inside):
        colour, marker = (vermilion, "D") if is_inside else (blue, "o")
        if is_inside:
            axis.axhspan(y - 0.5, y + 0.5, color=vermilion, alpha=0.12, linewidth=0)
        bar = [[max(estimate[y] - low[y], 0.0)], [max(high[y] - estimate[y], 0.0)]]
        axis.errorbar(
            estimate[y], y, xerr=bar, fmt=marker, color=colour, markersize=5, capsize=2.5, linewidth=1.2, clip_on=False
        )
    axis.axvline(TARGET, color="0.4", linestyle="--", linewidth=1)
    axis.set(xlim=(0, 1), title=title, xlabel="power")
    axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0], ["0", ".2", ".4", ".6", ".8", "1"])
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
