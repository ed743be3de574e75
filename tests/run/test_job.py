"""Evidence for runs: same bytes for any number of workers, resume, refusal, and a result folder as promised."""

import hashlib
import json
import random

import numpy as np
import pandas as pd
import pytest
from rows import slow_growth
from run_support import small_scenario

from sim.run.job import PARTIAL, Stopped, run
from sim.run.local import Local
from sim.run.store import Store

QUIET = lambda done, total: None  # noqa: E731
TABLES = ("summary.csv", "designs.csv", "estimands.csv", "flow.csv")


def digest(folder):
    names = [*(folder / name for name in TABLES), *sorted(folder.rglob("*.parquet"))]
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    scenario = small_scenario(replicates=600)
    folder = tmp_path_factory.mktemp("run") / "one"
    result = run(scenario, Store(folder, scenario), Local(1), QUIET)
    return scenario, folder, result


def test_results_same_bytes_for_any_workers(finished, tmp_path):
    scenario, folder, _ = finished
    run(scenario, Store(tmp_path / "two", scenario), Local(2), QUIET)
    assert digest(tmp_path / "two") == digest(folder)


def test_run_goes_on_from_the_blocks_that_are_there(finished):
    scenario, folder, _ = finished
    before = digest(folder)
    lost = sorted((folder / "blocks").glob("vil_1*"))[0]
    lost.unlink()
    said = []
    result = run(scenario, Store(folder, scenario, said.append), Local(1), QUIET)
    assert result.n_computed == 1
    assert said == ["resumed: 7 of 8 blocks are there"]
    assert digest(folder) == before


def test_a_finished_run_answers_with_the_same_tables(finished):
    """To the last bit, and nothing is computed, written or summarised again."""
    scenario, folder, result = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    again = run(scenario, Store(folder, scenario), Local(1), QUIET)
    assert again.n_computed == 0
    for name in ("summary", "designs", "estimands", "flow"):
        written = getattr(result, name).fillna(np.nan).infer_objects()
        pd.testing.assert_frame_equal(getattr(again, name), written, check_exact=True, check_dtype=False)
    assert again.n_replicate == result.n_replicate
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"} == before


def test_a_table_that_was_edited_is_made_again(finished):
    scenario, folder, _ = finished
    before = digest(folder)
    (folder / "summary.csv").write_text("design,power\nind_1,1.0\n")
    run(scenario, Store(folder, scenario), Local(1), QUIET)
    assert digest(folder) == before


