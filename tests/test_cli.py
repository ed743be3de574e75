"""The command from outside: exit codes, messages on the error stream, never a traceback, and what it imports."""

import json
import subprocess
import sys

import pytest
from mistakes import SCENARIOS, changed, folder_with_evidence
from typer.testing import CliRunner

from sim.cli import _files, app

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
        (["calendar", SCENARIO, "--design", "ind_4", "--number", "64"], "the scenario has calendars 0 to 63"),
        (["calendar", SCENARIO, "--design", "ind_4", "--out", "x.gif"], "known endings: .svg, .png, .pdf, .csv"),
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


def test_calendar_is_printed_written_and_drawn(tmp_path):
    chart, table = tmp_path / "calendar.svg", tmp_path / "calendar.csv"
    drawn = nexttrial("calendar", SCENARIO, "--design", "ind_4", "--number", "3", "--format", "json", "--out", chart)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert len(json.loads(drawn.stdout)["training_groups"]) == 16
    assert chart.read_text(encoding="utf-8").startswith("<?xml")
    written = nexttrial("calendar", SCENARIO, "--design", "ind_4", "--number", "3", "--format", "csv", "--out", table)
    assert (written.returncode, written.stderr) == (0, "")
    assert written.stdout == table.read_text(encoding="utf-8")
    assert written.stdout.startswith("training_group,district,arm,team,trained,untreated_on_its_clock,first_recruit,")


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
        "first.yaml:8:1", "first.yaml:13:9", f"first.yaml:{alpha}:10", "missing.yaml", "second.yaml:1:1", "5",
    ]  # fmt: skip
    assert lines[-1] == "5 errors"


@pytest.mark.parametrize("command", [["run"], ["evidence"]])
def test_missing_file_is_3(command, tmp_path):
    done = nexttrial(command[0], tmp_path / "nothing.yaml", *command[1:])
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"{tmp_path / 'nothing.yaml'} does not exist\n"


def test_names_that_are_paths_write_nothing(tmp_path):
    folder_with_evidence(tmp_path)
    (tmp_path / "s.yaml").write_text(changed(("name: crm_simple", "name: ../../up")), encoding="utf-8")
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
    found = {"manifest.json", "summary.csv", "designs.csv", "flow.csv", "flow_vil_1.svg"}
    assert found <= {path.name for path in out.iterdir()}


def test_pictures_of_several_designs_are_named_together(tmp_path):
    for name in ("flow_a.svg", "flow_b.svg", "flow.csv", "power.svg"):
        (tmp_path / name).write_text("", encoding="utf-8")
    assert _files(tmp_path) == ["flow.csv", "flow_<design>.svg (2 designs)", "power.svg"]
    (tmp_path / "flow_b.svg").unlink()
    assert _files(tmp_path) == ["flow.csv", "flow_a.svg", "power.svg"]


def test_folder_that_is_a_file_is_4_without_traceback(tmp_path):
    (tmp_path / "taken").write_text("", encoding="utf-8")
    done = nexttrial("run", SCENARIO, "--replicates", "4", "--design", "ind_1", "--out", str(tmp_path / "taken"))
    assert done.returncode == 4
    assert "taken" in done.stderr and "Traceback" not in done.stderr


DATA = SCENARIOS.parent / "tests" / "reference" / "r" / "data"
ANCOVA = ["--method", "ancova", "--outcome", "y", "--arm", "arm", "--visit", "visit", "--participant", "id"]


