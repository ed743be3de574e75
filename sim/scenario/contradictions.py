"""What in a scenario contradicts something elsewhere in it. Every rule that spans several of its keys is here, once.

Such rules read the plain content, not the finished scenario: a mistake in one section hides none in another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from sim.parts import ANALYSES, DESIGNS, MISSINGNESS, MODELS, Registry
from sim.quantities import Days, share
from sim.scenario.document import Location
from sim.scenario.nearest import known_names, nearest
from sim.scenario.schema import EVERYONE, REENACTMENT


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
    yield from _facilitator_problems(content)
    yield from _village_problems(content)
    for place, wanted, what in _word_lists(content):
        if wanted is not None:
            yield from _word_problems(content, place, wanted, what)
    yield from _effect_problems(content)
    analyses, primary = _words(content, "analyses"), _at(content, "hypotheses", "primary_analysis")
    if analyses and isinstance(primary, str) and primary not in analyses:
        message = f"'{primary}' is no analysis of this scenario; {known_names(primary, analyses)}"
        yield Contradiction(("hypotheses", "primary_analysis"), message)
    yield from _control_problems(content)
    yield from _estimand_problems(content)
    yield from _calendar_problems(content)
    yield from _cost_problems(content)


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


def _mechanisms(content: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The place and class of every mechanism of missingness that can be told, those within another included."""
    inner = _words(content, "missingness", "mechanisms") or []
    for place in (("missingness",), *(("missingness", "mechanisms", name) for name in inner)):
        mechanism = _part(content, MISSINGNESS, *place)
        if mechanism is not None:
            yield place, mechanism


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
    model = _part(content, MODELS, "model")
    if visits is None:
        return
    if model is not None and model.n_visit not in (None, len(visits)) and len(visits) > 1:
        message = f"three visits are needed (baseline, after training, final), found {len(visits)}"
        yield Contradiction(("calendar", "visits"), message)
    for place, mechanism in _mechanisms(content):
        if mechanism.is_cumulative or _at(content, *place, "monotone") is True:
            for losses in _losses_by_visit(content, place, mechanism):
                yield from _falling_problems(content, losses, visits)


def _losses_by_visit(content: Any, place: tuple[str, ...], mechanism: Any) -> Iterator[tuple[str, ...]]:
    """The places of a mechanism's losses that go by visit: one, or one for each arm."""
    by = mechanism.keyed_by.get("loss", ())
    if by == ("visit",):
        yield (*place, "loss")
    elif by:
        yield from ((*place, "loss", arm) for arm in _words(content, *place, "loss") or [])


def _falling_problems(content: Any, losses: tuple[str, ...], visits: list[str]) -> Iterator[Contradiction]:
    """Cumulative losses that fall from one visit to the next."""
    for before, now in pairwise(visits[1:]):
        stated = [_at(content, *losses, visit, "value") for visit in (before, now)]
        try:
            falls = share(stated[1]) < share(stated[0])
        except PydanticCustomError:
            continue  # reported as such
        if falls:
            message = f"found '{stated[1]}' after '{stated[0]}' by {before}; who has left does not come back"
            yield Contradiction((*losses, now, "value"), message)


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


def _facilitator_problems(content: Any) -> Iterator[Contradiction]:
    """Facilitator teams that differ, or an analysis of them, beside a calendar that does not count them."""
    if not _words(content, "calendar"):
        return
    for label in _words(content, "analyses") or []:
        at = ("analyses", label, "facilitator")
        if _at(content, *at) == "random" and _at(content, "calendar", "facilitator_teams") is None:
            yield Contradiction(at, "has no effect: calendar.facilitator_teams is missing, so teams are not counted")
    if _words(content, "model", "icc_facilitator") is None:
        return
    if _at(content, "calendar", "facilitator_teams") is None:
        message = "is missing; where teams are not counted, model.icc_facilitator has no effect"
        yield Contradiction(("calendar", "facilitator_teams"), message)


