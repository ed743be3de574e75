"""Covariance structures over a participant's visits.  To add one, write one function below; nothing else changes.

A structure is a function of (T, time) with the decorator `@structure("name", "what it is in words")` that returns its
parameters and a formula for Sigma[t, s], t <= s counted from 0:

    @structure("ar1", "first-order autoregressive")
    def _ar1(T, time):
        v, rho = variance("variance"), correlation("correlation", start=0.3)
        return [v, rho], lambda t, s: v * rho ** (s - t)

    @structure("adh", "heterogeneous antedependence")
    def _adh(T, time):
        d = [sd(f"sd {t + 1}") for t in range(T)]
        rho = [correlation(f"correlation {t + 1},{t + 2}") for t in range(T - 1)]
        return [*d, *rho], lambda t, s: prod(rho[t:s], start=d[t] * d[s])

`MixedModel(X, "ar1")` and `nexttrial analyse --method mmrm --covariance ar1` then know it, with every df, residual
classes and larger units.  Structures without words are left out of `analyse`.
Formulas are sums of products: + and * between parameters, formulas and numbers, and a parameter ** a number.  There is
no minus and no division (write + -1.0 * x, x ** -1), no power of a formula and no parameter as exponent; `sum` and
`math.prod` work on lists.  The derivatives that estimation and inference need follow from the formula.
Parameters are made by
    variance, sd    > 0, of a visit or a residual; start = share of the residual variance (SD) that OLS leaves
    component       >= 0, a variance that may be estimated as zero; below zero under the policy 'negative'
    covariance      any sign; start as for a variance
    correlation     limited only by Sigma being positive definite; start is the correlation itself.  A power of it that
                    is not whole needs it to be positive.
Sigma must be positive definite at the starting values.  Names are unique within a structure; every parameter of the
formula is in the list, and every one listed is used.  Each residual class has parameters of its own, except components
and covariances made with shared=True, which all classes share.  The order of the list is the order in which results
report them: class by class, then the shared ones.
Most structures need nothing more.  Further arguments of the decorator: `needs_time`: MixedModel must be given `time`,
(T,) floats; otherwise it is None.  `climb` names a structure with the same Sigma in which the likelihood is maximised
(`to_climb` translates starting values) and which also returns the structure's parameters as formulas in its own (random
slopes climb in Cholesky factors, which keeps their covariance positive semidefinite).  `curved` names the one whose
parameters define second-order Kenward-Roger where these are not the structure's own, as where covariances are
parameters: there logarithms of variances and SDs and rho / sqrt(1 - rho^2) of correlations are the parameters (Sabanes
Bove et al. 2023, mmrm, vignette on covariance structures).  A name with a comma is internal.
To test it, add its name to GENERAL and its Sigma to `sigma_of` in tests/kernels/test_mixed.py: REML, ML, two classes
and larger units are then checked against dense matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.kernels.mixed_optimise import FACTOR, FREE, NONNEGATIVE, POSITIVE

Key = tuple[tuple[str, float], ...]  # parameters of a product and their powers
Time = npt.NDArray[np.float64] | None


@dataclass(frozen=True)
class Formula:
    """A sum of products of powers of parameters."""

    term: dict[Key, float]

    def __add__(self, other: Formula | Parameter | float) -> Formula:
        out = dict(self.term)
        for key, x in _formula(other).term.items():
            out[key] = out.get(key, 0.0) + x
        return Formula(out)

    def __mul__(self, other: Formula | Parameter | float) -> Formula:
        out: dict[Key, float] = {}
        for left, x in self.term.items():
            for right, y in _formula(other).term.items():
                power = dict(left)
                for name, e in right:
                    power[name] = power.get(name, 0.0) + e
                key = tuple(sorted((name, e) for name, e in power.items() if e != 0))
                out[key] = out.get(key, 0.0) + x * y
        return Formula(out)

    __radd__, __rmul__ = __add__, __mul__

    def derivative(self, name: str) -> Formula:
        """The formula's derivative by the parameter of this name."""
        out: dict[Key, float] = {}
        for key, x in self.term.items():
            e = dict(key).get(name, 0.0)
            if e != 0 and x != 0:
                lower = {**dict(key), name: e - 1.0}
                out[tuple(sorted((n, p) for n, p in lower.items() if p != 0))] = x * e
        return Formula(out)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a structure; see the head for how they are made and what may be done with them."""

    name: str
    unit: int  # power of the outcome's unit: 2 variance, 1 SD, 0 correlation
    start: float  # in units of the OLS residual SD to that power
    bound: int
    link: str = "none"  # of second-order Kenward-Roger: 'none', 'log' or 'correlation'
    shared: bool = False

    def __add__(self, other: Formula | Parameter | float) -> Formula:
        return _formula(self) + other

    def __mul__(self, other: Formula | Parameter | float) -> Formula:
        return _formula(self) * other

    __radd__, __rmul__ = __add__, __mul__

    def __pow__(self, power: float) -> Formula:
        return Formula({((self.name, float(power)),) if power else (): 1.0})


def _formula(x: Formula | Parameter | float) -> Formula:
    if isinstance(x, Formula):
        return x
    return x**1 if isinstance(x, Parameter) else Formula({(): float(x)} if x else {})


def variance(name: str, start: float = 1.0) -> Parameter:
    """Above 0, in squared units of the outcome; start in units of the residual variance that OLS leaves."""
    return Parameter(name, 2, start, POSITIVE, "log")


def sd(name: str, start: float = 1.0) -> Parameter:
    """Above 0, in units of the outcome; start in units of the residual SD that OLS leaves."""
    return Parameter(name, 1, start, POSITIVE, "log")


def component(name: str, start: float, shared: bool = False) -> Parameter:
    """A variance of at least 0, which may be estimated as 0; below under the policy 'negative'. Units as variance."""
    return Parameter(name, 2, start, NONNEGATIVE, shared=shared)


def covariance(name: str, start: float = 0.0, shared: bool = False) -> Parameter:
    """Of any sign; units and start as of a variance."""
    return Parameter(name, 2, start, FREE, shared=shared)


def correlation(name: str, start: float = 0.3) -> Parameter:
    """Without a unit, limited only by Sigma being positive definite; start is the correlation itself."""
    return Parameter(name, 0, start, FREE, "correlation")


Sum = Formula | Parameter | float
Declared = (
    tuple[list[Parameter], Callable[[int, int], Sum]] | tuple[list[Parameter], Callable[[int, int], Sum], list[Sum]]
)


@dataclass(frozen=True)
class Structure:
    """A registered structure: its declaration and what the decorator was told."""

    name: str
    declare: Callable[[int, Time], Declared]
    climb: str | None
    curved: str | None
    needs_time: bool
    to_climb: Callable[[npt.NDArray[np.float64], int], npt.NDArray[np.float64]] | None
    word: str  # what it is in words; empty: not offered to a marginal model


STRUCTURES: dict[str, Structure] = {}


def structure(
    name: str,
    word: str = "",
    *,
    climb: str | None = None,
    curved: str | None = None,
    needs_time: bool = False,
    to_climb: Callable[[npt.NDArray[np.float64], int], npt.NDArray[np.float64]] | None = None,
) -> Callable[[Callable[[int, Time], Declared]], Callable[[int, Time], Declared]]:
    """Register a structure under `name`; `word` says what it is. The other arguments are explained in the head."""

    def keep(declare: Callable[[int, Time], Declared]) -> Callable[[int, Time], Declared]:
        STRUCTURES[name] = Structure(name, declare, climb, curved, needs_time, to_climb, word)
        return declare

    return keep


def offered() -> dict[str, str]:
    """The structures for a marginal model of repeated measures, in words."""
    return {name: one.word for name, one in STRUCTURES.items() if one.word}


# ---- the structures --------------------------------------------------------------------------------------------------


def _residual(start: float = 1.0) -> Parameter:
    return Parameter("residual", 2, start, POSITIVE)


@structure("independent")
def _independent(T: int, time: Time) -> Declared:
    residual = _residual()
    return [residual], lambda t, s: residual if t == s else 0.0


@structure("intercept")
def _intercept(T: int, time: Time) -> Declared:
    """Random intercept of the participant."""
    residual, participant = _residual(0.5), component("participant", 0.4, shared=True)
    return [residual, participant], lambda t, s: residual + participant if t == s else participant


def _factors(start: npt.NDArray[np.float64], n_term: int) -> npt.NDArray[np.float64]:
    """Starting values of 'slope, Cholesky', off the boundary, from those of 'slope' and the random terms after them."""
    at = start.size - n_term - 3
    v0, c, v1 = start[at : at + 3]
    out = start.copy()
    l00 = np.sqrt(max(v0, 1e-6 * abs(start[0])))
    out[at : at + 3] = l00, c / l00, np.sqrt(max(v1 - (c / l00) ** 2, 0.01 * v1))
    return out


@structure("slope", climb="slope, Cholesky", needs_time=True, to_climb=_factors)
def _slope(T: int, time: Time) -> Declared:
    """Random intercept and slope of the participant, correlated."""
    assert time is not None
    residual, unit = _residual(0.5), max(float(np.max(np.abs(time))), 1e-300)
    v0, v1 = component("intercept", 0.4, shared=True), component("slope", 0.1 / unit**2, shared=True)
    c = covariance("intercept with slope", shared=True)
    return [
        residual,
        v0,
        c,
        v1,
    ], lambda t, s: v0 + c * float(time[t] + time[s]) + v1 * float(time[t] * time[s]) + (residual if t == s else 0.0)


@structure("slope, Cholesky", needs_time=True)
def _slope_cholesky(T: int, time: Time) -> Declared:
    """The same; G = L L' with L = [l00 0; l10 l11].  l11 = 0 is the boundary, where correlation is 1 or -1."""
    assert time is not None
    residual, unit = _residual(0.5), max(float(np.max(np.abs(time))), 1e-300)
    l00, l10, l11 = (
        Parameter(name, 1, start, FACTOR, shared=True)
        for name, start in (("l00", 0.6), ("l10", 0.0), ("l11", 0.3 / unit))
    )
    v0, c, v1 = l00 * l00, l00 * l10, l10 * l10 + l11 * l11

    def sigma(t: int, s: int) -> Formula:
        slope = c * float(time[t] + time[s]) + v1 * float(time[t] * time[s])
        return v0 + slope + (residual if t == s else 0.0)

    return [residual, l00, l10, l11], sigma, [residual, v0, c, v1]


