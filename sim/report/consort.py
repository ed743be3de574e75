"""Who is expected to take part, drawn as the flow diagram of CONSORT: from screening to analysis, an arm a column.

References: Schulz, Altman, Moher 2010, doi:10.1136/bmj.c332; its extension to cluster randomised trials, Campbell et
al. 2012, doi:10.1136/bmj.e5661. A planned trial has expected numbers, each with the range of most replicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from sim.designs.arms import apportion
from sim.designs.village import Village
from sim.report.figures import OKABE_ITO, save
from sim.run.flow import ALL, HIGH, LOW
from sim.run.tables import Result

# All lengths are in points, y downwards; the width is that of the text on an A4 page with margins of 2 cm.
WIDTH, MARGIN, STRIP = 482.0, 4.0, 13.0
LEFT, RIGHT = MARGIN + STRIP + 4, WIDTH - MARGIN
LARGE, PLAIN, SMALL = 9.5, 7.6, 6.4
LEADING, PAD, ROOM = 1.34, 3.5, 13.0
MAIN, NARROW, BESIDE = 200.0, 240.0, 22.0  # widths, and how far right of the middle those who leave stand
INDENT = 4.0
LEAST = 34.0
"""Height of a box, so that the name of its stage fits beside it."""
HINTED = 1.025
"""How much longer a line is in pixels than in print, at most."""
TINT = (*matplotlib.colors.to_rgb(OKABE_ITO[2]), 0.22)
"""Of the boxes of those analysed: a light grey in print, and their edge is thicker."""


@dataclass(frozen=True)
class Line:
    """A line of a box: words on the left, and a number on the right unless it is empty."""

    words: str
    number: str = ""
    size: float = PLAIN
    weight: str = "normal"
    indent: float = 0.0

    @property
    def height(self) -> float:
        return self.size * LEADING

    def within(self, width: float) -> list[Line]:
        """The line, or as many as its words need; the number stands on the first."""
        beside = _length(self.number, self.size, self.weight) + 4 if self.number else 0
        first, *more = _wrap(self.words, self.size, self.weight, width - self.indent - beside)
        return [
            Line(first, self.number, self.size, self.weight, self.indent),
            *(Line(words, "", self.size, self.weight, self.indent + INDENT) for words in more),
        ]


@dataclass(frozen=True)
class Box:
    """Lines in a frame whose top is at y."""

    lines: list[Line]
    x: float
    y: float
    width: float
    height: float
    top: float  # of the first line
    is_kept: bool = False

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def draw(self, axis: Axes) -> None:
        colour, edge = (TINT, 1.6) if self.is_kept else ("white", 0.8)
        at = (self.x, self.y)
        axis.add_patch(Rectangle(at, self.width, self.height, facecolor=colour, edgecolor="0.15", linewidth=edge))
        y = self.top
        for line in self.lines:
            y += line.height
            base = y - line.size * (LEADING - 1)
            _write(axis, self.x + PAD + 1 + line.indent, base, line.words, line.size, line.weight)
            if line.number:
                _write(axis, self.x + self.width - PAD - 1, base, line.number, line.size, line.weight, ha="right")


def consort_figure(result: Result, design: str, path: Path) -> Path:
    """The flow of people that a design expects, drawn to `path`, whose ending says the format."""
    figure = _Drawing(_Numbers(result, design)).draw()
    return save(figure, path)


class _Numbers:
    """The rows of flow.csv of one design, and the lines of the boxes that say them."""

    def __init__(self, result: Result, design: str) -> None:
        table = result.flow[result.flow["design"] == design]
        self.result, self.design, self.plan = result, design, result.scenario.design(design)
        keys = table[["stage", "arm", "stratum", "visit", "reason"]].itertuples(index=False, name=None)
        values = table[["people", "low", "high"]].itertuples(index=False, name=None)
        self.of: dict[tuple[str, ...], tuple[float, ...]] = dict(zip(keys, values, strict=True))
        self.arms = list(dict.fromkeys(key[1] for key in self.of if key[0] == "allocated" and key[1] != ALL))
        self.is_randomised = self.plan.contrast_arms.control is not None
        self.visits = result.scenario.names.visit[1:]
        self.n_cluster = float(result.designs.loc[result.designs["design"] == design, "n_cluster"].iloc[0])

    def find(self, stage: str, arm: str = ALL, visit: str = ALL, reason: str = ALL) -> tuple[float, ...]:
        """Expected people of all strata together, low and high; where there is but one arm or stratum, of it."""
        arm = self._arm(stage, arm)
        strata = (ALL, *self.result.scenario.names.stratum)
        return next(self.of[key] for s in strata if (key := (stage, arm, s, visit, reason)) in self.of)

    def _arm(self, stage: str, arm: str) -> str:
        return self.arms[0] if (stage, len(self.arms), arm) == ("allocated", 1, ALL) else arm

    def strata(self, stage: str, arm: str = ALL, visit: str = ALL) -> Iterator[Line]:
        """A small line per stratum, where there are several."""
        for stratum in self.result.scenario.names.stratum if len(self.result.scenario.names.stratum) > 1 else ():
            if (found := self.of.get((stage, self._arm(stage, arm), stratum, visit, ALL))) is not None:
                yield Line(_plain(stratum), said(*found), SMALL, indent=INDENT)

    def reasons(self, arm: str, visit: str) -> Iterator[Line]:
        """A small line per reason for which anybody is lost in any arm; none where there is but one reason."""
        lost = {key: found[0] for key, found in self.of.items() if key[0] == "lost" and key[4] != ALL}
        if len({key[4] for key, people in lost.items() if people > 0}) < 2:
            return
        for reason in dict.fromkeys(key[4] for key in lost):
            if any(self.find("lost", each, visit, reason)[0] > 0 for each in self.arms):
                yield Line(_plain(reason), said(*self.find("lost", arm, visit, reason)), SMALL, indent=INDENT)

    def is_any(self, *stages: str) -> bool:
        return any(self.find(stage)[0] > 0 for stage in stages)

    def before(self) -> list[tuple[list[Line], list[Line]]]:
        """What is above the arms: each box, and the one of those who leave beside it."""
        boxes = []
        if self.is_any("ineligible", "refused"):
            left = [
                Line("Excluded", "", weight="bold"),
                Line("not eligible", said(*self.find("ineligible"))), *self.strata("ineligible"),
                Line("declined to take part", said(*self.find("refused"))), *self.strata("refused"),
            ]  # fmt: skip
            boxes.append((self._box("Screened", "screened"), left))
        turned_away = self.is_any("turned_away")
        if turned_away:
            left = [Line("Turned away", said(*self.find("turned_away")), weight="bold"), *self.strata("turned_away")]
            left.append(Line("their training group stayed too small", size=SMALL, indent=INDENT))
            boxes.append((self._box("Enrolled", "enrolled"), left))
        how = "Randomised" if self.is_randomised else "In the trial"
        first = how if turned_away else f"Enrolled and {how[0].lower()}{how[1:]}"
        boxes.append((self._box(first, "allocated") + self._clusters(), []))
        return boxes

    def _box(self, title: str, stage: str) -> list[Line]:
        return [Line(title, said(*self.find(stage)), weight="bold"), *self.strata(stage)]

    def _clusters(self) -> list[Line]:
        if self.n_cluster == 0:
            return []
        number = f"{self.n_cluster:,.{0 if self.n_cluster.is_integer() else 1}f}"
        if isinstance(self.plan, Village):
            return [Line("villages, the units randomised", number, SMALL, indent=INDENT)]
        return [Line("training groups of those trained", number, SMALL, indent=INDENT)]

    def allocated(self, arm: str) -> list[Line]:
        lines = [
            Line(f"Allocated to {_plain(arm)}" if self.is_randomised else _plain(arm, capital=True), weight="bold"),
            Line("people", said(*self.find("allocated", arm))), *self.strata("allocated", arm),
        ]  # fmt: skip
        for n in self._villages(arm):
            each = self.find("allocated", arm)[0] / n
            lines.append(Line(f"villages, of {each:.0f} people on average", str(n)))
        first = self.find("seen", arm, self.result.scenario.names.visit[0])
        name = _plain(self.result.scenario.names.visit[0])
        is_all = first == self.find("allocated", arm)
        lines.append(Line(f"all seen at {name}") if is_all else Line(f"seen at {name}", said(*first)))
        later = [Line("wait-list: trained after the last visit", size=SMALL)] if self._is_wait_list(arm) else []
        return [*lines, *later]

    def _is_wait_list(self, arm: str) -> bool:
        untreated = [one.name for one in self.plan.arm_list if not one.is_trained]
        return self.result.scenario.file.calendar.wait_list_trained and arm in untreated

    def _villages(self, arm: str) -> list[int]:
        """Villages of an arm, if every one that is planned takes part in every replicate."""
        plan = self.plan
        if not isinstance(plan, Village) or self.n_cluster != plan.districts * plan.villages_per_district:
            return []
        each = dict(zip(plan.arms, apportion(plan.villages_per_district, plan.weights), strict=True))
        return [plan.districts * n for name, n in each.items() if name == arm]

    def visit(self, arm: str, visit: str) -> list[Line]:
        """Seen, but for the final visit, which has a box of its own, and not seen, and why."""
        lines = [Line(_plain(visit, capital=True), weight="bold")]
        if visit != self.visits[-1]:
            lines += [Line("seen", said(*self.find("seen", arm, visit))), *self.strata("seen", arm, visit)]
        return [*lines, Line("not seen", said(*self.find("lost", arm, visit))), *self.reasons(arm, visit)]

    def analysed(self, arm: str) -> list[Line]:
        final = self.visits[-1]
        return [
            Line("Analysed", said(*self.find("seen", arm, final)), weight="bold"), *self.strata("seen", arm, final),
            Line(f"seen at {_plain(final)}", size=SMALL),
        ]  # fmt: skip

    def note(self) -> str:
        n_replicate, strata = self.result.scenario.file.replicates, self.result.scenario.names.stratum
        note = (
            f"Expected numbers: means over {n_replicate:,} simulated replicates of the trial, in brackets the range of "
            f"the middle {HIGH - LOW:.0%} of them; without a range: the same in all, or below 0.1. Means are rounded "
            "one by one and may not add up exactly; ranges do not add up."
        )
        if len(strata) > 1:
            note += f" Strata: {', '.join(map(_plain, strata))}."
        if self.visits[1:]:
            note += " Not seen at a visit: of all who were allocated, so also who was lost before it."
        return note


class _Drawing:
    """Boxes from top to bottom, and the arrows between them."""

    def __init__(self, numbers: _Numbers) -> None:
        self.numbers = numbers
        self.boxes: list[Box] = []
        self.arrows: list[tuple[list[float], list[float]]] = []  # corners; the last is the head
        self.bands: list[tuple[str, float]] = []  # each ends above the next
        self.middle = (LEFT + RIGHT) / 2
        title = f"{numbers.plan.label}: expected flow of participants"
        self.title = _wrap(title, LARGE, "bold", WIDTH - 2 * MARGIN)
        self.y = MARGIN + len(self.title) * LARGE * LEADING + 6

    def draw(self) -> Figure:
        self._top()
        self._columns()
        note = _wrap(self.numbers.note(), SMALL, "normal", WIDTH - 2 * MARGIN)
        bottom = self.y + 9
        height = bottom + len(note) * SMALL * LEADING + MARGIN
        figure = plt.figure(figsize=(WIDTH / 72, height / 72))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set(xlim=(0, WIDTH), ylim=(height, 0))
        axis.set_axis_off()
        self._draw_bands(axis)
        for x, y in self.arrows:
            axis.plot(x[:-1], y[:-1], color="0.15", linewidth=0.9, solid_joinstyle="miter")
            look = {"arrowstyle": "-|>", "color": "0.15", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
            axis.annotate("", (x[-1], y[-1]), (x[-2], y[-2]), arrowprops={**look, "mutation_scale": 7})
        for box in self.boxes:
            box.draw(axis)
        for at, words in enumerate(self.title):
            _write(axis, MARGIN, MARGIN + (at + 0.8) * LARGE * LEADING, words, LARGE, "bold")
        for at, words in enumerate(note):
            _write(axis, MARGIN, bottom + (at + 0.8) * SMALL * LEADING, words, SMALL, "normal")
        return figure

    def _top(self) -> None:
        """Screened, enrolled and randomised below one another; beside each arrow, those who leave."""
        self.bands.append(("Enrolment", self.y))
        boxes = self.numbers.before()
        aside = self.middle + BESIDE
        for lines, leave in boxes:
            box = self._box([lines], [self.middle - MAIN / 2], MAIN)[0]
            if leave:
                self.y = box.bottom + 7
                (side,) = self._box([leave], [aside], RIGHT - aside)
                half = side.y + side.height / 2
                self.arrows.append(([self.middle, aside], [half, half]))
                self.arrows.append(([self.middle] * 2, [box.bottom, side.bottom + 7]))
                self.y = side.bottom + 7

    def _columns(self) -> None:
        """A column per arm: allocated, every visit, analysed."""
        numbers, n = self.numbers, len(self.numbers.arms)
        gap = 5.0
        width = min(NARROW, (RIGHT - LEFT - gap * (n - 1)) / n)
        begin = self.middle - (n * width + (n - 1) * gap) / 2
        x = [begin + i * (width + gap) for i in range(n)]
        fork, self.y = self.y, self.y + (ROOM if n == 1 else 1.6 * ROOM)
        above = self._box([numbers.allocated(arm) for arm in numbers.arms], x, width)
        for box in above:
            corner = fork + 0.6 * ROOM
            ys = [fork, corner, corner, box.y] if n > 1 else [fork, box.y]
            self.arrows.append(([self.middle, self.middle, box.middle, box.middle] if n > 1 else [box.middle] * 2, ys))
        name = "Allocation" if numbers.is_randomised else "Treatment"
        self.bands += [(name, above[0].y), ("Follow-up", self.y + ROOM)]
        for visit in numbers.visits:
            above = self._below(above, [numbers.visit(arm, visit) for arm in numbers.arms])
        above = self._below(above, [numbers.analysed(arm) for arm in numbers.arms], is_kept=True)
        self.bands += [("Analysis", above[0].y), ("", self.y + 4)]

    def _below(self, above: list[Box], lines: list[list[Line]], *, is_kept: bool = False) -> list[Box]:
        self.y += ROOM
        boxes = self._box(lines, [box.x for box in above], above[0].width, is_kept=is_kept)
        self.arrows += [([box.middle] * 2, [over.bottom, box.y]) for over, box in zip(above, boxes, strict=True)]
        return boxes

    def _box(self, lines: list[list[Line]], x: list[float], width: float, *, is_kept: bool = False) -> list[Box]:
        """A row of boxes of one height at the present y, which moves to their bottom."""
        fitted = [[part for line in box for part in line.within(width - 2 * PAD - 2)] for box in lines]
        needed = max(sum(line.height for line in box) for box in fitted)
        height = max(needed + 2 * PAD, LEAST)
        top = self.y + (height - needed) / 2
        boxes = [Box(box, at, self.y, width, height, top, is_kept) for box, at in zip(fitted, x, strict=True)]
        self.boxes += boxes
        self.y += height
        return boxes

    def _draw_bands(self, axis: Axes) -> None:
        """The stages of the trial, on the left."""
        for (name, top), (_, below) in pairwise(self.bands):
            bottom = below - 4
            axis.add_patch(Rectangle((MARGIN, top), STRIP, bottom - top, facecolor="0.88", linewidth=0))
            axis.text(
                MARGIN + STRIP / 2, (top + bottom) / 2, name, rotation=90, ha="center", va="center", fontsize=SMALL,
                fontweight="bold", color="0.2",
            )  # fmt: skip


def _write(axis: Axes, x: float, y: float, words: str, size: float, weight: str, ha: str = "left") -> None:
    """Words on the baseline y; a name may hold a dollar sign, which is no mathematics."""
    axis.text(x, y, words, fontsize=size, fontweight=weight, ha=ha, va="baseline", parse_math=False)


def said(people: float, low: float, high: float) -> str:
    """`238 (231 to 245)`: expected people and the range of most replicates, left out where they are all alike."""
    if people == low == high:
        return f"{people:,.0f}"
    if people < 0.05:  # not nobody, so it is not shown as nobody
        return "<0.1"
    return f"{people:,.{1 if people < 9.95 else 0}f} ({low:,.0f} to {high:,.0f})"


def _plain(name: str, *, capital: bool = False) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:] if capital else words


@lru_cache(maxsize=4096)
def _length(words: str, size: float, weight: str) -> float:
    """How long a line of text is, in points."""
    font = FontProperties(size=size, weight=weight)
    width: float = text_to_path.get_text_width_height_descent(words, font, ismath=False)[0]
    return HINTED * width


def _wrap(text: str, size: float, weight: str, width: float) -> list[str]:
    """Lines of whole words that are no longer than `width` points, unless a word is."""
    if _length(text, size, weight) <= width:
        return [text]
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _length(longer, size, weight) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
