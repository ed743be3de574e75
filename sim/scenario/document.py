"""YAML 1.2 text to a validated part, every problem with its file, line and column, all of them at once.

Aliases, anchors, tags, duplicate keys and deep nesting are refused before anything is built.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent
from ruamel.yaml.scalarbool import ScalarBoolean

from sim.errors import InvalidInput, Problem

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_DEPTH = 20


class Document:
    """A parsed file: its plain content and the place of every key and value in it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self._key: dict[Location, tuple[int, int]] = {}
        self._value: dict[Location, tuple[int, int]] = {(): (1, 1)}
        self.content = self._plain(self._parse(), ())

    @classmethod
    def read(cls, path: Path) -> Document:
        if not path.is_file():
            near = difflib.get_close_matches(path.name, [p.name for p in _siblings(path)], n=1)
            hint = f" Did you mean {path.parent / near[0]}?" if near else ""
            raise InvalidInput([Problem(str(path), 0, 0, "", f"there is no such file.{hint}")])
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput([Problem(str(path), 0, 0, "", f"is larger than {MAX_BYTES:,} bytes")])
        try:
            return cls(path, path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidInput([Problem(str(path), 0, 0, "", f"is not UTF-8 text: {error.reason}")]) from None

    def problem(self, location: Location, message: str, *, at_key: bool = False) -> Problem:
        """A problem at `location`, or at the nearest place above it that the file has."""
        places = self._key if at_key else self._value
        place = location
        while place not in places:
            place, places = place[:-1], self._value
        line, column = places[place]
        return Problem(str(self.path), line, column, ".".join(map(str, location)), message)

    def _parse(self) -> Any:
        yaml = YAML(typ="rt", pure=True)
        try:
            depth = 0
            for event in yaml.parse(self.text):
                depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
                self._refuse_event(event, depth)
            return yaml.load(self.text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            problem = (error.problem or "is not YAML").split("\n")[0]
            raise InvalidInput([Problem(str(self.path), line, column, "", problem)]) from None
        except (YAMLError, RecursionError, ValueError) as error:
            raise InvalidInput(
                [Problem(str(self.path), 1, 1, "", f"is not YAML: {str(error).splitlines()[0]}")]
            ) from None

    def _refuse_event(self, event: Any, depth: int) -> None:
        found = None
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
            found = "YAML anchors and aliases are not allowed; write the value out"
        elif getattr(event, "ctag", None) is not None and getattr(event, "tag", None):
            found = f"YAML tags are not allowed, found {event.tag!r}"
        elif depth > MAX_DEPTH:
            found = f"nested deeper than {MAX_DEPTH} levels"
        if found:
            mark = event.start_mark
            raise InvalidInput([Problem(str(self.path), mark.line + 1, mark.column + 1, "", found)])

    def _plain(self, node: Any, location: Location) -> Any:
        if isinstance(node, dict):
            for key in node:
                at = (*location, key)
                line, column = node.lc.key(key)
                self._key[at] = (line + 1, column + 1)
                line, column = node.lc.value(key)
                self._value[at] = (line + 1, column + 1)
            return {key: self._plain(value, (*location, key)) for key, value in node.items()}
        if isinstance(node, list):
            for i in range(len(node)):
                line, column = node.lc.item(i)
                self._value[(*location, i)] = (line + 1, column + 1)
            return [self._plain(value, (*location, i)) for i, value in enumerate(node)]
        if isinstance(node, ScalarBoolean):
            return bool(node)
        for kind in (bool, int, float, str):
            if isinstance(node, kind):
                return kind(node)
        return node


def _siblings(path: Path) -> Iterable[Path]:
    return path.parent.iterdir() if path.parent.is_dir() else ()


def build(document: Document, model: type[Model]) -> Model:
    """The document as `model`; raises InvalidInput with every problem."""
    if not isinstance(document.content, dict):
        raise InvalidInput([Problem(str(document.path), 1, 1, "", "is empty or not a mapping of keys to values")])
    try:
        return model.model_validate(document.content)
    except ValidationError as error:
        raise InvalidInput([_problem(document, model, e) for e in error.errors()]) from None


def _problem(document: Document, model: type[BaseModel], error: Any) -> Problem:
    """One pydantic error in plain words."""
    location: Location = error["loc"]
    found, context, kind = error.get("input"), error.get("ctx", {}), error["type"]
    in_file = document_location(document.content, location)
    field_name = in_file[-1] if in_file else ""
    if kind == "extra_forbidden":
        known = sorted(_fields(_type_at(model, location[:-1])))
        return document.problem(in_file, f"unknown key; {known_names(str(field_name), known)}", at_key=True)
    if kind == "missing":
        return document.problem(in_file, f"'{location[-1]}' is missing")
    if kind in ("union_tag_invalid", "literal_error", "enum"):
        allowed = [
            name.strip().strip("'")
            for name in (context.get("expected_tags") or context["expected"]).replace(" or ", ", ").split(",")
        ]
        tag = context.get("tag", found)
        at = (*in_file, "kind") if kind == "union_tag_invalid" else in_file
        return document.problem(at, f"found {tag!r}; {known_names(str(tag), allowed)}")
    if kind == "union_tag_not_found":
        return document.problem(in_file, "'kind' is missing")
    bounds = {
        "greater_than": ("above", "gt"),
        "greater_than_equal": ("at least", "ge"),
        "less_than": ("below", "lt"),
        "less_than_equal": ("at most", "le"),
    }
    if kind in bounds:
        word, key = bounds[kind]
        return document.problem(in_file, f"found {found!r}; it must be {word} {context[key]:g}")
    if kind in ("refused", "quantity"):
        return document.problem(in_file, context["message"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return document.problem(in_file, f"found {found!r}; {message}" if not isinstance(found, (dict, list)) else message)


def document_location(content: Any, location: Location) -> Location:
    """`location` as the file has it: without the names of union members that pydantic puts in between."""
    kept: list[str | int] = []
    node = content
    for i, part in enumerate(location):
        if (isinstance(node, dict) and part in node) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        ):
            kept.append(part)
            node = node[part]
        elif i == len(location) - 1 and isinstance(node, dict) and node.get("kind") != part:
            kept.append(part)
    return tuple(kept)


def known_names(found: str, known: list[str]) -> str:
    """What is allowed, and the name nearest to the one found."""
    near = difflib.get_close_matches(found, known, n=1, cutoff=0.5)
    hint = f". Did you mean '{near[0]}'?" if near else ""
    return f"known: {', '.join(known)}{hint}"


def _fields(kind: Any) -> Iterable[str]:
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else ()


def _type_at(kind: Any, location: Location) -> Any:
    """The type that a schema has at `location`, through optional, annotated, mapping, list and tagged types."""
    kind = _bare(kind)
    if not location:
        return kind
    head, rest = location[0], location[1:]
    if isinstance(kind, type) and issubclass(kind, BaseModel) and head in kind.model_fields:
        return _type_at(kind.model_fields[str(head)].annotation, rest)
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (dict, list, tuple):
        return _type_at(arguments[-1], rest)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        for member in map(_bare, arguments):
            field = getattr(member, "model_fields", {}).get("kind")
            if field is not None and head in typing.get_args(field.annotation):
                return _type_at(member, rest)
            if getattr(member, "__name__", None) == head:
                return _type_at(member, rest)
        return next((_type_at(m, location) for m in map(_bare, arguments) if m is not type(None)), None)
    return None


def _bare(kind: Any) -> Any:
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    arguments = [a for a in typing.get_args(kind) if a is not type(None)]
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and len(arguments) == 1:
        return _bare(arguments[0])
    return kind
