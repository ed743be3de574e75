"""Evidence for medians: against numpy, and their interval against its promised coverage."""

import numpy as np
import pandas as pd
from scipy import stats

from sim.evaluate.medians import medians


def rows_of(value):
    n = len(value)
    return pd.DataFrame(
        {
            "design": "d", "replicate": np.arange(n), "outcome": "o", "analysis": "a", "truth": "alternative",
            "estimate": 0.0, "standard_error": 1.0, "df": 5.0, "p_value": 0.5, "ci_low": -1.0, "ci_high": 1.0,
            "status": "ok", "f": value,
        }
    )  # fmt: skip


def test_median_against_numpy_and_gaps_left_out():
    value = np.random.default_rng(1).exponential(size=101)
    value[3] = np.nan
    table = medians([rows_of(value)])
    assert table["measure"].tolist() == ["median_f"]
    assert table["estimate"][0] == np.nanmedian(value)
    assert table["ci_low"][0] < table["estimate"][0] < table["ci_high"][0]
    assert table["n_replicate"][0] == 101


def test_spans_same_bits_as_one_table_and_those_of_numpy(monkeypatch):
    monkeypatch.setattr("sim.evaluate.order_statistics.HELD", 16)  # so that numbers are counted
    rows = rows_of(np.random.default_rng(3).normal(size=1000))
    spans = [rows[lo : lo + 64] for lo in range(0, 1000, 64)]
    table = medians(spans)
    value = np.sort(rows["f"])
    low = int(stats.binom.ppf(0.025, 1000, 0.5)) - 1
    expected = [np.median(value), value[low], value[999 - low]]
    assert table[["estimate", "ci_low", "ci_high"]].iloc[0].tolist() == expected
    pd.testing.assert_frame_equal(table, medians([rows]), check_exact=True)
    assert table["n_ok"].tolist() == [1000]


def test_nothing_beside_the_test_gives_no_rows():
    assert medians([rows_of(np.ones(10)).drop(columns="f")]).empty


def test_interval_and_mcse_against_repeated_runs():
    rng = np.random.default_rng(2)
    tables = [medians([rows_of(rng.normal(size=200))]) for _ in range(600)]
    estimate = np.array([t["estimate"][0] for t in tables])
    covered = np.mean([t["ci_low"][0] <= 0 <= t["ci_high"][0] for t in tables])
    assert 0.95 - 4 * np.sqrt(0.05 * 0.95 / 600) < covered
    mcse = np.mean([t["mcse"][0] for t in tables])
    assert abs(mcse / estimate.std() - 1) < 4 / np.sqrt(2 * 600) + 0.05
