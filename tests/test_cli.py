"""The command from outside: exit codes, messages on the error stream, never a traceback, and what it imports."""

import json
import subprocess
import sys

import pytest
from mistakes import SCENARIOS, changed, folder_with_evidence
from typer.testing import CliRunner

from sim.cli import app

SCENARIO = SCENARIOS / "crm_rwanda.yaml"
EVIDENCE = SCENARIOS / "evidence" / "habimana_2026.yaml"
HEAVY = {
    "numpy", "scipy", "pandas", "numba", "matplotlib", "simpy", "joblib", "pyarrow", "pydantic", "pydantic_core",
    "ruamel",
}  # fmt: skip


def nexttrial(*arguments, cwd=None, options=()):
    return subprocess.run(
        [sys.executable, *options, "-m", "sim", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, cwd=cwd or SCENARIOS.parent, check=False,
    )  # fmt: skip


def test_no_arguments_welcomes():
    done = nexttrial()
    assert (done.returncode, done.stderr) == (0, "")
    assert "Next steps:" in done.stdout
    assert done.stdout.count("\n  nexttrial ") == 5


def test_help_is_light():
    done = nexttrial("--help", options=("-X", "importtime"))
    assert done.returncode == 0
    assert "validate" in done.stdout
    modules = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "typer" in modules
    assert not modules & HEAVY


def test_version():
    done = nexttrial("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("nexttrial 0.")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["valdate"], "valdate"),
        (["validate"], "FILE"),
        (["run", SCENARIO, "--replicates", "0"], "--replicates"),
        (["run", SCENARIO, "--replicates", "many"], "--replicates"),
        (["run", SCENARIO, "--workers", "-2"], "a number of processes or 'auto' is needed"),
        (["run", SCENARIO, "--colour"], "--colour"),
        (["run", SCENARIO, "--format", "xml"], "--format"),
        (["run", SCENARIO, "--design", "vilage_1"], "known: ind_1,"),
        (["evidence", EVIDENCE, "--reading", "c"], "reading"),
        (["evidence", EVIDENCE, "--skip", "retentoin"], "retentoin"),
        (["calendar", SCENARIO, "--design", "ind4"], "found 'ind4'; known: ind_1, "),
    ],
    ids=lambda value: " ".join(map(str, value[:1] + value[2:])) if isinstance(value, list) else "",
)
def test_wrong_usage_is_2(arguments, said):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_unknown_design_names_the_nearest_message():
    done = nexttrial("calendar", SCENARIO, "--design", "ind4")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Did you mean 'ind_4'?" in " ".join(done.stderr.replace("│", " ").split())


def test_good_scenario_is_0():
    done = nexttrial("validate", *sorted(SCENARIOS.glob("*.yaml")))
    assert (done.returncode, done.stderr) == (0, "")
    assert "crm_rwanda.yaml: ok, 10 designs x 4 outcomes" in done.stdout


def test_bad_scenarios_are_3_with_every_message(tmp_path):
    folder_with_evidence(tmp_path)
    first = changed(("seed: 2026", "sede: 2026"), ("alpha: 0.05", "alpha: 1"), ("habimana_2026.yaml", "other.yaml"))
    (tmp_path / "first.yaml").write_text(first, encoding="utf-8")
    (tmp_path / "second.yaml").write_text("- a\n", encoding="utf-8")
    done = nexttrial("validate", "first.yaml", "second.yaml", SCENARIO, "missing.yaml", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == f"{SCENARIO}: ok, 10 designs x 4 outcomes\n"
    lines = done.stderr.splitlines()
    alpha = 1 + first.splitlines().index("  alpha: 1")
    assert [line.split()[0] for line in lines] == [
        "first.yaml:10:1", "first.yaml:15:9", f"first.yaml:{alpha}:10", "missing.yaml", "second.yaml:1:1", "5",
    ]  # fmt: skip
    assert lines[-1] == "5 errors"


@pytest.mark.parametrize("command", [["run"], ["evidence"]])
def test_missing_file_is_3(command, tmp_path):
    done = nexttrial(command[0], tmp_path / "nothing.yaml", *command[1:])
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"{tmp_path / 'nothing.yaml'} does not exist\n"


def test_names_that_are_paths_write_nothing(tmp_path):
    folder_with_evidence(tmp_path)
    (tmp_path / "s.yaml").write_text(changed(("name: crm_rwanda", "name: ../../up")), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    assert nexttrial("run", "s.yaml", "--replicates", "8", cwd=tmp_path).returncode == 3
    assert sorted(tmp_path.rglob("*")) == before


def test_evidence_as_json():
    done = nexttrial("evidence", EVIDENCE, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)


def test_run_writes_its_results(tmp_path):
    out = tmp_path / "results"
    done = nexttrial(
        "run", SCENARIO, "--replicates", "8", "--design", "vil_1", "--workers", "1", "--out", out, "--format", "json",
        "--quiet", "--allow-failures",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    json.loads(done.stdout)
    assert {"manifest.json", "summary.csv", "designs.csv"} <= {path.name for path in out.iterdir()}


def test_folder_that_is_a_file_is_4_without_traceback(tmp_path):
    (tmp_path / "taken").write_text("", encoding="utf-8")
    done = nexttrial("run", SCENARIO, "--replicates", "4", "--design", "ind_1", "--out", str(tmp_path / "taken"))
    assert done.returncode == 4
    assert "taken" in done.stderr and "Traceback" not in done.stderr
