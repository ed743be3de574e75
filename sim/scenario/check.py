"""A read document against a schema: every mistake in plain words, at its place, and the part if there is none.

A misspelt key or choice is one mistake: it is reported, then put right in the document, so that the rest of its section
can be checked as well.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sim.errors import InvalidInput, Problem
from sim.quantities import in_unit_of
from sim.scenario.document import Document, Location, quoted, resolve
from sim.scenario.nearest import known_names, nearest

Model = TypeVar("Model", bound=BaseModel)

CORRECTION_ROUNDS = 20


def build(document: Document, model: type[Model]) -> Model:
    """The document as `model`; raises InvalidInput with every problem."""
    built, problems = check(document, model)
    if built is None or problems:
        raise InvalidInput(problems)
    return built


def check(document: Document, model: type[Model]) -> tuple[Model | None, list[Problem]]:
    """The document as `model` if it can be one, and every problem; misspelt names are put right in its content."""
    problems = list(document.problems)
    if not isinstance(document.content, dict):
        found = "is empty" if document.content is None else f"holds {document.written(())}"
        problems.append(document.problem((), f"{found}; a mapping of keys to values is needed"))
        return None, problems
    for _ in range(CORRECTION_ROUNDS):
        built, errors = _validate(model, document.content)
        corrected = [problem for error in errors if (problem := _correct(document, model, error))]
        if not corrected:
            break
        problems += corrected
    problems += [p for error in errors for p in _problems(document, model, error)]
    return built, list(dict.fromkeys(problems))


def _validate(model: type[Model], content: Any) -> tuple[Model | None, list[Any]]:
    """Strictly, as JSON: no text passes for a number, no number for a Boolean."""
    try:
        return model.model_validate_json(json.dumps(content), strict=True), []
    except ValidationError as error:
        return None, list(error.errors(include_url=False, include_input=False))


def _correct(document: Document, model: type[BaseModel], error: Any) -> Problem | None:
    """The problem of an unknown key or choice, which is then put right or taken out; None for any other error."""
    kind, place = error["type"], find_place(model, error["loc"], document.content)
    if document.is_unreadable(place.location):
        return None
    if kind == "extra_forbidden" and place.location:
        *above, key = place.location
        parent = document.at(tuple(above))
        if key not in parent:  # another error of the same round was about this key
            return None
        known = sorted(_fields(find_place(model, error["loc"][:-1], document.content).kind))
        problem = document.problem(place.location, f"unknown key; {known_names(str(key), known)}", at_key=True)
        near = nearest(str(key), known)
        if near and near not in parent:
            document.rename(place.location, near)
        else:
            del parent[key]
        return problem
    if kind in ("union_tag_invalid", "literal_error"):
        at = (*place.location, "kind") if kind == "union_tag_invalid" else place.location
        found, known = document.at(at), _choices(error)
        near = nearest(found, known) if isinstance(found, str) else None
        if near:
            problem = document.problem(at, f"found {document.written(at)}; {known_names(str(found), known)}")
            document.at(at[:-1])[at[-1]] = near
            return problem
    return None


_NEEDED = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "dict": "a mapping of keys to values",
    "model": "a mapping of keys to values",
    "list": "a list",
    "tuple": "a list",
}
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")


def _problems(document: Document, model: type[BaseModel], error: Any) -> Iterator[Problem]:
    """One of pydantic's errors in plain words; several where a validator found several."""
    context, kind = error.get("ctx", {}), error["type"]
    place = find_place(model, error["loc"], document.content)
    at = place.location
    found = f"found {document.written(at)}"
    if document.is_unreadable(at) and kind != "missing":
        return
    if kind in ("refused", "quantity"):
        for one in context.get("several", [context]):
            where = (*at, *one.get("at", ()))
            message = _filled(document, at, {**one, "key": at[-1]} if place.is_key else one)
            yield document.problem(where, message, at_key=place.is_key)
    elif kind == "missing":
        yield document.problem(at, "is missing")
    elif kind == "union_tag_not_found":
        yield document.problem((*at, "kind"), f"is missing; known: {', '.join(_kinds(place.kind))}")
    elif kind in ("union_tag_invalid", "literal_error"):
        at = (*at, "kind") if kind == "union_tag_invalid" else at
        choices = known_names(str(document.at(at)), _choices(error))
        yield document.problem(at, f"found {document.written(at)}; {choices}")
    elif kind in _BOUNDS:
        yield document.problem(at, f"{found}; it must be {_allowed(place.metadata, document.at(at))}")
    elif kind == "too_short":
        yield document.problem(at, "is empty; at least one entry is needed")
    elif kind.split("_")[0] in _NEEDED and kind != "string_pattern_mismatch":
        needed = _NEEDED[kind.split("_")[0]]
        value = document.at(at)
        hint = ", without quotes" if needed in ("a whole number", "a number") and _is_number(value) else ""
        hint = ": put it in quotes" if needed == "text" and isinstance(value, (int, float)) else hint
        yield document.problem(at, f"{found}; {needed} is needed{hint}")
    else:
        message = error["msg"].replace("Input should be", "it must be")
        yield document.problem(at, f"{found}; {message[0].lower()}{message[1:]}")


