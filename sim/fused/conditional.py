"""The probability that a test rejects, given the error contrasts of a replicate: more from each fit than yes or no.

With normal scores and missingness that does not depend on them, est(theta-hat) = est(theta) + D, where
est(theta) ~ N(effect, f) is generalised least squares at the true variances, and D, the standard error and the degrees
of freedom depend on error contrasts alone, which are independent of it.  With q = t(1 - alpha/2; df) SE,
  P(|est| > q | contrasts) = Phi((-q - effect - D)/sqrt f) + Phi((effect + D - q)/sqrt f),
exact for the test with estimated variances; its mean over replicates is the power.  Missing at random given scores, the
pattern carries information about them and this is an approximation.
References: Blackwell 1947, doi:10.1214/aoms/1177730497; Kackar, Harville 1984, doi:10.1080/01621459.1984.10477102
(independence of est(theta) and translation-invariant even functions of y).
"""

from __future__ import annotations

import numpy as np
from scipy import special

from sim.fused.trials import Answer
from sim.trial import Floats


def reject_probability(answer: Answer, effect: float, alpha: float, sides: int) -> Floats:
    """(R,) probability of rejecting in each replicate; NaN where the fit failed.

    effect : true value of the contrast.  sides : 2, or 1 for an upper one-sided test.
    """
    noise, root = answer.estimate - answer.known_estimate, answer.known_standard_error
    with np.errstate(invalid="ignore"):
        critical = special.stdtrit(np.minimum(answer.df, 1e12), 1 - alpha / sides) * answer.standard_error
        above = special.ndtr((effect + noise - critical) / root)
        below = special.ndtr((-critical - effect - noise) / root)
    return np.asarray(above + below if sides == 2 else above)
