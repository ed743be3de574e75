"""Evidence that a stated Monte Carlo error is the error: repeated runs, and numbers that others printed."""

import numpy as np
import pytest
from rows import make_rows
from scipy import special

from sim.evaluate.performance import proportion, summarise

N_RUN, N_REPLICATE, EFFECT, SE = 500, 400, 0.5, 0.18


@pytest.fixture(scope="module")
def runs():
    """500 runs of 400 replicates of one z test whose every property is known, each a design of its own."""
    rng = np.random.default_rng(29)
    estimate = rng.normal(EFFECT, SE, N_RUN * N_REPLICATE)
    design = np.repeat([f"run_{i:03d}" for i in range(N_RUN)], N_REPLICATE)
    rows = make_rows(estimate, SE, design=design, replicate=np.tile(np.arange(N_REPLICATE), N_RUN))
    true = {(name, "score", "alternative"): (EFFECT, 0.0) for name in np.unique(design)}
    return summarise([rows], true, 0.05).set_index("measure")


TRUTH = {
    "power": special.ndtr(EFFECT / SE - special.ndtri(0.975)) + special.ndtr(-EFFECT / SE - special.ndtri(0.975)),
    "bias": 0.0,
    "empirical_se": SE,
    "coverage": 0.95,
    "mse": SE**2,
}


@pytest.mark.parametrize("measure", TRUTH)
def test_intervals_cover_what_they_promise(runs, measure):
    """R29: 95% of the intervals of 500 runs, give or take three hundredths."""
    found = runs.loc[measure]
    covers = (found["ci_low"] <= TRUTH[measure]) & (TRUTH[measure] <= found["ci_high"])
    assert covers.mean() == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("measure", TRUTH)
def test_errors_are_the_spread_of_repeated_runs(runs, measure):
    """The SD of 500 estimates of an error has itself a relative error of 3%: four of these."""
    found = runs.loc[measure]
    assert np.sqrt((found["mcse"] ** 2).mean()) == pytest.approx(found["estimate"].std(), rel=0.13)


def test_bias_and_empirical_se_against_rsimsum():
    """The means and SDs that rsimsum's introduction prints for its data set MIsim, to its four decimals."""
    for mean, sd, bias, error_of_bias, error_of_sd in (
        (0.5168, 0.1511, 0.0168, 0.0048, 0.0034),
        (0.4988, 0.1344, -0.0012, 0.0043, 0.0030),
    ):
        x = np.random.default_rng(3).normal(size=1000)
        rows = make_rows(mean + sd * (x - x.mean()) / x.std(ddof=1), 0.147)
        found = summarise([rows], {("rct", "score", "alternative"): (0.5, 0.0)}, 0.05).set_index("measure")
        pair = found.loc[["bias", "empirical_se"], ["estimate", "mcse"]].to_numpy()
        np.testing.assert_allclose(pair, [[bias, error_of_bias], [sd, error_of_sd]], atol=6e-5)


@pytest.mark.parametrize(("share", "error"), [(0.943, 0.0073), (0.946, 0.0071), (0.963, 0.0060), (0.940, 0.0075)])
def test_errors_of_proportions_against_rsimsum(share, error):
    """Coverage and power of 1,000 data sets, as printed there."""
    found = proportion(round(1000 * share), 1000)
    assert (found.estimate, found.mcse) == (pytest.approx(share), pytest.approx(error, abs=6e-5))
