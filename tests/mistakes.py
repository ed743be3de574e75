"""Copies of a scenario with mistakes in them, for the tests of messages."""

from __future__ import annotations

import shutil
from pathlib import Path

from sim.errors import InvalidInput, Problem
from sim.scenario.load import read_scenario

SCENARIOS = Path(__file__).parents[1] / "scenarios"
SIMPLE = Path(__file__).parent / "scenarios" / "crm_simple.yaml"
TEXT = SIMPLE.read_text(encoding="utf-8").replace("../../scenarios/evidence/", "evidence/")
"""Of a scenario beside the folder `evidence`."""


def folder_with_evidence(folder: Path) -> Path:
    """A folder like scenarios/, without any scenario in it."""
    shutil.copytree(SCENARIOS / "evidence", folder / "evidence", dirs_exist_ok=True)
    return folder


def changed(*changes: tuple[str, str], text: str = TEXT) -> str:
    """The scenario's text with the first occurrence of each old text replaced by the new."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def line_of(found: str, text: str) -> int:
    """The number of the first line that holds `found`."""
    assert found in text, found
    return text[: text.index(found)].count("\n") + 1


def problems_of(folder: Path, text: str | bytes) -> list[Problem]:
    """What is said about a scenario of this text; nothing if it is accepted."""
    path = folder / "scenario.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        read_scenario(path)
    except InvalidInput as error:
        return list(error.problems)
    return []