def test_blocks_twice_and_in_any_order_change_nothing(finished, tmp_path):
    """R04: a fifth of the blocks come twice, and all of them in a random order."""
    scenario, folder, _ = finished

    class Shuffled(Local):
        def blocks(self, scenario, blocks, journal):
            luck = random.Random(4)
            done = list(super().blocks(scenario, blocks, journal))
            done += luck.sample(done, max(1, len(done) // 5))
            luck.shuffle(done)
            yield from done

    run(scenario, Store(tmp_path, scenario), Shuffled(1), QUIET)
    assert digest(tmp_path) == digest(folder)


def test_errors_reach_the_target_however_many_replicates_it_takes(tmp_path):
    """--mcse: stages that add to each other; the tables are those of all of them."""
    scenario = small_scenario(replicates=64, designs=("ind_1",))
    store = Store(tmp_path, scenario)
    result = run(scenario, store, Local(1), QUIET, mcse=0.03)
    power = result.summary.query("measure in ('power', 'type_1_error', 'family_wise_error')")
    assert (power["mcse"] <= 0.03).all()
    assert result.n_replicate == {"ind_1": store.n_replicate}
    assert store.n_replicate > 64
    assert set(power["n_replicate"]) == {store.n_replicate}


def test_an_interrupted_run_has_a_partial_summary(finished, tmp_path):
    """R02: of the replicates that were finished, with their errors, under another name."""
    scenario, folder, _ = finished

    class Interrupted(Local):
        def blocks(self, scenario, blocks, journal):
            for number, packed in enumerate(super().blocks(scenario, blocks, journal)):
                if number == 3:
                    raise KeyboardInterrupt
                yield packed

    with pytest.raises(Stopped) as stopped:
        run(scenario, Store(tmp_path, scenario), Interrupted(1), QUIET)
    assert isinstance(stopped.value.cause, KeyboardInterrupt)
    partial = stopped.value.partial
    assert sum(partial.n_replicate.values()) == pd.read_csv(tmp_path / PARTIAL)["n_replicate"].max() == 450
    assert json.loads((tmp_path / "manifest.json").read_text())["state"] == "partial"
    run(scenario, Store(tmp_path, scenario), Local(1), QUIET)
    assert digest(tmp_path) == digest(folder)
    assert not (tmp_path / PARTIAL).exists()


def test_comments_and_replicates_do_not_change_the_identity():
    a, b = small_scenario(replicates=10), small_scenario(replicates=20)
    assert a.fingerprint == b.fingerprint
    assert a.fingerprint != small_scenario(designs=("ind_1",)).fingerprint


def test_summary_has_the_promised_columns_and_no_gaps(finished):
    scenario, folder, _ = finished
    summary = pd.read_csv(folder / "summary.csv", keep_default_na=False)  # "null" is a truth
    assert list(summary.columns) == [
        "design", "outcome", "analysis", "truth", "measure", "estimate", "mcse", "ci_low", "ci_high",
        "n_replicate", "n_ok", "n_singular", "n_failed",
    ]  # fmt: skip
    assert not (summary == "").any(axis=None)
    assert np.isfinite(summary.select_dtypes("number")).all(axis=None)
    assert set(summary["truth"]) == {"alternative", "null"}
    assert (summary["n_replicate"] == summary[["n_ok", "n_singular", "n_failed"]].sum(axis=1)).all()
    power = summary.query("measure == 'power' and truth == 'alternative'")
    for _outcome in (*scenario.names.outcome, "*any", "*all", "*at_least_2", "*mean"):
        for _analysis in ("mixed_ancova", "mixed_ancova+holm"):
            assert len(power.query("outcome == @_outcome and analysis == @_analysis")) == 2


def test_designs_table_has_the_promised_columns(finished):
    _, folder, _ = finished
    designs = pd.read_csv(folder / "designs.csv")
    promised = [
        "design", "n_participant", "n_cluster", "n_district", "n_visit_planned", "n_visit_observed",
        "share_observed_final", "share_final_in_window", "start_date", "last_visit_date", "duration_days", "cost",
        "currency",
    ]  # fmt: skip
    assert set(promised) <= set(designs.columns)
    assert (designs["share_observed_final"] < 1).all()


def test_summary_is_a_pure_function_of_the_stored_rows(finished):
    """Power recounted by hand from the Parquet rows."""
    scenario, folder, _ = finished
    rows = pd.concat([pd.read_parquet(path) for path in (folder / "blocks").glob("vil_1-*.parquet")])
    mine = rows.query("analysis == 'lmm' and truth == 'alternative' and outcome == 'cohesion'")
    assert len(mine) == 600
    summary = pd.read_csv(folder / "summary.csv", keep_default_na=False)
    summary = summary.set_index(["design", "outcome", "analysis", "truth", "measure"])
    power = (mine["p_value"] <= 0.05).mean()
    row = summary.loc[("vil_1", "cohesion", "lmm", "alternative", "power")]
    reject = np.zeros(600)
    reject[mine["replicate"]] = mine["p_value"] <= 0.05
    calendar = np.arange(600) % scenario.file.calendars
    mcse = np.sqrt(slow_growth(reject, calendar) * power * (1 - power) / 600)
    np.testing.assert_allclose([row["estimate"], row["mcse"]], [power, mcse], rtol=1e-12)


def test_manifest_says_what_was_run(finished):
    scenario, folder, _ = finished
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["state"] == "complete"
    assert manifest["identity"]["fingerprint"] == scenario.fingerprint
    assert manifest["scenario_text"] == scenario.text
