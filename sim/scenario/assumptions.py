"""The assumptions of a scenario, by their place in the file, and the scenario with one of them changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sim.parts import Assumption, Part
from sim.scenario.load import Scenario

Place = tuple[str, ...]


def assumptions(scenario: Scenario) -> dict[Place, Assumption[Any]]:
    """Every assumption by the keys that lead to it, in the order of the file's sections.

    Those of sections that every design shares; a design's own numbers are choices.
    """
    return dict(_walk(scenario.file, ()))


def _walk(node: Any, at: Place) -> Iterator[tuple[Place, Assumption[Any]]]:
    if isinstance(node, Assumption):
        yield at, node
    elif isinstance(node, Part):
        for name in type(node).model_fields:
            yield from _walk(getattr(node, name), (*at, name))
    elif isinstance(node, Mapping):
        for name, value in node.items():
            yield from _walk(value, (*at, str(name)))


def assuming(scenario: Scenario, at: Place, value: Any) -> Scenario:
    """The scenario with another value of the assumption at this place, at least its low and at most its high."""
    return replace(scenario, file=_changed(scenario.file, at, value))


def _changed(node: Any, at: Place, value: Any) -> Any:
    if isinstance(node, Assumption):
        assert not at and node.low <= value <= node.high
        return node.model_copy(update={"value": value})
    key, *rest = at
    if isinstance(node, Part):
        return node.model_copy(update={key: _changed(getattr(node, key), tuple(rest), value)})
    return {**node, key: _changed(node[key], tuple(rest), value)}
