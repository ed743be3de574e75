"""Fits at the edge and at the optimum: R11 and R13 of the reliability table."""

import json
from pathlib import Path

import numpy as np
import pytest
from reference.many_trials import MONTHS, SHAPES, checksum, trials

from sim.kernels.mixed import MixedModel, fit_mixed
from sim.trial import OK, SINGULAR

R = json.loads((Path(__file__).parents[1] / "reference" / "r" / "many_fits.json").read_text(encoding="utf-8"))

# ---- a variance of 0 -------------------------------------------------------------------------------------------------

A = np.array([1, 1, 1, 2, 2, 2, 2, 2, 1, 2])
B = np.array([1, 1, 2, 1, 2, 2, 2, 2, 2, 1])
F = np.array([1, 2, 1, 2, 1, 2, 1, 2, 1, 2])
Y = np.array([12.0, 14, 11, 20, 17, 23, 35, 46, 15, 16])


def type_2_contrasts(x):
    """(3, 4) rows whose estimates are those of a and b without a:b, and of a:b itself; x = 1, a, b, a:b."""
    alias = np.linalg.lstsq(x[:, :3], x[:, 3], rcond=None)[0]
    return np.array([[0, 1, 0, alias[1]], [0, 0, 1, alias[2]], [0, 0, 0, 1]])


def test_singular_fit_gives_the_f_of_sas():
    """R11: type II F of a, b and a:b in y ~ a*b + (1 | f), whose variance is 0: the example GLM 101 of SAS, df 6."""
    x = np.stack([np.ones(10), A == 2, B == 2, (A == 2) & (B == 2)], axis=1).astype(float)
    model = MixedModel(x[:, None], "independent", block=F - 1, column=np.zeros((10, 1, 1), int))
    seen = np.ones((1, 10, 1), bool)
    fit = fit_mixed(model, Y.reshape(1, 10, 1), seen, np.empty((1, 10, 0)), type_2_contrasts(x))
    assert fit.status[0] == SINGULAR
    assert fit.variance[0, 1] == 0
    f = (fit.estimate[0] / fit.standard_error[0]) ** 2
    np.testing.assert_allclose(f, [3.90131, 1.32753, 0.99565], atol=1e-4)
    np.testing.assert_allclose(fit.df[0], 6, rtol=1e-9)


# ---- a thousand trials, by lme4 too ----------------------------------------------------------------------------------


def model_of(shape, data):
    """The kernel's model, covariates (R, N, q) and the order in which lme4 has its fixed effects."""
    n, t = data.y.shape[1:]
    one, arm = np.ones((n, t)), np.broadcast_to(data.arm[:, None], (n, t)).astype(float)
    visit = [np.broadcast_to(np.arange(t) == k, (n, t)).astype(float) for k in range(1, t)]
    covariate = np.empty((len(data.y), n, 0))
    village, apart = np.zeros((n, t), int), np.broadcast_to(1 + np.arange(t), (n, t))
    if shape == "training_group":
        x = np.stack([one, arm], axis=2)
        trained = data.arm == 1
        block, column = np.where(trained, data.unit, -1), np.where(trained, 0, -1)[:, None, None]
        return MixedModel(x, "independent", block=block, column=column), data.base[:, :, None]
    if shape == "slope":
        months = np.broadcast_to(MONTHS, (n, t))
        return MixedModel(np.stack([one, months, arm, months * arm], axis=2), "slope", time=MONTHS), covariate
    x = np.stack([one, *visit, arm, *(v * arm for v in visit)], axis=2)
    if shape == "participant":
        return MixedModel(x, "intercept"), covariate
    columns = [village] if shape == "village" else [village, apart]
    return MixedModel(x, "intercept", block=data.unit, column=np.stack(columns, axis=2)), covariate


@pytest.fixture(scope="module")
def fits():
    """Of each shape our fits, and the coefficients in lme4's order."""
    assert checksum() == 4224359688, "numpy's generator makes other data now: make many_fits.json anew"
    found = {}
    for shape in SHAPES:
        data = trials(shape)
        model, covariate = model_of(shape, data)
        p = model.X.shape[2] + covariate.shape[2]
        found[shape] = fit_mixed(model, data.y, data.observed, covariate, np.eye(p))
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_no_optimum_is_worse_than_that_of_lme4(shape, fits):
    """R13: of 1,000 trials, 200 a shape, no REML criterion is above lme4's by more than 1e-4, and none failed."""
    fit = fits[shape]
    assert set(fit.status) <= {OK, SINGULAR}
    worse = fit.criterion - np.array(R[shape]["criterion"])
    assert worse.max() < 1e-4


def test_fixed_effects_are_those_of_lme4(fits):
    """R13: the median difference of the 1,000 trials' fixed effects is below 1e-6."""
    largest = [np.abs(fits[s].coefficient - np.array(R[s]["beta"])).max(axis=1) for s in SHAPES]
    assert np.median(np.concatenate(largest)) < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_as_many_fits_are_singular_as_in_lme4(shape, fits):
    """R11: a variance of 0 is a valid fit and is counted: 39, 92, 124, 71 and 79 of 200."""
    assert (fits[shape].status == SINGULAR).sum() == R[shape]["singular"]
