"""What an evidence file may say: what a study printed, each number with its source, and the declared discounts.

Outcomes are taken as scored so that the printed change is a gain: F has no sign.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from scipy import special

from sim.parts import Assumption, Part, refuse
from sim.quantities import Correlation, Months, Number, Sd, Share
from sim.scenario.check import build
from sim.scenario.document import Document

Reading = Literal["a", "b"]
Prior = Literal["observed", "safeguard", "discounted", "literature", "compromise"]
Pattern = Literal["fade", "step_and_hold", "steady_rise"]
Sureness = Literal["A", "B", "C", "D"]

READINGS: dict[Reading, str] = {
    "a": "linear contrast (last visit minus baseline)",
    "b": "omnibus F over all visits",
}
PRIORS: dict[Prior, str] = {
    "observed": "the uncontrolled change taken at its word",
    "safeguard": "lower limit of the 60% interval of the uncontrolled change (Perugini, Gallucci, Costantini 2014)",
    "discounted": "the uncontrolled change after every declared discount",
    "literature": "the pooled effect of published controlled trials",
    "compromise": "the value declared after weighing the others",
}
PATTERNS: dict[Pattern, str] = {
    "fade": "a gain at the second visit, part of it kept at the last",
    "step_and_hold": "a gain at the second visit, all of it kept",
    "steady_rise": "equal steps from visit to visit",
}
SURENESS: dict[Sureness, str] = {
    "A": "in the paper's abstract or official page",
    "B": "in a secondary report",
    "C": "arithmetic",
    "D": "assumption",
}

HALF_A_UNIT = 0.005  # a partial eta squared is printed with two decimals

FEWEST_PEOPLE = 30  # the smallest error df at which a printed p is checked against its F


class PrintedP(Part):
    """A p value as printed: `value` within `rounding`, or only a bound when `is_below`."""

    value: float = Field(ge=0, le=1)
    rounding: float
    is_below: bool

    def agrees(self, low: float, high: float) -> bool:
        """Whether some p in [low, high] would have been printed so."""
        return (
            low < self.value
            if self.is_below
            else low <= self.value + self.rounding and high >= self.value - self.rounding
        )

    def __str__(self) -> str:
        digits = max(0, round(-math.log10(2 * self.rounding)))
        return f"{'< ' if self.is_below else ''}{self.value:.{digits}f}"


def _printed_p(value: Any) -> Any:
    """`0.005`, `.005` or `< 0.001`; the number of decimals is kept as the precision of the print."""
    match = re.fullmatch(r"(<)?\s*0?\.(\d+)", str(value).strip())
    if not match or isinstance(value, bool):
        raise refuse(f"found {value!r}; write the p value as printed, for example '0.005' or '< 0.001'")
    return PrintedP(value=float(f"0.{match[2]}"), rounding=0.5 * 10.0 ** -len(match[2]), is_below=bool(match[1]))


Printed = Annotated[
    PrintedP,
    BeforeValidator(_printed_p),
    WithJsonSchema({"type": ["string", "number"], "examples": ["0.005", "< 0.001"]}),
]
"""A p value, written as printed."""


class Sourced(Part):
    """Anything read somewhere: where, and how sure it is (A to D, see SURENESS)."""

    source: str
    sureness: Sureness


class Sample(Sourced):
    """The people recruited, by comparison group."""

    groups: dict[str, Annotated[int, Field(ge=2)]] = Field(min_length=1)

    @property
    def n_recruited(self) -> int:
        return sum(self.groups.values())


class Visits(Sourced):
    """The visits in order, baseline first; `follow_up` is the time from baseline to the last."""

    names: Annotated[list[str], Field(min_length=2, max_length=3)]
    follow_up: Months


class Fact(Sourced):
    """One statement about the study, for the reader; nothing is computed from it."""

    what: str
    value: str


class Study(Part):
    """The published study."""

    title: str
    citation: str
    doi: str
    sample: Sample
    visits: Visits
    facts: tuple[Fact, ...] = ()
    limits: tuple[Fact, ...] = ()


def p_value(f: float, df1: float, df2: float) -> float:
    """Upper tail of the central F.

    >>> round(p_value(8.10, 1, 149), 5), round(p_value(8.10, 2, 298), 5)
    (0.00505, 0.00038)
    """
    return float(special.fdtrc(df1, df2, f))


class PrintedTest(Sourced):
    """The test of change over time, as printed. `numerator_df` only if the print shows it."""

    f: Annotated[Number, Field(gt=0)]
    numerator_df: Annotated[int, Field(ge=1)] | None = None
    p: Printed | None = None
    partial_eta_squared: Annotated[Number, Field(gt=HALF_A_UNIT, lt=1 - HALF_A_UNIT)] | None = None

    @model_validator(mode="after")
    def _p_fits_df(self) -> PrintedTest:
        if self.p is None or self.numerator_df is None:
            return self
        df1 = self.numerator_df
        low, high = (float(p_value(self.f, df1, df1 * people)) for people in (1e9, FEWEST_PEOPLE))
        if not self.p.agrees(low, high):
            raise refuse(
                f"F = {self.f:.2f} with {df1} numerator df has a p value between {low:.2g} and {high:.2g} at any error "
                f"df of at least {df1 * FEWEST_PEOPLE}, not the printed {self.p}; check numerator_df (1 is the linear "
                "contrast or the lower-bound row)"
            )
        return self


class Means(Sourced):
    """Printed means by visit, of one comparison group."""

    group: str
    by_visit: dict[str, Number]


class Outcome(Part):
    """One outcome: its printed test, its means if printed, and the controlled effects to plan on."""

    printed: PrintedTest
    means: Means | None = None
    controlled_effect: Assumption[Sd] | None = None
    no_controlled_effect: str | None = None
    compromise: Assumption[Sd] | None = None

    @model_validator(mode="after")
    def _effect_or_reason(self) -> Outcome:
        if (self.controlled_effect is None) == (self.no_controlled_effect is None):
            raise refuse("give either controlled_effect or no_controlled_effect with the reason, and not both")
        return self


class Discounts(Part):
    """What stands between an uncontrolled change and a controlled effect in the next trial.

    pre_post_correlation : turns dz into baseline SDs, by sqrt(2 (1 - r)).  retention : share of an immediate gain still
    there at the last visit.  untreated_change : what people gain without the programme.  pilot_to_trial : the
    controlled effect of a larger trial per unit of effect in a pilot.
    """

    pre_post_correlation: Assumption[Correlation]
    retention: Assumption[Share]
    untreated_change: Assumption[Sd]
    pilot_to_trial: Assumption[Number]


class Evidence(Part):
    """An evidence file: the study, its outcomes by name, and the declared discounts.

    `omnibus_pattern` is the pattern of means under reading b; a fade takes its kept share from the means of the outcome
    named in `fade_from`. Left out, it is a fade where `fade_from` is given and step_and_hold otherwise.
    """

    study: Study
    outcomes: dict[str, Outcome] = Field(min_length=1)
    discounts: Discounts
    omnibus_pattern: Pattern | None = None
    fade_from: str | None = None

    @model_validator(mode="after")
    def _names_exist(self) -> Evidence:
        for name, outcome in self.outcomes.items():
            if outcome.means is not None:
                _in_file(f"outcomes.{name}.means.group", outcome.means.group, self.study.sample.groups)
                for visit in outcome.means.by_visit:
                    _in_file(f"outcomes.{name}.means.by_visit", visit, self.study.visits.names)
        if self.fade_from is not None:
            _in_file("fade_from", self.fade_from, self.outcomes)
            kept = self.kept_share(self.fade_from)
            if kept is None or kept <= 0:
                raise refuse(
                    f"fade_from: {self.fade_from!r} needs printed means at all three visits, with part of the gain kept"
                )
        elif self.omnibus_pattern == "fade":
            raise refuse("omnibus_pattern: a fade needs fade_from, the outcome whose means show it")
        return self

    @property
    def pattern(self) -> Pattern:
        return self.omnibus_pattern or ("fade" if self.fade_from else "step_and_hold")

    def kept_share(self, outcome: str) -> float | None:
        """The share of the gain at the second visit that is left at the last; None where the means do not tell."""
        means = self.outcomes[outcome].means
        if means is None or len(self.study.visits.names) != 3 or len(means.by_visit) != 3:
            return None
        baseline, second, last = (means.by_visit[visit] for visit in self.study.visits.names)
        return (last - baseline) / (second - baseline) if second != baseline else None


def _in_file(where: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise refuse(f"{where}: {name!r} is not in this file; known: {', '.join(known)}")


def read_evidence(path: Path) -> Evidence:
    """The evidence file at `path`; raises InvalidInput with every problem and its line."""
    return build(Document.read(path), Evidence)
