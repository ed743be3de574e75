"""Words to matrices: fixed-effect columns and contrasts that several analyses share. All dummies are full 0/1 columns."""

from __future__ import annotations

import numpy as np

from sim.trial import Allocation, Contrast, Floats, Ints


def dummies(code: Ints, n_level: int) -> Floats:
    """(N, n_level - 1) treatment coding against level 0."""
    return np.eye(n_level)[code][:, 1:]


def strata_and_districts(allocation: Allocation) -> Floats:
    """(N, q) dummies of stratum and district, the variables that the allocation is stratified by.

    Levels that nobody has are left out, and so is a stratum that districts, arms or training decide.
    """
    columns = [dummies(np.unique(code, return_inverse=True)[1].astype(np.int32), len(np.unique(code)))
               for code in (allocation.stratum, allocation.district)]  # fmt: skip
    return np.concatenate(columns, axis=1)


def arm_dummies(allocation: Allocation) -> Floats:
    """(N, A - 1) dummies of the arms against arm 0."""
    return dummies(allocation.arm, len(allocation.arms))


def arm_contrast(contrast: Contrast, n_arm: int) -> Floats:
    """(A - 1,) weights of the arm dummies that give treated minus control."""
    weight = np.zeros(n_arm)
    weight[contrast.treated] += 1.0
    assert contrast.control is not None
    weight[contrast.control] -= 1.0
    return weight[1:]


def final_visit(allocation: Allocation) -> tuple[Floats, Floats]:
    """Columns (N, 1, p0) of an analysis of the final visit - intercept, arms, strata, districts - and its contrast.

    The contrast (1, p0 + 1) has one more entry, 0, for the baseline score that is appended as a covariate.
    """
    arms, rest = arm_dummies(allocation), strata_and_districts(allocation)
    columns = np.concatenate([np.ones((len(arms), 1)), arms, rest], axis=1)
    weight = np.zeros((1, columns.shape[1] + 1))
    weight[0, 1 : 1 + arms.shape[1]] = arm_contrast(allocation.contrast, len(allocation.arms))
    return columns[:, None, :], weight
