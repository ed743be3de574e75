"""Designs of finished runs, to be compared: which replicates are pairs, and where their rows are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd

from sim.errors import NotResumable
from sim.evaluate.compare import Design, all_pairs, compare
from sim.run.blocks import blocks_of
from sim.run.packed import checksum
from sim.run.store import DIGEST, KINDS, Stored, read_manifest
from sim.run.tables import Anew
from sim.scenario.load import COMMON, Scenario
from sim.scenario.schema import Hypotheses, ScenarioFile


class NotComparable(ValueError):
    """Runs or designs that cannot be compared, and why."""


@dataclass(frozen=True)
class Comparison:
    """Differences between designs. table : of sim.evaluate.compare.compare; a and b are labels.

    is_paired : whether replicates were taken as pairs, and `why`.  among_all : whether every pair of the designs is in
    the table, so that they can be ranked.  failure_rate : the largest of the runs.
    """

    table: pd.DataFrame
    primary_analysis: str
    is_paired: bool
    why: str
    among_all: bool
    failure_rate: float


@dataclass(frozen=True)
class Finished:
    """A complete result folder, by its manifest; it need not be of a scenario that is still there."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Finished:
        """Raises NotComparable where there is no run, NotResumable where it is not complete or damaged."""
        manifest = read_manifest(folder)
        if not manifest:
            raise NotComparable(f"{folder} is no result folder: it has no manifest.json")
        if manifest.get("state") != "complete":
            raise NotResumable(f"{folder} is not complete: give its `nexttrial run` again, which goes on from there.")
        return cls(folder, manifest)

    @property
    def content(self) -> dict[str, Any]:
        """The scenario as plain data."""
        found: dict[str, Any] = self.manifest["identity"]["scenario"]
        return found

    @property
    def designs(self) -> list[str]:
        return list(self.manifest["identity"]["designs"])

    @functools.cached_property
    def hypotheses(self) -> Hypotheses:
        return Hypotheses.model_validate(self.content["hypotheses"])

    @property
    def n_calendar(self) -> int:
        return int(self.content.get("calendars", ScenarioFile.model_fields["calendars"].default))

    def stream(self, design: str) -> tuple[int, str]:
        """What replicates of equal number share if this is equal: seed, and the name of their random streams."""
        return int(self.manifest["seed"]), COMMON if self.content.get("common_random_numbers") else design

    @functools.cached_property
    def failure_rate(self) -> float:
        """Largest share of failed fits of the primary analysis."""
        summary = self._table("summary.csv")
        mine = summary[summary["analysis"] == self.hypotheses.primary_analysis]
        return float((mine["n_failed"] / mine["n_replicate"]).max())

    def to_compare(self, design: str, label: str) -> Design:
        """Raises NotResumable where a block is gone or damaged."""
        estimands = self._table("estimands.csv")
        mine = estimands[(estimands["design"] == design) & (estimands["truth"] == "alternative")]
        demand = dict(zip(mine["outcome"], mine["demand_inflation"].astype(float), strict=True))
        stated = self.hypotheses
        rows = Anew(partial(self._stored(design).rows, design, stated.primary_analysis))
        return Design(label, rows, demand, self.n_calendar, stated.alpha, stated.sides, stated.multiplicity)

    def _table(self, name: str) -> pd.DataFrame:
        path = self.folder / name
        if not path.exists():
            raise NotResumable(f"{path} is gone: give the run's `nexttrial run` again, which writes it.")
        return pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False)

    def _stored(self, design: str) -> Stored:
        """The blocks of a design, each of which must be there and sound."""
        stems, first = [], 0
        digest = self.manifest["identity"]["designs"][design][:DIGEST]
        for n in self.manifest["extents"]:
            stems += [(b.span, f"{b.name}.{digest}") for b in blocks_of(design, int(n), self.n_calendar, first)]
            first = int(n)
        names: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        for path in (self.folder / "blocks").glob(f"{design}-*.{digest}.*.parquet"):
            names["blocks"][path.name.rsplit(".", 2)[0]] = path.name
        for _, stem in stems:
            name = names["blocks"].get(stem)
            if name is None or checksum((self.folder / "blocks" / name).read_bytes()) != name.rsplit(".", 2)[1]:
                raise NotResumable(
                    f"block {stem} of {self.folder} is gone or damaged: give its `nexttrial run` again, which computes "
                    "it."
                )
        spans = [[stem for _, stem in each] for _, each in groupby(stems, key=itemgetter(0))]
        return Stored(self.folder, {design: spans}, names)


