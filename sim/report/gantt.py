"""One realised calendar as a picture: a row per training group, windows and closed periods behind. SVG, PNG or PDF.

Colour is never the only sign: bars differ in height and hatching, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import dates as mdates
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from sim.calendar.plan import YearlyPeriod
from sim.run.blocks import Realisation, realise
from sim.scenario.load import Scenario
from sim.trial import Days

matplotlib.rcParams["text.parse_math"] = False  # a $ in a user's text begins no formula

SUFFIXES = (".svg", ".png", ".pdf")
SAID = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
MOST_LABELLED = 80
ROW, TALLEST = 0.21, 14.0  # inches

ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (matplotlib.color_sequences["okabe_ito"][i] for i in (1, 2, 3, 5, 6, 7))


@dataclass(frozen=True)
class Bar:
    """How one kind of bar looks."""

    label: str
    colour: Any
    height: float
    hatch: str = ""
    edge: Any = "none"

    def draw(self, axis: Axes, y: float, first: float, last: float) -> None:
        """From the beginning of `first` to the end of `last`."""
        axis.barh(
            y, max(last - first + 1, 1), left=first, height=self.height, color=self.colour, hatch=self.hatch,
            edgecolor=self.edge, linewidth=0.4, zorder=3,
        )  # fmt: skip

    @property
    def key(self) -> Patch:
        return Patch(facecolor=self.colour, hatch=self.hatch, edgecolor=self.edge, linewidth=0.4, label=self.label)


RECRUITING = Bar("recruiting", SKY, 0.34, "////", "white")
WAITING = Bar("complete, waiting for days and team", "0.75", 0.12)
TRAINING = Bar("training", "black", 0.86)
VISITS = Bar("visits after it, trained and untreated", GREEN, 0.5)
WAIT_LIST = Bar("training of the untreated, seen for the last time", ORANGE, 0.86, "xxxx", "black")


def gantt(scenario: Scenario, design: str, number: int, path: Path) -> Path:
    """Draws calendar `number` of a design to `path`, whose ending is one of SUFFIXES."""
    realisation = realise(scenario, design, number)
    allocation, dates, done = realisation.allocation, realisation.schedule, realisation.operations
    rows = np.lexsort((dates.training_start, allocation.group_district))
    height = min(TALLEST, 2.3 + ROW * len(rows))
    figure, axis = plt.subplots(figsize=(11.5, height), layout="constrained")
    begin, end = int(done.opening.min()) - 5, done.last_day + 8
    axis.set_xlim(begin, end)
    axis.set_ylim(len(rows) - 0.4 + 1.3 * len(scenario.file.calendar.seasons), -0.6)
    behind = _shade(axis, scenario, np.arange(begin, end + 1), len(rows))
    for y, group in enumerate(rows.tolist()):
        _draw_row(axis, y, realisation, group)
    _name_rows(axis, realisation, rows)
    _mark_months(axis)
    bars = [RECRUITING, WAITING, TRAINING, VISITS, *([WAIT_LIST] if len(done.wait_list_clock) else [])]
    keys = [bar.key for bar in bars] + behind
    figure.legend(handles=keys, loc="outside lower left", ncols=3, frameon=False, fontsize=8, handlelength=2.6)
    title = f"{scenario.design(design).label}: who is trained and visited when"
    axis.set_title(title, loc="left", fontweight="bold", fontsize=11, pad=22)
    note = (
        f"Calendar {number} of {scenario.file.calendars}: {allocation.n_participant} participants. A row is a training "
        "group; beside it, how many it trains + how many untreated are seen on the same dates."
    )
    axis.annotate(
        note, (0, 1), xycoords="axes fraction", xytext=(0, 7), textcoords="offset points", fontsize=8.5, color="0.25"
    )
    with plt.rc_context({"svg.hashsalt": "nexttrial", "hatch.linewidth": 0.5}):
        date = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
        figure.savefig(path, dpi=130, metadata=date)
    plt.close(figure)
    return path


def _draw_row(axis: Axes, y: int, realisation: Realisation, group: int) -> None:
    allocation, dates, done = realisation.allocation, realisation.schedule, realisation.operations
    start, n_day = dates.training_start[group], dates.availability.shape[1]
    RECRUITING.draw(axis, y, done.first_recruit[group], done.complete[group])
    if start - 1 > done.complete[group]:
        WAITING.draw(axis, y, done.complete[group] + 1, start - 1)
    clock = allocation.clock == group
    for v in range(1, dates.visit_day.shape[1]):
        day = dates.visit_day[clock & dates.is_held[:, v], v]
        if len(day):
            VISITS.draw(axis, y, day.min(), day.max())
    TRAINING.draw(axis, y, start, start + n_day - 1)
    for wait_list in done.wait_list_start[done.wait_list_clock == group]:
        WAIT_LIST.draw(axis, y, wait_list, wait_list + n_day - 1)


def _shade(axis: Axes, scenario: Scenario, day: Days, n_row: int) -> list[Patch]:
    """Windows, closed periods and, below the rows, seasons; their keys for the legend."""
    plan = scenario.file.calendar
    keys = []
    for name, window in plan.windows.items():
        inside, exposure = window.contains(day), window.exposure(day)
        _spans(axis, day, ~inside & (exposure > 0), color=PURPLE, alpha=0.07)
        _spans(axis, day, inside, color=PURPLE, alpha=0.16)
        peak = YearlyPeriod.model_construct(first=window.peak_first, last=window.peak_last)
        _spans(axis, day, peak.contains(day), color=PURPLE, alpha=0.30)
        before = "; lighter: before it" if window.rise else ""
        keys.append(Patch(color=PURPLE, alpha=0.25, label=f"window: {_words(name)} (darker: its peak{before})"))
    for period in plan.closed.values():
        _spans(axis, day, period.contains(day), facecolor="none", edgecolor="0.55", hatch="....")
    if plan.closed:
        names = ", ".join(map(_words, plan.closed))
        keys.append(Patch(facecolor="none", edgecolor="0.55", hatch="....", label=f"closed: {names}"))
    for at, (name, season) in enumerate(plan.seasons.items()):
        for first, last in _runs(day, season.contains(day)):
            y = n_row + 0.35 + 1.3 * at
            axis.barh(
                y, last + 1 - first, left=first, height=0.9, color="#D6E6F2", hatch="\\\\", edgecolor=BLUE, lw=0.4
            )
            said = f"{_words(name)}: {season.availability.value:.0%} come"
            axis.text(first + 2, y, said, fontsize=7, va="center", clip_on=True, bbox=SAID)
    return keys


def _spans(axis: Axes, day: Days, is_in: np.ndarray, **look: Any) -> None:
    for first, last in _runs(day, is_in):
        axis.axvspan(first, last + 1, linewidth=0, zorder=1, **look)


def _runs(day: Days, is_in: np.ndarray) -> list[tuple[int, int]]:
    """First and last day of every run of days that are in."""
    change = np.flatnonzero(np.diff(np.concatenate([[False], is_in, [False]]).astype(np.int8)))
    return [(int(day[a]), int(day[b - 1])) for a, b in zip(change[::2], change[1::2], strict=True)]


def _name_rows(axis: Axes, realisation: Realisation, rows: Days) -> None:
    """What each row is, where there is room for it; districts are told apart by a line and their number."""
    allocation, dates = realisation.allocation, realisation.schedule
    district = allocation.group_district[rows]
    trained = np.bincount(allocation.clock[allocation.is_trained], minlength=len(rows))
    untreated = np.bincount(allocation.clock[~allocation.is_trained], minlength=len(rows))
    arm = np.zeros(len(rows), dtype=int)
    arm[allocation.clock[allocation.is_trained]] = allocation.arm[allocation.is_trained]
    name_arm = sum(one.is_trained for one in allocation.arms) > 1
    labels = []
    for group in rows.tolist():
        which = f"{_words(allocation.arms[arm[group]].name)}  " if name_arm else ""
        team = f"team {dates.team[group] + 1}  " if dates.team[group] >= 0 else ""
        labels.append(f"{which}{team}{trained[group]}+{untreated[group]}")
    width = 4.0 * max(map(len, labels)) + 8
    is_labelled = len(rows) <= MOST_LABELLED
    axis.set_yticks(range(len(rows)) if is_labelled else [], labels if is_labelled else [], fontsize=7)
    axis.tick_params(axis="y", length=0)
    starts = np.flatnonzero(np.diff(district, prepend=-1))
    for first, last in zip(starts, [*starts[1:], len(rows)], strict=True):
        if first:
            axis.axhline(first - 0.5, color="0.3", linewidth=0.7, zorder=2)
        axis.annotate(
            f"district {district[first] + 1}", (0, (first + last - 1) / 2), xycoords=axis.get_yaxis_transform(),
            xytext=(-width if is_labelled else -8, 0), textcoords="offset points", rotation=90, ha="right", va="center",
            fontsize=8, fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def _mark_months(axis: Axes) -> None:
    axis.xaxis.set_major_locator(mdates.MonthLocator())  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_formatter(FuncFormatter(_month))
    axis.grid(axis="x", color="0.85", linewidth=0.6, zorder=0)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _month(day: float, position: int | None) -> str:
    """The month; below the first and every January the year."""
    when = np.datetime64(int(day), "D").item()
    return f"{when:%b}\n{when:%Y}" if when.month == 1 or position == 0 else f"{when:%b}"


def _words(name: str) -> str:
    return name.replace("_", " ")
