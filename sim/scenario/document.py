"""YAML 1.2 text to a validated part, every problem with its file, line and column, all of them at once.

The text is read as YAML 1.2 (core schema) says: `1e+5` is a number, `012` is twelve, `no`, `yes`, `on` and `12:30` are
text, and so is a date. Keys are always text. Aliases, anchors, tags, merge keys, directives, duplicate keys, a second
document and deep nesting are refused; nothing is built from them.

A misspelt key or choice is one mistake: it is reported, then put right in `content`, so that the rest can be checked.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from sim.errors import InvalidInput, Problem
from sim.quantities import in_unit_of

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]

MAX_BYTES = 65_536
MAX_DEPTH = 20
MAX_YAML_PROBLEMS = 20
MAX_SHOWN = 60
CORRECTION_ROUNDS = 20
_DIGITS = 40

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def resolve(text: str) -> Any:
    """A plain scalar as YAML 1.2's core schema reads it: null, a Boolean, a number, or else text."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text[0] in "tT"
    if _INT.fullmatch(text):
        return int(text) if len(text) <= _DIGITS else float(text)
    if _OTHER_BASE.fullmatch(text) and len(text) <= _DIGITS:
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if sign := _INF.fullmatch(text):
        return float(f"{sign[1]}inf")
    return float("nan") if _NAN.fullmatch(text) else text


