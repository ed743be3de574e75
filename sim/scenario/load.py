"""A scenario file and its seed study, read, checked and put together; every problem of either file at once."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import InvalidInput, Problem
from sim.scenario.check import check
from sim.scenario.contradictions import contradictions, declared_outcomes
from sim.scenario.document import Document, unreadable
from sim.scenario.evidence import PRIORS, READINGS, Evidence, Reading, read_evidence
from sim.scenario.nearest import known_names
from sim.scenario.schema import REENACTMENT, EvidenceSource, ScenarioFile
from sim.scenario.seed_study import effect_sizes, planning_effects
from sim.streams import Streams
from sim.trial import Floats, Names

COMMON = "*"
"""What takes the design's name in streams that all designs share; no design can be called so."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """A checked scenario: what the file says, the evidence it stands on and the planned effects that follow.

    effect : (K,) planned effect at the final visit by outcome, in baseline SDs.  evidence : None where every effect is
    typed in and no study named.
    """

    file: ScenarioFile
    text: str
    path: Path
    evidence: Evidence | None
    effect: Floats

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def names(self) -> Names:
        return self.file.names

    def design(self, name: str) -> Any:
        return self.file.designs[name]

    def streams(self, design: str) -> Streams:
        """The random streams of a design: its own or, with common random numbers, those of all designs."""
        return Streams(self.file.seed, COMMON if self.file.common_random_numbers else design)

    @property
    def has_control(self) -> bool:
        """Whether any design compares arms."""
        return any(design.contrast_arms.control is not None for design in self.file.designs.values())

    def with_changes(
        self, *, replicates: int | None = None, seed: int | None = None, designs: list[str] | None = None
    ) -> Scenario:
        """The same scenario with other replicates, another seed or only some of its designs."""
        changes: dict[str, Any] = {}
        if replicates is not None:
            changes["replicates"] = replicates
        if seed is not None:
            changes["seed"] = seed
        if designs is not None:
            changes["designs"] = {name: plan for name, plan in self.file.designs.items() if name in designs}
        return replace(self, file=self.file.model_copy(update=changes)) if changes else self

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """Everything in the scenario that can move a number, as plain data; comments, spacing and `replicates` cannot.
        Unit costs move none that is stored: a new price needs no new run.

        To leave a key out says the same as to give its default, and a key that is new moves no old scenario.
        """
        content: dict[str, Any] = self.file.model_dump(
            mode="json", exclude={"replicates", "title", "costs"}, exclude_defaults=True
        )
        return content | {"effect": dict(zip(self.names.outcome, self.effect.tolist(), strict=True))}

    @functools.cached_property
    def unit_costs(self) -> dict[str, Any] | None:
        """The unit costs as plain data."""
        return None if self.file.costs is None else self.file.costs.model_dump(mode="json")

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content. The order of designs, analyses, strata or mechanisms counts: rows follow it."""
        return _hash(self.content)

    def design_fingerprint(self, name: str) -> str:
        """SHA-256 of what the numbers of one design are a function of: the content without the other designs."""
        return _hash(self.content | {"designs": {name: self.content["designs"][name]}})

    def __getstate__(self) -> dict[str, Any]:
        """With its content, which cannot be written out in another process, where assumptions have lost their types."""
        return {
            **self.__dict__,
            "content": self.content,
            "unit_costs": self.unit_costs,
            "fingerprint": self.fingerprint,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scenario) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def read_scenario(path: Path) -> Scenario:
    """The scenario at `path`. Raises InvalidInput with every problem found in it and in its evidence file."""
    document = Document.read(path)
    file, problems = check(document, ScenarioFile)
    problems += [
        document.problem(location, message, at_key=at_key)
        for location, message, at_key in contradictions(document.content)
        if not document.is_unreadable(location)
    ]
    evidence = _evidence(document, problems)
    if evidence is not None:
        _check_effects(document, evidence, problems)
    if problems or file is None:
        raise InvalidInput(list(dict.fromkeys(problems)))
    return Scenario(file, document.text, path, evidence, _effects(file, evidence))


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _evidence(document: Document, problems: list[Problem]) -> Evidence | None:
    """The evidence file that the scenario names, if it can be read; otherwise its problems are added."""
    file = document.at(("evidence", "file"))
    if not isinstance(file, str):
        return None  # the schema says what is wrong with it
    place = document.path.parent / file
    if reason := unreadable(place):
        problems.append(document.problem(("evidence", "file"), f"{place} {reason}"))
        return None
    try:
        return read_evidence(place)
    except InvalidInput as error:
        problems += error.problems
        return None


def _check_effects(document: Document, evidence: Evidence, problems: list[Problem]) -> None:
    """Adds a problem for every outcome that neither the named prior nor the scenario itself has an effect for."""
    outcomes, typed = declared_outcomes(document.content), document.at(("effect",)) or {}
    prior = document.at(("evidence", "prior")) or EvidenceSource.model_fields["prior"].default
    reading = document.at(("evidence", "reading")) or EvidenceSource.model_fields["reading"].default
    if prior not in (*PRIORS, REENACTMENT) or reading not in READINGS:
        return  # the schema says so
    has_effect = set(evidence.outcomes)
    if prior != REENACTMENT:
        planned = planning_effects(evidence, prior=prior, reading=reading)
        has_effect = {outcome for outcome, effect in planned.items() if effect.value is not None}
    for outcome, place in outcomes.items():
        if outcome in has_effect or (isinstance(typed, dict) and outcome in typed):
            continue
        if outcome in evidence.outcomes:
            message = f"prior '{prior}' has no effect for '{outcome}': choose another prior or give it under `effect`"
            problems.append(document.problem(("evidence", "prior"), message))
        else:
            message = f"the evidence has no such outcome; {known_names(outcome, list(evidence.outcomes))}"
            problems.append(document.problem(place, message, at_key=place[-1] == outcome))


def _effects(file: ScenarioFile, evidence: Evidence | None) -> Floats:
    """(K,) planned effect of every outcome: typed in, or from the named prior."""
    planned: dict[str, float | None] = {}
    if file.evidence is not None and evidence is not None:
        prior, reading = file.evidence.prior, file.evidence.reading
        if prior == REENACTMENT:
            planned = _reenacted(file, evidence, reading)
        else:
            effects = planning_effects(evidence, prior=prior, reading=reading)
            planned = {outcome: effect.value for outcome, effect in effects.items()}
    return np.array([(planned | file.effect)[outcome] for outcome in file.model.outcomes], dtype=float)


def _reenacted(file: ScenarioFile, evidence: Evidence, reading: Reading) -> dict[str, float | None]:
    """Effects that, with the change that comes untreated, make up the change at which the printed F is the median."""
    effect: dict[str, float | None] = {}
    for size in effect_sizes(evidence, reading):
        if size.outcome in file.model.outcomes:
            correlation = file.model.outcomes[size.outcome].correlation_baseline_final.value
            change = size.median_unbiased * math.sqrt(2 * (1 - correlation))
            effect[size.outcome] = change - file.model.untreated_change.value
    return effect
