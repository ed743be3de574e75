"""Names that are paths, and links that lead away: R23 of the reliability table."""

import json
from pathlib import Path

import pytest
from reliability.plain import PLAIN, nexttrial, write

NAMES = [
    "../x", "../../x", "..", ".", "/etc/x", "/tmp/x", "~/x", "a/b", "a/../../x", "./x", "C:\\x", "C:x", "\\\\host\\x",
    "..\\x", "NUL", "nul", "con", "CON", "com1", "lpt9", "aux", "a" * 300, "a" * 41, "a\u2215b", "a\uff0fb",
    "\u2024\u2024/x", "a b", "x\u202e", "$HOME", "%2e%2e%2fx", "-rf", "x;touch y", "a.svg", "\u00e9t\u00e9", "",
]  # fmt: skip
PLACES = {
    "scenario": [("name: parallel_cluster", "name: {}")],
    "design": [("  villages_24:", "  {}:")],
    "arm": [("arms: {{control: ", "arms: {{{}: ")],
    "analysis": [("  cluster_summary: {{kind", "  {}: {{kind")],
    "outcome": [("  outcome: score", "  outcome: {}")],
    "visit": [("    six_months: {{months", "    {}: {{months")],
    "stratum": [("calendar:\n", "strata: {{{}: 100%}}\ncalendar:\n")],
    "window": [("model:\n", "  windows: {{{}: {{first: 06-01, last: 07-31}}}}\nmodel:\n")],
    "closed period": [("model:\n", "  closed: {{{}: {{first: 06-01, last: 07-31}}}}\nmodel:\n")],
}


def with_name(place, name):
    """The plain scenario with this name there."""
    text = PLAIN
    for old, new in PLACES[place]:
        assert old.format() in text
        text = text.replace(old.format(), new.format(json.dumps(name)), 1)
    return text


def everything(folder):
    """Every path below a folder, links not followed, with the bytes of the files."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def options(*more):
    return ("--replicates", 8, "--workers", 1, "--quiet", "--allow-failures", *more)


def test_thirty_names():
    """R23: the table's number."""
    assert len(set(NAMES)) >= 30


@pytest.mark.parametrize(
    "place", [p if p in ("scenario", "design") else pytest.param(p, marks=pytest.mark.reliability) for p in PLACES]
)
def test_names_that_could_leave_the_folder_are_refused(tmp_path, monkeypatch, capsys, place):
    """R23: each of the names in each place of a scenario: exit 3, the field named, no file written anywhere."""
    work = tmp_path / "a" / "b" / "c"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    for name in NAMES:
        write(work, with_name(place, name))
        before = everything(tmp_path)
        assert nexttrial("run", "scenario.yaml", *options()) == 3, name
        assert everything(tmp_path) == before, name
        error = capsys.readouterr().err
        assert "scenario.yaml:" in error and "Traceback" not in error, name


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "con"])
def test_names_of_designs_on_the_command_line_are_refused(tmp_path, monkeypatch, name):
    """R23: --design takes the names of the file alone."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    before = everything(tmp_path)
    assert nexttrial("run", "scenario.yaml", "--design", name, *options()) == 2
    assert everything(tmp_path) == before


@pytest.fixture
def ran(tmp_path):
    """A finished run of two designs, and a folder that is none of its business."""
    scenario, out = write(tmp_path), tmp_path / "out"
    assert nexttrial("run", scenario, *options("--out", out)) == 0
    (tmp_path / "elsewhere").mkdir()
    return scenario, out, tmp_path / "elsewhere"


def test_result_folder_may_be_a_link(tmp_path):
    """R23: what --out links to is the result folder: everything is in it, nothing beside it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk", target_is_directory=True)
    scenario = write(tmp_path)
    assert nexttrial("run", scenario, *options("--out", tmp_path / "out")) == 0
    assert (tmp_path / "disk" / "summary.csv").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "out", "scenario.yaml"}


def test_links_in_a_result_folder_are_not_followed(ran, capsys):
    """R23: a link in place of any file that a run writes is replaced; what it led to stays as it was."""
    scenario, finished, elsewhere = ran
    names = {p.name for p in finished.iterdir() if p.is_file() and p.suffix in (".csv", ".svg", ".png")}
    assert {"summary.csv", "designs.csv", "power.svg", "power.png", "flow_villages_24.svg"} <= names
    planted = finished.with_name("planted")
    planted.mkdir()
    for name in names:
        (elsewhere / name).write_text("mine", encoding="utf-8")
        (planted / name).symlink_to(elsewhere / name)
    assert nexttrial("run", scenario, *options("--out", planted)) == 0, capsys.readouterr().err
    for name in names:
        assert (elsewhere / name).read_text(encoding="utf-8") == "mine", name
        assert not (planted / name).is_symlink(), name


def test_results_written_for_a_folder_of_another_name_do_not_leave_it(ran):
    """R23: a manifest that names another folder moves no file: where results go is the command line's alone."""
    scenario, out, elsewhere = ran
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    manifest |= {"scenario": str(elsewhere / "x"), "folder": str(elsewhere)}
    (out / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    nexttrial("run", scenario, *options("--out", out))
    assert not list(Path(elsewhere).iterdir())


def test_a_link_in_place_of_the_blocks_is_not_followed(tmp_path):
    """R23: a result folder from elsewhere may hold a link where the blocks go: nothing is written behind it."""
    scenario, out, elsewhere = write(tmp_path), tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "blocks").symlink_to(elsewhere, target_is_directory=True)
    nexttrial("run", scenario, *options("--out", out))
    assert not list(elsewhere.iterdir())