def _village_problems(content: Any) -> Iterator[Contradiction]:
    """Contamination between villages where no design randomises villages."""
    key = "contamination_between_villages"
    parts = [_part(content, DESIGNS, "designs", name) for name in _words(content, "designs") or []]
    if _words(content, "model", key) is None or not parts or None in parts:
        return
    if not any("villages_per_district" in part.model_fields for part in parts):
        yield Contradiction(("model", key), "has no effect: no design randomises villages", True)


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
    model = _part(content, MODELS, "model")
    if model is not None:
        for key, those, what in (
            ("change", slice(1, None), "visit after the baseline"),
            ("effect_profile", slice(1, -1), "visit between the baseline and the final one"),
        ):
            if key in model.model_fields:
                yield ("model", key), visits[those] if visits else None, what
    yield ("model", "gain_by_days"), _training_days(content), "number of training days attended"
    if model is None or "window_shift" in model.model_fields:
        yield ("model", "window_shift"), windows if _words(content, "calendar") else None, "window"
        for window in _words(content, "model", "window_shift") or []:
            yield ("model", "window_shift", window), strata, "stratum"
    wanted = {
        "stratum": (strata, "stratum"),
        "window": (windows if _words(content, "calendar") else None, "window"),
        "visit": (visits[1:] if visits else None, "visit after the baseline"),
        "arm": (list(dict.fromkeys(str(place[-1]) for place, _ in _arms(content))) or None, "arm"),
    }
    for place, mechanism in _mechanisms(content):
        for field, words in mechanism.keyed_by.items():
            yield from _nested_lists(content, (*place, field), [wanted[word] for word in words])


def _nested_lists(
    content: Any, place: tuple[str, ...], wanted: list[tuple[list[str] | None, str]]
) -> Iterator[tuple[Location, list[str] | None, str]]:
    """A mapping by the first of these words, each of whose entries goes by the rest."""
    (words, what), *rest = wanted
    yield place, words, what
    for word in (_words(content, *place) or []) if rest else []:
        yield from _nested_lists(content, (*place, word), rest)


def _training_days(content: Any) -> list[str] | None:
    """Numbers of days that can be attended; None where they or those of gain_by_days cannot be told."""
    try:
        n_day = TypeAdapter(Days).validate_python(_at(content, "calendar", "training_days") or "1 day")
    except ValidationError:
        return None
    days = [str(day + 1) for day in range(n_day)]
    found = sorted(_words(content, "model", "gain_by_days") or [])
    return days if 1 <= n_day <= 5 and found == [str(day + 1) for day in range(len(found))] else None


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


def _estimand_problems(content: Any) -> Iterator[Contradiction]:
    """Reasons to leave that there are not, and events that cannot happen."""
    missingness, model = _missingness(content), _part(content, MODELS, "model")
    leaving = None
    if missingness is not None:
        reasons = zip(missingness.reasons, missingness.ends_follow_up, strict=True)
        leaving = [reason for reason, for_good in reasons if for_good]
    for at, reason in _listed(content, "until"):
        if leaving is not None and reason not in leaving:
            yield Contradiction(at, f"'{reason}' {_no_reason(reason, missingness.reasons, leaving)}")
    for at, event in _listed(content, "had_not"):
        if event == "leaving" and leaving == []:
            yield Contradiction(at, "'leaving' has no effect: under this missingness nobody leaves for good")
        if event == "non_attendance" and model is not None and "attendance" not in model.model_fields:
            kind = model.example["kind"]
            yield Contradiction(at, f"'non_attendance' has no effect: in a model of kind '{kind}' everyone attends")


def _listed(content: Any, key: str) -> Iterator[tuple[Location, str]]:
    """The words in a list of the estimand, with their places."""
    found = _at(content, "estimand", key)
    for position, word in enumerate(found if isinstance(found, list) else []):
        if isinstance(word, str):
            yield ("estimand", key, position), word


def _no_reason(reason: str, reasons: tuple[str, ...], known: list[str]) -> str:
    """Why nobody leaves for good by this reason; `known` : those by which people do."""
    if reason in reasons:
        return "does not end follow-up: whoever misses a visit by it may come back"
    if not known:
        return "is no reason to leave: under this missingness nobody leaves for good"
    return f"is no reason to leave; {known_names(reason, known)}"


def _missingness(content: Any) -> Any:
    """The missingness as a finished part; None where it is broken, which is reported as such."""
    part = _part(content, MISSINGNESS, "missingness")
    try:
        return part.model_validate_json(json.dumps(_at(content, "missingness")), strict=True) if part else None
    except ValidationError:
        return None


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


def _cost_problems(content: Any) -> Iterator[Contradiction]:
    """Unit costs of what no design has, or of what nobody counts."""
    parts = [_part(content, DESIGNS, "designs", name) for name in _words(content, "designs") or []]
    calendar = _words(content, "calendar")
    if _words(content, "costs") is None or not parts or None in parts or calendar is None:
        return
    why = {}
    if not any("villages_per_district" in part.model_fields for part in parts):
        why["per_village"] = "no design randomises villages"
    if "facilitator_teams" not in calendar:
        why["per_facilitator_team"] = "without calendar.facilitator_teams nobody counts teams"
    if "travel" not in calendar:
        why["per_travel_day"] = "without calendar.travel no team is ever on the road"
    for key, reason in why.items():
        if _at(content, "costs", key) is not None:
            yield Contradiction(("costs", key), f"has no effect: {reason}", True)


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
