"""YAML as documented, everything else refused at its place, and nothing built from it."""

import math
import time
from pathlib import Path

import pytest
from mistakes import TEXT, changed, folder_with_evidence, problems_of

from sim.errors import InvalidInput
from sim.parts import Part
from sim.scenario.check import build
from sim.scenario.document import MAX_BYTES, Document
from sim.scenario.nearest import known_names, nearest

BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


class Sleep(Part):
    """A small part to build."""

    hours: int
    names: tuple[str, ...] = ()
    note: str | None = None


def content(text: str):
    return Document(Path("s.yaml"), text).content


def refused(text: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        build(Document(Path("s.yaml"), text), Sleep)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "literal, value",
    [
        ("1e+5", 1e5), ("1.0e5", 1e5), ("012", 12), ("0o14", 12), ("0x1F", 31), ("-7", -7), (".5", 0.5),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("12:30", "12:30"),
        ("1_000", "1_000"), ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("2027-07-05", "2027-07-05"), ("04-07", "04-07"), (".inf", math.inf), ("-.inf", -math.inf), ("nan", "nan"),
        ("'12'", "12"), ('"no"', "no"), ("9" * 5000, math.inf), ("=", "="),
    ],
)  # fmt: skip
def test_literals_are_read_as_yaml_1_2(literal, value):
    found = content(f"a: {literal}\n")["a"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_number():
    assert math.isnan(content("a: .nan")["a"])


def test_keys_are_text():
    assert list(content("1: a\nno: b\n1e3: c\nnull: d\n")) == ["1", "no", "1e3", "null"]


def test_block_text_and_byte_order_mark(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: >-\r\n  one\r\n  two\r\nb: 1\r\n")
    document = Document.read(path)
    assert document.content == {"a": "one two", "b": 1}
    assert document.problem(("b",), "x").line == 4


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "s.yaml:1:1 is empty; a mapping of keys to values is needed"),
        ("# only a comment\n", "s.yaml:1:1 is empty; a mapping of keys to values is needed"),
        ("- a\n- b\n", "s.yaml:1:1 holds a list; a mapping of keys to values is needed"),
        ("hello", "s.yaml:1:1 holds 'hello'; a mapping of keys to values is needed"),
        ("hours: 1\nhours: 2\n", "s.yaml:2:1 hours: is there twice; it is first on line 1"),
        ("hours: &x 1\n", "s.yaml:1:8 hours: YAML anchors (&) are not allowed; write the value out where it is needed"),
        ("hours: *x\n", "s.yaml:1:8 hours: YAML aliases (*) are not allowed; write the value out"),
        ("hours: !!int 1\n", "s.yaml:1:8 hours: YAML tags are not allowed, found !!int"),
        ("hours: !x {a: 1}\n", "s.yaml:1:8 hours: YAML tags are not allowed, found !x"),
        ("hours: 1\n<<: {note: x}\n", "s.yaml:2:1 '<<': YAML merge keys are not allowed; write the keys out"),
        ("hours: 1\n? [a]\n: 1\n", "s.yaml:2:3 a key must be plain text, not a list, a mapping or an alias"),
        ("hours: 1\nnote:\n\t- x\n", "s.yaml:3:1 note: a tab is not allowed here; use spaces"),
        ("note: @x\n", "s.yaml:1:7 note: a value cannot start with @; put it in quotes"),
        ("note: a: b\n", "s.yaml:1:8 a second ':' in one line, or wrong indentation; text that contains ': ' needs"),
        ("note: 'x\n", "s.yaml:1:7 note: this quotation mark is never closed"),
        ("note: {a: 1\n", "s.yaml:1:7 note: this '{' is not closed, or a ',' between two of its entries is missing"),
        ("names: [a\nhours: 1", "s.yaml:1:8 names: this bracket is not closed, or a ',' between two of its entries"),
        ("hours: 1\n note: x\n", "a second ':' in one line, or wrong indentation"),
        ("names:\n  - a\n - b\n", "wrong indentation: this line does not line up with those above"),
        ("hours: 1\n---\nhours: 2\n", "s.yaml:2:1 a second document (---) is not allowed: one file, one document"),
        ("%YAML 1.1\n---\nhours: 1\n", "YAML directives (%) are not allowed"),
        ("hours: \0", "s.yaml:1:8 the character U+0000 is not allowed: is this a text file?"),
        ('note: "\\0"\nhours: 1', "s.yaml:1:7 note: the character U+0000 is not allowed in text"),
        ('note: "\\ud800"\nhours: 1', "s.yaml:1:7 note: the character U+D800 is not allowed in text"),
        ('"\\u0007": 1\nhours: 1', "s.yaml:1:1 the character U+0007 is not allowed in a key"),
        ("hours: " + "[" * 900, "s.yaml:1:28 hours: nested deeper than 20 levels"),
    ],
)  # fmt: skip
def test_refused_yaml_message(text, said):
    found = refused(text)
    assert any(said in one for one in found), found
    assert len(found) == (2 if "U+0007" in said else 1), found