@structure("us", "unstructured", curved="us, Cholesky")
def _us(T: int, time: Time) -> Declared:
    """Unstructured: a variance for each visit, a covariance for each pair of visits."""
    v = {
        (t, s): variance(f"variance {t + 1}") if t == s else covariance(f"covariance {t + 1},{s + 1}", 0.3)
        for s in range(T)
        for t in range(s + 1)
    }
    return list(v.values()), lambda t, s: v[t, s]


@structure("us, Cholesky")
def _us_cholesky(T: int, time: Time) -> Declared:
    """Sigma = D L L' D, D diagonal, L lower triangular with unit diagonal."""
    d = [sd(f"scale {t + 1}") for t in range(T)]
    lower = {(t, s): Parameter(f"l {t + 1},{s + 1}", 0, 0.0, FREE) for t in range(T) for s in range(t)}

    def L(t: int, s: int) -> Formula:
        return _formula(1.0 if t == s else lower[t, s] if s < t else 0.0)

    def sigma(t: int, s: int) -> Formula:
        total = Formula({})
        for k in range(t + 1):
            total = total + d[t] * d[s] * L(t, k) * L(s, k)
        return total

    return [*d, *lower.values()], sigma


@structure("cs", "compound symmetric")
def _cs(T: int, time: Time) -> Declared:
    """Compound symmetry: one variance, one correlation, which may be negative."""
    v, rho = variance("variance"), correlation("correlation")
    return [v, rho], lambda t, s: v if t == s else v * rho


