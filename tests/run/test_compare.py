"""Which replicates of finished runs are pairs, what cannot be compared, and the exit codes of the command."""

import json

import numpy as np
import pandas as pd
import pytest
from run_support import ROOT, plain_trial
from typer.testing import CliRunner

from sim.cli import app
from sim.errors import NotResumable
from sim.run.compare import Finished, NotComparable, between, matching, on_common_numbers, within
from sim.run.job import run
from sim.run.local import Local
from sim.run.store import Store
from sim.scenario.load import read_scenario

FILE = ROOT / "scenarios" / "parallel_cluster.yaml"
N = 96


def finished(folder, scenario):
    run(scenario, Store(folder, scenario), Local(1), lambda done, of: None)
    return Finished.read(folder)


def two_sizes(common=True, **changes):
    """Two designs of parallel_cluster.yaml that differ in their villages alone, and its primary analysis."""
    scenario = read_scenario(FILE).with_changes(replicates=N)
    plan = scenario.design("villages_24")
    designs = {f"villages_{n}": plan.model_copy(update={"villages_per_district": n}) for n in (16, 24)}
    file = scenario.file.model_copy(update={"designs": designs, **changes})
    scenario = on_common_numbers(type(scenario)(file, scenario.text, scenario.path, None, scenario.effect), [*designs])
    file = scenario.file.model_copy(update={"common_random_numbers": common})
    return type(scenario)(file, scenario.text, scenario.path, None, scenario.effect)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One on common random numbers, one not, and one of another seed."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "common": finished(folder / "common", two_sizes()),
        "apart": finished(folder / "apart", two_sizes(common=False)),
        "seed": finished(folder / "seed", two_sizes(seed=4)),
    }


def rejections(run, design):
    primary = run.hypotheses.primary_analysis
    rows = pd.concat([pd.read_parquet(path) for path in (run.folder / "blocks").glob(f"{design}-*.parquet")])
    rows = rows[(rows["truth"] == "alternative") & (rows["analysis"] == primary)].sort_values("replicate")
    return (rows["p_value"] <= run.hypotheses.alpha).to_numpy()


def test_pairs_against_a_count_of_the_stored_rows(runs):
    small, large = (rejections(runs["common"], f"villages_{n}") for n in (16, 24))
    found = within(runs["common"], ["villages_16", "villages_24"])
    row = found.table.iloc[0]
    assert found.is_paired and found.among_all and len(found.table) == 1
    assert (row["n_only_a"], row["n_only_b"]) == ((small & ~large).sum(), (large & ~small).sum())
    assert row["difference"] == pytest.approx(small.mean() - large.mean())
    assert row["n_replicate"] == N


def test_designs_of_their_own_streams_are_no_pairs(runs):
    found = within(runs["apart"], ["villages_16", "villages_24"])
    small, large = (rejections(runs["apart"], f"villages_{n}") for n in (16, 24))
    assert not found.is_paired and "own" in found.why
    least = np.sqrt(small.var() / N + large.var() / N)
    assert found.table.loc[0, "mcse"] >= least * (1 - 1e-12)


def test_a_run_against_itself_differs_by_exactly_0(runs):
    pairs = matching(runs["common"], runs["common"], [])
    assert pairs == [("villages_16", "villages_16"), ("villages_24", "villages_24")]
    found = between(runs["common"], runs["common"], pairs)
    assert found.is_paired and not found.among_all
    assert (found.table[["difference", "mcse", "n_only_a", "n_only_b"]] == 0).all(axis=None)
    assert not found.table["is_real"].any()


@pytest.mark.parametrize("other, why", [("seed", "different seeds"), ("apart", "different random streams")])
def test_runs_that_share_no_numbers_are_independent(runs, other, why):
    found = between(runs["common"], runs[other], [("villages_24", "villages_24")])
    assert not found.is_paired and why in found.why
    assert np.isnan(found.table["n_only_a"]).all()


def test_which_designs_match(runs):
    one = runs["common"]
    assert matching(one, one, ["villages_16", "villages_24"]) == [(n, n) for n in ("villages_16", "villages_24")]
    with pytest.raises(NotComparable, match="no design 'nothing'; known: villages_16"):
        matching(one, one, ["nothing"])


def test_designs_of_different_names(runs, tmp_path):
    design = {"kind": "village", "districts": 1, "villages_per_district": 8, "village_size": {"mean": 10, "cv": 0.0}}
    plain = finished(tmp_path / "plain", on_common_numbers(plain_trial(design), ["plain"]))
    with pytest.raises(NotComparable, match="no design of the same name"):
        matching(runs["common"], plain, [])
    assert matching(runs["common"], plain, ["villages_16", "plain"]) == [("villages_16", "plain")]
    assert matching(plain, plain, []) == [("plain", "plain")]


def test_folders_that_hold_no_finished_run_message(runs, tmp_path):
    with pytest.raises(NotComparable, match="no result folder"):
        Finished.read(tmp_path)
    scenario = two_sizes()
    mine = finished(tmp_path / "mine", scenario)
    block = next((mine.folder / "blocks").glob("villages_24-*.parquet"))
    block.write_bytes(block.read_bytes()[:-1])
    with pytest.raises(NotResumable, match="gone or damaged"):
        within(mine, ["villages_16", "villages_24"])
    mine.manifest["state"] = "partial"
    (mine.folder / "manifest.json").write_text(json.dumps(mine.manifest), encoding="utf-8")
    with pytest.raises(NotResumable, match="is not complete"):
        Finished.read(mine.folder)


def command(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def test_command_runs_a_scenario_and_goes_on_from_it(tmp_path):
    designs = ["villages_24", "villages_32"]
    words = [FILE, *(w for d in designs for w in ("--design", d)), "--replicates", "32", "--workers", "1", "--quiet"]
    first = command(*words, "--out", tmp_path / "out", "--format", "json")
    assert first.exit_code == 0, first.output
    record = json.loads(first.stdout)
    assert record["paired"] and {row["design_a"] for row in record["differences"]} == {designs[0]}
    assert command(*words, "--out", tmp_path / "out", "--format", "json").stdout == first.stdout
    assert command(tmp_path / "out", "--format", "json").stdout == first.stdout


def test_text_says_what_is_paired(runs):
    done = command(runs["common"].folder)
    assert done.exit_code == 0 and "compared as pairs" in done.stdout and "Ranking" in done.stdout
    done = command(runs["common"].folder, runs["seed"].folder)
    assert done.exit_code == 0 and "not pairs (the runs have different seeds)" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "words", [[FILE, FILE], ["{common}", FILE], ["{common}", "--design", "villages_16"], ["{common}", "--design", "x"],
              ["{empty}"], ["{common}", "{common}", "{common}"], [FILE, "--design", "villages_24"]],
)  # fmt: skip
def test_wrong_usage_is_2(runs, words, tmp_path):
    place = {"{common}": runs["common"].folder, "{empty}": tmp_path}
    assert command(*(place.get(str(word), word) for word in words)).exit_code == 2
