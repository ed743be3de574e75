"""The flow of people against counts by hand: nobody is lost twice, nobody appears from nowhere."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import NAMES, allocate
from run_support import all_blocks, plain_trial, small_scenario

from sim.run.blocks import simulate_block
from sim.run.flow import ALL, WINDOW_CLOSED, flow_of_counts, flow_of_people, flow_table, people_columns, sum_flow

REASONS = ("illness", "moved")


def fates(seed):
    """An allocation of three arms, the fate of everyone in 3 replicates, and visits of which some are not held."""
    rng = np.random.default_rng(seed)
    arms = {"control": {"format": "none"}, "mixed": {"format": "mixed"}, "separate": {"format": "separate"}}
    a = allocate("individual", arms=arms, participants_per_district=30)
    cause = rng.choice(3, (3, a.n_participant, 3), p=(0.7, 0.2, 0.1)).astype(np.int8)
    held = rng.random((a.n_participant, 3)) > 0.2
    cause[:, :, 0], held[:, 0] = 0, True
    return a, cause, held


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_everyone_is_seen_or_lost_for_one_reason_against_counting(seed):
    a, cause, held = fates(seed)
    flow = flow_of_people(NAMES, a, cause, held, REASONS)
    assert flow.reasons == (*REASONS, WINDOW_CLOSED)
    assert flow.allocated.sum() == a.n_participant
    for c, (arm, stratum) in enumerate(flow.cell):
        mine = np.array([a.arms[x].name == arm for x in a.arm]) & (a.stratum == NAMES.stratum.index(stratum))
        assert flow.allocated[c] == mine.sum()
        assert flow.is_trained[c] == (arm != "control")
        for r, t in np.ndindex(3, 3):
            of_mine = cause[r, mine, t]
            seen = (of_mine == 0) & held[mine, t]
            assert flow.seen[r, c, t] == seen.sum()
            by_reason = [(of_mine == 1).sum(), (of_mine == 2).sum(), ((of_mine == 0) & ~held[mine, t]).sum()]
            assert flow.lost[r, c, t].tolist() == by_reason


def test_counts_alone_tell_trained_from_untreated():
    a, cause, held = fates(1)
    seen = np.stack([((cause == 0) & held)[:, a.is_trained == kind].sum(axis=1) for kind in (False, True)], axis=1)
    flow = flow_of_counts(NAMES, a, seen, "dropout")
    assert flow.cell == (("control", ALL), ("mixed or separate", ALL))
    np.testing.assert_array_equal(flow.seen, seen)
    people = flow_of_people(NAMES, a, cause, held, REASONS)
    for kind, total in zip((False, True), flow.seen.transpose(1, 0, 2), strict=True):
        np.testing.assert_array_equal(people.seen[:, people.is_trained == kind].sum(axis=1), total)


def test_single_arm_has_one_cell():
    a = allocate("single_arm")
    flow = flow_of_counts(NAMES, a, np.array([[[0, 0, 0], [30, 29, 28]]]), "dropout")
    assert flow.cell == (("mixed", ALL),) and flow.lost.tolist() == [[[[0, 0], [1, 0], [2, 0]]]]


def test_table_has_means_and_the_middle_of_the_replicates():
    a, cause, held = fates(2)
    rows = pd.DataFrame(
        {"replicate": [0, 1, 2], **people_columns(NAMES, flow_of_people(NAMES, a, cause, held, REASONS))}
    )
    table = flow_table("d", sum_flow([rows], 64))
    one = table.query("stage == 'seen' and arm == 'mixed' and stratum == 'survivors' and visit == 'six_months'").iloc[0]
    values = rows["seen|mixed|survivors|six_months"]
    assert one["people"] == pytest.approx(values.mean())
    assert one["mcse"] == pytest.approx(values.std() / np.sqrt(3))
    assert (one["low"], one["high"]) == pytest.approx((values.quantile(0.1), values.quantile(0.9)), rel=1e-14)
    is_total = (table[["arm", "stratum"]] == ALL).any(axis=1) | ((table["stage"] == "lost") & (table["reason"] == ALL))
    by_stage = table[~is_total].groupby("stage")["people"].sum()
    assert 3 * by_stage["allocated"] == pytest.approx(by_stage["seen"] + by_stage["lost"])


def row_of(table, *words):
    found = table[(table[["stage", "arm", "stratum", "visit", "reason"]] == list(words)).all(axis=1)]
    (row,) = found.to_dict("records")
    return row


def test_totals_have_the_quantiles_of_the_sums_and_not_the_sums_of_the_quantiles():
    one, other = np.arange(10.0), np.arange(10.0)[::-1]
    apart = {f"lost|a|{stratum}|final|left": value for stratum, value in (("s", one), ("t", other))}
    table = flow_table("d", sum_flow([pd.DataFrame({"replicate": np.arange(10), **apart})], 10))
    total = row_of(table, "lost", "a", ALL, "final", "left")
    assert (total["people"], total["mcse"], total["low"], total["high"]) == (9, 0, 9, 9)
    assert table["low"].iloc[:2].sum() == pytest.approx(1.8) and table["high"].iloc[:2].sum() == pytest.approx(16.2)
    assert len(table) == 3


def test_totals_over_strata_arms_and_reasons_against_adding_by_hand():
    a, cause, held = fates(3)
    flow = flow_of_people(NAMES, a, cause, held, REASONS)
    screened = {f"screened|{ALL}|{NAMES.stratum[0]}": [20, 21, 24], f"screened|{ALL}|{NAMES.stratum[1]}": [30, 31, 34]}
    rows = pd.DataFrame({"replicate": [0, 1, 2], **screened, **people_columns(NAMES, flow)})
    table = flow_table("d", sum_flow([rows], 64))
    mixed = [arm == "mixed" for arm, _ in flow.cell]
    final = NAMES.visit[-1]
    expected = {
        ("screened", ALL, ALL, ALL, ALL): np.array([50, 52, 58]),
        ("allocated", "mixed", ALL, ALL, ALL): flow.allocated[mixed].sum() * np.ones(3),
        ("allocated", ALL, ALL, ALL, ALL): flow.allocated.sum() * np.ones(3),
        ("seen", "mixed", ALL, final, ALL): flow.seen[:, mixed, -1].sum(axis=1),
        ("lost", "mixed", ALL, final, "moved"): flow.lost[:, mixed, -1, 1].sum(axis=1),
        ("lost", "mixed", ALL, final, ALL): flow.lost[:, mixed, -1].sum(axis=(1, 2)),
        ("lost", ALL, NAMES.stratum[1], final, ALL): flow.lost[:, 1::2, -1].sum(axis=(1, 2)),
        ("lost", ALL, ALL, final, ALL): flow.lost[:, :, -1].sum(axis=(1, 2)),
    }
    for words, value in expected.items():
        row = row_of(table, *words)
        assert row["people"] == pytest.approx(value.mean())
        assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(value, (0.1, 0.9))))
    assert not table.duplicated(["stage", "arm", "stratum", "visit", "reason"]).any()


def test_one_arm_and_stratum_has_no_totals():
    rows = pd.DataFrame({"replicate": [0, 1], "allocated|a|s": [4, 4], "seen|a|s|final": [3, 4]})
    assert len(flow_table("d", sum_flow([rows], 2))) == 2


@pytest.mark.parametrize("scenario", [small_scenario(), plain_trial({
    "kind": "village", "districts": 1, "villages_per_district": 8, "village_size": {"mean": 6}
})], ids=["stored", "lanes"])  # fmt: skip
def test_flow_of_a_run_is_conserved(scenario):
    for block in all_blocks(scenario)[:2]:
        _, flow = simulate_block(scenario, block)
        words = {name: name.split("|") for name in flow if "|" in name}
        allocated = sum(flow[name] for name, word in words.items() if word[0] == "allocated")
        np.testing.assert_array_equal(allocated, flow["n_participant"])
        for visit in scenario.names.visit[1:]:
            at = [flow[n] for n, word in words.items() if word[0] in ("seen", "lost") and word[3] == visit]
            np.testing.assert_array_equal(sum(at), flow["n_participant"])
        enrolled = sum(flow[name] for name, word in words.items() if word[0] == "enrolled")
        turned_away = sum(flow[name] for name, word in words.items() if word[0] == "turned_away")
        np.testing.assert_array_equal(enrolled - turned_away, flow["n_participant"])


def test_sums_of_spans_whose_rows_have_other_names_against_those_of_one_table():
    """However a span's rows are indexed: from 0, going on from the span before, or several alike."""
    a, cause, held = fates(4)
    rows = pd.DataFrame({"replicate": [0, 1, 2], "start_day": [5, 7, 7], "last_visit_day": [9, 9, 8]})
    rows = rows.assign(**people_columns(NAMES, flow_of_people(NAMES, a, cause, held, REASONS)))
    one = sum_flow([rows], 2)
    assert (one.mean("duration_days"), one.lower_median("start_day")) == (7 / 3, 7)
    for spans in ([rows[:1], rows[1:]], [rows.set_axis([0, 0, 1])], [rows[:2], rows[2:].reset_index(drop=True)]):
        other = sum_flow(spans, 2)
        assert other.n_replicate == 3
        pd.testing.assert_frame_equal(flow_table("d", other), flow_table("d", one), check_exact=True)
