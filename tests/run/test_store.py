"""Evidence for the result folder: nothing damaged is used, nothing of another run, nothing half written."""

import hashlib
import json
import multiprocessing
import resource
import signal
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from run_support import small_scenario

from sim.errors import DiskFull, InUse, NotResumable
from sim.run.blocks import SPAN, Block, blocks_of
from sim.run.packed import Packed, checksum
from sim.run.store import KINDS, Store, table_text


def table(block, seed=0):
    """Something like the rows of a block."""
    rng = np.random.default_rng(seed + block.first)
    return pd.DataFrame(
        {"replicate": block.replicate, "analysis": "lmm", "estimate": rng.normal(size=len(block.replicate))}
    )


def packed(block):
    rows = table(block)
    return Packed(block, rows.to_parquet(index=False), rows[["replicate"]].to_parquet(index=False), {}, "")


@pytest.fixture
def scenario():
    return small_scenario(replicates=3000, designs=("ind_1",))


@pytest.fixture
def store(tmp_path, scenario):
    store = Store(tmp_path / "run", scenario)
    store.open()
    store.write_manifest("partial")
    for block in store.blocks("ind_1"):
        store.put(packed(block))
    yield store
    store.close()


def again(store, scenario=None, say=lambda text: None, **how):
    """The folder as another process would find it."""
    store.close()
    found = Store(store.folder, scenario or store.scenario, say)
    found.open(**how)
    return found