@pytest.mark.parametrize("command", ["analyse", "analyze"])
def test_analyse_as_json(command):
    options = ["--cluster", "village", "--baseline", "baseline", "--covariates", "age,sex", "--all-terms"]
    done = nexttrial(command, DATA / "crt3.csv", *ANCOVA, *options, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert [term["term"] for term in record["terms"]] == ["(Intercept)", "arm[1]", "baseline", "age", "sex"]
    assert record["terms"][1]["estimate"] == pytest.approx(2.99330808790854, rel=1e-12)
    assert (record["method"], record["contrast"], record["status"], record["n_cluster"]) == (
        "ancova",
        "all-terms",
        "ok",
        8,
    )


def test_analyse_as_text():
    done = CliRunner().invoke(app, ["analyse", str(DATA / "crt3.csv"), *ANCOVA])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "Analysis of covariance by least squares, visit 3: y on arm[1];" in done.stdout
    assert "Status: ok." in done.stdout


def test_analyse_bad_data_is_3_with_every_message():
    done = nexttrial("analyse", DATA / "crt3.csv", *ANCOVA, "--covariates", "agee,sexx")
    assert (done.returncode, done.stdout) == (3, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and lines[-1] == "2 errors"
    assert "Did you mean 'age'?" in lines[0] and "Did you mean 'sex'?" in lines[1]


@pytest.mark.parametrize(
    "options, said",
    [
        (["--method", "ancov", "--outcome", "y"], "Did you mean 'ancova'?"),
        (["--method", "ancova"], "--outcome"),
        ([*ANCOVA, "--covariance", "us"], "has no effect with --method ancova"),
        ([*ANCOVA, "--permutations", "3"], "--permutations"),
        ([*ANCOVA, "--joint", "arm"], "known: (Intercept), arm[1]"),
    ],
)
def test_analyse_wrong_usage_is_2(options, said):
    done = CliRunner().invoke(app, ["analyse", str(DATA / "crt3.csv"), *options])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_analyse_that_fails_is_1_and_says_why(tmp_path):
    options = ["--method", "ancova", "--outcome", "y", "--arm", "arm", "--cluster", "c", "--format", "json"]
    (tmp_path / "data.csv").write_text("y,arm,c\n5,0,a\n5,0,b\n5,1,c\n5,1,d\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["analyse", str(tmp_path / "data.csv"), *options])
    assert done.exit_code == 1
    record = json.loads(done.stdout)
    assert record["status"] == "failed" and record["terms"][0]["estimate"] is None
    assert "without variation" in record["notes"][0]


def test_analyse_mixed_model_by_kenward_roger():
    """lmm3_reml.json through the public command."""
    options = ["--participant", "id", "--visit", "visit", "--cluster", "village", "--df", "kenward-roger"]
    data = ["analyse", DATA / "crt3.csv", "--method", "lmm", "--outcome", "y", "--arm", "arm", *options]
    done = CliRunner().invoke(app, [*map(str, data), "--all-terms", "--format", "json"])
    assert (done.exit_code, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    expected = json.loads((DATA.parent / "lmm3_reml.json").read_text(encoding="utf-8"))
    row = next(row for row in expected["fixed"] if row["term"] == "v3:arm")
    term = next(term for term in record["terms"] if term["term"] == "visit[3]:arm[1]")
    assert term["estimate"] == pytest.approx(row["estimate"], rel=1e-6)
    assert term["standard_error"] == pytest.approx(row["kenward_roger"]["se"], rel=1e-6)
    assert term["df"] == pytest.approx(row["kenward_roger"]["df"], rel=1e-4)
    assert term["p_value"] == pytest.approx(row["kenward_roger"]["p"], abs=1e-6)
    assert record["reml_criterion"] == pytest.approx(expected["criterion"]["value"], abs=1e-6)
    assert list(record["variance"]) == ["sd_cluster", "sd_participant", "sd_residual"]
    assert record["joint"]["ddf"] == pytest.approx(expected["joint"]["kenward_roger"]["ddf"], rel=1e-4)


# ---- how it is computed ---------------------------------------------------------------------------------------------

PLAIN = SCENARIOS / "parallel_cluster.yaml"


def imported(done):
    return {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}


def test_doctor_help_is_light():
    done = nexttrial("doctor", "--help", options=("-X", "importtime"))
    assert done.returncode == 0
    assert "compiled code" in done.stdout
    assert not imported(done) & HEAVY - {"pydantic", "pydantic_core"}  # typer takes these for any command's help


def test_doctor_as_text_and_json():
    text = nexttrial("doctor")
    assert (text.returncode, text.stderr) == (0, "")
    assert "kernels:\n  lanes: " in text.stdout
    found = json.loads(nexttrial("doctor", "--format", "json").stdout)
    assert found["libraries"]["numba"] in text.stdout


def test_preview_as_json_writes_nothing(tmp_path):
    nexttrial("run", PLAIN, "--preview", cwd=tmp_path)  # which compiles if nothing has yet, and says so
    done = nexttrial("run", PLAIN, "--preview", "--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)["preview"]
    assert [(row["design"], row["analysis"]) for row in rows] == [
        (design, analysis) for design in ("villages_24", "villages_32") for analysis in ("lmm", "mixed_ancova")
    ]
    first, _, second, _ = [row["power"] for row in rows]
    assert 0.5 < first < second < 1
    assert not list(tmp_path.iterdir())


def test_preview_of_stored_scores_says_why_there_is_none():
    done = CliRunner().invoke(app, ["run", str(SCENARIO), "--preview", "--design", "vil_1"])
    assert (done.exit_code, done.stderr) == (0, "")
    said = " ".join(done.stdout.replace("│", " ").split())
    assert "no preview:" in said
    assert "`gaussian`" in said


def test_explain_comes_before_the_result(tmp_path):
    arguments = ["run", PLAIN, "--replicates", "16", "--design", "villages_24", "--workers", "1", "--quiet"]
    done = nexttrial(*arguments, "--explain", "--format", "json", "--out", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    assert "how it is computed" in done.stderr and "lanes" in done.stderr
    assert json.loads(done.stdout)["replicates"] == 16
