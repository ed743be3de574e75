"""Who took part: the numbers of a CONSORT flow in every replicate, by arm and stratum, and the table made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.evaluate.columns import Columns
from sim.trial import Allocation, Arm, Flags, Names, Operations

ALL = "*"
"""Where arms, strata, visits or reasons are not told apart."""
WINDOW_CLOSED = "window closed"
"""The reason of visits that the calendar could not hold in time."""
BEFORE_ALLOCATION = ("screened", "ineligible", "refused", "enrolled", "turned_away")
STAGES = (*BEFORE_ALLOCATION, "allocated", "seen", "lost")
DAYS = ("start_day", "last_visit_day", "end_day")
WORDS = ("stage", "arm", "stratum", "visit", "reason")
"""What names a number of people, in this order, divided by |."""
LOW, HIGH = 0.10, 0.90
"""Quantiles over replicates between which a table shows 80% of them."""


@dataclass(frozen=True)
class Flow:
    """How many people of each of C cells were allocated, seen and lost. R replicates, T visits, J reasons.

    cell : (arm, stratum), ALL where it is not known which.  is_trained : (C,).  allocated : (C,).  lost : (R, C, T, J).
    """

    cell: tuple[tuple[str, str], ...]
    is_trained: Flags
    allocated: NDArray[np.int64]
    reasons: tuple[str, ...]
    lost: NDArray[np.int64]

    @property
    def seen(self) -> NDArray[np.int64]:
        """(R, C, T)."""
        return np.asarray(self.allocated[:, None] - self.lost.sum(axis=-1))


def flow_of_people(
    names: Names, allocation: Allocation, cause: NDArray[np.int8], is_held: Flags, reasons: tuple[str, ...]
) -> Flow:
    """The flow where every participant's fate is known.

    cause : (R, N, T), 0 = seen, else 1 + position in `reasons`.  is_held : (N, T); a visit that is not held and would
    have been seen is lost because its window closed.
    """
    code = np.where((cause == 0) & ~is_held, len(reasons) + 1, cause).astype(np.int64)
    n_replicate, _, n_visit = code.shape
    n_stratum, n_code = len(names.stratum), len(reasons) + 2
    n_cell = len(allocation.arms) * n_stratum
    cell = allocation.arm.astype(np.int64) * n_stratum + allocation.stratum
    at = (np.arange(n_replicate)[:, None] * n_cell + cell)[:, :, None] * n_visit + np.arange(n_visit)
    count = np.bincount((at * n_code + code).ravel(), minlength=n_replicate * n_cell * n_visit * n_code)
    lost = count.reshape(n_replicate, n_cell, n_visit, n_code)[..., 1:]
    return Flow(
        tuple((arm.name, stratum) for arm in allocation.arms for stratum in names.stratum),
        np.repeat([arm.is_trained for arm in allocation.arms], n_stratum),
        np.bincount(cell, minlength=n_cell),
        (*reasons, WINDOW_CLOSED),
        lost,
    )


def flow_of_counts(names: Names, allocation: Allocation, seen: NDArray[np.integer[Any]], reason: str) -> Flow:
    """The flow where only the numbers of untreated and trained people seen at each visit are known, (R, 2, T)."""
    is_trained = np.array(list(dict.fromkeys(arm.is_trained for arm in allocation.arms)))
    allocated = np.array([(allocation.is_trained == kind).sum() for kind in is_trained])
    lost = allocated[:, None] - seen.astype(np.int64)[:, is_trained.astype(np.int64)]
    stratum = names.stratum[0] if len(names.stratum) == 1 else ALL
    cell = tuple((_one_of(allocation.arms, kind), stratum) for kind in is_trained)
    return Flow(cell, is_trained, allocated, (reason, WINDOW_CLOSED), np.stack([lost, np.zeros_like(lost)], axis=-1))


def _one_of(arms: tuple[Arm, ...], is_trained: bool) -> str:
    return " or ".join(arm.name for arm in arms if arm.is_trained == is_trained)


def people_columns(names: Names, flow: Flow) -> dict[str, Any]:
    """One column of R numbers per cell and stage; the words of a name are divided by |: stage, arm, stratum, ..."""
    column: dict[str, Any] = {}
    seen = flow.seen
    for c, (arm, stratum) in enumerate(flow.cell):
        column[f"allocated|{arm}|{stratum}"] = flow.allocated[c]
        for t, visit in enumerate(names.visit):
            column[f"seen|{arm}|{stratum}|{visit}"] = seen[:, c, t]
            if t > 0:
                for j, reason in enumerate(flow.reasons):
                    column[f"lost|{arm}|{stratum}|{visit}|{reason}"] = flow.lost[:, c, t, j]
    return column


def operations_columns(names: Names, operations: Operations) -> dict[str, Any]:
    """What happened before the allocation, by stratum; numbers of one calendar."""
    return {
        f"{stage}|{ALL}|{stratum}": int(getattr(operations, stage)[:, s].sum())
        for stage in BEFORE_ALLOCATION
        for s, stratum in enumerate(names.stratum)
    }


def sum_flow(
    spans: Iterable[pd.DataFrame], n_calendar: int, price: Callable[[pd.DataFrame], Any] | None = None
) -> Columns:
    """All that tables need to know of the flow of a design, whose spans come in ascending order of replicates.

    Beside the columns of people there are their totals, beside first and last day the duration in days, and `cost`
    where there is a price of a replicate.
    """
    columns = Columns(n_calendar)
    for span in spans:
        is_people = [column.split("|")[0] in STAGES for column in span.columns]
        people = with_totals(span.loc[:, is_people])
        number = span.loc[:, np.logical_not(is_people)].select_dtypes(["number", "bool"]).drop(columns="replicate")
        if "start_day" in number:
            number["duration_days"] = number["last_visit_day"] - number["start_day"]
        if price is not None:
            number["cost"] = price(span)
        days = [column for column in number if column in DAYS]
        columns.add(span["replicate"].to_numpy(np.int64), pd.concat([number, people], axis=1), [*days, *people])
    return columns


def flow_table(design: str, flow: Columns) -> pd.DataFrame:
    """A row per stage, arm, stratum, visit and reason: people, mean over replicates, with the middle 80% of them.

    Where a stage tells several strata, arms or reasons apart there is also a row of them together, named ALL, whose
    quantiles are those of the replicates' sums. `mcse` counts replicates on one calendar as one, as far as they are
    alike: it is that of a mean over calendars.
    """
    return pd.DataFrame(
        {
            "design": design,
            **dict(zip(WORDS, _words(column), strict=True)),
            "people": flow.mean(column),
            "mcse": flow.mcse_over_calendars(column) if flow.varies(column) else 0.0,
            "low": flow.quantile(column, LOW),
            "high": flow.quantile(column, HIGH),
        }
        for column in flow.names
        if column.split("|")[0] in STAGES
    )


def with_totals(people: pd.DataFrame) -> pd.DataFrame:
    """Beside the columns of people, the sums of those that differ in nothing but the stratum, the arm or the reason."""
    column = {_words(name): people[name].to_numpy() for name in people.columns}
    for at in (WORDS.index("stratum"), WORDS.index("arm"), WORDS.index("reason")):
        together: dict[tuple[str, ...], list[NDArray[np.int64]]] = {}
        for words, value in column.items():
            if words[at] != ALL:
                together.setdefault((*words[:at], ALL, *words[at + 1 :]), []).append(value)
        column |= {words: np.sum(values, axis=0) for words, values in together.items() if len(values) > 1}
    return pd.DataFrame({"|".join(words): value for words, value in column.items()}, index=people.index)


def _words(column: str) -> tuple[str, ...]:
    return tuple([*column.split("|"), ALL, ALL][: len(WORDS)])