def test_blocks_make_up_every_replicate_once_however_a_run_was_extended(scenario, tmp_path):
    end = 2 * SPAN + 5000
    for extents in ([end], [1, end], [2000, 2100, end], [SPAN, end], [64, 3000, SPAN + 7, end]):
        store = Store(tmp_path / str(extents), scenario)
        store.extents = extents
        blocks = list(store.blocks("ind_1"))
        number = np.sort(np.concatenate([block.replicate for block in blocks]))
        np.testing.assert_array_equal(number, np.arange(end))
        assert all(block.first // SPAN == (block.first + block.size - 1) // SPAN for block in blocks)
        assert len({block.name for block in blocks}) == len(blocks)


def test_rows_come_span_by_span_in_the_order_of_replicates(store):
    store = again(store, store.scenario.with_changes(replicates=SPAN + 100))
    for block in store.blocks("ind_1"):
        store.put(packed(block))
    spans = list(store.stored().rows("ind_1", "lmm"))
    assert [len(span) for span in spans] == [SPAN, 100]
    assert pd.concat(spans)["replicate"].tolist() == list(range(SPAN + 100))


def test_a_finished_block_is_there_in_another_process(store):
    found = again(store)
    assert all(found.has(block) for block in found.blocks("ind_1"))
    assert found.content() == store.content()


@pytest.mark.parametrize("kind", KINDS)
def test_hundred_random_damages_are_all_found_and_said(store, kind):
    """R14: truncated, a bit turned over, emptied, lengthened."""
    rng = np.random.default_rng(14)
    blocks = list(store.blocks("ind_1"))
    for number in range(50):
        block = blocks[rng.integers(len(blocks))]
        (path,) = (store.folder / kind).glob(f"{block.name}.*")
        content = bytearray(path.read_bytes())
        how = number % 4
        if how == 0:
            content = content[: rng.integers(1, len(content))]
        elif how == 1:
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        elif how == 2:
            content = bytearray()
        else:
            content += b"\0"
        path.write_bytes(content)
        said = []
        store = again(store, say=said.append)
        assert [one for one in blocks if not store.has(one)] == [block]
        assert len(said) == 1 and block.name in said[0] and str(path) in said[0]
        assert not path.exists()
        store.put(packed(block))


def test_a_block_without_its_flow_is_not_there(store):
    block = next(store.blocks("ind_1"))
    next((store.folder / "flow").glob(f"{block.name}.*")).unlink()
    assert not again(store).has(block)


def test_a_block_that_comes_twice_is_there_once(store):
    before = sorted(path.name for path in store.folder.rglob("*.parquet"))
    for block in store.blocks("ind_1"):
        store.put(packed(block))
    assert sorted(path.name for path in store.folder.rglob("*.parquet")) == before


def test_what_a_killed_run_had_half_written_goes(store):
    half = [store.folder / ".summary.csv.tmp", store.folder / "blocks" / ".x.parquet.tmp"]
    for path in half:
        path.write_bytes(b"half")
    again(store)
    assert not any(path.exists() for path in half)


def test_an_edited_scenario_is_refused_with_what_changed_message(store):
    other = small_scenario(replicates=3000, designs=("ind_1",), seed=5)
    with pytest.raises(NotResumable, match=r"What changed since:\n  seed: 20260407 -> 5\nGive --new-run") as error:
        again(store, other)
    assert error.value.exit_code == 4


def test_other_code_is_refused_message(store):
    """R07, R18: blocks of a changed simulator or library are not taken for those of this one."""
    manifest = json.loads(store.manifest_path.read_text(encoding="utf-8"))
    manifest["identity"] |= {"code": "0" * 64, "numpy": "1.0"}
    store.manifest_path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(
        NotResumable, match=r"other code or versions(.|\n)*code: 0000000000 -> [0-9a-f]{10}(.|\n)*numpy: 1.0 -> "
    ):
        again(store)
    again(store, new_run=True)
    assert not list(store.folder.rglob("*.parquet"))


def test_a_damaged_manifest_is_refused_message(store):
    store.manifest_path.write_text("{", encoding="utf-8")
    with pytest.raises(NotResumable, match=r"manifest\.json is damaged"):
        again(store)


def test_a_design_more_is_refused_and_with_extend_the_others_stay_message(store):
    two = small_scenario(replicates=3000, designs=("ind_1", "vil_1"))
    with pytest.raises(NotResumable, match=r"designs.vil_1: new\nGive --extend to keep"):
        again(store, two)
    found = again(store, two, extend=True)
    assert all(found.has(block) for block in found.blocks("ind_1"))
    assert not any(found.has(block) for block in found.blocks("vil_1"))


def test_extend_does_not_keep_a_design_that_changed(store):
    plan = store.scenario.design("ind_1").model_copy(update={"districts": 2})
    file = store.scenario.file.model_copy(update={"designs": {"ind_1": plan}})
    with pytest.raises(NotResumable, match=r"designs\.ind_1\.districts"):
        again(store, replace(store.scenario, file=file), extend=True)


def test_more_replicates_add_blocks_and_fewer_use_all_that_are_there(store):
    more = store.scenario.with_changes(replicates=5000)
    found = again(store, more)
    missing = [block for block in found.blocks("ind_1") if not found.has(block)]
    assert sorted(np.concatenate([block.replicate for block in missing])) == list(range(3000, 5000))
    said = []
    fewer = again(found, store.scenario.with_changes(replicates=10), said.append)
    assert fewer.n_replicate == 3000
    assert "holds 3,000 replicates" in said[0]


def test_a_folder_in_use_is_refused_with_who_uses_it_message(store):
    """R16, with the race itself in tests/reliability."""
    began = time.perf_counter()
    with pytest.raises(InUse, match=r"in use by process \d+ on ") as error:
        Store(store.folder, store.scenario).open()
    assert time.perf_counter() - began < 2
    assert error.value.exit_code == 4
    again(store)


def test_a_file_system_that_cannot_lock_is_refused_message(scenario, tmp_path, monkeypatch):
    """R33."""

    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(InUse, match="cannot lock files"):
        Store(tmp_path, scenario).open()


def _fill(folder, scenario, limit, found):
    """Stores blocks under a limit on the size of a file, in a process of its own."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = Store(folder, scenario)
    store.open()
    store.write_manifest("partial")
    blocks = list(store.blocks("ind_1"))
    store.put(packed(blocks[0]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        store.put(packed(blocks[1]))
    except DiskFull as error:
        found.put((str(error), error.exit_code))


def test_a_full_disk_leaves_what_was_stored_message(scenario, tmp_path):
    """R15, by a limit on the size of files."""
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    process = context.Process(target=_fill, args=(tmp_path, scenario, 2000, found))
    process.start()
    message, code = found.get(timeout=60)
    process.join()
    assert code == 4
    assert "disk full" in message and "bytes needed" in message
    assert not list(tmp_path.rglob("*.tmp"))
    store = Store(tmp_path, scenario)
    store.open()
    assert [store.has(block) for block in store.blocks("ind_1")][:2] == [True, False]


def test_no_text_of_a_table_is_a_formula():
    """R25: numbers stay numbers, negative ones too."""
    text = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\0x", "plain", "a=b"]
    out = table_text(pd.DataFrame({"text": text, "=number": np.linspace(-1.5, 2, len(text))}))
    lines = out.replace("\0", "?").splitlines()
    assert lines[0] == "text,'=number"
    cells = [line.rsplit(",", 1)[0].strip('"') for line in lines[1:]]
    assert cells == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'?x", "plain", "a=b"]
    assert lines[1].endswith(",-1.5")


def test_a_table_is_read_as_it_was_written(store):
    rng = np.random.default_rng(3)
    before = pd.DataFrame(
        {"truth": ["null", "NA"] * 50, "x": rng.normal(size=100) * 10.0 ** rng.integers(-300, 300, 100)}
    )
    before.loc[3, "x"] = np.nan
    store.write_table("t.csv", before)
    pd.testing.assert_frame_equal(store.read_table("t.csv"), before)


def test_the_name_of_a_file_is_the_sum_of_its_bytes(store):
    for path in store.folder.rglob("*.parquet"):
        content = path.read_bytes()
        assert path.name.split(".")[-2] == checksum(content) == hashlib.sha256(content).hexdigest()[:16]


def test_small_blocks_of_few_replicates():
    assert [block.size for block in blocks_of("d", 1, 64)] == [1]
    assert sum(len(block.replicate) for block in blocks_of("d", 5, 2, 3)) == 2
    assert Block("d", 0, 1).name
