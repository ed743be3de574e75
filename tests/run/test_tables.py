"""The tables of a run: the same however its rows are stored, and of a part of them if more is not there."""

import pandas as pd
import pytest
from run_support import small_scenario

from sim.run import blocks as run_blocks
from sim.run.blocks import blocks_of, in_spans, simulate_block
from sim.run.packed import pack
from sim.run.scan import InMemory
from sim.run.store import Store
from sim.run.tables import evaluate

TABLES = ("summary", "designs", "estimands", "flow")
DESIGN, N = "ind_1", 150


@pytest.fixture(scope="module")
def simulated():
    """A run of three spans, and its blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_blocks, "SPAN", 64)
        scenario = small_scenario(replicates=N, designs=(DESIGN, "vil_1"))
        blocks = blocks_of(DESIGN, N, scenario.file.calendars)
        yield scenario, [(block, *simulate_block(scenario, block)) for block in blocks]


class Fixed:
    """Rows in memory, of some designs, with the spans they are asked for."""

    def __init__(self, rows, flow):
        self._rows, self._flow = rows, flow

    def rows(self, design, analysis):
        mine = self._rows[(self._rows["design"] == design) & (self._rows["analysis"] == analysis)]
        return in_spans(mine) if len(mine) else iter(())

    def flow(self, design):
        mine = self._flow[self._flow["design"] == design]
        return in_spans(mine) if len(mine) else iter(())


def whole(simulated):
    scenario, blocks = simulated
    _, rows, flow = zip(*blocks, strict=True)
    return scenario, pd.concat(rows, ignore_index=True), pd.concat(flow, ignore_index=True)


def assert_same(one, other, **how):
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), obj=name, **how)


def test_cut_of_storage_changes_no_bit(simulated, tmp_path, monkeypatch):
    """Stored as it was computed, in other blocks, in one table: the same spans, hence the same sums."""
    _, blocks = simulated
    alone = small_scenario(replicates=N, designs=(DESIGN,))
    four = Store(tmp_path / "four", alone)
    four.open()
    for one in reversed(blocks):
        four.put(pack(*one))
    _, rows, flow = whole(simulated)
    first = evaluate(alone, four.stored())
    assert first.summary["n_replicate"].eq(N).all()

    monkeypatch.setattr(run_blocks, "N_PART", (3,))
    three = Store(tmp_path / "three", alone)
    three.open()
    for block in three.blocks(DESIGN):
        three.put(pack(block, *(x[x["replicate"].isin(block.replicate)] for x in (rows, flow))))
    assert_same(first, evaluate(alone, three.stored()), check_exact=True)
    extended = Store(tmp_path / "extended", alone)
    extended.open()
    extended.extents = [50, 70, N]
    for block in extended.blocks(DESIGN):
        extended.put(pack(block, *(x[x["replicate"].isin(block.replicate)] for x in (rows, flow))))
    assert_same(first, evaluate(alone, extended.stored()), check_exact=True)
    turned = Fixed(rows.iloc[::-1], flow.sample(frac=1, random_state=1))
    assert_same(first, evaluate(alone, turned), check_exact=True)
    in_memory = InMemory(tuple((rows, flow) for _, rows, flow in blocks))
    assert_same(first, evaluate(alone, in_memory), check_exact=True)


def test_spans_against_one_table_of_all_replicates(simulated, monkeypatch):
    scenario, rows, flow = whole(simulated)
    in_three = evaluate(scenario, Fixed(rows, flow))
    monkeypatch.setattr(run_blocks, "SPAN", 2048)
    assert_same(in_three, evaluate(scenario, Fixed(rows, flow)), rtol=1e-10, atol=1e-13)


def test_part_of_a_run_says_what_is_there(simulated):
    """A design without replicates is left out; of the other the tables are those of a run of the replicates there."""
    scenario, rows, flow = whole(simulated)
    part = evaluate(scenario, Fixed(*(x[(x["replicate"] < 40) | (x["replicate"] >= 128)] for x in (rows, flow))))
    assert part.n_replicate == {DESIGN: 62, "vil_1": 0} and not part.is_complete
    assert part.summary["n_replicate"].eq(62).all()
    for name in TABLES:
        assert set(getattr(part, name)["design"]) == {DESIGN}
    mine = rows[(rows["replicate"] < 40) | (rows["replicate"] >= 128)]
    mine = mine.query("analysis == 'lmm' and truth == 'alternative' and outcome == 'cohesion'")
    found = part.summary.query("analysis == 'lmm' and truth == 'alternative' and outcome == 'cohesion'")
    power = found.set_index("measure").loc["power", "estimate"]
    assert power == pytest.approx((mine["p_value"] <= 0.05).mean())
    people = flow[(flow["replicate"] < 40) | (flow["replicate"] >= 128)]["n_participant"]
    assert part.designs["n_participant"].item() == pytest.approx(people.mean())


def test_run_of_which_nothing_is_there_has_empty_tables(simulated):
    scenario, rows, flow = whole(simulated)
    result = evaluate(scenario, Fixed(rows[:0], flow[:0]))
    assert result.n_replicate == {DESIGN: 0, "vil_1": 0}
    assert all(getattr(result, name).empty and "design" in getattr(result, name) for name in TABLES)


def test_block_stored_twice_message(simulated):
    scenario, blocks = simulated
    twice = [*blocks, blocks[0]]
    flow = pd.concat([flow for _, _, flow in blocks])
    rows = pd.concat([rows for _, rows, _ in twice])
    with pytest.raises(ValueError, match=r"rows occur twice, the first is replicate 0 of ind_1, .*read more than once"):
        evaluate(scenario, Fixed(rows, flow))


def test_rows_that_do_not_go_with_the_flow_message(simulated):
    scenario, rows, flow = whole(simulated)
    message = rf"{DESIGN}, mixed_ancova: \d+ rows where {N - 1} replicates have \d+"
    with pytest.raises(ValueError, match=message):
        evaluate(scenario, Fixed(rows, flow[flow["replicate"] != 70]))


def test_spans_are_cut_at_fixed_replicates(monkeypatch):
    monkeypatch.setattr(run_blocks, "SPAN", 2048)
    table = pd.DataFrame({"replicate": [5000, 2047, 2048, 0, 4095]})
    assert [span["replicate"].tolist() for span in in_spans(table)] == [[0, 2047], [2048, 4095], [5000]]
