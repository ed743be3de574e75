"""Differences in power: by hand, against the variance of correlated pairs, and which of many are real."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import fail, make_rows, slow_growth

from sim.evaluate.compare import COLUMNS, Design, all_pairs, compare, letters, ranking
from sim.evaluate.multiplicity import family
from sim.evaluate.performance import summarise

BIG = 10.0
"""An estimate whose test, with a standard error of 1, rejects."""


def rows_of(*reject, **column):
    """Rows whose tests reject as told: one outcome after the other."""
    parts = [make_rows(BIG * np.asarray(x), 1.0, outcome=f"y{k}", **column) for k, x in enumerate(reject)]
    return pd.concat(parts, ignore_index=True)


def design(label, *spans, demand=0.0, n_calendar=1, rule="none"):
    return Design(label, spans, {f"y{k}": demand for k in range(4)}, n_calendar, 0.05, 2, rule)


def of_pair(one, other, *, paired=True, **more):
    return compare([design("a", one, **more), design("b", other, **more)], [(0, 1)], paired=paired)


def test_pair_by_hand():
    """Of 10 pairs 3 are discordant one way and 1 the other: difference .2, variance (4 - 4 / 10) / 100."""
    a = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    b = [1, 1, 1, 0, 0, 0, 1, 0, 0, 0]
    found = of_pair(rows_of(a), rows_of(b)).iloc[0]
    assert (found["power_a"], found["power_b"], found["n_only_a"], found["n_only_b"]) == (0.6, 0.4, 3, 1)
    assert found["difference"] == pytest.approx(0.2)
    assert found["mcse"] == pytest.approx(np.sqrt(3.6) / 10)
    centre, half = 2 / 12, 1.959964 * np.sqrt((4 + 2) / 12 - (2 / 12) ** 2) / np.sqrt(12)
    assert [found["ci_low"], found["ci_high"]] == pytest.approx([centre - half, centre + half])
    assert not found["is_real"]


def test_independent_by_hand():
    """.6 of 10 and .25 of 20: each variance by itself."""
    a, b = rows_of([1] * 6 + [0] * 4), rows_of([1] * 5 + [0] * 15)
    found = of_pair(a, b, paired=False).iloc[0]
    assert found["difference"] == pytest.approx(0.35)
    assert found["mcse"] == pytest.approx(np.sqrt(0.24 / 10 + 0.1875 / 20))
    p, q = 7 / 12, 6 / 22
    half = 1.959964 * np.sqrt(p * (1 - p) / 12 + q * (1 - q) / 22)
    assert [found["ci_low"], found["ci_high"]] == pytest.approx([p - q - half, p - q + half])
    assert np.isnan([found["n_only_a"], found["n_only_b"]]).all()
    assert found["n_replicate"] == 10


def correlated(rng, n, p_a, p_b, both):
    """(n,) two Bernoulli variables: P(both), P(only a), P(only b), P(neither)."""
    kind = rng.choice(4, n, p=[both, p_a - both, p_b - both, 1 - p_a - p_b + both])
    return np.isin(kind, [0, 1]), np.isin(kind, [0, 2])


@pytest.mark.parametrize("p_a, p_b, both", [(0.8, 0.7, 0.68), (0.5, 0.5, 0.45), (0.9, 0.3, 0.28), (0.6, 0.5, 0.3)])
def test_mcse_of_correlated_pairs_against_theory(p_a, p_b, both):
    """Mean squared MCSE is the true variance, the spread of differences is that too, intervals cover."""
    rng, n, n_study = np.random.default_rng(5), 200, 400
    true, difference = p_a - p_b, []
    variance = (p_a + p_b - 2 * both - true**2) / n
    squared, covers = [], []
    for _ in range(n_study):
        found = of_pair(*(rows_of(x) for x in correlated(rng, n, p_a, p_b, both))).iloc[0]
        difference.append(found["difference"])
        squared.append(found["mcse"] ** 2)
        covers.append(found["ci_low"] <= true <= found["ci_high"])
    assert np.mean(squared) * n / (n - 1) == pytest.approx(variance, abs=4 * np.std(squared) / np.sqrt(n_study))
    assert np.var(difference) == pytest.approx(variance, rel=4 * np.sqrt(2 / n_study))
    assert np.mean(covers) == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / n_study))


def test_pairs_of_correlated_designs_are_quieter_than_independent_ones():
    a, b = (rows_of(x) for x in correlated(np.random.default_rng(6), 400, 0.8, 0.7, 0.68))
    assert of_pair(a, b).loc[0, "mcse"] < 0.6 * of_pair(a, b, paired=False).loc[0, "mcse"]


def test_identical_designs_differ_by_exactly_0():
    rng = np.random.default_rng(7)
    rows = rows_of(*(rng.random((3, 300)) < 0.7))
    found = of_pair(rows, rows, rule="holm", n_calendar=8)
    assert len(found) == 2 * 7
    for column in ("difference", "mcse", "n_only_a", "n_only_b"):
        assert (found[column].fillna(0) == 0).all()
    assert (found["p_value"] == 1).all() and not found["is_real"].any()


def test_shared_calendars_make_the_error_grow_against_slow_version():
    rng, n, k = np.random.default_rng(8), 640, 16
    calendar = np.arange(n) % k
    moved = rng.normal(0, 0.25, k)[calendar]
    a, b = rng.random(n) < 0.5 + moved, rng.random(n) < 0.5 - moved
    found = of_pair(rows_of(a), rows_of(b), n_calendar=k).iloc[0]
    d = a.astype(float) - b
    growth = slow_growth(d, calendar)
    assert growth > 1.5
    assert found["mcse"] == pytest.approx(np.sqrt(growth * d.var() / n))


def test_powers_are_those_of_the_summary():
    """Each outcome, adjusted or not, and the family; with demand inflation and failed fits."""
    rng, n = np.random.default_rng(9), 240
    parts = []
    for k in range(3):
        rows = make_rows(rng.normal(0.3 + 0.1 * k, 0.15, n), 0.12, df=20.0, outcome=f"y{k}")
        parts.append(fail(rows, rng.choice(n, 7, replace=False)))
    one = pd.concat(parts, ignore_index=True)
    true = {("rct", f"y{k}", "alternative"): (0.3, 0.1) for k in range(3)}
    alone = summarise([one], true, 0.05).query("measure == 'power_net_of_demand'").set_index("outcome")["estimate"]
    together = family([one], "holm", 0.05, true).query("measure == 'power_net_of_demand'")
    together = together.set_index(["outcome", "analysis"])["estimate"]
    found = of_pair(one, one, demand=0.1, rule="holm")
    assert (found["measure"] == "power_net_of_demand").all()
    for row in found.to_dict("records"):
        adjusted = row["analysis"] == "holm"
        key = (row["outcome"], "lmm+holm" if adjusted else "lmm")
        expected = together[key] if key in together.index else alone[row["outcome"]]
        assert row["power_a"] == pytest.approx(expected), key


def test_conditional_probabilities_take_the_place_of_counts():
    rng, n = np.random.default_rng(10), 100
    p = rng.random((2, n))
    one, other = (rows_of(x > 0.5).assign(reject_probability=x) for x in p)
    found = of_pair(one, other).iloc[0]
    assert found["power_a"] == pytest.approx(p[0].mean())
    assert found["mcse"] == pytest.approx((p[0] - p[1]).std() / np.sqrt(n))
    assert found["n_only_a"] == ((p[0] > 0.5) & (p[1] <= 0.5)).sum()
    mixed = of_pair(one, other.assign(reject_probability=np.where(np.arange(n) == 3, np.nan, p[1]))).iloc[0]
    assert mixed["power_a"] == pytest.approx((p[0] > 0.5).mean())


def test_cut_into_spans_changes_nothing_and_only_common_replicates_are_paired():
    rng = np.random.default_rng(11)
    a, b = (rows_of(*(rng.random((2, 90)) < 0.6)) for _ in range(2))
    cut = [[x[(x["replicate"] >= low) & (x["replicate"] < low + 30)] for low in (0, 30, 60)] for x in (a, b)]
    whole = of_pair(a, b, n_calendar=4)
    spans = compare([design("a", *cut[0], n_calendar=4), design("b", *cut[1], n_calendar=4)], [(0, 1)], paired=True)
    pd.testing.assert_frame_equal(whole, spans)
    short = of_pair(a, b[b["replicate"] < 50])
    pd.testing.assert_frame_equal(short, of_pair(a[a["replicate"] < 50], b[b["replicate"] < 50]))
    assert (short["n_replicate"] == 50).all()


@pytest.mark.parametrize(
    "designs, said",
    [
        (lambda a, b: [design("a", a, n_calendar=2), design("b", b, n_calendar=4)], "must share their calendars"),
        (lambda a, b: [design("a", a), design("b", b[b["outcome"] == "y0"])], "must have the same outcomes"),
        (lambda a, b: [design("a", a), design("b", b.assign(replicate=b["replicate"] + 99))], "different replicates"),
        (lambda a, b: [design("a", a[5:]), design("b", b)], "a: its outcomes have different numbers of replicates"),
    ],
)  # fmt: skip
def test_designs_that_do_not_go_together_message(designs, said):
    rows = rows_of(np.ones(20), np.zeros(20))
    with pytest.raises(ValueError, match=said):
        compare(designs(rows, rows), [(0, 1)], paired=True)


def test_holm_over_all_pairs_and_the_ranking():
    """One design far below two that are alike."""
    rng = np.random.default_rng(12)
    u = rng.random(2000)
    given = [design(name, rows_of(u < p)) for name, p in (("low", 0.5), ("high", 0.80), ("same", 0.799))]
    found = compare(given, all_pairs(3), paired=True)
    assert list(found.columns) == COLUMNS
    assert found["is_real"].tolist() == [True, True, False]
    order = np.sort(found["p_value"])
    assert sorted(found["p_holm"]) == pytest.approx(np.maximum.accumulate(np.minimum(order * [3, 2, 1], 1)))
    ranked = ranking(found)
    assert ranked["design"].tolist() == ["high", "same", "low"]
    assert ranked["letters"].tolist() == ["a", "a", "b"]


@given(st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.sampled_from(all_pairs(n) or [(0, 0)])))))
def test_letters_are_shared_by_exactly_those_that_are_not_apart(case):
    n, apart = case
    apart = {pair for pair in apart if pair[0] != pair[1]}
    names = [f"d{k}" for k in range(n)]
    found = letters({name: 1 / (1 + k) for k, name in enumerate(names)}, [(names[a], names[b]) for a, b in apart])
    assert found[names[0]].startswith("a")
    for a, b in all_pairs(n):
        assert bool(set(found[names[a]]) & set(found[names[b]])) == ((a, b) not in apart)
