"""The result folder: blocks as Parquet, summaries as CSV, a manifest that says what they are. Every write is atomic."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from sim.errors import NotResumable
from sim.run.blocks import Block, blocks_of
from sim.scenario.load import Scenario

LIBRARIES = ("numpy", "scipy", "numba", "llvmlite", "pandas", "simpy", "pyarrow")


class Store:
    """One result folder. `identity` is what its blocks are a function of; a folder of another identity is refused."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self.folder = folder
        self.scenario = scenario
        self.identity = {
            "fingerprint": scenario.fingerprint,
            "seed": scenario.file.seed,
            "nexttrial": metadata.version("nexttrial"),
            "code": _code_state(),
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in LIBRARIES},
        }

    @property
    def manifest_path(self) -> Path:
        return self.folder / "manifest.json"

    def open(self, *, new_run: bool) -> None:
        """Make the folder ready. Raises NotResumable if it holds the blocks of something else."""
        if new_run and self.manifest_path.exists():
            shutil.rmtree(self.folder / "blocks", ignore_errors=True)
            self.manifest_path.unlink()
            for picture in self.folder.glob("flow_*.svg"):  # of designs that the new run may not have
                picture.unlink()
        if self.manifest_path.exists():
            found = json.loads(self.manifest_path.read_text(encoding="utf-8")).get("identity", {})
            changed = [key for key in {**found, **self.identity} if found.get(key) != self.identity.get(key)]
            if changed:
                said = "; ".join(f"{key}: {found.get(key)} -> {self.identity.get(key)}" for key in changed)
                raise NotResumable(
                    f"{self.folder} holds a run of something else ({said}). "
                    "Give --new-run to replace it, or --out DIR to keep both."
                )
        (self.folder / "blocks").mkdir(parents=True, exist_ok=True)
        self.write_manifest("partial")

    def has(self, block: Block) -> bool:
        """Whether the block is stored, whole: the number of replicates is part of its name."""
        return self._path(block, "rows").exists() and self._path(block, "flow").exists()

    def put(self, block: Block, rows: pd.DataFrame, flow: pd.DataFrame) -> None:
        """Store one block; the rows last, so that a block that is there is complete."""
        _atomic(self._path(block, "flow"), partial(flow.to_parquet, index=False))
        _atomic(self._path(block, "rows"), partial(rows.to_parquet, index=False))

    def rows(self, design: str, analysis: str) -> Iterator[pd.DataFrame]:
        """The rows of one analysis, span by span."""
        only = [("analysis", "==", analysis)]
        return self._spans(design, lambda block: pd.read_parquet(self._path(block, "rows"), filters=only))

    def flow(self, design: str) -> Iterator[pd.DataFrame]:
        """Who was due and seen in every replicate, span by span."""
        return self._spans(design, lambda block: pd.read_parquet(self._path(block, "flow")))

    def _spans(self, design: str, read: Callable[[Block], pd.DataFrame]) -> Iterator[pd.DataFrame]:
        file = self.scenario.file
        stored = filter(self.has, blocks_of(design, file.replicates, file.calendars))
        for _, blocks in groupby(stored, key=lambda block: block.first):
            span = pd.concat([read(block) for block in blocks], ignore_index=True)
            yield span.sort_values("replicate", kind="stable", ignore_index=True)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        _atomic(self.folder / name, lambda path: table.to_csv(path, index=False, lineterminator="\n"))

    def write_manifest(self, state: str, **more: Any) -> None:
        """What was run, with what, and whether it is `complete` or `partial`; times are kept apart from results."""
        content = {
            "state": state,
            "scenario": self.scenario.name,
            "identity": self.identity,
            "replicates": self.scenario.file.replicates,
            "command": ["nexttrial", *sys.argv[1:]],
            "machine": {"system": platform.system(), "cpu": _cpu(), "cores": os.cpu_count()},
            **more,
            "scenario_text": self.scenario.text,
        }
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        _atomic(self.manifest_path, lambda path: path.write_text(text, encoding="utf-8"))

    def _path(self, block: Block, kind: str) -> Path:
        return self.folder / "blocks" / f"{block.name}.{kind}.parquet"


def _atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside the target, flush to disk, then rename: a reader sees the old file or the new one, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _code_state() -> str:
    """SHA-256 of the sources that can move a number: all but the command line and the reports."""
    root = Path(__file__).parents[1]
    state = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if path.name not in ("cli.py", "terminal.py", "__main__.py") and path.parent.name != "report":
            state.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return state.hexdigest()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
