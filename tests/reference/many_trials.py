"""A thousand small unbalanced trials, the same numbers each time, for REML fits by two programs.

`python tests/reference/many_trials.py | Rscript tests/reference/r/many_fits.R > tests/reference/r/many_fits.json`
fits them in R. Variances run from nothing to large, so that many fits are singular; a quarter of the visits is missing.
"""

from __future__ import annotations

import sys
import zlib
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

N_REPLICATE, N_PARTICIPANT, N_UNIT = 200, 36, 6
MONTHS = np.array([0.0, 1.0, 3.0, 6.0])
SHAPES = ("participant", "village", "village_by_visit", "training_group", "slope")


class Trials(NamedTuple):
    """R trials of one shape: unit is the village, or the training group of those trained; arm 1 is trained."""

    arm: Any  # (N,)
    unit: Any  # (N,)
    base: Any  # (R, N)
    y: Any  # (R, N, T), three decimals
    observed: Any  # (R, N, T)


def trials(shape: str) -> Trials:
    """The trials of one of SHAPES."""
    rng = np.random.Generator(np.random.PCG64(SHAPES.index(shape)))
    n_visit = {"training_group": 1, "slope": len(MONTHS)}.get(shape, 3)
    unit = np.arange(N_PARTICIPANT) % N_UNIT
    arm = unit % 2
    size = (N_REPLICATE, N_PARTICIPANT, n_visit)

    def normal(*where: int) -> Any:
        return rng.standard_normal((N_REPLICATE, *where))

    def sd() -> Any:
        return rng.choice([0.0, 0.2, 0.5, 1.0, 2.0], N_REPLICATE)[:, None, None]

    base = normal(N_PARTICIPANT).round(3)
    y = 5.0 + 0.4 * arm[:, None] + normal(*size[1:])
    if shape != "training_group":
        y += sd() * normal(N_PARTICIPANT, 1)
    if shape in ("village", "village_by_visit"):
        y += sd() * normal(N_UNIT, 1)[:, unit]
    if shape == "village_by_visit":
        y += sd() * normal(N_UNIT, n_visit)[:, unit]
    if shape == "training_group":
        y += 0.5 * base[:, :, None] + arm[:, None] * sd() * normal(N_UNIT, 1)[:, unit]
    if shape == "slope":
        y += 0.3 * sd() * normal(N_PARTICIPANT, 1) * MONTHS
    observed = rng.random(size) > (0.1 if n_visit == 1 else 0.25)
    return Trials(arm, unit, base, y.round(3), observed)


def rows(shape: str) -> pd.DataFrame:
    """One row per replicate, participant and visit seen."""
    data = trials(shape)
    r, i, t = np.nonzero(data.observed)
    columns = {"replicate": r, "id": i, "visit": t, "months": MONTHS[t], "arm": data.arm[i], "unit": data.unit[i]}
    return pd.DataFrame({"shape": shape, **columns, "base": data.base[r, i], "y": data.y[r, i, t]})


def checksum() -> int:
    """CRC-32 of all that is seen: another one means that the generator has changed, not the fits."""
    whole = 0
    for shape in SHAPES:
        thousandths = rows(shape)[["replicate", "id", "visit", "base", "y"]] * [1, 1, 1, 1000, 1000]
        whole = zlib.crc32(thousandths.round().to_numpy(np.int64).tobytes(), whole)
    return whole


if __name__ == "__main__":
    pd.concat([rows(shape) for shape in SHAPES]).to_csv(sys.stdout, index=False)