class Document:
    """A parsed file: its plain content, the place of every key and value in it, and what is wrong with its YAML."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.problems: list[Problem] = []
        self.unreadable: set[Location] = set()
        """Places whose value was refused as YAML: whatever else is wrong there follows from that."""
        self._key: dict[Location, tuple[int, int]] = {}
        self._value: dict[Location, tuple[int, int]] = {(): (1, 1)}
        self._written: dict[Location, str] = {}
        self._renamed: dict[Location, Location] = {}
        self.content = _Composer(self).compose()

    @classmethod
    def read(cls, path: Path) -> Document:
        reason = unreadable(path)
        if not reason:
            try:
                return cls(path, path.read_text(encoding="utf-8-sig"))
            except UnicodeDecodeError:
                reason = "is not a text file in UTF-8"
            except OSError as error:
                reason = f"cannot be read: {error.strerror}"
        raise InvalidInput([Problem(str(path), 0, 0, "", reason)])

    def problem(self, location: Location, message: str, *, at_key: bool = False) -> Problem:
        """A problem at `location`, or at the nearest place above it that the file has."""
        location = self._as_written(location)
        field = path_text(location)
        places = self._key if at_key else self._value
        place = location
        while place not in places:
            place, places = place[:-1], self._value
        line, column = places[place]
        return Problem(str(self.path), line, column, field, message)

    def written(self, location: Location) -> str:
        """The value at `location` as the user wrote it, for a message; text without quotes gets them."""
        return self._written.get(self._as_written(location), "nothing")

    def has(self, location: Location) -> bool:
        return self._as_written(location) in self._value

    def is_unreadable(self, location: Location) -> bool:
        written = self._as_written(location)
        return any(written[:n] in self.unreadable for n in range(len(written) + 1))

    def rename(self, location: Location, name: str) -> None:
        """Put a misspelt key right in `content`; its place and its name in messages stay as written."""
        *above, old = location
        node = self.at(tuple(above))
        items = [(name if key == old else key, value) for key, value in node.items()]
        self._renamed[(*above, name)] = self._as_written(location)
        node.clear()
        node.update(items)

    def at(self, location: Location) -> Any:
        """The content at `location`; None if there is none."""
        node = self.content
        for part in location:
            if isinstance(node, dict):
                node = node.get(str(part))
            else:
                node = node[part] if isinstance(node, list) and isinstance(part, int) and part < len(node) else None
        return node

    def _as_written(self, location: Location) -> Location:
        written: Location = ()
        for n, part in enumerate(location, start=1):
            written = self._renamed.get(location[:n], (*written, part))
        return written


def path_text(location: Location) -> str:
    """`model.outcomes.sleep`; a name that would make the path hard to read stands in quotes."""
    return ".".join(
        str(part)
        if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_ -]*", str(part)) and len(str(part)) <= MAX_SHOWN
        else _quoted(part)
        for part in location
    )


def _quoted(part: str | int) -> str:
    return f"'{_short(str(part))}'"


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def unreadable(path: Path) -> str:
    """Why `path` cannot be read as a file of ours; nothing if it can."""
    try:
        if path.is_dir():
            return "is a folder, not a file"
        if not path.exists():
            near = nearest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
            return "does not exist" + (f". Did you mean {path.parent / near}?" if near else "")
        if not path.is_file():
            return "is not a regular file"
        if path.stat().st_size > MAX_BYTES:
            return f"is larger than {MAX_BYTES:,} bytes"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


class _Composer:
    """Events of the YAML parser to plain content, with the place of everything."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.at: Location = ()

    def compose(self) -> Any:
        document = self.document
        if bad := _CONTROL.search(document.text):
            line = document.text.count("\n", 0, bad.start()) + 1
            column = bad.start() - document.text.rfind("\n", 0, bad.start())
            self._stop(line, column, f"the character U+{ord(bad[0]):04X} is not allowed: is this a text file?")
        try:
            self._events = iter(YAML(typ="safe", pure=True).parse(document.text))
            return self._document()
        except MarkedYAMLError as error:
            message, mark = _syntax(error)
            self._stop(mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, message)
        except (YAMLError, RecursionError, ValueError) as error:
            self._stop(1, 1, f"is not YAML: {str(error).splitlines()[0]}")

    def _document(self) -> Any:
        content = None
        n_document = 0
        while not isinstance(event := next(self._events), StreamEndEvent):
            if isinstance(event, DocumentStartEvent):
                n_document += 1
                if event.version or event.tags:
                    self._refuse(event, (), "YAML directives (%) are not allowed")
                if n_document > 1:
                    self._refuse(event, (), "a second document (---) is not allowed: one file, one document")
                    self._stop_with_all()
                content = self._node(next(self._events), ())
        return content

    def _node(self, event: Any, location: Location) -> Any:
        document = self.document
        mark = event.start_mark
        is_block = isinstance(event, (MappingStartEvent, SequenceStartEvent)) and not event.flow_style
        here = (mark.line + 1, mark.column + 1)
        is_empty = isinstance(event, ScalarEvent) and event.start_mark.index == event.end_mark.index
        document._value[location] = document._key.get(location, here) if is_block or is_empty else here
        if location == ():
            document._value[()] = (1, 1)
        if len(location) > MAX_DEPTH:
            self._refuse(event, location[:1], f"nested deeper than {MAX_DEPTH} levels")
            self._stop_with_all()
        if isinstance(event, AliasEvent):
            self._refuse(event, location, "YAML aliases (*) are not allowed; write the value out")
            document.unreadable.add(location)
            return None
        if event.anchor:
            self._refuse(event, location, "YAML anchors (&) are not allowed; write the value out where it is needed")
        if event.tag:
            shown = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            self._refuse(event, location, f"YAML tags are not allowed, found {shown}")
            document.unreadable.add(location)
        if isinstance(event, ScalarEvent):
            return self._scalar(event, location)
        return self._mapping(location) if isinstance(event, MappingStartEvent) else self._sequence(location)

    def _scalar(self, event: Any, location: Location) -> Any:
        raw = self.document.text[event.start_mark.index : event.end_mark.index]
        shown = _short(" ".join(raw.split()))
        value = resolve(event.value) if event.implicit[0] else event.value
        if isinstance(value, str) and event.implicit[0]:
            shown = f"'{shown}'"
        self.document._written[location] = shown or "nothing"
        if isinstance(value, str) and (bad := _CONTROL.search(value)):
            self._refuse(event, location, f"the character U+{ord(bad[0]):04X} is not allowed in text")
            self.document.unreadable.add(location)
            return None
        return value

    def _mapping(self, location: Location) -> dict[str, Any]:
        document = self.document
        document._written[location] = "a mapping"
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                self._refuse(event, location, "a key must be plain text, not a list, a mapping or an alias")
                self._node(event, (*location, "?"))
                self._node(next(self._events), (*location, "?"))
                continue
            key = event.value
            place: Location = (*location, key)
            self.at = place
            if event.anchor or event.tag:
                self._refuse(event, place, "YAML anchors and tags are not allowed")
            if bad := _CONTROL.search(key):
                self._refuse(event, location, f"the character U+{ord(bad[0]):04X} is not allowed in a key")
                key, place = "?", (*location, "?")
            is_merge = key == "<<" and event.implicit[0]
            if is_merge:
                self._refuse(event, place, "YAML merge keys are not allowed; write the keys out")
            elif key in found:
                line = document._key[place][0]
                self._refuse(event, place, f"is there twice; it is first on line {line}")
                place = (*location, f"{key} (again)")
            document._key.setdefault(place, (event.start_mark.line + 1, event.start_mark.column + 1))
            value = self._node(next(self._events), place)
            self.at = location
            if not is_merge:
                found.setdefault(key, value)
        return found

    def _sequence(self, location: Location) -> list[Any]:
        self.document._written[location] = "a list"
        found: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            found.append(self._node(event, (*location, len(found))))
        return found

    def _refuse(self, event: Any, location: Location, message: str) -> None:
        problems, mark = self.document.problems, event.start_mark
        field = path_text(location)
        problems.append(Problem(str(self.document.path), mark.line + 1, mark.column + 1, field, message))
        if len(problems) >= MAX_YAML_PROBLEMS:
            self._stop_with_all()

    def _stop(self, line: int, column: int, message: str) -> NoReturn:
        field = path_text(self.at)
        self.document.problems.append(Problem(str(self.document.path), line, column, field, message))
        self._stop_with_all()

    def _stop_with_all(self) -> NoReturn:
        raise InvalidInput(self.document.problems) from None


