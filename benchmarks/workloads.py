"""The designs that the mixed-model benchmarks time, and data sets of them that any fitter can be given.

Scores are in baseline SDs. S data sets, N participants, T visits; visit T is the final one. The contrast is the
difference between the arms at the final visit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

DROPOUT = 0.2
CELL_MEANS = "y ~ arm * visit"


@dataclass(frozen=True)
class Workload:
    """One design and its analysis.

    arm : (N,) 0 control, 1 treated.  village : (N,), the training group in W3; -1 where there is none.
    district : (N,).  effect : (T,) treated minus control.
    residual : (2, T) residual variance by arm and visit.
    village_visits : (T,) 1 where the village effect enters.
    model : formula of the fit, as lme4 or (W3) nlme writes it.  contrast : its weights on the fixed effects.
    """

    name: str
    text: str
    arm: Ints
    village: Ints
    district: Ints
    effect: Floats
    residual: Floats
    village_visits: Floats
    model: str
    contrast: tuple[int, ...] = (0, 1, 0, 0, 0, 1)
    district_variance: float = 0.0
    village_variance: float = 0.0
    village_visit_variance: float = 0.0
    participant_variance: float = 0.5
    dropout: float = DROPOUT

    @property
    def n_participant(self) -> int:
        return len(self.arm)

    @property
    def n_visit(self) -> int:
        return len(self.effect)

    @property
    def is_ancova(self) -> bool:
        """Whether the final visit is analysed given the first one, instead of all visits together."""
        return "visit" not in self.model


@dataclass(frozen=True)
class Sets:
    """Data sets of one workload: y, observed (S, N, T); values that are not observed are unread."""

    y: Floats
    observed: NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """Estimate, standard error and degrees of freedom of the contrast in each data set, (S,) each; NaN: not given."""

    estimate: Floats
    standard_error: Floats
    df: Floats = field(default_factory=lambda: np.array(np.nan))


def draw(workload: Workload, n_set: int, seed: int) -> Sets:
    """Gaussian scores with the workload's variance components; dropout before the final visit, at random."""
    rng = np.random.default_rng(seed)
    shape = (n_set, workload.n_participant, workload.n_visit)

    def effects(label: Ints, variance: float, n_column: int = 1) -> Floats:
        size = (n_set, label.max() + 2, n_column)
        found: Floats = np.sqrt(variance) * rng.standard_normal(size)[:, label] * (label >= 0)[:, None]
        return found

    y = (
        workload.arm[:, None] * workload.effect
        + effects(workload.district, workload.district_variance)
        + effects(workload.village, workload.village_variance) * workload.village_visits
        + effects(workload.village, workload.village_visit_variance, workload.n_visit)
        + effects(np.arange(workload.n_participant, dtype=np.int32), workload.participant_variance)
        + np.sqrt(workload.residual[workload.arm]) * rng.standard_normal(shape)
    )
    observed = np.ones(shape, dtype=bool)
    observed[..., -1] = rng.random(shape[:2]) >= workload.dropout
    return Sets(np.ascontiguousarray(y), observed)


def _units(n_district: int, n_village: int, n_person: int) -> tuple[Ints, Ints, Ints]:
    """Arm, village and district of everyone: n_village in each district, every second village treated."""
    village = np.repeat(np.arange(n_district * n_village, dtype=np.int32), n_person)
    return village % 2, village, village // n_village


def _three_visits(name: str, text: str, units: tuple[Ints, Ints, Ints], random: str, **variances: Any) -> Workload:
    effect, residual = np.array([0.0, 0.15, 0.25]), np.full((2, 3), 0.45)
    return Workload(name, text, *units, effect, residual, np.ones(3), CELL_MEANS + random, **variances)


def _no_villages(n: int) -> tuple[Ints, Ints, Ints]:
    number = np.arange(n, dtype=np.int32)
    return number % 2, np.full(n, -1, dtype=np.int32), np.zeros(n, dtype=np.int32)


def _home() -> Workload:
    return Workload(
        "H",
        "24 villages x 25, one covariate, random village, final visit, no dropout",
        *_units(1, 24, 25),
        np.array([0.0, 0.25]),
        np.full((2, 2), 0.45),
        np.array([0.0, 1.0]),
        "y ~ arm + x + (1 | village)",
        contrast=(0, 1, 0),
        village_variance=0.05,
        dropout=0.0,
    )


def _partially_nested() -> Workload:
    """Treated participants 0..299 in 25 groups of 12; 300 controls in none."""
    number = np.arange(600, dtype=np.int32)
    return Workload(
        "W3",
        "treated 25 groups x 12, control 300 ungrouped, ANCOVA, residual variance per arm",
        (number < 300).astype(np.int32),
        np.where(number < 300, number // 12, -1).astype(np.int32),
        np.zeros(600, dtype=np.int32),
        np.array([0.0, 0.25]),
        np.array([[0.5, 0.5], [0.5, 0.4]]),
        np.array([0.0, 1.0]),
        "y ~ arm + x",
        contrast=(0, 1, 0),
        village_variance=0.05,
    )


_VILLAGE = " + (1 | village) + (1 | id)"

WORKLOADS = {
    workload.name: workload
    for workload in (
        _home(),
        _three_visits("W1", "2 x 300 people x 3 visits, random participant", _no_villages(600), " + (1 | id)"),
        _three_visits(
            "W2", "24 villages x 25 x 3 visits, random village, participant", _units(1, 24, 25), _VILLAGE,
            village_variance=0.05,
        ),
        _three_visits(
            "W2c", "W2 with a random village-by-visit effect", _units(1, 24, 25),
            " + (1 | village:visit)" + _VILLAGE, village_variance=0.05, village_visit_variance=0.03,
        ),
        _partially_nested(),
        _three_visits(
            "W4", "30 districts x 20 villages x 20 x 3 visits, random district, village, participant",
            _units(30, 20, 20), " + (1 | district)" + _VILLAGE, village_variance=0.05, district_variance=0.02,
        ),
    )
}  # fmt: skip
