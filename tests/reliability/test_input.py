"""Scenario files that are wrong or hostile: R19, R21 and R22 of the reliability table."""

import copy
import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mistakes import SCENARIOS, SIMPLE, changed, folder_with_evidence, problems_of
from reliability.plain import PLAIN, outside

from sim.scenario.document import Document, path_text
from sim.scenario.load import read_scenario

# ---- wrong values, each of which is wrong wherever it stands ---------------------------------------------------------

NEVER_ALLOWED = [float("nan"), float("inf"), float("-inf"), 1e308, -1e308, [1], {"a": 1}]
COUNTS = ("districts", "villages_per_district", "participants_per_district", "replicates", "calendars", "mean")
CORRELATIONS = ("icc_village", "icc_district", "icc_training_group", "cac")


def read(path):
    return Document.read(path).content


BASES = {
    "plain": Document(Path("plain.yaml"), PLAIN).content,
    "simple": read(SIMPLE),
    "crm_rwanda": read(SCENARIOS / "crm_rwanda.yaml"),
}
for base in BASES.values():
    if "evidence" in base:
        base["evidence"]["file"] = "evidence/habimana_2026.yaml"


def places(node, at=()):
    """The place of every value of a tree."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*at, key), value
        yield from places(value, (*at, key))


def wrong_values(content, place, value):
    """What is wrong at this place for certain, as (kind of mistake, place of the mistake, new value)."""
    name, above = place[-1], place[-2] if len(place) > 1 else ""
    if isinstance(value, dict):
        yield "unknown key", (*place, "no_such_key"), 1e308
    if isinstance(value, (dict, list)):
        yield "a number for a mapping", place, 1e308
        return
    for junk in NEVER_ALLOWED:
        yield f"{junk!r}", place, junk
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield "a number as text", place, str(value)
        yield "text", place, "many"
    if name in COUNTS and isinstance(value, int):
        yield "negative", place, -value
        yield "nobody", place, 0
    if name == "villages_per_district" and content["designs"][above]["districts"] == 1:
        yield "one cluster per arm", place, 2
    if name == "value" and above in CORRELATIONS:
        yield "a correlation above 1", place, 1.2
        yield "a correlation below -1", place, -1.2
    if name == "value" and above == "sd_residual":
        yield "an SD of 0", place, "0 SD"
        yield "a negative SD", place, "-1 SD"


MUTATIONS = [
    (base, *mistake)
    for base, content in BASES.items()
    for place, value in places(content)
    for mistake in wrong_values(content, place, value)
]


def mutated(content, place, value):
    """A copy with this value there."""
    content = copy.deepcopy(content)
    node = content
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return content


def as_yaml(node, indent=""):
    """A tree as lines of YAML, mappings in block style."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from as_yaml(value, f"{indent}  ")
        else:
            yield f"{indent}{key}: {json.dumps(value).replace('NaN', '.nan').replace('Infinity', '.inf')}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_with_evidence(tmp_path_factory.mktemp("input"))


@pytest.mark.parametrize("base", BASES)
def test_what_is_mutated_is_sound(folder, base):
    assert problems_of(folder, "\n".join(as_yaml(BASES[base]))) == []


def check_mistake(folder, base, mistake, place, value):
    """R19: told at its line and by its field, in less than a second of the processor."""
    text = "\n".join(as_yaml(mutated(BASES[base], place, value)))
    began = time.process_time()
    problems = problems_of(folder, text)
    assert time.process_time() - began < 1
    assert problems, f"{mistake} was accepted"
    named = [p for p in problems if p.field == path_text(place) or p.field.startswith(f"{path_text(place)}.")]
    assert named, f"{mistake} at {path_text(place)} is not named: {[str(p) for p in problems]}"
    assert all(p.line > 0 and p.message for p in named)
    assert not any("Traceback" in str(p) for p in problems)


