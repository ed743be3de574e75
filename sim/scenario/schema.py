"""What a scenario may say. Every rule that spans several of its keys is checked here, once; below, code trusts it.

Such rules read the plain content, not the finished scenario: a mistake in one section hides none in another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Discriminator, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError

from sim.calendar.plan import CalendarPlan
from sim.parts import ANALYSES, DESIGNS, ESTIMANDS, MISSINGNESS, MODELS, Part, Registry
from sim.quantities import Name, Number, Sd, Share, share, whole_number
from sim.scenario.document import Location
from sim.scenario.evidence import Prior
from sim.scenario.nearest import known_names, nearest
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

    @property
    def names(self) -> Names:
        return Names(
            outcome=tuple(self.model.outcomes),
            visit=tuple(self.calendar.visits),
            stratum=tuple(self.strata),
            share=tuple(self.strata.values()),
            window=tuple(self.calendar.windows),
        )


class Contradiction(NamedTuple):
    """Something in a scenario that contradicts something elsewhere in it."""

    location: Location
    message: str
    at_key: bool = False


def contradictions(content: Any) -> Iterator[Contradiction]:
    """Everything in a scenario's plain content that contradicts something elsewhere; what is broken is passed over."""
    yield from _strata_problems(content)
    yield from _visit_problems(content)
    yield from _format_problems(content)
    yield from _training_group_problems(content)
    for place, wanted, what in _word_lists(content):
        if wanted is not None:
            yield from _word_problems(content, place, wanted, what)
    yield from _effect_problems(content)
    analyses, primary = _words(content, "analyses"), _at(content, "hypotheses", "primary_analysis")
    if analyses and isinstance(primary, str) and primary not in analyses:
        message = f"'{primary}' is no analysis of this scenario; {known_names(primary, analyses)}"
        yield Contradiction(("hypotheses", "primary_analysis"), message)
    yield from _control_problems(content)
    yield from _calendar_problems(content)


def _at(content: Any, *location: str) -> Any:
    for part in location:
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def _words(content: Any, *location: str) -> list[str] | None:
    """The keys of a mapping; None if there is none."""
    found = _at(content, *location)
    return list(found) if isinstance(found, Mapping) else None


def declared_outcomes(content: Any) -> dict[str, Location]:
    """The outcomes of a scenario's model, each with its place in plain content; none where they cannot be read."""
    one = _at(content, "model", "outcome")
    if isinstance(one, str):
        return {one: ("model", "outcome")}
    return {name: ("model", "outcomes", name) for name in _words(content, "model", "outcomes") or []}


def _part(content: Any, family: Registry, *location: str) -> Any:
    """The class of the part that is chosen at `location`; None if it cannot be told."""
    return family.discover().get(str(_at(content, *location, "kind")))


def _has_field(content: Any, section: str, key: str) -> bool:
    """Whether the model or missingness that is chosen has this key, so far as can be told."""
    part = _part(content, {"model": MODELS, "missingness": MISSINGNESS}[section], section)
    return part is None or key in part.model_fields


def _strata(content: Any) -> list[str] | None:
    """The strata; where none are named, the one of everyone, unless the model names others."""
    if isinstance(content, Mapping) and "strata" not in content:
        named = _words(content, "model", "baseline_difference")
        return None if named and EVERYONE not in named else [EVERYONE]
    return _words(content, "strata") or None


def _arms(content: Any) -> Iterator[tuple[Location, Any]]:
    """Every arm of every design that can be read."""
    for design in _words(content, "designs") or []:
        for arm in _words(content, "designs", design, "arms") or []:
            yield ("designs", design, "arms", arm), _at(content, "designs", design, "arms", arm)


def _strata_problems(content: Any) -> Iterator[Contradiction]:
    """Shares that do not add up, and arms of a stratum that there is not."""
    strata = _strata(content)
    if not strata:
        if isinstance(content, Mapping) and "strata" not in content:
            named = ", ".join(_words(content, "model", "baseline_difference") or [])
            yield Contradiction(("strata",), f"is missing; model.baseline_difference names these: {named}")
        return
    try:
        declared = _words(content, "strata")
        shares = [share(_at(content, "strata", stratum)) for stratum in declared] if declared else [1.0]
    except PydanticCustomError:
        shares = [0.0]
    total = sum(shares)
    if abs(total - 1) > 1e-9 and all(0 < one <= 1 for one in shares):  # others are reported as such
        yield Contradiction(("strata",), f"the shares add up to {100 * total:.10g}%; they must add up to 100%")
    for place, arm in _arms(content):
        stratum = _at(arm, "stratum")
        if isinstance(stratum, str) and stratum not in strata:
            yield Contradiction((*place, "stratum"), f"'{stratum}' is no stratum; {known_names(stratum, strata)}")