def _syntax(error: MarkedYAMLError) -> tuple[str, Any]:
    """The parser's complaint in plain words, and where the mistake was made rather than where it was noticed."""
    problem, context = error.problem or "", error.context or ""
    here, opened = error.problem_mark or error.context_mark, error.context_mark or error.problem_mark
    if "'\\t'" in problem:
        return "a tab is not allowed here; use spaces", here
    if start := re.search(r"found character '(.+)' that cannot start", problem):
        return f"a value cannot start with {start[1]}; put it in quotes", here
    if "mapping values are not allowed" in problem:
        return "a second ':' in one line, or wrong indentation; text that contains ': ' needs quotes", here
    if "quoted scalar" in context and "end of stream" in problem:
        return "this quotation mark is never closed", opened
    if "flow mapping" in context:
        return "this '{' is not closed, or a ',' between two of its entries is missing", opened
    if "flow sequence" in context or "flow node" in context:
        return "this bracket is not closed, or a ',' between two of its entries is missing", opened
    if "block" in context and "expected <block end>" in problem:
        return "wrong indentation: this line does not line up with those above", here
    if "could not find expected ':'" in problem:
        return "a ':' is missing after this key", opened
    return problem.split("\n")[0] or "is not YAML", here


# ---- content to a part ------------------------------------------------------------------------------------------


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
            return _quoted(context["key"])
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


def known_names(found: str, known: Iterable[str]) -> str:
    """What is allowed, and the name nearest to the one found."""
    names = list(known)
    near = nearest(found, names)
    hint = f". Did you mean '{near}'?" if near else ""
    return f"known: {', '.join(names) or 'none'}{hint}"


def nearest(found: str, known: Iterable[str]) -> str | None:
    """The known name that `found` is a slip of: other case or separators, a part of the words, or a few letters.

    None rather than a guess: names that differ in a digit (vil_1, vil_4) are different names, not slips.
    """
    names = [name for name in known if len(found) <= 2 * MAX_SHOWN]
    plain = _plain(found)
    for name in names:
        if _plain(name) == plain and plain:
            return name
    words = set(re.split(r"[\W_]+", found.lower()))
    holding = [n for n in names if len(plain) >= 4 and (n.startswith(found) or words <= set(re.split(r"[\W_]+", n)))]
    if len(holding) == 1:
        return holding[0]
    limit = max(1, len(plain) // 4) if len(plain) >= 3 else 0
    near = [
        (distance, name)
        for name in names
        if re.sub(r"\D", "", name) == re.sub(r"\D", "", found)
        and (distance := _edits(plain, _plain(name))) <= limit
        and 3 * distance <= len(name)
    ]
    return min(near)[1] if near else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _edits(a: str, b: str) -> int:
    """Letters to insert, delete, replace or swap with their neighbour to turn a into b (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, last = last, row
    return last[-1]