def on_common_numbers(scenario: Scenario, designs: list[str]) -> Scenario:
    """The scenario with these designs on common random numbers, and the primary analysis alone."""
    file = scenario.with_changes(designs=designs).file
    primary = file.hypotheses.primary_analysis
    changes = {"common_random_numbers": True, "analyses": {primary: file.analyses[primary]}}
    return replace(scenario, file=file.model_copy(update=changes))


def within(run: Finished, designs: list[str]) -> Comparison:
    """Every two of the designs of one run, as pairs of replicates if the run is on common random numbers."""
    is_paired = len({run.stream(design) for design in designs}) == 1
    why = "the designs share their random numbers" if is_paired else "each design has random numbers of its own"
    found = [run.to_compare(design, design) for design in designs]
    table = compare(found, all_pairs(len(found)), paired=is_paired)
    return Comparison(table, run.hypotheses.primary_analysis, is_paired, why, True, run.failure_rate)


def between(one: Finished, other: Finished, pairs: list[tuple[str, str]]) -> Comparison:
    """Designs of two runs, a of the first with b of the second; as pairs of replicates if they share random numbers."""
    for what in ("alpha", "sides", "multiplicity", "primary_analysis"):
        stated = [getattr(run.hypotheses, what) for run in (one, other)]
        if stated[0] != stated[1]:
            raise NotComparable(
                f"hypotheses.{what} differs: {stated[0]} in {one.folder}, {stated[1]} in {other.folder}"
            )
    is_paired, why = _pairing(one, other, pairs)
    found = [design for a, b in pairs for design in (
        one.to_compare(a, f"{one.folder.name}: {a}"), other.to_compare(b, f"{other.folder.name}: {b}"))]  # fmt: skip
    each = [(2 * k, 2 * k + 1) for k in range(len(pairs))]
    table = _named_as(compare, found, each, paired=is_paired)
    rate = max(one.failure_rate, other.failure_rate)
    return Comparison(table, one.hypotheses.primary_analysis, is_paired, why, len(pairs) == 1, rate)


def _named_as(function: Callable[..., pd.DataFrame], *given: Any, **more: Any) -> pd.DataFrame:
    """What differs between the runs beyond their numbers, such as outcomes, is no error of ours."""
    try:
        return function(*given, **more)
    except ValueError as error:
        raise NotComparable(str(error)) from None


def _pairing(one: Finished, other: Finished, pairs: list[tuple[str, str]]) -> tuple[bool, str]:
    """Whether replicate r of the one run goes with replicate r of the other, and why."""
    if one.stream("")[0] != other.stream("")[0]:
        return False, "the runs have different seeds"
    if one.n_calendar != other.n_calendar:
        return False, "the runs draw different numbers of calendars"
    if any(one.stream(a) != other.stream(b) for a, b in pairs):
        return False, "the designs draw from different random streams"
    return True, "the runs share seed and random streams"


def matching(one: Finished, other: Finished, designs: list[str]) -> list[tuple[str, str]]:
    """Which design of the one run to compare with which of the other.

    designs : two names, of the one and of the other; or those to take of both; none for all that both have, or for the
    only one of each. Raises NotComparable where there are none.
    """
    for name in designs:
        if name not in (*one.designs, *other.designs):
            raise NotComparable(f"no design {name!r}; known: {', '.join(dict.fromkeys(one.designs + other.designs))}")
    both = [name for name in one.designs if name in other.designs and (not designs or name in designs)]
    if len(designs) == 2 and designs[0] in one.designs and designs[1] in other.designs and len(both) < 2:
        return [(designs[0], designs[1])]
    if designs and len(both) < len(designs):
        missing = next(name for name in designs if name not in both)
        raise NotComparable(f"design {missing!r} is in one of the runs only")
    if not both and len(one.designs) == len(other.designs) == 1:
        return [(one.designs[0], other.designs[0])]
    if not both:
        raise NotComparable("the runs have no design of the same name: give one of each, --design A --design B")
    return [(name, name) for name in both]
