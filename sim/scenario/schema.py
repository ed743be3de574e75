"""What a scenario may say. Every rule that spans several of its keys is checked here, once; below, code trusts it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field

from sim.calendar.plan import CalendarPlan
from sim.parts import ANALYSES, DESIGNS, ESTIMANDS, MISSINGNESS, MODELS, Part, Registry
from sim.quantities import Sd, Share
from sim.scenario.document import known_names
from sim.trial import Names


def _one_of(registry: Registry) -> Any:
    """The type 'any part of this family', told apart by its `kind`."""
    parts = registry.discover().values()
    union = reduce(or_, parts)
    return Annotated[union, Discriminator("kind")] if len(parts) > 1 else union


Design: Any = _one_of(DESIGNS)
Analysis: Any = _one_of(ANALYSES)
Model: Any = _one_of(MODELS)
Missingness: Any = _one_of(MISSINGNESS)
Estimand: Any = _one_of(ESTIMANDS)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""Lower-case letters, digits and underscores: names become file names."""


class EvidenceSource(Part):
    """Where the planned effects come from: a seed study's file, and which of its named priors."""

    file: str
    prior: str = "compromise"
    reading: Literal["a", "b"] = "a"


class Hypotheses(Part):
    """The tests: two-sided or upper one-sided, their level, the rule over outcomes and the analysis that counts."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    sides: Literal[1, 2] = 2
    multiplicity: Literal["none", "bonferroni", "holm", "hochberg"] = "holm"
    primary_analysis: Name


class ScenarioFile(Part):
    """A scenario as written."""

    name: Name
    title: str
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    replicates: Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
    calendars: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 64
    """Allocations and calendars drawn per design; replicate r uses number r modulo this."""
    evidence: EvidenceSource
    effect: dict[Name, Sd] = {}
    """Planned effect by outcome, in place of the evidence's prior."""
    strata: dict[Name, Share] = Field(min_length=1)
    calendar: CalendarPlan
    model: Model
    missingness: Missingness
    estimand: Estimand
    designs: dict[Name, Design] = Field(min_length=1)
    analyses: dict[Name, Analysis] = Field(min_length=1)
    hypotheses: Hypotheses

    @property
    def names(self) -> Names:
        return Names(
            outcome=tuple(self.model.outcomes),
            visit=tuple(self.calendar.visits),
            stratum=tuple(self.strata),
            share=tuple(self.strata.values()),
            window=tuple(self.calendar.windows),
        )

    def problems(self) -> list[tuple[tuple[str, ...], str]]:
        """(location, message) of everything that contradicts something elsewhere in the file."""
        problems = [*self._word_problems(), *self._design_problems()]
        if abs(sum(self.strata.values()) - 1) > 1e-9:
            problems.append((("strata",), f"the shares add up to {sum(self.strata.values()):.4%}, not 100%"))
        primary = self.hypotheses.primary_analysis
        if primary not in self.analyses:
            message = f"'{primary}' is not an analysis; {known_names(primary, list(self.analyses))}"
            problems.append((("hypotheses", "primary_analysis"), message))
        return problems

    def _word_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Mappings whose keys must be exactly the words declared elsewhere in the file."""
        windows, strata = list(self.calendar.windows), list(self.strata)
        formats = sorted({a.trained_format for d in self.designs.values() for a in d.arms.values() if a.trained_format})
        shift, odds = self.model.window_shift, self.missingness.window_odds_ratio
        expected: list[tuple[tuple[str, ...], Iterable[str], list[str]]] = [
            (("model", "baseline_difference"), self.model.baseline_difference, strata),
            (("model", "effect_modification"), self.model.effect_modification, strata),
            (("model", "format_effect"), self.model.format_effect, formats),
            (("model", "window_shift"), shift, windows),
            *((("model", "window_shift", w), by, strata) for w, by in shift.items()),
            (("missingness", "loss"), self.missingness.loss, list(self.calendar.visits)[1:]),
            (("missingness", "window_odds_ratio"), odds, windows),
            *((("missingness", "window_odds_ratio", w), by, strata) for w, by in odds.items()),
        ]
        for place, found, wanted in expected:
            for key in wanted:
                if key not in found:
                    yield place, f"'{key}' is missing"
            for key in found:
                if key not in wanted:
                    yield (*place, key), f"'{key}' has no effect in this scenario; {known_names(key, wanted)}"
        for key in self.effect:
            if key not in self.model.outcomes:
                yield ("effect", key), f"'{key}' is not an outcome; {known_names(key, list(self.model.outcomes))}"

    def _design_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Analyses that a design cannot have, and strata that there are not."""
        for name, design in self.designs.items():
            if design.contrast_arms.control is None:
                for label, analysis in self.analyses.items():
                    if analysis.needs_control:
                        yield ("analyses", label), f"needs a control arm, which design '{name}' does not have"
            for arm, plan in design.arms.items():
                stratum = getattr(plan, "stratum", None)
                if stratum and stratum not in self.strata:
                    message = f"'{stratum}' is not a stratum; {known_names(stratum, list(self.strata))}"
                    yield ("designs", name, "arms", arm, "stratum"), message
