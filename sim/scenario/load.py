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
from sim.scenario.document import Document, build, known_names
from sim.scenario.schema import ScenarioFile
from sim.scenario.seed_study import PRIORS, Evidence, effect_sizes, planning_effects, read_evidence
from sim.trial import Floats, Names

REENACTMENT = "seed_study"
"""The prior that makes a scenario repeat the seed study: its uncontrolled change, taken apart, not planned with."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """A checked scenario: what the file says, the evidence it stands on and the planned effects that follow.

    effect : (K,) planned effect at the final visit by outcome, in baseline SDs.
    """

    file: ScenarioFile
    text: str
    path: Path
    evidence: Evidence
    effect: Floats

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def names(self) -> Names:
        return self.file.names

    def design(self, name: str) -> Any:
        return self.file.designs[name]

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
    def fingerprint(self) -> str:
        """SHA-256 of everything that can move a replicate; comments, order of keys and `replicates` cannot."""
        content = self.file.model_dump(mode="json", exclude={"replicates", "title"})
        text = json.dumps([content, self.effect.tolist()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scenario) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def read_scenario(path: Path) -> Scenario:
    """The scenario at `path`. Raises InvalidInput with every problem found in it and in its evidence file."""
    document = Document.read(path)
    problems: list[Problem] = []
    evidence = _evidence(document, problems)
    try:
        file = build(document, ScenarioFile)
    except InvalidInput as error:
        raise InvalidInput([*problems, *error.problems]) from None
    problems += [document.problem(location, message) for location, message in file.problems()]
    effect = _effects(document, file, evidence, problems) if evidence else None
    if problems or evidence is None or effect is None:
        raise InvalidInput(problems)
    return Scenario(file, document.text, path, evidence, effect)


def _evidence(document: Document, problems: list[Problem]) -> Evidence | None:
    """The evidence file that the scenario names, if it can be read; otherwise its problems are added."""
    section = document.content.get("evidence") if isinstance(document.content, dict) else None
    file = section.get("file") if isinstance(section, dict) else None
    if not isinstance(file, str):
        return None  # the schema says what is wrong with it
    place = document.path.parent / file
    if not place.is_file():
        problems.append(document.problem(("evidence", "file"), f"there is no file {place}"))
        return None
    try:
        return read_evidence(place)
    except InvalidInput as error:
        problems += error.problems
        return None


def _effects(document: Document, file: ScenarioFile, evidence: Evidence, problems: list[Problem]) -> Floats | None:
    """(K,) planned effect of every outcome: typed in, or from the named prior."""
    prior, outcomes = file.evidence.prior, tuple(file.model.outcomes)
    if prior not in (*PRIORS, REENACTMENT):
        message = f"found {prior!r}; {known_names(prior, [*PRIORS, REENACTMENT])}"
        problems.append(document.problem(("evidence", "prior"), message))
        return None
    unknown = [o for o in outcomes if o not in evidence.outcomes and o not in file.effect]
    for outcome in unknown:
        message = f"the evidence has no outcome '{outcome}'; {known_names(outcome, list(evidence.outcomes))}"
        problems.append(document.problem(("model", "outcomes", outcome), message, at_key=True))
    if unknown:
        return None
    if prior == REENACTMENT:
        planned = _reenacted(file, evidence)
    else:
        effects = planning_effects(evidence, prior=prior, reading=file.evidence.reading)
        planned = {outcome: effects[outcome].value for outcome in outcomes if outcome in effects}
    planned |= file.effect
    for outcome in outcomes:
        if planned.get(outcome) is None:
            message = f"prior '{prior}' has no effect for '{outcome}': choose another prior or give it under `effect`"
            problems.append(document.problem(("evidence", "prior"), message))
    values = [planned.get(outcome) for outcome in outcomes]
    return None if None in values else np.array(values, dtype=float)


def _reenacted(file: ScenarioFile, evidence: Evidence) -> dict[str, float | None]:
    """Effects that, with the change that comes untreated, make up the change at which the printed F is the median."""
    effect: dict[str, float | None] = {}
    for size in effect_sizes(evidence, file.evidence.reading):
        if size.outcome in file.model.outcomes:
            correlation = file.model.outcomes[size.outcome].correlation_baseline_final.value
            change = size.median_unbiased * math.sqrt(2 * (1 - correlation))
            effect[size.outcome] = change - file.model.untreated_change.value
    return effect
