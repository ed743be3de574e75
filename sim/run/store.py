"""The result folder: blocks as Parquet, summaries as CSV, a manifest that says what they are. Every write is atomic.

    manifest.json                       what was run, with what, and whether it is complete
    blocks/<block>.<design>.<sum>.parquet   a row per replicate x outcome x analysis x truth
    flow/<block>.<design>.<sum>.parquet     a row per replicate: who was due and seen, what the field work took
    log.jsonl                           what happened, with times

<block> names the replicates, <design> the design with everything it depends on, <sum> the bytes in the file. So a block
of an edited design is never taken for one of the design as it is now, the same block is never there twice, and a
damaged file is known by its name. A block is there when both of its files are.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd

from sim.errors import DiskFull, NotResumable
from sim.run.blocks import Block, blocks_of
from sim.run.identity import differences, identity, listed, machine
from sim.run.journal import Journal
from sim.run.lock import only_one
from sim.run.packed import Packed, checksum
from sim.scenario.load import Scenario

MANIFEST = "manifest.json"
KINDS = ("flow", "blocks")
"""In the order of writing: rows last, so that a block whose rows are there is complete."""
DIGEST = 8
"""Digits of a design's hash in the names of its blocks."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\0")


class Store:
    """One result folder. What its blocks are a function of is its identity; a folder of another one is refused."""

    def __init__(self, folder: Path, scenario: Scenario, say: Callable[[str], None] = lambda text: None) -> None:
        self.folder = folder
        self.scenario = scenario
        self.journal = Journal(folder / "log.jsonl", say)
        self.extents: list[int] = []
        self._digest = {name: hash_[:DIGEST] for name, hash_ in identity(scenario)["designs"].items()}
        self._there: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        self._held = ExitStack()

    @property
    def manifest_path(self) -> Path:
        return self.folder / MANIFEST

    def manifest(self) -> dict[str, Any]:
        """What the manifest says; nothing where there is none. Raises NotResumable if it cannot be read."""
        return read_manifest(self.folder)

    def open(self, *, new_run: bool = False, extend: bool = False) -> None:
        """Take the folder and look at what is in it.

        new_run : throw away what is there.  extend : keep the blocks of designs that are as they were, although the
        scenario has others beside them. Raises InUse, or NotResumable with what differs.
        """
        self._held.enter_context(only_one(self.folder))
        try:
            self._take(new_run=new_run, extend=extend)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the folder."""
        self._held.close()

    def reach(self, n_replicate: int) -> None:
        """Ask for that many replicates of each design; those that are there, and their blocks, stay as they are."""
        if not self.extents or n_replicate > self.extents[-1]:
            self.extents.append(n_replicate)

    @property
    def n_replicate(self) -> int:
        """Replicates of each design that are asked for."""
        return self.extents[-1]

    def blocks(self, design: str) -> Iterator[Block]:
        """Every block of a design that makes up the replicates asked for, in their order."""
        first = 0
        for n in self.extents:
            yield from blocks_of(design, n, self.scenario.file.calendars, first)
            first = n

    def has(self, block: Block) -> bool:
        """Whether the block is there and sound. One that is damaged is said to be so, and thrown away."""
        stem = self._stem(block)
        if any(stem not in self._there[kind] for kind in KINDS):
            return False
        damaged = [kind for kind in KINDS if not self._is_sound(kind, stem)]
        for kind in damaged:
            path = self._path(kind, stem)
            self.journal.note(
                "damaged", f"{path} is damaged (block {block.name}): it is computed again", block=block.name
            )
            path.unlink()
            del self._there[kind][stem]
        return not damaged

    def put(self, packed: Packed) -> None:
        """Store one block. Raises DiskFull."""
        stem = self._stem(packed.block)
        for kind, content in zip(KINDS, (packed.flow, packed.rows), strict=True):
            name = f"{stem}.{checksum(content)}.parquet"
            self._write(self.folder / kind / name, content)
            self._there[kind][stem] = name

    def stored(self) -> Stored:
        """What is there of the replicates asked for, to be read span by span in any process."""
        spans: dict[str, list[list[str]]] = {}
        for design in self.scenario.file.designs:
            there = [(block.span, self._stem(block)) for block in self.blocks(design)]
            whole = ((span, stem) for span, stem in there if all(stem in self._there[kind] for kind in KINDS))
            spans[design] = [[stem for _, stem in each] for _, each in groupby(whole, key=itemgetter(0))]
        return Stored(self.folder, spans, self._there)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        self._write(self.folder / name, table_text(table).encode())

    def forget(self, *patterns: str) -> None:
        """Files of the folder that are out of date, as far as they are there."""
        for pattern in patterns:
            for path in self.folder.glob(pattern):
                path.unlink()

    def read_table(self, name: str) -> pd.DataFrame:
        """A table as it was written, to the last bit."""
        return pd.read_csv(self.folder / name, keep_default_na=False, na_values=[""], low_memory=False)

    def write_manifest(self, state: str, **more: Any) -> None:
        """What was run, with what, and whether it is `complete` or `partial`; times are kept apart from results."""
        content = {
            "state": state,
            "scenario": self.scenario.name,
            "identity": identity(self.scenario),
            "replicates": self.n_replicate,
            "extents": self.extents,
            "seed": self.scenario.file.seed,
            "command": ["nexttrial", *sys.argv[1:]],
            "machine": machine(),
            **more,
            "scenario_text": self.scenario.text,
        }
        self._write(self.manifest_path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    def sums(self, names: list[str]) -> dict[str, str]:
        """Checksums of files of the folder that are there."""
        there = [name for name in names if (self.folder / name).exists()]
        return {name: checksum((self.folder / name).read_bytes()) for name in there}

    def content(self) -> str:
        """A checksum of all blocks that are asked for, by their names."""
        names = [
            self._there[kind].get(self._stem(block), "")
            for design in self.scenario.file.designs
            for block in self.blocks(design)
            for kind in KINDS
        ]
        return checksum("\n".join(names).encode())

    def _stem(self, block: Block) -> str:
        return f"{block.name}.{self._digest[block.design]}"

    def _path(self, kind: str, stem: str) -> Path:
        return self.folder / kind / self._there[kind][stem]

    def _is_sound(self, kind: str, stem: str) -> bool:
        return checksum(self._path(kind, stem).read_bytes()) == self._there[kind][stem].rsplit(".", 2)[1]

    def _take(self, *, new_run: bool, extend: bool) -> None:
        if new_run:
            self._empty()
        found = self.manifest()
        self._refuse_another(found, extend=extend)
        for path in (self.folder / kind for kind in KINDS):
            if path.is_symlink():
                raise NotResumable(f"{path} is a link to {path.resolve()}: blocks are written to no other place.")
            path.mkdir(exist_ok=True)
        self._sweep()
        self.extents = [int(n) for n in found.get("extents", [])]
        if self.extents and self.scenario.file.replicates < self.extents[-1]:
            self.journal.say(f"{self.folder} holds {self.extents[-1]:,} replicates a design: all of them are used")
        self.reach(self.scenario.file.replicates)

    def _refuse_another(self, found: dict[str, Any], *, extend: bool) -> None:
        """Raises NotResumable if the folder holds a run of something else."""
        if not found:
            return
        wanted = identity(self.scenario)
        scenario, versions = differences(found.get("identity", {}), wanted)
        if versions:
            raise NotResumable(
                f"{self.folder} was made by other code or versions, and numbers may differ:{listed(versions)}\n"
                "Give --new-run to replace it, or --out DIR to keep both."
            )
        kept = [name for name, sha in wanted["designs"].items() if found["identity"]["designs"].get(name) == sha]
        if scenario and not (extend and kept):
            way = "--extend to keep the designs that are as they were, " if kept else ""
            raise NotResumable(
                f"{self.folder} holds a run of something else. What changed since:{listed(scenario)}\n"
                f"Give {way}--new-run to replace it, or --out DIR to keep both."
            )
        cpu = found.get("machine", {}).get("cpu")
        if cpu != machine()["cpu"]:
            self.journal.say(f"warning: begun on another processor ({cpu}): last digits may differ, decisions do not")

    def _empty(self) -> None:
        """Leaves nothing of an earlier run but what it did not write."""
        self.manifest_path.unlink(missing_ok=True)
        for kind in KINDS:
            shutil.rmtree(self.folder / kind, ignore_errors=True)
        self.forget("*.csv", "*.svg", "*.png")

    def _sweep(self) -> None:
        """Finds the blocks that are there; what a run that was killed had half written goes."""
        self.forget(".*.tmp")
        for kind in KINDS:
            self._there[kind] = {}
            for entry in os.scandir(self.folder / kind):
                if entry.name.endswith(".tmp"):
                    Path(entry.path).unlink()
                elif entry.name.endswith(".parquet") and entry.name.count(".") == 3:
                    self._there[kind][entry.name.rsplit(".", 2)[0]] = entry.name

    def _write(self, path: Path, content: bytes) -> None:
        """Write beside the target, flush to disk, then rename: the old file is there or the new one, never half."""
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise DiskFull(
                f"disk full: {len(content):,} bytes needed for {path}. Everything finished before is safe: make room "
                "and give the same command again."
            ) from None


@dataclass(frozen=True)
class Stored:
    """The blocks of a folder as rows. spans : of each design, the stems of the blocks in each span of replicates.

    A span (sim.run.blocks) holds the replicates of it that are there, sorted, however they are stored.
    """

    folder: Path
    spans: dict[str, list[list[str]]]
    names: dict[str, dict[str, str]]

    def rows(self, design: str, analysis: str) -> Iterator[pd.DataFrame]:
        """The rows of one analysis, span by span."""
        return self._read("blocks", design, [("analysis", "==", analysis)])

    def flow(self, design: str) -> Iterator[pd.DataFrame]:
        """Who was due and seen in every replicate, span by span."""
        return self._read("flow", design, None)

    def failed(self, design: str) -> Iterator[pd.DataFrame]:
        """The rows of fits that failed, span by span."""
        return self._read("blocks", design, [("status", "==", "failed")])

    def _read(self, kind: str, design: str, only: Any) -> Iterator[pd.DataFrame]:
        for span in self.spans[design]:
            paths = [self.folder / kind / self.names[kind][stem] for stem in span]
            tables = [pd.read_parquet(path, filters=only) for path in paths]
            yield pd.concat(tables, ignore_index=True).sort_values("replicate", kind="stable", ignore_index=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the manifest of a folder says; nothing where there is none. Raises NotResumable if it cannot be read."""
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NotResumable(f"{path} is damaged. Give --new-run to replace the run, or --out DIR.")
    return found


def table_text(table: pd.DataFrame) -> str:
    """A table as CSV in which no text is a formula: what a spreadsheet would compute starts with a quote.

    Numbers are untouched. Reference: OWASP Application Security Verification Standard 5.0, 1.2.10.
    """
    safe = table.copy()
    for column in safe.select_dtypes(exclude=["number", "bool"]).columns:
        text = safe[column].astype(object)
        safe[column] = [f"'{x}" if isinstance(x, str) and x.startswith(FORMULA) else x for x in text]
    safe.columns = [f"'{name}" if str(name).startswith(FORMULA) else name for name in safe.columns]
    buffer = io.StringIO()
    safe.to_csv(buffer, index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    return buffer.getvalue()
