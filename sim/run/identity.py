"""What the numbers of a run are a function of, and what differs between two runs, in words."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from sim.scenario.load import Scenario

LIBRARIES = ("numpy", "scipy", "numba", "llvmlite", "pandas", "simpy", "holidays", "pyarrow")
NOT_IN_NUMBERS = ("cli.py", "terminal.py", "__main__.py")
AT_MOST = 12
"""Differences that a message lists."""


def identity(scenario: Scenario) -> dict[str, Any]:
    """Everything that can move a number: the scenario, the seed, this code and the versions it runs on.

    `scenario` : what the file says, as plain data.  `designs` : a hash of each design with all that it depends on, so
    that another design can be added without a doubt about the rest.
    """
    return {
        "fingerprint": scenario.fingerprint,
        "designs": {name: scenario.design_fingerprint(name) for name in scenario.file.designs},
        "scenario": scenario.content,
        **software(),
    }


@functools.cache
def software() -> dict[str, str]:
    """The versions of this code and of what it computes with, on whatever machine this process runs."""
    return {
        "nexttrial": metadata.version("nexttrial"),
        "code": code_state(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
    }


@functools.cache
def code_state() -> str:
    """SHA-256 of the sources that can move a number: all but the command line and the reports."""
    root = Path(__file__).parents[1]
    state = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if path.name not in NOT_IN_NUMBERS and path.parent.name != "report":
            state.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return state.hexdigest()


def machine() -> dict[str, Any]:
    """Where it ran. The same numbers to the last bit are promised for one kind of processor."""
    return {"system": platform.system(), "cpu": processor(), "cores": os.cpu_count()}


def processor() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What differs between two identities: lines about the scenario, and lines about the software.

    Every line names a key of the scenario file, or a version, with what was found and what is asked for now.
    """
    designs = [
        name
        for name in {**found.get("designs", {}), **wanted["designs"]}
        if found.get("designs", {}).get(name) != wanted["designs"].get(name)
    ]
    scenario = list(_changed(found.get("scenario", {}), wanted["scenario"]))
    if not scenario and (designs or found.get("fingerprint") != wanted["fingerprint"]):
        scenario = ["the order of designs, analyses or mechanisms"]
    apart = ("fingerprint", "designs", "scenario")
    versions = [name for name in {**found, **wanted} if name not in apart and found.get(name) != wanted.get(name)]
    return scenario, [f"{name}: {_short(found.get(name))} -> {_short(wanted.get(name))}" for name in versions]


def listed(lines: list[str]) -> str:
    """The first of many lines, each indented, and how many more there are."""
    more = [f"... and {len(lines) - AT_MOST} more"] if len(lines) > AT_MOST else []
    return "".join(f"\n  {line}" for line in [*lines[:AT_MOST], *more])


def _changed(found: Any, wanted: Any, at: str = "") -> Iterator[str]:
    """`path: found -> wanted` of everything that two trees of plain data do not share."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**found, **wanted}:
            if found.get(key, None) != wanted.get(key, None):
                yield from _changed(found.get(key), wanted.get(key), f"{at}.{key}" if at else str(key))
    elif found is None and isinstance(wanted, dict):
        yield f"{at}: new"
    elif wanted is None and isinstance(found, dict):
        yield f"{at}: gone"
    else:
        yield f"{at}: {_short(found)} -> {_short(wanted)}"


def _short(value: Any, width: int = 60) -> str:
    text = "absent" if value is None else str(value)
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text[:10]
    return text if len(text) <= width else f"{text[: width - 3]}..."
