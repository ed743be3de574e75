"""Evidence for runs: same bytes for any number of workers, resume, refusal, and a result folder as promised."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from rows import slow_growth
from run_support import small_scenario

from sim.errors import NotResumable
from sim.run.job import run
from sim.run.local import all_blocks
from sim.run.store import Store

QUIET = lambda done, total: None  # noqa: E731
TABLES = ("summary.csv", "designs.csv", "estimands.csv")


def digest(folder):
    names = [*TABLES, *sorted(f"blocks/{p.name}" for p in (folder / "blocks").iterdir())]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    scenario = small_scenario(replicates=600)
    folder = tmp_path_factory.mktemp("run") / "one"
    result = run(scenario, Store(folder, scenario), 1, QUIET, new_run=False)
    return scenario, folder, result


def test_results_same_bytes_for_any_workers(finished, tmp_path):
    scenario, folder, _ = finished
    run(scenario, Store(tmp_path / "two", scenario), 2, QUIET, new_run=False)
    assert digest(tmp_path / "two") == digest(folder)


def test_run_goes_on_from_the_blocks_that_are_there(finished):
    scenario, folder, _ = finished
    before = digest(folder)
    lost = sorted((folder / "blocks").glob("vil_1*rows*"))[0]
    lost.unlink()
    result = run(scenario, Store(folder, scenario), 1, QUIET, new_run=False)
    assert result.n_computed == 1
    assert digest(folder) == before


def test_folder_of_another_run_is_refused_message(finished):
    _, folder, _ = finished
    other = small_scenario(replicates=600, seed=5)
    with pytest.raises(NotResumable, match=r"seed: 20260407 -> 5.*--new-run"):
        Store(folder, other).open(new_run=False)


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
    blocks = [b.name for b in all_blocks(scenario) if b.design == "vil_1"]
    rows = pd.concat([pd.read_parquet(folder / "blocks" / f"{name}.rows.parquet") for name in blocks])
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
    store = Store(folder, scenario)
    store.write_manifest("complete", timing={"seconds": 1.0})
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["state"] == "complete"
    assert manifest["identity"]["fingerprint"] == scenario.fingerprint
    assert manifest["scenario_text"] == scenario.text


def test_blocks_of_other_code_are_refused_message(tmp_path):
    """Blocks computed by a changed simulator are not taken for those of this one."""
    scenario = small_scenario(replicates=2, designs=("ind_1",))
    store = Store(tmp_path, scenario)
    store.open(new_run=False)
    manifest = json.loads(store.manifest_path.read_text(encoding="utf-8"))
    manifest["identity"]["code"] = "another"
    store.manifest_path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(NotResumable, match="code: another"):
        store.open(new_run=False)
    store.open(new_run=True)
