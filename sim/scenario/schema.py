"""What a scenario may say: its sections, and the JSON Schema of them for editors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field
from pydantic.json_schema import GenerateJsonSchema

from sim.calendar.plan import CalendarPlan
from sim.parts import ANALYSES, DESIGNS, ESTIMANDS, MISSINGNESS, MODELS, Part, Registry
from sim.quantities import Name, Number, Sd, Share, whole_number
from sim.scenario.costs import Costs
from sim.scenario.evidence import Prior
from sim.trial import Names

EVERYONE = "all"
"""The stratum of a scenario that names none."""

REENACTMENT = "seed_study"
"""The prior that makes a scenario repeat the seed study: its uncontrolled change, taken apart, not planned with."""


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


class EvidenceSource(Part):
    """Where the planned effects come from: a seed study's file, and which of its named priors."""

    file: str
    prior: Literal[Prior, "seed_study"] = "compromise"
    reading: Literal["a", "b"] = "a"


class Hypotheses(Part):
    """The tests: two-sided or upper one-sided, their level, the rule over outcomes and the analysis that counts."""

    alpha: Annotated[Number, Field(gt=0, lt=0.5)] = 0.05
    sides: Annotated[Literal[1, 2], BeforeValidator(whole_number)] = 2
    multiplicity: Literal["none", "bonferroni", "holm", "hochberg"] = "holm"
    primary_analysis: Name
    estimator: Literal["counting", "conditional"] = "counting"
    """How power is estimated from the replicates: by counting rejections or, where a plain trial allows it, by the mean
    of the conditional rejection probabilities, which needs fewer replicates (docs/conditional_power.md)."""


class ScenarioFile(Part):
    """A scenario as written."""

    name: Name
    title: str
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    replicates: Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
    calendars: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 64
    """Allocations and calendars drawn per design; replicate r uses number r modulo this."""
    common_random_numbers: bool = False
    """All designs share their random streams, and a larger one contains the smaller: compare them as pairs."""
    evidence: EvidenceSource | None = None
    """May be left out where `effect` names every outcome."""
    effect: dict[Name, Sd] = {}
    """Planned effect by outcome, in place of the evidence's prior."""
    strata: dict[Name, Annotated[Share, Field(gt=0)]] = Field(min_length=1, default_factory=lambda: {EVERYONE: 1.0})
    """Left out, one stratum called `all`."""
    calendar: CalendarPlan
    model: Model
    missingness: Missingness
    estimand: Estimand
    designs: dict[Name, Design] = Field(min_length=1)
    analyses: dict[Name, Analysis] = Field(min_length=1)
    hypotheses: Hypotheses
    costs: Costs | None = None
    """Unit costs; left out, designs have no cost."""

    @property
    def names(self) -> Names:
        return Names(
            outcome=tuple(self.model.outcomes),
            visit=tuple(self.calendar.visits),
            stratum=tuple(self.strata),
            share=tuple(self.strata.values()),
            window=tuple(self.calendar.windows),
        )


# ---- JSON Schema --------------------------------------------------------------------------------------------------


class _Generator(GenerateJsonSchema):
    """Without a title that repeats every key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def json_schema() -> dict[str, Any]:
    """JSON Schema of a scenario, for editors: keys, choices, patterns of quantities, ranges of plain numbers.

    What spans several keys is left to `nexttrial validate`.
    """
    schema = ScenarioFile.model_json_schema(schema_generator=_Generator)
    names: dict[str, str] = {}
    for name in schema["$defs"]:
        is_assumption = "Assumption_" in name
        names[name] = f"Assumption{1 + sum('Assumption_' in n for n in names)}" if is_assumption else name
    schema = _tidy(schema, names)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "nexttrial scenario"}


_JSON_BOUND = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def _tidy(node: Any, names: Mapping[str, str]) -> Any:
    """Short names of definitions, and bounds under the names that JSON Schema has for them; none on text."""
    if isinstance(node, list):
        return [_tidy(item, names) for item in node]
    if not isinstance(node, dict):
        return _reference(node, names)
    tidy: dict[str, Any] = {}
    for key, value in node.items():
        if key in _JSON_BOUND and isinstance(value, (int, float)):
            if node.get("type") != "string":
                tidy[_JSON_BOUND[key]] = value
        elif (key == "title" and str(value).startswith("Assumption[")) or key == "propertyNames":
            continue
        elif key == "$defs":
            tidy[key] = {names[name]: _tidy(definition, names) for name, definition in value.items()}
        else:
            tidy[key] = _tidy(value, names)
    if "patternProperties" in tidy:
        tidy["additionalProperties"] = False
    return tidy


def _reference(node: Any, names: Mapping[str, str]) -> Any:
    prefix = "#/$defs/"
    return prefix + names[node.removeprefix(prefix)] if isinstance(node, str) and node.startswith(prefix) else node
