"""The command in this process or in another, and a small plain scenario for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from mistakes import SCENARIOS, changed

from sim.cli import main

PLAIN = changed(
    ("  lmm: {kind: lmm, baseline: constrained, df: kenward-roger}\n", ""),
    ("mixed_ancova: {kind: mixed_ancova}", "cluster_summary: {kind: cluster_summary}"),
    ("primary_analysis: lmm", "primary_analysis: cluster_summary"),
    ("villages_per_district: 24", "villages_per_district: 8"),
    ("villages_per_district: 32", "villages_per_district: 10"),
    ("village_size: {mean: 25}", "village_size: {mean: 5}"),
    ("village_size: {mean: 25}", "village_size: {mean: 5}"),
    ("calendars: 4", "calendars: 1"),
    text=(SCENARIOS / "parallel_cluster.yaml").read_text(encoding="utf-8"),
)
"""Two designs of a few small villages, analysed by their means."""


def write(folder: Path, text: str = PLAIN, name: str = "scenario.yaml") -> Path:
    """A scenario file of this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def nexttrial(*arguments: object) -> int:
    """The exit code of the command, run in this process."""
    with mock.patch.object(sys, "argv", ["nexttrial", *map(str, arguments)]):
        try:
            main()
        except SystemExit as done:
            return int(done.code or 0)
    return 0


def outside(*command: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Another Python with these arguments, `-m sim ...` or a script of its own."""
    root = str(SCENARIOS.parent)
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=600, check=False,
        cwd=cwd or root, env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip
