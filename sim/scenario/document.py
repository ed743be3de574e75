"""YAML 1.2 text to plain content, every problem with its file, line and column, all of them at once.

The text is read as YAML 1.2 (core schema) says: `1e+5` is a number, `012` is twelve, `no`, `yes`, `on` and `12:30` are
text, and so is a date. Keys are always text. Aliases, anchors, tags, merge keys, directives, duplicate keys, a second
document and deep nesting are refused; nothing is built from them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

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
from sim.scenario.nearest import nearest

Location = tuple[str | int, ...]

MAX_BYTES = 65_536
MAX_DEPTH = 20
MAX_YAML_PROBLEMS = 20
MAX_SHOWN = 60
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
        else quoted(part)
        for part in location
    )


def quoted(part: str | int) -> str:
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
