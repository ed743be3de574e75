"""A permutation test of the arm difference: arms are dealt again to participants, or to whole clusters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq

from sim.dataset.design_matrix import INTERCEPT, arm_pairs, fixed_effects
from sim.dataset.read import Dataset
from sim.dataset.request import Request
from sim.dataset.result import LEVEL, Analysis, Term, completed, failed
from sim.trial import Flags, Floats

PERMUTATIONS = 10_000
CHUNK = 1_000
ROUNDING = 1e-13  # share of the outcome below which its variation is none
SMALL = 1e-9  # share of the arm that the covariates must leave


def randomisation_test(data: Dataset, request: Request) -> Analysis:
    """Difference in mean residuals (from a regression without arm) between arms, every unit counting once.

    Exact where there are at most `permutations` ways to deal the arms, else that many are drawn and the p value is
    (1 + at least as extreme) / (1 + drawn). The interval holds the shifts that the test does not reject.
    References: Gail et al. 1996, doi:10.1002/(SICI)1097-0258(19960615)15:11<1069::AID-SIM220>3.0.CO;2-Q; Phipson,
    Smyth 2010, doi:10.2202/1544-6115.1585 (the added 1).
    """
    first = fixed_effects(data, request, with_arm=False)
    arms, pairs = data.levels("arm"), arm_pairs(data, request)
    after = f", residuals from {' + '.join(t for t in first.terms if t != INTERCEPT)}" if len(first.terms) > 1 else ""
    at = f" at visit {data.levels('visit')[-1]}" if "visit" in data.factor else ""
    dealt_to = "clusters" if request.cluster else "participants"
    sentence = f"Permutation test of the difference in means: {request.outcome}{at}{after}; arms dealt to {dealt_to}."
    names = tuple(f"arm[{a}]" + (f" - arm[{b}]" if b != arms[0] else "") for a, b in pairs)
    found = [_compare(data, request, first.x, arms.index(a), arms.index(b)) for a, b in pairs]
    tests = [test for test in found if test is not None]
    if len(tests) < len(found):
        return failed(
            request, data, names, sentence, "The outcome does not vary, or covariates leave nothing of the arms."
        )
    return completed(
        request,
        data,
        sentence,
        tuple(test.term(name) for name, test in zip(names, tests, strict=True)),
        notes=tuple(
            f"{name}: {test.how} to deal the arms to {test.n_unit} {dealt_to}; the smallest possible p is "
            f"{test.smallest:.2g}."
            for name, test in zip(names, tests, strict=True)
        ),
    )


def _compare(data: Dataset, request: Request, x: Floats, treated: int, control: int) -> _Test | None:
    """The test of one arm against another; None if the outcome does not vary or covariates hold the arms."""
    arm = data.code("arm")
    here = (arm == treated) | (arm == control)
    is_treated = (arm == treated)[here]
    label = data.code("cluster")[here] if request.cluster else np.arange(is_treated.size)
    unit = np.unique(label, return_inverse=True)[1]
    both = np.stack([data.y[here], is_treated * 1.0], axis=1)
    residual = both - x[here] @ np.linalg.lstsq(x[here], both, rcond=None)[0]
    means = np.stack([np.bincount(unit, column) for column in residual.T]) / np.bincount(unit)
    dealt = np.bincount(unit, is_treated) > 0.0
    if dealt.all() or not dealt.any():
        return None
    observed, slope = means[:, dealt].mean(axis=1) - means[:, ~dealt].mean(axis=1)
    if slope <= SMALL or np.ptp(means[0]) <= ROUNDING * np.abs(both[:, 0]).max():
        return None
    n, k, most, seed = dealt.size, int(dealt.sum()), request.permutations or PERMUTATIONS, request.seed or 0
    log10_way = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(10)
    is_exact = log10_way < 15 and math.comb(n, k) <= most
    how = f"all {math.comb(n, k):,} ways" if is_exact else f"{most:,} of about 10^{log10_way:.0f} ways (seed {seed})"
    dealings = _every(n, k) if is_exact else _drawn(n, k, most, seed)
    again = np.concatenate([_differences(means, way, k) for way in dealings])
    return _Test(float(observed), float(slope), again[:, 0], again[:, 1], n_unit=n, how=how, is_exact=is_exact)


class _Test:
    """The differences of all dealings, as lines in the shift of the treated: a_k - shift b_k."""

    def __init__(
        self, observed: float, slope: float, a: Floats, b: Floats, *, n_unit: int, how: str, is_exact: bool
    ) -> None:
        self.observed, self.slope, self.a, self.b = observed, slope, a, b
        self.n_unit, self.how = n_unit, how
        self.added = 0 if is_exact else 1
        self.smallest = 1.0 / (a.size + self.added)

    def term(self, name: str) -> Term:
        low, high = self.interval()
        return Term(name, self.observed / self.slope, p_value=self.p_value(0.0), ci_low=low, ci_high=high)

    def p_value(self, shift: float) -> float:
        """Two-sided p value of the hypothesis that treatment adds `shift` to everyone."""
        here = abs(self.observed - shift * self.slope)
        extreme = np.abs(self.a - shift * self.b) >= here - 1e-9 * (1e-300 + np.abs(self.a).max())
        return float((extreme.sum() + self.added) / (self.a.size + self.added))

    def interval(self) -> tuple[float, float]:
        """Shifts not rejected at 5%; infinite where no shift can be."""
        if self.smallest > 1 - LEVEL:
            return -math.inf, math.inf
        estimate, ends = self.observed / self.slope, []
        for side in (-1.0, 1.0):
            step = side * (np.abs(self.a).max() + np.abs(estimate)) / self.slope
            while self.p_value(estimate + step) > 1 - LEVEL:
                step *= 2.0
                if abs(step) > 1e9 * (1.0 + abs(estimate)):
                    return -math.inf, math.inf
            ends.append(brentq(lambda s: self.p_value(s) - (1 - LEVEL) - 1e-12, estimate, estimate + step, xtol=1e-9))
        return float(ends[0]), float(ends[1])


def _differences(means: Floats, dealt: Flags, n_treated: int) -> Floats:
    """(chunk, 2) arm differences of the residual outcome and of the residual arm, for dealings (chunk, n)."""
    treated = dealt @ means.T
    return np.asarray(treated / n_treated - (means.sum(axis=1) - treated) / (means.shape[1] - n_treated))


def _every(n: int, n_treated: int) -> Iterator[Flags]:
    """Which units are treated, (chunk, n), in every way."""
    ways = itertools.combinations(range(n), n_treated)
    while chunk := list(itertools.islice(ways, CHUNK)):
        dealt = np.zeros((len(chunk), n), np.bool_)
        np.put_along_axis(dealt, np.array(chunk), True, axis=1)
        yield dealt


def _drawn(n: int, n_treated: int, n_dealing: int, seed: int) -> Iterator[Flags]:
    """The same for ways that are drawn."""
    rng = np.random.Generator(np.random.Philox(seed))
    first = np.arange(n) < n_treated
    for start in range(0, n_dealing, CHUNK):
        yield rng.permuted(np.tile(first, (min(CHUNK, n_dealing - start), 1)), axis=1)
