"""How what participants have to themselves is distributed: normal, skewed or heavy-tailed.

Whatever the distribution, the first two moments are the declared ones exactly: mean 0, the variances, and all
covariances over visits and outcomes. Both distributions are functions of the normal draws, so that common random
numbers hold. With u the standard normal scores of a participant and w = exp(s^2):

Skewed: every score is a shifted lognormal, x = (exp(s u) - sqrt(w)) / sqrt(w (w - 1)), mirrored for negative skewness.
Its skewness is (w + 2) sqrt(w - 1), and two scores whose normal scores correlate r correlate
(exp(s^2 r) - 1) / (w - 1) (Johnson, Kotz, Balakrishnan 1994, Continuous Univariate Distributions 1, chapter 14).
Heavy-tailed: all scores of a participant are u sqrt((df - 2) / chi^2), chi^2 with df degrees of freedom drawn once per
participant: a multivariate t, so that each score, change and mean over outcomes is t with df degrees of freedom
(Kotz & Nadarajah 2004, Multivariate t Distributions, chapter 1); excess kurtosis 6 / (df - 4).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numba import njit
from pydantic import BeforeValidator, Discriminator, Field, model_validator
from scipy.special import gammainccinv, gammaincinv, ndtr

from sim.lanes import exp
from sim.parts import Assumption, Part, refuse
from sim.quantities import Number, whole_number
from sim.streams import Streams
from sim.trial import Allocation, Floats, Ints

NORMAL, SKEWED, HEAVY_TAILED = range(3)


class Distribution(NamedTuple):
    """A distribution as the kernel takes it: which one, and the constants of the shifted lognormal."""

    kind: int
    s: float = 0.0
    mean: float = 0.0
    inverse_sd: float = 0.0
    sign: float = 1.0


class NormalErrors(Part):
    """Normal."""

    kind: Literal["normal"]

    @property
    def skewness_value(self) -> float:
        return 0.0

    def distribution(self) -> Distribution:
        return Distribution(NORMAL)

    def scale(self, streams: Streams, replicate: Ints, allocation: Allocation) -> Floats:
        """(R, N) factor on what each participant has to themselves."""
        del streams
        return np.ones((len(replicate), allocation.n_participant))

    def share_below(self, x: Floats, own_sd: float, other_sd: float) -> Floats:
        """P(own part + an independent normal of SD other_sd < x); x of any shape."""
        return np.asarray(ndtr(x / math.hypot(own_sd, other_sd)))


class SkewedErrors(NormalErrors):
    """Shifted lognormal."""

    kind: Literal["skewed"]  # type: ignore[assignment]
    skewness: Assumption[Annotated[Number, Field(ge=-4, le=4)]]
    """Of what participants have to themselves, at each visit and in each outcome; negative: a tail of low scores."""

    @model_validator(mode="after")
    def _is_skewed(self) -> SkewedErrors:
        if abs(self.skewness.value) < 0.01:
            raise refuse("found {value}; below 0.01 either way write `errors: {kind: normal}`", "skewness", "value",
                         value=self.skewness.value)  # fmt: skip
        return self

    @property
    def skewness_value(self) -> float:
        return self.skewness.value

    def distribution(self) -> Distribution:
        w, sign = lognormal_w(self.skewness.value), math.copysign(1, self.skewness.value)
        return Distribution(SKEWED, math.sqrt(math.log(w)), math.sqrt(w), 1 / math.sqrt(w * (w - 1)), sign)

    def share_below(self, x: Floats, own_sd: float, other_sd: float) -> Floats:
        """As for normal errors: closed form given the own part, which is integrated over by the trapezoidal rule."""
        shape = self.distribution()
        if other_sd == 0:
            shifted = shape.mean + shape.sign * np.asarray(x) / own_sd / shape.inverse_sd
            with np.errstate(divide="ignore"):
                z = np.log(np.maximum(shifted, 0)) / shape.s
            return np.asarray(ndtr(shape.sign * z))
        z, weight = normal_quadrature()
        own = own_sd * shape.sign * (np.exp(shape.s * shape.sign * z) - shape.mean) * shape.inverse_sd
        return np.asarray(ndtr((np.asarray(x)[..., None] - own) / other_sd) @ weight)


class HeavyTailedErrors(NormalErrors):
    """Student t, scaled to the declared variance."""

    kind: Literal["heavy_tailed"]  # type: ignore[assignment]
    df: Assumption[Annotated[int, BeforeValidator(whole_number), Field(ge=5, le=30)]]
    """Degrees of freedom; excess kurtosis is 6 / (df - 4)."""

    def distribution(self) -> Distribution:
        return Distribution(HEAVY_TAILED)

    def scale(self, streams: Streams, replicate: Ints, allocation: Allocation) -> Floats:
        """(R, N) sqrt((df - 2) / chi^2): twice a sum of df / 2 exponentials, and a squared normal where df is odd."""
        df, people = self.df.value, (replicate, allocation.cluster, allocation.member)
        chi_square = -2 * np.log(streams.uniform("tail", *people, df // 2).prod(axis=2))
        if df % 2:
            chi_square += streams.normal("odd tail", *people, 1)[..., 0] ** 2
        return np.asarray(np.sqrt((df - 2) / chi_square))

    def share_below(self, x: Floats, own_sd: float, other_sd: float) -> Floats:
        """As for normal errors: closed form given chi^2, which is integrated over by the trapezoidal rule."""
        z, weight = normal_quadrature()
        df = self.df.value
        tail = ndtr(-np.abs(z))  # either inverse is exact in its own tail
        chi_square = 2 * np.where(z > 0, gammainccinv(df / 2, tail), gammaincinv(df / 2, tail))
        sd = np.sqrt(own_sd**2 * (df - 2) / chi_square + other_sd**2)
        return np.asarray(ndtr(np.asarray(x)[..., None] / sd) @ weight)


Errors = Annotated[NormalErrors | SkewedErrors | HeavyTailedErrors, Discriminator("kind")]


def lognormal_w(skewness: float) -> float:
    """The w > 1 at which (w + 2) sqrt(w - 1) is the absolute skewness: v^3 - 3 v = 2 + skewness^2 with v = w + 1."""
    return 2 * math.cosh(math.acosh(1 + skewness**2 / 2) / 3) - 1


def latent_correlation(correlation: Floats, skewness: float) -> Floats:
    """Correlation of the normal scores behind skewed ones that have this correlation; NaN where there is none."""
    if skewness == 0:
        return correlation
    w = lognormal_w(skewness)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.log(1 + correlation * (w - 1)) / math.log(w))


def normal_quadrature() -> tuple[Floats, Floats]:
    """Nodes and weights of a standard normal: the trapezoidal rule, whose error falls exponentially with the step."""
    z = np.linspace(-9, 9, 3601)
    weight = np.exp(-0.5 * z**2)
    return z, weight / weight.sum()


@njit(cache=True, error_model="numpy")
def transformed(u: Any, shape: Any, scale: Any) -> Any:
    """A standard normal score, or lanes of them, as one of the declared distribution, mean 0 and variance 1."""
    if shape.kind == SKEWED:
        return shape.sign * (exp(shape.s * shape.sign * u) - shape.mean) * shape.inverse_sd
    return u * scale