def _visit_problems(content: Any) -> Iterator[Contradiction]:
    """A number of visits that the model does not have, and losses of dropouts that come back."""
    visits = _words(content, "calendar", "visits")
    model, missingness = _part(content, MODELS, "model"), _part(content, MISSINGNESS, "missingness")
    if visits is None:
        return
    if model is not None and model.n_visit not in (None, len(visits)) and len(visits) > 1:
        message = f"three visits are needed (baseline, after training, final), found {len(visits)}"
        yield Contradiction(("calendar", "visits"), message)
    if getattr(missingness, "is_cumulative", False):
        for before, now in pairwise(visits[1:]):
            losses = [_at(content, "missingness", "loss", visit, "value") for visit in (before, now)]
            try:
                falls = share(losses[1]) < share(losses[0])
            except PydanticCustomError:
                continue  # reported as such
            if falls:
                message = f"found '{losses[1]}' after '{losses[0]}' by {before}; who has left does not come back"
                yield Contradiction(("missingness", "loss", now, "value"), message)


def _training_group_problems(content: Any) -> Iterator[Contradiction]:
    """Designs without training groups beside a model in which the groups differ."""
    for key in ("icc_training_group", "sd_training_group"):
        value = _at(content, "model", key, "value")
        number = value.replace("SD", "").strip() if isinstance(value, str) else value
        try:
            matters = float(number) > 0
        except (TypeError, ValueError):
            continue
        for name in (_words(content, "designs") or []) if matters else []:
            part = _part(content, DESIGNS, "designs", name)
            optional = part is not None and "training_group_size" in part.model_fields
            if optional and _at(content, "designs", name, "training_group_size") is None:
                message = f"is missing; without training groups model.{key} would have no effect"
                yield Contradiction(("designs", name, "training_group_size"), message)


def _effect_problems(content: Any) -> Iterator[Contradiction]:
    """Effects of no outcome and, without evidence, outcomes without an effect; evidence that cannot be re-enacted."""
    outcomes, typed = declared_outcomes(content), _words(content, "effect") or []
    unknown = [name for name in typed if name not in outcomes]
    for outcome in unknown if outcomes else []:
        yield Contradiction(("effect", outcome), f"is no outcome; {known_names(outcome, list(outcomes))}", True)
    if not isinstance(content, Mapping):
        return
    if content.get("evidence") is None:
        slips = {nearest(name, list(outcomes)) for name in unknown}
        without = [name for name in outcomes if name not in typed and name not in slips]
        if without:
            message = "is missing; without it, `effect` must name every outcome, and does not name"
            yield Contradiction(("evidence",), f"{message} {', '.join(without)}")
    model = _part(content, MODELS, "model")
    if _at(content, "evidence", "prior") == REENACTMENT and model is not None and not model.can_reenact:
        message = f"'{REENACTMENT}' repeats the seed study, which a model of kind '{model.example['kind']}' cannot"
        yield Contradiction(("evidence", "prior"), message)


def _format_problems(content: Any) -> Iterator[Contradiction]:
    """Formats without an effect, and effects of a format that nobody is trained in."""
    known = _words(content, "model", "format_effect")
    if known is None or not _words(content, "designs"):
        return
    used: dict[str, list[Location]] = {}
    for place, arm in _arms(content):
        trained = _at(arm, "format")
        if isinstance(trained, str) and trained != "none":
            used.setdefault(trained, []).append((*place, "format"))
    for trained, places in used.items():
        if trained not in known and len(places) == 1:
            message = f"format '{trained}' has no entry under model.format_effect; {known_names(trained, known)}"
            yield Contradiction(places[0], message)
        elif trained not in known:
            message = f"is missing; {len(places)} arms are trained in this format"
            yield Contradiction(("model", "format_effect", trained), message)
    slips = {nearest(trained, known) for trained in used if trained not in known}
    for name in known:
        if name not in used and name not in slips:
            message = "has no effect: no arm of any design is trained in this format"
            yield Contradiction(("model", "format_effect", name), message, True)


def _word_lists(content: Any) -> Iterator[tuple[Location, list[str] | None, str]]:
    """Mappings whose keys must be exactly the words declared elsewhere: place, those words, what they are."""
    strata = _strata(content)
    windows = _words(content, "calendar", "windows") if "windows" in (_words(content, "calendar") or []) else []
    visits = _words(content, "calendar", "visits")
    yield ("model", "baseline_difference"), strata, "stratum"
    yield ("model", "effect_modification"), strata, "stratum"
    if "recruitment" in (_words(content, "calendar") or []):
        yield ("calendar", "recruitment"), strata, "stratum"
    yield ("missingness", "loss"), visits[1:] if visits else None, "visit after the baseline"
    if _part(content, MODELS, "model") is not None:
        for key, those, what in (
            ("change", slice(1, None), "visit after the baseline"),
            ("effect_profile", slice(1, -1), "visit between the baseline and the final one"),
        ):
            if _has_field(content, "model", key):
                yield ("model", key), visits[those] if visits else None, what
    for place in (("model", "window_shift"), ("missingness", "window_odds_ratio")):
        if not _has_field(content, *place):
            continue
        yield place, windows if _words(content, "calendar") else None, "window"
        for window in _words(content, *place) or []:
            yield (*place, window), strata, "stratum"


