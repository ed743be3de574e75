"""Runs too large for memory: what is read span by span, what is kept of it, and what is refused."""

import gc
import weakref

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import array_bytes, fail, make_rows

from sim.evaluate.medians import Medians
from sim.evaluate.multiplicity import Families
from sim.evaluate.performance import Performance, summarise
from sim.evaluate.spans import read

EACH, K = 16, 5
KNOWN = {("rct", o, h): ((0.5, 0.2), (0.0, 0.0))[h == "null"] for o in "ab" for h in ("alternative", "null")}


def make_span(k, n=EACH):
    """Span k: `n` replicates of two outcomes and truths, with a further result, some failed; a function of k alone."""
    rng = np.random.default_rng(k)
    cell = [range(EACH * k, EACH * k + n), ["a", "b"], ["alternative", "null"]]
    key = pd.MultiIndex.from_product(cell, names=["replicate", "outcome", "truth"]).to_frame(index=False)
    estimate = rng.normal(0.5 * (key["truth"] == "alternative"), 0.3)
    rows = make_rows(estimate, rng.uniform(0.1, 0.3, len(key)), 12.0, **{name: key[name] for name in key})
    rows["f"] = rng.exponential(size=len(key))
    rows["reject_probability"] = rng.uniform(size=len(key))
    return fail(rows, rng.random(len(key)) < 0.1)


def all_summaries():
    return [Performance(KNOWN, 0.05, 2), Medians(), Families("holm", 0.05, KNOWN, 2)]


def tables_of(spans):
    found = all_summaries()
    read(spans, K, found)
    return pd.concat([one.table() for one in found], ignore_index=True)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_order_of_rows_within_a_span_changes_no_bit(seed):
    spans = [make_span(k) for k in range(4)]
    shuffled = [span.sample(frac=1, random_state=seed + k) for k, span in enumerate(spans)]
    pd.testing.assert_frame_equal(tables_of(spans), tables_of(shuffled), check_exact=True)


def test_spans_against_all_rows_at_once():
    """Counts and order statistics to the last bit, sums but for their last digits."""
    spans = [make_span(k) for k in range(40)]
    one, other = tables_of(spans), tables_of([pd.concat(spans, ignore_index=True)])
    counted = "median|rate|type_s|coverage|correct_sign|counted"
    exact = one["measure"].str.contains(counted) | one["outcome"].str.startswith("*")
    assert 30 < exact.sum() < len(one)
    pd.testing.assert_frame_equal(one[exact], other[exact], check_exact=True)
    pd.testing.assert_frame_equal(one, other, rtol=1e-11, atol=1e-13)


class Counted:
    """Spans made when they are asked for; knows how often, and the most that was in memory at any time."""

    def __init__(self, n_span, found=()):
        self.n_span, self.n_pass, self.most_alive, self.most_kept = n_span, 0, 0, 0
        self._found = found

    def __iter__(self):
        self.n_pass += 1
        made = []
        for k in range(self.n_span):
            if self._alive(made) > 1:
                gc.collect()  # slow, and seldom needed
            self.most_alive = max(self.most_alive, self._alive(made))
            self.most_kept = max(self.most_kept, array_bytes(self._found))
            span = make_span(k)
            made.append(weakref.ref(span))
            yield span

    @staticmethod
    def _alive(made):
        return sum(one() is not None for one in made)


def test_no_span_is_kept_beside_the_last(monkeypatch):
    monkeypatch.setattr("sim.evaluate.order_statistics.HELD", 2)
    spans = Counted(30)
    assert len(tables_of(spans)) > 100
    assert spans.most_alive == 1
    assert 2 < spans.n_pass <= 4


def test_what_is_kept_does_not_grow_with_the_spans():
    def most_kept(n_span):
        found = [Performance(KNOWN, 0.05, 2), Families("holm", 0.05, KNOWN, 2)]
        spans = Counted(n_span, found)
        read(spans, K, found)
        return spans.most_kept

    assert most_kept(40) == most_kept(10) > 1000


def test_a_single_span_is_read_once():
    spans = Counted(1)
    tables_of(spans)
    assert spans.n_pass == 1


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_span_that_comes_twice_message():
    with pytest.raises(ValueError, match=r"rows occur twice or out of order: replicate 0 .* ends with replicate 15"):
        tables_of([make_span(0), make_span(0)])


def test_spans_that_do_not_ascend_message():
    with pytest.raises(ValueError, match="replicate 0 begins a span after one that ends with replicate 31"):
        tables_of([make_span(1), make_span(0)])


def test_cell_that_some_spans_lack_message():
    lacking = make_span(1)
    lacking = lacking[(lacking["outcome"] != "b") | (lacking["truth"] != "null")]
    with pytest.raises(ValueError, match="rct, b, lmm, null: in some spans of replicates and not in others"):
        tables_of([make_span(0), lacking])


def test_spans_that_end_with_their_first_pass_message():
    with pytest.raises(ValueError, match="0 rows where the pass before found 128"):
        summarise((make_span(k) for k in range(2)), KNOWN, 0.05)


def test_gaps_between_spans_and_short_spans_are_taken_as_they_are():
    table = tables_of([make_span(2), make_span(7, 3), make_span(90)])
    assert (table["n_replicate"] == 2 * EACH + 3).all()
