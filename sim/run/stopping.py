"""How many replicates a wanted Monte Carlo error takes, found out as the run goes.

A run begins with FIRST replicates and grows until the largest Monte Carlo standard error of any power or type I error
is small enough. The error decides when to stop and the estimate decides the error, so that the estimate is biased a
little; the test of this file measures by how much.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Real = NDArray[np.float64]

FIRST = 1024
AT_MOST_TIMES = 16
"""A stage is at most so many times as long as all before it: an early guess may be far off."""
MEASURES = ("power", "type_1_error", "family_wise_error")


def next_replicates(summary: pd.DataFrame, target: float) -> int | None:
    """Replicates to reach, given the summary of those that are done; None where every error is at most the target.

    The part of an error that is owed to calendars does not fall with replicates (sim.evaluate.calendars); where that
    part alone is above the target, no number of replicates will do and none are asked for.
    """
    return replicates_for(*errors(summary), target)


def replicates_for(error: Real, floor: Real, n: Real, target: float) -> int | None:
    """The same for (C,) errors, the calendars' part of each, and the replicates that each is of."""
    falls = (error > target) & (floor < target)
    if not falls.any():
        return None
    need = n[falls] * (error[falls] ** 2 - floor[falls] ** 2) / (target**2 - floor[falls] ** 2)
    most, done = float(need.max()), int(n.max())
    return min(max(math.ceil(most / FIRST) * FIRST, done + 1), done * AT_MOST_TIMES)


def largest_error(summary: pd.DataFrame) -> float:
    """The largest Monte Carlo standard error of any power or type I error."""
    return float(errors(summary)[0].max())


def calendars_bind(reached: float, target: float) -> str:
    """What to say where more replicates would not reach the target."""
    return (
        f"stopped at an error of {reached:.4f}, above {target:g}: what is left is owed to the calendars that "
        "replicates share. Raise `calendars` in the scenario."
    )


def expected(target: float) -> int:
    """Replicates that bring the error of a power of one half, the largest there is, to the target."""
    return math.ceil(0.25 / target**2)


def errors(summary: pd.DataFrame) -> tuple[Real, Real, Real]:
    """Of every power and type I error: its Monte Carlo error, the calendars' part of it, and its replicates."""
    key = ["design", "outcome", "analysis", "truth"]
    rows = summary[summary["measure"].isin(MEASURES)]
    share = summary[summary["measure"] == "calendar_share"].set_index(key)["estimate"]
    n = rows["n_replicate"].to_numpy(float)
    error = never_zero(rows["mcse"].to_numpy(float), rows["estimate"].to_numpy(float), n)
    owed = share.reindex(pd.MultiIndex.from_frame(rows[key])).fillna(0.0).to_numpy(float)
    return error, np.sqrt(np.clip(owed, 0.0, 1.0)) * error, n


def never_zero(mcse: Real, p: Real, n: Real) -> Real:
    """Monte Carlo errors of proportions, at least those if two more had rejected and two more had not.

    A proportion of 0 or 1 has no estimated error of its own. Reference: Agresti & Coull 1998,
    doi:10.1080/00031305.1998.10480550.
    """
    moved = (p * n + 2) / (n + 4)
    return np.maximum(mcse, np.sqrt(moved * (1 - moved) / n))