@structure("csh", "heterogeneous compound symmetric")
def _csh(T: int, time: Time) -> Declared:
    """Heterogeneous compound symmetry: an SD for each visit, one correlation."""
    d, rho = [sd(f"sd {t + 1}") for t in range(T)], correlation("correlation")
    return [*d, rho], lambda t, s: d[t] * d[s] if t == s else d[t] * d[s] * rho


@structure("ar1", "first-order autoregressive")
def _ar1(T: int, time: Time) -> Declared:
    """First-order autoregression over the visit's index."""
    v, rho = variance("variance"), correlation("correlation")
    return [v, rho], lambda t, s: v * rho ** (s - t)


@structure("ar1h", "heterogeneous first-order autoregressive")
def _ar1h(T: int, time: Time) -> Declared:
    """The same with an SD for each visit."""
    d, rho = [sd(f"sd {t + 1}") for t in range(T)], correlation("correlation")
    return [*d, rho], lambda t, s: d[t] * d[s] * rho ** (s - t)


@structure("toep", "Toeplitz")
def _toep(T: int, time: Time) -> Declared:
    """Toeplitz: one variance, a correlation for each distance in visits."""
    v, rho = variance("variance"), [correlation(f"correlation {k}", 0.3**k) for k in range(1, T)]
    return [v, *rho], lambda t, s: v if t == s else v * rho[s - t - 1]


@structure("toeph", "heterogeneous Toeplitz")
def _toeph(T: int, time: Time) -> Declared:
    """The same with an SD for each visit."""
    d, rho = [sd(f"sd {t + 1}") for t in range(T)], [correlation(f"correlation {k}", 0.3**k) for k in range(1, T)]
    return [*d, *rho], lambda t, s: d[t] * d[s] if t == s else d[t] * d[s] * rho[s - t - 1]


