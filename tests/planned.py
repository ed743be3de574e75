"""Small parts, words and schedules that several test files share; nothing here computes what a test expects."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.parts import DESIGNS, MISSINGNESS, MODELS, Part
from sim.streams import Streams
from sim.trial import Allocation, Names, Schedule

NAMES = Names(
    outcome=("cohesion", "resilience"),
    visit=("baseline", "post", "six_months"),
    stratum=("survivors", "released_perpetrators"),
    share=(0.6, 0.4),
    window=("commemoration",),
)
STREAMS = Streams(20260407, "example")
THREE_ARMS = {
    "control": {"format": "none"},
    "mixed": {"format": "mixed"},
    "separate": {"format": "separate"},
}


def design(kind: str, **changes: Any) -> Any:
    """The example of a design with some of its fields changed."""
    part = DESIGNS.discover()[kind]
    return part.model_validate({**part.example, **changes})


def allocate(kind: str, **changes: Any) -> Allocation:
    allocation: Allocation = design(kind, **changes).allocate(NAMES, np.random.default_rng(7))
    return allocation


def model(**values: Any) -> Any:
    """The example of the outcome model with other values; a dict goes by key (stratum, format, window, outcome)."""
    return given(MODELS.discover()["gaussian"], values)


def missingness(**values: Any) -> Any:
    return given(MISSINGNESS.discover()["logistic"], values)


def given(part: type[Part], values: dict[str, Any]) -> Any:
    return part.model_validate(_with(part.example, values))


def _with(example: dict[str, Any], values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        return {**example, "value": values, "low": values, "high": values}
    return {**example, **{key: _with(example[key], value) for key, value in values.items()}}


def never_in_a_window(allocation: Allocation) -> Schedule:
    return exposed(allocation, np.zeros((allocation.n_participant, 3)))


def exposed(allocation: Allocation, exposure: np.ndarray) -> Schedule:
    """A schedule of which only the window exposure (N, T), or (W, N, T), matters."""
    n, n_group = allocation.n_participant, len(allocation.group_district)
    by_window = exposure.reshape(-1, *exposure.shape[-2:]).astype(float)
    return Schedule(
        np.zeros(n_group, dtype=np.int64), np.full(n_group, -1, dtype=np.int32), np.ones((n_group, 3)),
        np.zeros((n, 3), dtype=np.int64), np.ones((n, 3), dtype=bool), by_window, by_window > 0,
    )  # fmt: skip


def within_mcse(by_replicate: np.ndarray, expected: float | np.ndarray, n_mcse: float = 4.0) -> None:
    """The mean over replicates (first axis) lies within 4 Monte Carlo standard errors of what is expected."""
    mean = by_replicate.mean(axis=0)
    mcse = by_replicate.std(axis=0, ddof=1) / np.sqrt(len(by_replicate))
    off = np.abs(mean - expected) > n_mcse * mcse + 1e-12
    assert not off.any(), f"found {mean[off] if off.ndim else mean}, expected {expected}, MCSE {mcse}"


def pair_products(x: np.ndarray, y: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """(R,) mean over pairs of different participants of a unit of x_i * y_j; x, y : (R, N), unit : (N,), -1 = none."""
    total, n_pair = np.zeros(len(x)), 0
    for u in np.unique(unit[unit >= 0]):
        a, b = x[:, unit == u], y[:, unit == u]
        total += a.sum(axis=1) * b.sum(axis=1) - (a * b).sum(axis=1)
        n_pair += a.shape[1] * (a.shape[1] - 1)
    return total / n_pair