def hypothesis_of(n):
    return settings(max_examples=n, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@hypothesis_of(25)
@given(st.sampled_from(MUTATIONS))
def test_mistakes_are_named(folder, mutation):
    """R19: a mistake of every kind in the table, in every place that a scenario has."""
    check_mistake(folder, *mutation)


@pytest.mark.reliability
@hypothesis_of(200)
@given(st.sampled_from(MUTATIONS))
def test_two_hundred_mistakes_are_named(folder, mutation):
    """R19: 200 mutated scenarios: no traceback, none accepted in silence, all named, each in less than a second."""
    check_mistake(folder, *mutation)


# ---- hostile files ---------------------------------------------------------------------------------------------------

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k + 1}: &a{k + 1} [{','.join([f'*a{k}'] * 9)}]\n" for k in range(8)
)
HOSTILE = {
    "aliases": BOMB,
    "900 brackets": f"a: {'[' * 900}",
    "10,000 brackets": f"a: {'[' * 10_000}",
    "10,000 braces": f"a: {'{a: ' * 10_000}",
    "10,000 dashes": f"a: {'- ' * 10_000}",
    "tag": "title: !!python/object/apply:os.system ['touch MARK']\n",
    "new tag": "title: !!python/object/new:pathlib.Path.touch [MARK]\n",
    "name tag": "title: !!python/name:os.system\n",
    "one line of 60,000": f"a: {'x' * 60_000}",
}
READ_ALL = r"""
import re, sys, time
from pathlib import Path
from sim.errors import InvalidInput
from sim.scenario.load import read_scenario
from sim.scenario.evidence import read_evidence

def memory(what):
    found = re.search(what + r":\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024

for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
    for read in (read_scenario, read_evidence):
        before, began = memory("VmRSS"), time.process_time()
        try:
            read(path)
        except InvalidInput as error:
            print(path.stem, time.process_time() - began, memory("VmHWM") - before, len(error.problems), sep="|")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_hostile_files_are_refused_at_no_cost(tmp_path):
    """R21: bombs, brackets, tags and 100 MB: refused in < 1 s of processor time, < 200 MB of memory, nothing run."""
    files, mark = tmp_path / "files", tmp_path / "ran"
    files.mkdir()
    for name, text in HOSTILE.items():
        (files / f"{name}.yaml").write_text(text.replace("MARK", str(mark)), encoding="utf-8")
    with (files / "100 MB.yaml").open("w", encoding="utf-8") as large:
        for _ in range(100):
            large.write("a: [1, 2, 3]  # ...\n" * 50_000)
    assert (files / "100 MB.yaml").stat().st_size >= 100_000_000
    done = outside("-c", READ_ALL, files)
    assert done.returncode == 0, done.stderr
    found = [line.split("|") for line in done.stdout.splitlines()]
    assert [name for name, *_ in found] == sorted([*HOSTILE, "100 MB"] * 2)
    assert max(float(seconds) for _, seconds, *_ in found) < 1
    assert max(float(growth) for _, _, growth, _ in found) < 200  # highest ever, less what there was before
    assert all(1 <= int(n) <= 20 for *_, n in found)
    assert not mark.exists()


# ---- YAML 1.1 --------------------------------------------------------------------------------------------------------


def test_arms_called_no_and_yes_are_arms(tmp_path):
    """R22: what YAML 1.1 takes for Booleans is a name like any other, from the file to the design."""
    text = PLAIN.replace("control: {format", "no: {format").replace("treated: {format: programme", "yes: {format: on")
    text = text.replace("treated - control", "yes - no")
    path = tmp_path / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    design = read_scenario(path).design("villages_24")
    assert [(arm.name, arm.format) for arm in design.arm_list] == [("no", None), ("yes", "on")]
    assert problems_of(tmp_path, changed(("replicates: 2000", "replicates: 012"), text=PLAIN)) == []
    assert [p.field for p in problems_of(tmp_path, changed(("seed:", "seed: 12:30 #"), text=PLAIN))] == ["seed"]
