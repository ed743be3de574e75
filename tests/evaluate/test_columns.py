"""Columns of a number per replicate, span by span, against pandas on all of them."""

import numpy as np
import pandas as pd
import pytest
from rows import slow_growth

from sim.evaluate.columns import Columns

K = 7


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(1)
    n = 500
    calendar = np.arange(n) % K
    people = 40 + rng.integers(0, 5, K)[calendar] + rng.integers(0, 3, n)
    share = rng.normal(1e3, 0.1, K)[calendar] + rng.normal(0, 0.1, n)
    none, holed = np.full(n, np.nan), np.where(people > 43, np.nan, share)
    return pd.DataFrame({"people": people, "share": share, "none": none, "same": 0.1, "holed": holed})


def columns_of(table, *edges):
    found = Columns(K)
    for lo, hi in zip((0, *edges), (*edges, len(table)), strict=True):
        found.add(np.arange(lo, hi), table[lo:hi], ["people"])
    return found


def test_means_and_errors_against_pandas(table):
    found = columns_of(table, 64, 128, 129, 400)
    by_calendar = table.groupby(np.arange(len(table)) % K).mean()
    for name in ("people", "share", "holed"):
        assert found.mean(name) == pytest.approx(table[name].mean(), rel=1e-14)
        assert found.mcse_over_calendars(name) == pytest.approx(by_calendar[name].sem(), rel=1e-10)
        growth = slow_growth(table[name].to_numpy(float), np.arange(len(table)) % K)
        assert found.mcse(name) == pytest.approx(table[name].std() * np.sqrt(growth / table[name].count()), rel=1e-9)
        assert found.varies(name)
    assert np.isnan(found.mean("none")) and not found.varies("none")
    assert found.mean("same") == pytest.approx(0.1) and not found.varies("same")


@pytest.mark.parametrize("n", [1, 2, 11, 500])
def test_quantiles_against_pandas(table, n):
    found = columns_of(table[:n], n // 2) if n > 1 else columns_of(table[:n])
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert found.quantile("people", share) == pytest.approx(table["people"][:n].quantile(share), rel=1e-14)
    assert found.lower_median("people") == table["people"][:n].quantile(0.5, interpolation="lower")


def test_one_replicate_has_no_error(table):
    found = columns_of(table[:1])
    assert np.isnan(found.mcse("share")) and np.isnan(found.mcse_over_calendars("share"))


def test_replicate_that_comes_twice_message(table):
    found = columns_of(table)
    with pytest.raises(ValueError, match="replicate 499 begins a span after one that ends with replicate 499"):
        found.add(np.array([499]), table[:1])
    with pytest.raises(ValueError, match="1 rows occur twice, the first is replicate 3"):
        Columns(K).add(np.array([2, 3, 3]), table[:3])


def test_other_columns_message(table):
    found = columns_of(table[:10])
    with pytest.raises(ValueError, match="spans have different columns"):
        found.add(np.array([10]), table[10:11].drop(columns="none"))
