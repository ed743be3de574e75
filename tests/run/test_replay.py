"""Evidence that one replicate on its own is the one of the run: its rows bit for bit, its data set refitted."""

import io
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_support import ROOT, nested_trial, small_scenario
from typer.testing import CliRunner

from sim.cli import app
from sim.dataset.analyse import analyse_file
from sim.dataset.request import Request
from sim.errors import InvalidInput
from sim.report.replay import Replay, as_options, is_later, replay, write_replay
from sim.run.blocks import Block, realise, simulate_block
from sim.run.job import run
from sim.run.local import Local
from sim.run.replay import data_set, failures, fit_table, outcome_rows, refit, replay_command
from sim.run.store import Store
from sim.trial import TRUTHS

SCENARIO = ROOT / "scenarios" / "crm_rwanda.yaml"
REFERENCE = Path(__file__).parents[1] / "reference" / "r"
VILLAGES = {"kind": "village", "districts": 1, "villages_per_district": 8, "village_size": {"mean": 8, "cv": 0.3}}
GROUPS = {"kind": "individual", "districts": 2, "participants_per_district": 48, "training_group_size": 8}
SD = {"sd_village": 0.3, "sd_village_by_visit": 0.25, "sd_training_group": 0.3}
OF_VILLAGES = {
    "constrained": {"kind": "lmm", "baseline": "constrained", "df": "kenward-roger"},
    "free": {"kind": "lmm", "baseline": "free", "boundary": "keep"},
    "covariate": {"kind": "lmm", "baseline": "covariate", "method": "ml"},
    "between_within": {"kind": "lmm", "df": "between-within"},
    "mixed_ancova": {"kind": "mixed_ancova", "boundary": "negative"},
    "by_arm": {"kind": "mixed_ancova", "residual_by_arm": True},
}
OF_GROUPS = {
    "constrained": {"kind": "lmm", "baseline": "constrained", "district": "random"},
    "covariate": {"kind": "lmm", "baseline": "covariate", "df": "satterthwaite-expected"},
    "mixed_ancova": {"kind": "mixed_ancova", "df": "z"},
    "by_arm": {"kind": "mixed_ancova", "residual_by_arm": True},
    "ancova": {"kind": "ancova"},
    "cluster_summary": {"kind": "cluster_summary"},
    "rm_anova": {"kind": "rm_anova"},
}
RUNS = {
    "crm": lambda: small_scenario(replicates=60, designs=("ind_1", "vil_1", "ind_8_formats")),
    "villages": lambda: nested_trial(VILLAGES, analyses=OF_VILLAGES, sd=SD, replicates=60, calendars=3),
    "groups": lambda: nested_trial(GROUPS, analyses=OF_GROUPS, sd=SD, loss=(0.15,), replicates=60, calendars=3),
}


def few_people_and_teams():
    """ind_1 with 96 people in groups of 6, trained by several teams, so that a data set is small."""
    scenario = small_scenario(replicates=60, designs=("ind_1",))
    plan = scenario.design("ind_1").model_copy(update={"participants_per_district": 96, "training_group_size": 6})
    return replace(scenario, file=scenario.file.model_copy(update={"designs": {"plain": plan}}))


