"""The rows of an analysis, span by span: a run has more rows than memory holds, and they are read in several passes.

A span is a table of the rows of neighbouring replicates. Where spans begin and end is fixed by the numbers of the
replicates and not by how rows are stored, and they come in ascending order: sums that are made span by span are the
same, to the last bit, for every way to store the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Real: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.int64]
Bool: TypeAlias = NDArray[np.bool_]
Spans: TypeAlias = Iterable[pd.DataFrame]
"""Tables in ascending order of replicates; each iteration is a fresh pass over the same tables."""

KEY = ("design", "outcome", "analysis", "truth")
TESTED = ("estimate", "standard_error", "df", "p_value", "ci_low", "ci_high")


class Fits(NamedTuple):
    """The L rows of a span in order of their C cells and, within a cell, of replicate.

    What a failed fit returned is NaN. A cell is a design x outcome x analysis x truth; replicate r is on calendar r
    modulo K.
    """

    key: pd.DataFrame  # (C, 4) the names of a cell
    rank: Index  # (C, 4) the places of these names in their order
    start: Index  # (C,) its first row
    n_row: Index  # (C,)
    n_calendar: int  # K
    replicate: Index  # (L,)
    group: Index  # (L,) cell * K + calendar
    is_ok: Bool  # (L,)
    is_singular: Bool
    estimate: Real
    standard_error: Real
    df: Real
    p_value: Real
    ci_low: Real
    ci_high: Real
    reject_probability: Real  # conditional on the error contrasts; NaN where rejections are counted
    extra: dict[str, Real]  # (L,) each: further results, of failed fits as well

    @property
    def is_valid(self) -> Bool:
        return self.is_ok | self.is_singular

    def each(self, of_cell: Real) -> Real:
        """A number of each cell, (C,), for each of its rows, (L,)."""
        return np.repeat(of_cell, self.n_row)


class Summary(Protocol):
    """What is found out in one pass over the spans of an analysis, or in several."""

    def add(self, fits: Fits) -> None:
        """Take in the next span of this pass."""

    def needs_another_pass(self) -> bool:
        """At the end of a pass: whether all spans have to come again."""

    def table(self) -> pd.DataFrame:
        """What was found, after the last pass."""


def read(spans: Spans, n_calendar: int, summaries: Sequence[Summary]) -> int:
    """Show the spans to every summary, as often as it needs; returns the number of rows.

    Of all spans the last is in memory, while the next is read also the one before.
    Raises ValueError where a row occurs twice, spans do not ascend or hold other cells than the first, or a pass finds
    other rows than the one before.
    """
    waiting, n_row, held = list(summaries), -1, None
    while waiting:
        n_span, seen = 0, 0
        for fits in held or _in_order(spans, n_calendar):
            n_span, seen = n_span + 1, seen + len(fits.replicate)
            for summary in waiting:
                summary.add(fits)
        held = [fits] if n_span == 1 else None  # what is small is read and sorted once
        if n_row not in (-1, seen):
            raise ValueError(f"{seen} rows where the pass before found {n_row}; are they still being written?")
        n_row = seen
        waiting = [summary for summary in waiting if summary.needs_another_pass()]
    return n_row


def _in_order(spans: Spans, n_calendar: int) -> Iterator[Fits]:
    last, key = -1, None
    for rows in spans:
        if rows.empty:
            continue
        fits = sort_fits(rows, n_calendar)
        last = ascending(fits.replicate, last)
        key = fits.key if key is None else key
        if not fits.key.equals(key):
            missing = pd.concat([fits.key, key]).drop_duplicates(keep=False).iloc[0]
            raise ValueError(f"{', '.join(missing)}: in some spans of replicates and not in others")
        yield fits


def ascending(replicate: Index, last: int) -> int:
    """The last replicate of a span, whose first must come after `last`, that of the span before; else ValueError."""
    if (first := int(replicate.min())) <= last:
        raise ValueError(
            f"rows occur twice or out of order: replicate {first} begins a span after one that ends with replicate "
            f"{last}; was a block read more than once?"
        )
    return int(replicate.max())


def sort_fits(rows: pd.DataFrame, n_calendar: int) -> Fits:
    """The rows of a span sorted by cell, then by replicate, so that the order of the rows cannot change a sum.

    A fit counts as valid when its status is 'ok' or 'singular' and its estimate, standard error and p-value are finite.
    Categories keep their order, text is sorted. Raises ValueError where a row occurs twice, for example because a block
    was read twice: such a replicate would be counted twice.
    """
    category = [rows[name].astype("category").cat for name in KEY]
    code = [one.codes.to_numpy().astype(np.int64) for one in category]
    cell = np.zeros(len(rows), dtype=np.int64)
    for one, mine in zip(category, code, strict=True):
        cell = cell * max(len(one.categories), 1) + mine
    replicate = rows["replicate"].to_numpy(dtype=np.int64)
    order = np.lexsort((replicate, cell))
    cell, replicate = cell[order], replicate[order]
    start = np.flatnonzero(np.diff(cell, prepend=-1))
    n_row = np.diff(start, append=len(rows))
    rank = np.stack([mine[order[start]] for mine in code], axis=1)
    key = pd.DataFrame(
        {n: one.categories.astype(str).to_numpy()[k] for n, one, k in zip(KEY, category, rank.T, strict=True)}
    )

    twice = np.flatnonzero((np.diff(cell) == 0) & (np.diff(replicate) == 0))
    if twice.size:
        where = ", ".join(key.iloc[int(np.searchsorted(start, twice[0], side="right")) - 1])
        first = f"the first is replicate {replicate[twice[0]]} of {where}"
        raise ValueError(f"{twice.size} rows occur twice, {first}; was a block read more than once?")

    value = {name: rows[name].to_numpy(dtype=float)[order] for name in TESTED}
    is_finite = np.isfinite(value["estimate"]) & np.isfinite(value["standard_error"]) & np.isfinite(value["p_value"])
    is_ok, is_singular = ((rows["status"] == s).to_numpy(dtype=bool)[order] & is_finite for s in ("ok", "singular"))
    further = [name for name in rows.select_dtypes("number").columns if name not in (*TESTED, "replicate")]
    extra = {name: rows[name].to_numpy(dtype=float)[order] for name in further}
    value["reject_probability"] = extra.get("reject_probability", np.full(len(rows), np.nan))
    value = {name: np.where(is_ok | is_singular, x, np.nan) for name, x in value.items()}
    group = np.repeat(np.arange(len(start)), n_row) * n_calendar + replicate % n_calendar
    return Fits(key, rank, start, n_row, n_calendar, replicate, group, is_ok, is_singular, **value, extra=extra)
