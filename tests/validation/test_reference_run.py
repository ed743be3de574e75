"""The committed numbers still come out. A change that moves them must make them anew and say so in the changelog."""

import json
import re
import shlex

import pandas as pd
import pytest
from typer.testing import CliRunner
from validation.reference_run import FOLDER, KEY, ROOT, SCENARIOS, first_replicates, scenario_of

from sim.cli import app

DESIGNS = [(name, design) for name in SCENARIOS for design in scenario_of(name).file.designs]
ANEW = "numbers moved: if that is meant, run `make reference` and record the size of the change in CHANGELOG.md"


@pytest.mark.parametrize("name", SCENARIOS)
def test_reference_is_of_the_scenario_as_it_stands(name):
    manifest = json.loads((FOLDER / name / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["identity"]["fingerprint"] == scenario_of(name).fingerprint, ANEW
    assert manifest["replicates"] == scenario_of(name).file.replicates, ANEW


@pytest.mark.parametrize(("name", "design"), DESIGNS)
def test_first_replicates_have_not_moved(name, design):
    """Rejections and statuses exactly; means to 1e-8, which other processors' last digits stay far below."""
    stored = pd.read_csv(FOLDER / name / "first_replicates.csv", keep_default_na=False)
    stored = stored[stored["design"] == design].reset_index(drop=True)
    found = first_replicates(scenario_of(name), [design])
    found[KEY] = found[KEY].astype(str)
    stored[KEY] = stored[KEY].astype(str)
    counts = ["n_reject", "n_singular", "n_failed"]
    pd.testing.assert_frame_equal(found[[*KEY, *counts]], stored[[*KEY, *counts]], check_dtype=False, obj=ANEW)
    means = ["estimate", "standard_error", "df"]
    pd.testing.assert_frame_equal(found[means], stored[means], rtol=1e-8, atol=1e-10, obj=ANEW)


def without_analysis(readme):
    """The README without its example of `nexttrial analyse`, which is tested below."""
    return re.sub(r"^## Analyse a data set$.*?^## ", "## ", readme, flags=re.M | re.S)


def test_readme_shows_what_analyse_prints(monkeypatch):
    section = re.search(
        r"^## Analyse a data set$(.*?)^## ", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    command, shown = re.findall(r"^```(?:sh|text)\n(.*?)^```", section[1], flags=re.M | re.S)
    monkeypatch.chdir(ROOT)
    printed = CliRunner().invoke(app, shlex.split(command.replace("\\\n", " "))[1:]).stdout
    assert [line.rstrip() for line in shown.splitlines()] == [line.rstrip() for line in printed.rstrip().splitlines()]


def test_readme_shows_what_the_reference_run_printed():
    printed = (FOLDER / "crm_rwanda" / "table.txt").read_text(encoding="utf-8")
    printed += (FOLDER / "habimana_2026_reenacted" / "table.txt").read_text(encoding="utf-8")
    lines = {line.rstrip() for line in printed.splitlines()}
    readme = without_analysis((ROOT / "README.md").read_text(encoding="utf-8"))
    shown = [line.rstrip() for line in re.findall(r"^[│┏┃┡├└].*$", readme, flags=re.M)]
    assert len(shown) > 20
    assert [line for line in shown if line not in lines] == []