def _word_problems(content: Any, place: Location, wanted: list[str], what: str) -> Iterator[Contradiction]:
    """Words that are missing and words that say nothing; a misspelt word is one mistake, not two."""
    section, path = str(place[0]), tuple(map(str, place))
    found = _words(content, *path)
    if found is None:
        if _words(content, section) is None or path[-1] in (_words(content, *path[:-1]) or []):
            return  # not a mapping: reported as such
        found = []
        if path[-1] not in ("window_shift", "window_odds_ratio", "effect_profile"):
            return  # missing: reported as such
    missing = [word for word in wanted if word not in found]
    unknown = [word for word in found if word not in wanted]
    for word in unknown:
        message = f"is no {what} of this scenario; {known_names(word, wanted)}"
        if slip := nearest(word, missing):
            missing.remove(slip)
        elif len(unknown) == len(missing) == 1:
            message += f"; '{missing.pop()}' is missing"
        yield Contradiction((*place, word), message, True)
    for word in missing:
        yield Contradiction((*place, word), f"is missing; an entry for every {what} is needed")


def _control_problems(content: Any) -> Iterator[Contradiction]:
    """Analyses that compare arms, in a scenario with designs that have nothing to compare with."""
    alone = []
    for name in _words(content, "designs") or []:
        plan = _at(content, "designs", name)
        part = DESIGNS.discover().get(str(_at(plan, "kind")))
        try:
            design: Any = part.model_validate_json(json.dumps(plan), strict=True) if part else None
        except ValidationError:
            continue
        if design is not None and design.contrast_arms.control is None:
            alone.append(name)
    for label in (_words(content, "analyses") or []) if alone else []:
        analysis: Any = ANALYSES.discover().get(str(_at(content, "analyses", label, "kind")))
        if analysis is not None and analysis.needs_control:
            message = f"needs a control arm, which these designs do not have: {', '.join(alone)}"
            yield Contradiction(("analyses", label), message, True)


def _calendar_problems(content: Any) -> Iterator[Contradiction]:
    """Keys of the calendar that have no effect on any design, and training groups that never train."""
    designs = [_at(content, "designs", name) for name in _words(content, "designs") or []]
    if not designs or not all(isinstance(plan, Mapping) for plan in designs):
        return

    def given(*key: str) -> Any:
        return _at(content, "calendar", *key)

    districts = [plan.get("districts", 1) for plan in designs]
    most = max((n for n in districts if isinstance(n, int)), default=1)
    together = given("waves", "districts")
    if isinstance(together, int) and together >= most:
        message = f"has no effect: no design has more than {most} district{'s' * (most > 1)}"
        yield Contradiction(("calendar", "waves"), message, True)
    if given("travel") is not None and most == 1:
        yield Contradiction(("calendar", "travel"), "has no effect: no design has more than one district", True)
    untreated = any(_at(arm, "format") == "none" for _, arm in _arms(content))
    if given("wait_list_trained") is True and not untreated:
        message = "has no effect: no design has an arm with format 'none'"
        yield Contradiction(("calendar", "wait_list_trained"), message, True)
    yield from _group_size_problems(content)


def _group_size_problems(content: Any) -> Iterator[Contradiction]:
    """A deadline where nobody is trained in a group; groups planned smaller than the smallest that trains."""
    smallest, grouped = _at(content, "calendar", "smallest_group"), False
    for name in _words(content, "designs") or []:
        part = _part(content, DESIGNS, "designs", name)
        place: tuple[str, ...] = ("designs", name, "training_group_size")
        if part is None or "training_group_size" not in part.model_fields:
            grouped, place = True, ("designs", name, "village_size", "mean")
        size = _at(content, *place)
        grouped |= size is not None
        if isinstance(smallest, int) and isinstance(size, (int, float)) and size < smallest:
            message = f"found {size}; calendar.smallest_group is {smallest}: none of these groups would be trained"
            yield Contradiction(place, message)
    for key in ("group_deadline", "smallest_group"):
        if _at(content, "calendar", key) is not None and not grouped:
            message = "has no effect: everyone is trained alone (no design has a training_group_size)"
            yield Contradiction(("calendar", key), message, True)


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