@structure("adh", "heterogeneous antedependence")
def _adh(T: int, time: Time) -> Declared:
    """First-order antedependence: an SD for each visit, a correlation for each pair of successive visits."""
    d = [sd(f"sd {t + 1}") for t in range(T)]
    rho = [correlation(f"correlation {t + 1},{t + 2}") for t in range(T - 1)]
    return [*d, *rho], lambda t, s: prod(rho[t:s], start=d[t] * d[s])


# ---- tables for the kernel -------------------------------------------------------------------------------------------


class Monomials(NamedTuple):
    """Numbers coefficient x prod theta[factor]^power, each added to entry (t, s), t <= s, of a class's matrix."""

    place: npt.NDArray[np.int64]  # (n + 1, 6) parameters k, l of the derivative, class, t, s, first of its factors
    coefficient: npt.NDArray[np.float64]  # (n,)
    factor: npt.NDArray[np.int64]  # parameter of each factor; those of a number end where the next one's begin
    power: npt.NDArray[np.float64]


class Table(NamedTuple):
    """A structure for a number of classes: Sigma, its first and its second derivatives."""

    sigma: Monomials
    slope: Monomials  # by parameter
    bend: Monomials
    natural: Monomials  # parameters k of the structure that this one climbs for; its own if there is no such
    slope_start: npt.NDArray[np.int64]  # (n + 1,) into slope, by parameter
    kind: npt.NDArray[np.int64]  # (3, n) bound, unit, link (0 none, 1 log, 2 correlation)
    begin: npt.NDArray[np.float64]  # (n,)


@dataclass
class _Entries:
    """Terms of formulas on their way to Monomials: indices first and second, class, visits t and s, factor, powers."""

    row: list[tuple[int, int, int, int, int, float, list[tuple[int, float]]]] = field(default_factory=list)

    def add(self, first: int, second: int, at: tuple[int, int, int], formula: Formula, index: dict[str, int]) -> None:
        """The terms of one entry: of parameters first and second (in a derivative), at (class, visit, visit)."""
        for key, x in formula.term.items():
            if x != 0:
                self.row.append((first, second, *at, x, [(index[name], e) for name, e in key]))

    def arrays(self) -> Monomials:
        """All terms in order, as the arrays that kernels read."""
        rows = sorted(self.row, key=lambda r: r[:5])
        factors = [f for r in rows for f in r[6]] + [(0, 1.0)]  # one more, never used
        start = np.cumsum([0] + [len(r[6]) for r in rows])
        rows.append((0, 0, 0, 0, 0, 0.0, []))  # a last one, which only ends the factors
        place = np.array([[*r[:5], at] for r, at in zip(rows, start, strict=True)], np.int64)
        return Monomials(
            place,
            np.array([r[5] for r in rows[:-1]], np.float64),
            np.array([f[0] for f in factors], np.int64),
            np.array([f[1] for f in factors], np.float64),
        )


def table(name: str, T: int, time: Time, n_class: int) -> Table:
    """The table of a structure for T visits, (T,) times where it needs them, and n_class residual classes."""
    parameter, formula, *rest = STRUCTURES[name].declare(T, time)
    natural = rest[0] if rest else parameter
    own, shared = [p for p in parameter if not p.shared], [p for p in parameter if p.shared]
    sigma, slope, bend, to_natural = _Entries(), _Entries(), _Entries(), _Entries()
    for c in range(n_class):
        index = {p.name: c * len(own) + k for k, p in enumerate(own)}
        index |= {p.name: n_class * len(own) + k for k, p in enumerate(shared)}
        for p, x in zip(parameter, natural, strict=True):
            if c == 0 or not p.shared:
                to_natural.add(index[p.name], 0, (0, 0, 0), _formula(x), index)
        for s in range(T):
            for t in range(s + 1):
                entry = _formula(formula(t, s))
                sigma.add(0, 0, (c, t, s), entry, index)
                used = {n for key in entry.term for n, _ in key}
                for k in used:
                    by_k = entry.derivative(k)
                    slope.add(index[k], 0, (c, t, s), by_k, index)
                    for other in used:
                        bend.add(index[k], index[other], (c, t, s), by_k.derivative(other), index)
    every = own * n_class + shared
    by_parameter = slope.arrays()
    links = ("none", "log", "correlation")
    return Table(
        sigma.arrays(),
        by_parameter,
        bend.arrays(),
        to_natural.arrays(),
        np.searchsorted(by_parameter.place[:-1, 0], np.arange(len(every) + 1)).astype(np.int64),
        np.array([[p.bound for p in every], [p.unit for p in every], [links.index(p.link) for p in every]], np.int64),
        np.array([p.start for p in every], np.float64),
    )