def _filled(document: Document, at: Location, context: dict[str, Any]) -> str:
    """A validator's message; `{found}` and the other names in braces become what the user wrote there."""

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name == "found" and "key" in context:
            return quoted(context["key"])
        place = at if name == "found" else (*at, name)
        written = document.written(place) if document.has(place) else str(context[name])
        return written if name == "found" else written.strip("'\"")

    names = "|".join(re.escape(name) for name in context if name not in ("message", "at", "several", "key"))
    return re.sub(rf"\{{({names})\}}", fill, context["message"]) if names else str(context["message"])


def _choices(error: Any) -> list[str]:
    expected = error["ctx"].get("expected_tags") or error["ctx"]["expected"]
    return [name.strip().strip("'") for name in expected.replace(" or ", ", ").split(",")]


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and isinstance(resolve(value), (int, float)) and not isinstance(resolve(value), bool)


def _allowed(metadata: Iterable[Any], value: Any) -> str:
    """The range that constraints leave, in the unit that the user wrote."""
    constraints = list(metadata)
    lower = [(getattr(c, k), w) for c in constraints for k, w in (("ge", "at least"), ("gt", "above")) if hasattr(c, k)]
    upper = [(getattr(c, k), w) for c in constraints for k, w in (("le", "at most"), ("lt", "below")) if hasattr(c, k)]
    parts = []
    if lower:
        bound, word = max(lower, key=lambda pair: (pair[0], pair[1] == "above"))
        parts.append(f"{word} {in_unit_of(value, bound)}")
    if upper:
        bound, word = min(upper, key=lambda pair: (pair[0], pair[1] == "at most"))
        parts.append(f"{word} {in_unit_of(value, bound)}")
    return " and ".join(parts) or "a finite number"


class Place(NamedTuple):
    """Where an error of pydantic lies in the file, and the type and constraints that its schema has there."""

    location: Location
    kind: Any
    metadata: tuple[Any, ...]
    is_key: bool


def find_place(model: type[BaseModel], loc: Location, content: Any) -> Place:
    """pydantic's location without what it adds: the names of union members, and the mark for a key."""
    kind: Any = model
    metadata: tuple[Any, ...] = ()
    location: list[str | int] = []
    node = content
    is_key = False
    for i, part in enumerate(loc):
        kind, metadata = _bare(kind, metadata)
        if part == "[key]" and i == len(loc) - 1 and not (isinstance(node, dict) and part in node):
            is_key = True
            break
        members = _members(kind)
        if members:
            kind = next((m for m in members if part in (*_kinds(m), getattr(m, "__name__", ""))), None)
            continue
        location.append(part)
        node = node.get(part) if isinstance(node, dict) else None
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind, metadata = (field.annotation, tuple(field.metadata)) if field else (None, ())
        else:
            arguments = [a for a in typing.get_args(kind) if a is not Ellipsis]
            kind, metadata = (arguments[-1], ()) if arguments else (None, ())
    kind, metadata = _bare(kind, metadata)
    return Place(tuple(location), kind, metadata, is_key)


def _bare(kind: Any, metadata: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """A type without its annotations, which are added to `metadata`, and without its None."""
    while True:
        if typing.get_origin(kind) is typing.Annotated:
            kind, *notes = typing.get_args(kind)
            for note in notes:
                metadata += tuple(note.metadata) if isinstance(note, FieldInfo) else (note,)
            continue
        arguments = _members(kind)
        if len(arguments) != 1:
            return kind, metadata
        kind = arguments[0]


def _members(kind: Any) -> list[Any]:
    """The types of a union, None apart."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return []
    return [argument for argument in typing.get_args(kind) if argument is not type(None)]


def _kinds(kind: Any) -> list[str]:
    """The names by which a part, or any part of a union, is chosen."""
    if members := _members(kind):
        return [name for member in members for name in _kinds(member)]
    field = _fields(kind).get("kind")
    return [str(name) for name in typing.get_args(field.annotation)] if field else []


def _fields(kind: Any) -> dict[str, FieldInfo]:
    return dict(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


# ---- names --------------------------------------------------------------------------------------------------------