@pytest.mark.parametrize(
    "text", [BOMB, "a: " + "[" * 10_000, "a: " + "{a: " * 10_000, "- " * 10_000, "a: 1\n" * 13_000]
)
def test_bombs_are_refused_within_a_second(folder, text):
    began = time.perf_counter()
    problems = problems_of(folder, text)
    assert time.perf_counter() - began < 1
    assert 1 <= len(problems) <= 20


def test_large_file_is_not_read_message(folder):
    path = folder / "large.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    began = time.perf_counter()
    with pytest.raises(InvalidInput, match=f"is larger than {MAX_BYTES:,} bytes"):
        Document.read(path)
    assert time.perf_counter() - began < 0.1


def test_binary_file_message(folder):
    [problem] = problems_of(folder, bytes(range(256)))
    assert problem.message == "is not a text file in UTF-8"


def test_no_code_is_run(folder):
    mark = folder / "ran"
    text = changed(("calendars: 64", f"calendars: !!python/object/apply:pathlib.Path.touch [{mark}]"))
    assert problems_of(folder, text)
    assert not mark.exists()


def test_yaml_mistakes_hide_no_others(folder):
    text = changed(
        ("calendars: 64", "calendars: *x"), ("alpha: 0.05", "alpha: 2"), ("seed: 2026", "seed: 1\nseed: 2026")
    )
    assert [p.field for p in problems_of(folder, text)] == ["seed", "calendars", "hypotheses.alpha"]


def test_values_are_shown_as_written():
    said = " ".join(refused("hours: 0x1G\nnames: [1.50, 'a b', null]\nnote: 012\n"))
    assert "hours: found '0x1G'; a whole number is needed" in said
    assert "names.0: found 1.50; text is needed: put it in quotes" in said
    assert "names.2: found null; text is needed" in said
    assert "note: found 012; text is needed: put it in quotes" in said


def test_long_values_are_shortened():
    [said] = refused(f"hours: {'x' * 500}\n")
    assert f"found '{'x' * 57}...'; a whole number is needed" in said


def test_misspelt_key_keeps_its_name_and_its_value_is_checked():
    assert refused("huors: many\n") == [
        "s.yaml:1:1 huors: unknown key; known: hours, names, note. Did you mean 'hours'?",
        "s.yaml:1:8 huors: found 'many'; a whole number is needed",
    ]


@pytest.mark.parametrize(
    "found, known, near",
    [
        ("paralel_cluster", ["parallel_cluster", "stepped_wedge"], "parallel_cluster"),
        ("seperate", ["mixed", "separate"], "separate"),
        ("Training-Group-Size", ["training_group_size", "districts"], "training_group_size"),
        ("group_size", ["training_group_size", "districts"], "training_group_size"),
        ("villages", ["villages_per_district", "village_size"], "villages_per_district"),
        ("indiv", ["individual", "village"], "individual"),
        ("holmm", ["none", "bonferroni", "holm"], "holm"),
        ("vil_2", ["vil_1", "vil_4"], None),
        ("start", ["strata", "seed"], None),
        ("size", ["sides", "alpha"], None),
        ("holm", ["none"], None),
        ("a", ["b", "c"], None),
        ("", ["b", "c"], None),
        ("x" * 300, ["x"], None),
        ("paralel_cluster", ["individual", "single_arm", "village"], None),
    ],
)
def test_nearest_name(found, known, near):
    assert nearest(found, known) == near
    assert known_names(found, known).endswith(f"Did you mean '{near}'?" if near else known[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_with_evidence(tmp_path_factory.mktemp("document"))


def test_every_value_of_the_scenario_has_its_place():
    document = Document(Path("s.yaml"), TEXT)
    lines = TEXT.splitlines()

    def walk(node, at):
        for key, value in node.items():
            place = document.problem((*at, key), "x", at_key=True)
            assert lines[place.line - 1][place.column - 1 :].startswith(f"{key}:")
            if isinstance(value, dict):
                walk(value, (*at, key))

    walk(document.content, ())
