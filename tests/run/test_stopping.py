"""Evidence for the stopping rule: it stops where it should, and the bias of its estimates is too small to see."""

import numpy as np
import pandas as pd
import pytest

from sim.run.stopping import FIRST, expected, largest_error, never_zero, next_replicates, replicates_for


def summary(hits, n, share=0.0):
    p = hits / n
    cell = {"design": "d", "outcome": "o", "analysis": "a", "truth": "alternative", "n_replicate": n}
    mcse = np.sqrt(p * (1 - p) / n / (1 - share))
    rows = [cell | {"measure": "power", "estimate": p, "mcse": mcse}]
    if share:
        rows.append(cell | {"measure": "calendar_share", "estimate": share, "mcse": 0.1})
    return pd.DataFrame(rows)


def run_until(target, p, rng):
    """Replicates and estimate at which the rule stops."""
    hits = n = 0
    more = FIRST
    while more:
        hits += rng.binomial(more - n, p)
        n = more
        share, count = np.array([hits / n]), np.array([float(n)])
        error = never_zero(np.sqrt(share * (1 - share) / n), share, count)
        more = replicates_for(error, np.zeros(1), count, target)
    return n, hits / n


@pytest.mark.parametrize("target", [0.005, 0.01])
def test_stopping_does_not_bias_the_estimate(target):
    """R30: 2,000 runs at a true power of .80 give a mean within .002, and within 4 of its own standard errors of a
    bias that size."""
    rng = np.random.default_rng(30)
    found = np.array([run_until(target, 0.8, rng) for _ in range(2000)])
    assert abs(found[:, 1].mean() - 0.8) < 0.002
    assert (np.sqrt(found[:, 1] * (1 - found[:, 1]) / found[:, 0]) <= target).all()


def test_it_asks_for_about_as_many_as_are_needed():
    rng = np.random.default_rng(1)
    n = np.array([run_until(0.005, 0.8, rng)[0] for _ in range(200)])
    need = 0.16 / 0.005**2
    assert (n >= 0.9 * need).all() and (n <= 1.1 * need + 1024).all()


def test_it_goes_on_after_a_first_stage_without_a_failure_or_a_success():
    """A proportion of 1 has an estimated error of 0, which is no reason to stop at a narrow target."""
    assert next_replicates(summary(FIRST, FIRST), 0.001) is not None
    assert largest_error(summary(FIRST, FIRST)) > 0


def test_what_is_owed_to_calendars_is_not_chased_with_replicates():
    """Half of the variance falls with replicates; the other half alone is above, or below, the target."""
    now = summary(800, 1000, share=0.5)
    error = largest_error(now)
    assert next_replicates(now, 0.5 * error) is None
    n = next_replicates(now, 0.9 * error)
    assert n == 2048  # 0.5 / (0.81 - 0.5) times 1,000 is 1,613: the next multiple of FIRST


def test_expected_replicates():
    assert expected(0.005) == 10_000
