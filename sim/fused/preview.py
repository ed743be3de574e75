"""Power without a single replicate: the noncentral t with the standard error and df expected of the design.

Participants seen are set to their expectation, variances to their true values: SE^2 = c'Phi c, and the degrees of
freedom are Satterthwaite's from the expected information.  What is left out is that both vary from trial to trial, that
variances are estimated at zero now and then, and who is missing where that depends on scores.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from sim.kernels.noncentral import t_power, t_sf
from sim.trial import Floats


class Preview(NamedTuple):
    """What a first answer is made of."""

    standard_error: float
    df: float
    power: float


def preview(
    expected: tuple[float, Floats, Floats], effect: float, alpha: float, sides: int, *, is_normal: bool
) -> Preview:
    """Power of one contrast from its expected (f, df/d theta (m,), information (m, m)).

    sides : 2, or 1 for an upper one-sided test.  is_normal : the test is a z test, of infinite df.
    """
    f, gradient, information = expected
    error = float(np.sqrt(f))
    ncp = effect / error
    if is_normal:
        above, below = special.ndtr(special.ndtri(alpha / sides) + np.array([ncp, -ncp]))
        return Preview(error, np.inf, float(above + below if sides == 2 else above))
    df = float(2.0 * f**2 / (gradient @ np.linalg.solve(information, gradient)))
    if sides == 2:
        return Preview(error, df, float(t_power(df, ncp, alpha)))
    return Preview(error, df, float(t_sf(special.stdtrit(df, 1 - alpha), df, ncp)))
