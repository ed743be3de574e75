"""Differences in power between designs, with their Monte Carlo errors: by pairs of replicates or as independent runs.

On common random numbers replicate r of one design goes with replicate r of another. The variance of a mean difference
of two 0/1 rejections is then that of McNemar's test: with b and c of n pairs discordant, (b + c - (b - c)^2 / n) / n^2
(McNemar 1947, doi:10.1007/BF02295996). Calendars that replicates share make it grow (sim.evaluate.calendars).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from sim.evaluate.calendars import spread
from sim.evaluate.multiplicity import Rule, adjust
from sim.evaluate.performance import Z95, Sides, net_p_value, rejects
from sim.evaluate.spans import Bool, Index, Real, Spans, ascending, sort_fits

COLUMNS = [
    "design_a", "design_b", "outcome", "analysis", "measure", "power_a", "power_b", "difference", "mcse", "ci_low",
    "ci_high", "n_replicate", "n_only_a", "n_only_b", "p_value", "p_holm", "is_real",
]  # fmt: skip
LEVEL = 0.05


@dataclass(frozen=True)
class Design:
    """A design to compare: its rows of one analysis, span by span, and the test that is made of them.

    demand : demand inflation by outcome, which is taken out of each estimate before its test.  n_calendar : calendars
    that its replicates share.
    """

    label: str
    rows: Spans
    demand: dict[str, float]
    n_calendar: int
    alpha: float
    sides: Sides
    rule: Rule


class Scored(NamedTuple):
    """R replicates of a design: Q scores of each, whose means are its powers. A failed fit does not reject.

    name : (outcome, whether adjusted) of each score.  rejects : (Q, R) 0 or 1; of `*mean` the share rejected.
    chance : (Q, R) conditional rejection probability, NaN where the power is counted.
    """

    replicate: Index
    name: tuple[tuple[str, bool], ...]
    rejects: Real
    chance: Real


def scored(rows: pd.DataFrame, design: Design) -> Scored:
    """The scores of a span under the alternative: each outcome, then *any, *all, *at_least_2 and *mean of several;
    unadjusted, then adjusted. Raises ValueError where outcomes have different replicates.
    """
    fits = sort_fits(rows[rows["truth"] == "alternative"], design.n_calendar)
    outcome = list(fits.key["outcome"])
    if len(np.unique(fits.n_row)) != 1 or len(set(outcome)) != len(outcome):
        raise ValueError(f"{design.label}: its outcomes have different numbers of replicates")
    n_outcome = len(outcome)
    replicate = fits.replicate.reshape(n_outcome, -1)
    if (replicate != replicate[0]).any():
        raise ValueError(f"{design.label}: its outcomes have different replicates")
    demand = np.array([design.demand[one] for one in outcome])
    p = net_p_value(fits, fits.each(demand), design.sides)
    p = np.where(rejects(p, fits.estimate - fits.each(demand), 1.0, design.sides), p, np.nan).reshape(n_outcome, -1)
    chance = np.where(fits.is_valid, fits.reject_probability, 0.0).reshape(n_outcome, -1)
    chance[demand != 0] = np.nan
    name: list[tuple[str, bool]] = []
    score: list[Real] = []
    rules: tuple[Rule, ...] = ("none", design.rule) if n_outcome > 1 else ("none",)
    for rule in dict.fromkeys(rules):
        adjusted = adjust(p.T, rule).T
        each = adjusted <= design.alpha
        families = _families(each) if n_outcome > 1 else {}
        name += [(one, rule != "none") for one in (*outcome, *families)]
        score += [*each.astype(float), *families.values()]
    conditional = np.full((len(name), len(replicate[0])), np.nan)
    conditional[:n_outcome] = chance
    return Scored(replicate[0], tuple(name), np.stack(score), conditional)


def _families(reject: Bool) -> dict[str, Real]:
    """(R,) scores of M outcomes together, (M, R)."""
    number = reject.sum(axis=0)
    enough = {"*any": 1, "*all": len(reject), "*at_least_2": 2}
    return {name: (number >= k).astype(float) for name, k in enough.items()} | {"*mean": number / len(reject)}


@dataclass
class _Sums:
    """Sums of Q scores, or of their differences, by calendar: K calendars."""

    n_calendar: int
    n: Real = field(default_factory=lambda: np.zeros(0))
    total: Real = field(default_factory=lambda: np.zeros(0))  # (Q, K)
    square: Real = field(default_factory=lambda: np.zeros(0))  # (Q,)
    above: Real = field(default_factory=lambda: np.zeros(0))  # (Q,) how many are above 0, and below
    below: Real = field(default_factory=lambda: np.zeros(0))

    def add(self, value: Real, replicate: Index) -> None:
        """value : (Q, R)."""
        calendar = replicate % self.n_calendar
        n = np.bincount(calendar, minlength=self.n_calendar).astype(float)
        total = np.stack([np.bincount(calendar, one, self.n_calendar) for one in value])
        new = (n, total, (value**2).sum(axis=1), (value > 0).sum(axis=1), (value < 0).sum(axis=1))
        if not self.n.size:
            self.n, self.total, self.square, self.above, self.below = (np.asarray(x, dtype=float) for x in new)
            return
        self.n, self.total, self.square = self.n + new[0], self.total + new[1], self.square + new[2]
        self.above, self.below = self.above + new[3], self.below + new[4]

    @property
    def mean(self) -> Real:
        return np.asarray(self.total.sum(axis=1) / self.n.sum())

    @property
    def growth(self) -> Real:
        """(Q,) how much shared calendars make the variance of the mean grow."""
        centred = np.maximum(self.square - self.n.sum() * self.mean**2, 0.0)
        return spread(np.broadcast_to(self.n, self.total.shape), self.total, centred).growth

    @property
    def variance(self) -> Real:
        """(Q,) of the mean."""
        n = float(self.n.sum())
        return np.asarray(np.maximum(self.square / n - self.mean**2, 0.0) / n * self.growth)


class _Estimate(NamedTuple):
    """(Q,) a difference, its variance, and what its interval is made of: a centre and a standard error."""

    difference: Real
    variance: Real
    centre: Real
    error: Real


def _paired(sums: _Sums, is_binary: Bool) -> _Estimate:
    """Interval of 0/1 scores: one more pair discordant each way, Bonett & Price 2012, doi:10.3102/1076998611411915."""
    growth, mean, variance = sums.growth, sums.mean, sums.variance
    n = sums.n.sum() / growth
    b, c = ((x / growth + 1) / (n + 2) for x in (sums.above, sums.below))
    error = np.sqrt((b + c - (b - c) ** 2) / (n + 2))
    return _Estimate(mean, variance, np.where(is_binary, b - c, mean), np.where(is_binary, error, np.sqrt(variance)))


def _independent(one: _Sums, other: _Sums, is_binary: Bool) -> _Estimate:
    """Interval of 0/1 scores: two more replicates of each design, of which one rejects; Agresti & Caffo 2000,
    doi:10.1080/00031305.2000.10474560.
    """
    difference, variance = one.mean - other.mean, one.variance + other.variance
    moved, square = [], np.zeros(len(difference))
    for sums in (one, other):
        n = sums.n.sum() / sums.growth
        p = (sums.mean * n + 1) / (n + 2)
        moved.append(p)
        square = square + p * (1 - p) / (n + 2)
    centre = np.where(is_binary, moved[0] - moved[1], difference)
    return _Estimate(difference, variance, centre, np.where(is_binary, np.sqrt(square), np.sqrt(variance)))


def compare(designs: Sequence[Design], pairs: Sequence[tuple[int, int]], *, paired: bool) -> pd.DataFrame:
    """A row per pair of designs and measure: power of both, difference a - b, its MCSE and 95% interval, Holm's p.

    pairs : of positions in `designs`.  paired : replicate r of all designs shares its random numbers and calendars;
    replicates that only some have are left out then. Else each design is an independent run of its own, `n_only_a` and
    `n_only_b` mean nothing and are NaN, and `n_replicate` is the smaller number. p_holm is adjusted over all rows;
    is_real : p_holm at most .05. Where every fit of both designs has a conditional rejection probability power is
    its mean, as in a run's summary; discordant pairs are those of counted rejections all the same.
    Spans are read once, those of all designs abreast. Raises ValueError where paired designs have different numbers of
    calendars, or spans do not go together.
    """
    if paired and len({one.n_calendar for one in designs}) > 1:
        raise ValueError("paired designs must share their calendars")
    streams = _abreast(designs) if paired else _one_by_one(designs)
    name: tuple[tuple[str, bool], ...] = ()
    alone = [(_Sums(one.n_calendar), _Sums(one.n_calendar)) for one in designs]
    both = [(_Sums(designs[a].n_calendar), _Sums(designs[a].n_calendar)) for a, _ in pairs]
    for found in streams:
        for k, one in found.items():
            if name and one.name != name:
                raise ValueError("designs must have the same outcomes")
            name = one.name
            _add(alone[k], one.rejects, one.chance, one.replicate)
        for (a, b), sums in zip(pairs if paired else (), both, strict=False):
            one, other = found[a], found[b]
            _add(sums, one.rejects - other.rejects, one.chance - other.chance, one.replicate)
    is_binary = np.array([outcome != "*mean" for outcome, _ in name])
    tables = []
    for (a, b), sums in zip(pairs, both, strict=True):
        counted, chance = (
            _paired(sums[i], x) if paired else _independent(alone[a][i], alone[b][i], x)
            for i, x in enumerate((is_binary, np.zeros_like(is_binary)))
        )
        is_chance = ~np.isnan(chance.difference)
        estimate = _Estimate(*(np.where(is_chance, y, x) for x, y in zip(counted, chance, strict=True)))
        power = [np.where(is_chance, alone[k][1].mean, alone[k][0].mean) for k in (a, b)]
        table = _table((designs[a], designs[b]), name, power, estimate)
        n = [alone[k][0].n.sum() for k in (a, b)]
        table["n_replicate"] = int(min(n))
        for column, count in (("n_only_a", sums[0].above), ("n_only_b", sums[0].below)):
            table[column] = np.where(is_binary, count, np.nan) if paired else np.nan
        tables.append(table)
    result = pd.concat(tables, ignore_index=True)
    result["p_holm"] = adjust(result["p_value"].to_numpy(float), "holm")
    result["is_real"] = result["p_holm"] <= LEVEL
    return result[COLUMNS]


def _add(sums: tuple[_Sums, _Sums], counted: Real, chance: Real, replicate: Index) -> None:
    sums[0].add(counted, replicate)
    sums[1].add(chance, replicate)


def _table(
    designs: tuple[Design, Design], name: tuple[tuple[str, bool], ...], power: list[Real], estimate: _Estimate
) -> pd.DataFrame:
    one, other = designs
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(estimate.centre == 0, 0.0, np.abs(estimate.centre) / estimate.error)
    is_net = any(demand != 0 for design in designs for demand in design.demand.values())
    return pd.DataFrame(
        {
            "design_a": one.label,
            "design_b": other.label,
            "outcome": [outcome for outcome, _ in name],
            "analysis": [one.rule if is_adjusted else "none" for _, is_adjusted in name],
            "measure": "power_net_of_demand" if is_net else "power",
            "power_a": power[0],
            "power_b": power[1],
            "difference": estimate.difference,
            "mcse": np.sqrt(estimate.variance),
            "ci_low": np.maximum(estimate.centre - Z95 * estimate.error, -1.0),
            "ci_high": np.minimum(estimate.centre + Z95 * estimate.error, 1.0),
            "p_value": 2 * special.ndtr(-z),
        }
    )


def _abreast(designs: Sequence[Design]) -> Iterator[dict[int, Scored]]:
    """The replicates that all designs have, span by span."""
    last = -1
    for spans in zip(*(one.rows for one in designs), strict=False):
        every = [scored(span, one) for span, one in zip(spans, designs, strict=True)]
        common = every[0].replicate
        for one in every[1:]:
            common = np.intersect1d(common, one.replicate)
        if not common.size:
            raise ValueError("the spans of the designs hold different replicates")
        last = ascending(common, last)
        yield {k: _only(one, common) for k, one in enumerate(every)}


def _only(one: Scored, replicate: Index) -> Scored:
    at = np.searchsorted(one.replicate, replicate)
    return Scored(replicate, one.name, one.rejects[:, at], one.chance[:, at])


def _one_by_one(designs: Sequence[Design]) -> Iterator[dict[int, Scored]]:
    for k, one in enumerate(designs):
        last = -1
        for span in one.rows:
            found = scored(span, one)
            last = ascending(found.replicate, last)
            yield {k: found}


def letters(power: dict[str, float], apart: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A letter display: designs that share a letter cannot be told apart; `a` goes to the best.

    power : by design.  apart : pairs that differ. Insert and absorb, Piepho 2004, doi:10.1198/1061860043515.

    >>> letters({"x": 0.9, "y": 0.85, "z": 0.7}, [("x", "z")])
    {'x': 'a', 'y': 'ab', 'z': 'b'}
    """
    order = sorted(power, key=lambda design: -power[design])
    columns = [frozenset(order)]
    for a, b in apart:
        split = [column - {one} for column in columns if {a, b} <= column for one in (a, b)]
        columns = [column for column in columns if not {a, b} <= column]
        for new in split:
            if not any(new <= column for column in columns):
                columns = [column for column in columns if not column <= new] + [new]
    columns.sort(key=lambda column: sorted(order.index(design) for design in column))
    return {design: "".join(_letter(k) for k, column in enumerate(columns) if design in column) for design in order}


def _letter(number: int) -> str:
    return chr(ord("a") + number % 26) * (1 + number // 26)


def ranking(table: pd.DataFrame) -> pd.DataFrame:
    """A row per measure and design, the best first: its power and the letters it shares with those it may equal.

    table : of `compare`, over all pairs of some designs.
    """
    rows = []
    for (outcome, analysis), each in table.groupby(["outcome", "analysis"], sort=False):
        power = {**dict(zip(each["design_b"], each["power_b"], strict=True)),
                 **dict(zip(each["design_a"], each["power_a"], strict=True))}  # fmt: skip
        real = each[each["is_real"]]
        shared = letters(power, zip(real["design_a"], real["design_b"], strict=True))
        rows += [
            {"outcome": outcome, "analysis": analysis, "rank": rank, "design": design, "power": power[design],
             "letters": shared[design]}
            for rank, design in enumerate(shared, start=1)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def all_pairs(n: int) -> list[tuple[int, int]]:
    """Every pair of n designs, once."""
    return list(combinations(range(n), 2))