RANDOM = {"crm": 40, "villages": 30, "groups": 30}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Small stored runs: the scenario, and the rows of every design as read back."""
    found = {}
    for name, make in RUNS.items():
        scenario = make()
        store = Store(tmp_path_factory.mktemp(name), scenario)
        run(scenario, store, Local(1), lambda done, of: None)
        stored, file = store.stored(), scenario.file
        spans = [stored.rows(design, analysis) for design in file.designs for analysis in file.analyses]
        found[name] = scenario, pd.concat(chain.from_iterable(spans), ignore_index=True)
    return found


def some(name, scenario):
    """Random (design, replicate, truth) of a run."""
    rng = np.random.default_rng(7)
    designs = list(scenario.file.designs)
    for _ in range(RANDOM[name]):
        yield designs[rng.integers(len(designs))], int(rng.integers(60)), TRUTHS[rng.integers(2)]


def stored_rows(rows, design, replicate):
    return rows[(rows["design"] == design) & (rows["replicate"] == replicate)]


@pytest.mark.parametrize("name", RUNS)
def test_random_replicates_have_the_rows_of_the_run_same_bits(runs, name):
    scenario, rows = runs[name]
    key = ["outcome", "analysis", "truth"]
    for design, replicate, _ in some(name, scenario):
        a, b = (
            x.astype(dict.fromkeys(["design", *key, "status", "reason"], str)).set_index(key).sort_index()
            for x in (stored_rows(rows, design, replicate), refit(scenario, design, replicate))
        )
        pd.testing.assert_frame_equal(a, b[a.columns], check_exact=True)


def fitted_again(one, csv, name, outcome, folder):
    """Estimate, standard error and df from the CSV: by `analyse` if it can say it, else as the scenario does."""
    table = pd.read_csv(csv, dtype=str, keep_default_na=False)
    analysis = one.scenario.file.analyses[name]
    options = as_options(one, analysis)
    if options is None:
        return False, fit_table(table, outcome, analysis, one.arms, one.contrast)
    if "baseline" in options:
        options["baseline"] = f"{outcome}_baseline"
    file = folder / "rows.csv"
    outcome_rows(table, after_baseline=is_later(analysis)).to_csv(file, index=False)
    term = analyse_file(file, Request(outcome=outcome, **options)).terms[0]
    return True, (term.estimate, term.standard_error, term.df)


@pytest.mark.parametrize(
    "name, by_scenario",
    [("crm", {"mixed_ancova"}), ("villages", {"by_arm"}), ("groups", set())],
)
def test_data_sets_refitted_give_the_rows_of_the_run(runs, tmp_path, name, by_scenario):
    """To 1e-9: `analyse` orders people and columns in its own way, and lanes climb from a start of their own."""
    scenario, rows = runs[name]
    said = dict.fromkeys(scenario.file.analyses, True)
    csv = tmp_path / "data.csv"
    for number, (design, replicate, truth) in enumerate(some(name, scenario)):
        one = Replay(scenario, design, replicate, truth, data_set(scenario, design, replicate, truth), rows)
        one.table.to_csv(csv, index=False)
        outcome = scenario.names.outcome[number % len(scenario.names.outcome)]
        mine = stored_rows(rows, design, replicate).query("truth == @truth and outcome == @outcome")
        for row in mine.itertuples():
            is_said, (estimate, standard_error, df) = fitted_again(one, csv, row.analysis, outcome, tmp_path)
            said[row.analysis] &= is_said
            assert row.status != "failed"
            assert estimate == pytest.approx(row.estimate, abs=1e-9 * row.standard_error), row
            assert (standard_error, df) == pytest.approx((row.standard_error, row.df), rel=1e-9), row
    assert {analysis for analysis, is_said in said.items() if not is_said} == by_scenario


@pytest.mark.parametrize("name, design", [("crm", "vil_1"), ("crm", "ind_8_formats"), ("groups", "plain")])
def test_data_set_is_who_was_seen_in_the_run(runs, name, design):
    scenario, _ = runs[name]
    flow = simulate_block(scenario, Block(design, 23, 1))[1].iloc[0]
    table = data_set(scenario, design, 23)
    outcomes = list(scenario.names.outcome)
    assert table[outcomes[0]].notna().sum() == flow["n_visit_observed"]
    assert table["participant"].nunique() == flow["n_participant"]
    for outcome in outcomes:
        assert np.array_equal(table[outcome].isna(), table["unseen_because"] != "")
        at_baseline = table["visit_number"] == 0
        assert np.array_equal(table.loc[at_baseline, outcome], table.loc[at_baseline, f"{outcome}_baseline"])
    trained = realise(scenario, design, 23 % scenario.file.calendars).allocation.is_trained
    assert np.array_equal(table.drop_duplicates("participant")["training_group"] != "", trained)
    assert ("village" in table) == (design == "vil_1")
    assert table["date"].between("2027-01-01", "2029-12-31").all()


def test_truths_differ_in_the_trained_after_the_baseline(runs):
    scenario, _ = runs["groups"]
    a, b = (data_set(scenario, "plain", 4, truth) for truth in TRUTHS)
    moved = (a["arm"] == "treated") & (a["visit_number"] > 0) & a["score"].notna()
    assert np.array_equal(a["score"] != b["score"], moved | a["score"].isna())
    assert (a.loc[moved, "score"] - b.loc[moved, "score"]).to_numpy() == pytest.approx(0.35)


def test_a_replicate_past_the_last_of_the_run_is_one_of_a_longer_run(runs):
    scenario, _ = runs["villages"]
    whole = simulate_block(scenario, Block("plain", 5_000, 4))[0]
    mine = whole[whole["replicate"] == 5_002].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, refit(scenario, "plain", 5_002), check_exact=True)


@pytest.mark.parametrize("outcome", ["visit", "score_baseline"])
def test_outcome_called_like_a_column_message(runs, outcome):
    scenario, _ = runs["crm"]
    model = scenario.file.model
    outcomes = dict.fromkeys(("score", outcome), model.outcomes["cohesion"])
    file = scenario.file.model_copy(update={"model": model.model_copy(update={"outcomes": outcomes})})
    clash = replace(scenario, file=file)
    with pytest.raises(InvalidInput, match=f"outcomes.{outcome}: a data set has a column of this name"):
        data_set(clash, "ind_1", 0)


# ---- failed fits ---------------------------------------------------------------------------------------------------


def test_failed_fits_name_the_command_that_replays_them(runs, tmp_path, monkeypatch):
    scenario, rows = runs["crm"]
    assert failures(scenario, rows).empty
    forced = rows.copy()
    wrong = forced.index[[5, 700]]
    forced.loc[wrong, ["estimate", "standard_error", "df"]] = np.nan
    forced.loc[wrong, ["status", "reason"]] = ["failed", "not estimable or not converged"]
    found = failures(scenario, forced)
    assert list(found) == ["design", "replicate", "outcome", "analysis", "truth", "reason", "command"]
    assert found["replicate"].tolist() == rows.loc[wrong, "replicate"].tolist()
    assert (found["reason"] == "not estimable or not converged").all()
    monkeypatch.chdir(tmp_path)
    first = found.iloc[0]
    assert first["command"] == replay_command(
        SCENARIO, first["design"], first["replicate"], scenario.file.seed, first["truth"]
    )
    done = CliRunner().invoke(app, shlex.split(first["command"])[1:])
    assert done.exit_code == 0, done.stderr
    written = pd.read_csv(f"{first['design']}_{first['replicate']}_{first['truth']}.csv", keep_default_na=False)
    expected = data_set(scenario, first["design"], first["replicate"], first["truth"])
    assert np.array_equal(written["compassion"].replace("", np.nan).astype(float), expected["compassion"], True)


def test_command_quotes_a_path_with_spaces():
    assert replay_command(Path("my trials/a.yaml"), "vil_1", 3, 9) == (
        "nexttrial simulate 'my trials/a.yaml' --design vil_1 --replicate 3 --truth alternative --seed 9 "
        "--out vil_1_3_alternative.csv"
    )


# ---- the command and its scripts -----------------------------------------------------------------------------------


def simulate(*arguments):
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_command_prints_the_data_set():
    done = simulate(SCENARIO, "--design", "ind_1", "--replicate", "3", "--truth", "null", "--seed", "5")
    assert done.exit_code == 0, done.stderr
    expected = data_set(small_scenario(designs=("ind_1",), seed=5), "ind_1", 3, "null")
    assert done.stdout == expected.to_csv(index=False, lineterminator="\n")
    assert pd.read_csv(io.StringIO(done.stdout)).shape == expected.shape


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--design", "ind4", "--replicate", 1], "Did you mean 'ind_4'?"),
        (["--design", "ind_4", "--replicate", -1], "--replicate"),
        (["--design", "ind_4"], "--replicate"),
        (["--design", "ind_4", "--replicate", 1, "--truth", "nul"], "--truth"),
        (["--design", "ind_4", "--replicate", 1, "--out", "data.txt"], "known endings: .csv"),
        (["--design", "ind_4", "--replicate", 1, "--out", "sim.csv"], "would hide Python's module"),
    ],
    ids=lambda value: "",
)
def test_wrong_usage_is_2(arguments, said):
    done = simulate(SCENARIO, *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_foreign_script_is_not_overwritten(tmp_path):
    (tmp_path / "data.py").write_text("my = 'own'\n", encoding="utf-8")
    done = simulate(SCENARIO, "--design", "ind_1", "--replicate", 1, "--out", tmp_path / "data.csv")
    assert done.exit_code == 2
    assert (tmp_path / "data.py").read_text(encoding="utf-8") == "my = 'own'\n"
    assert not (tmp_path / "data.csv").exists()


def test_scenario_with_problems_is_3(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("name: bad\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "sim", "simulate", str(file), "--design", "a", "--replicate", "1"],
        capture_output=True, text=True, timeout=300, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_python_script_finds_the_rows_of_the_run(runs, tmp_path):
    scenario, rows = runs["crm"]
    csv, r, python = write_replay(replay(scenario, "ind_1", 31, "null"), tmp_path / "data.csv")
    done = subprocess.run(
        [sys.executable, str(python)], capture_output=True, text=True, timeout=300, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    *table, last = done.stdout.splitlines()
    printed = pd.read_csv(io.StringIO("\n".join(table)), sep=r"\s+").set_index(["outcome", "analysis"])
    mine = stored_rows(rows, "ind_1", 31).query("truth == 'null'").set_index(["outcome", "analysis"])
    assert len(printed) == len(mine) == 24
    for column, name in (("estimate", "estimate"), ("se", "standard_error"), ("df", "df")):
        assert printed[column].to_numpy() == pytest.approx(mine.loc[printed.index, name].to_numpy(), rel=1e-8)
    assert max(float(word) for word in last.split() if "e-" in word or "e+" in word) < 1e-9
    assert csv.read_text(encoding="utf-8") == data_set(scenario, "ind_1", 31, "null").to_csv(index=False)
    assert "facilitator_team) + (0 + trained | training_group)" in r.read_text(encoding="utf-8")


OF_R = {"villages": (RUNS["villages"], 8), "groups": (RUNS["groups"], 5), "teams": (few_people_and_teams, 6)}


@pytest.mark.parametrize("name", OF_R)
def test_refit_against_lme4(name):
    """The script of a replicate, run by R on the data set stored here; see tests/reference/r/replay_to_json.R."""
    make, _ = OF_R[name]
    reference = json.loads((REFERENCE / f"replay_{name}.json").read_text(encoding="utf-8"))
    table = pd.read_csv(REFERENCE / "data" / f"replay_{name}.csv", dtype=str, keep_default_na=False)
    scenario = make()
    plan, n_fit = scenario.design("plain"), len(scenario.names.outcome) * len(scenario.file.analyses)
    assert len(reference["fits"]) == n_fit
    for row in reference["fits"]:
        analysis = scenario.file.analyses[row["analysis"]]
        found = fit_table(table, row["outcome"], analysis, plan.arm_list, plan.contrast_arms)
        estimate, standard_error, df = found
        assert estimate == pytest.approx(row["estimate"], abs=1e-5 * standard_error), row
        assert standard_error == pytest.approx(row["se"], rel=1e-5), row
        if row["df"] is not None:
            assert df == pytest.approx(row["df"], rel=1e-4), row
