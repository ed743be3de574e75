"""Text of a scenario is shown as it is and never becomes markup, code or a formula: R24 of the reliability table."""

import html
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from mistakes import folder_with_evidence
from reliability.plain import PLAIN, nexttrial, write

SCRIPT = "<script>alert(1)</script>"
HOSTILE = [
    SCRIPT, "\"><img/src=x/onerror='alert(1)'>", "javascript:alert(1)", "<svg/onload=alert(1)>",
    "--><script>x</script>", "]]><script>x</script>", "&lt;script&gt;", "</text></svg>", "{{7*7}}", "{title}", "%s%n",
]  # fmt: skip
"""Markup and templates."""
NOT_MARKUP = [
    "$5", "and", "$6,", "$\\frac{1}$", "\\alpha", "[bold]", "[/bold]", "[/]", "[link=javascript:x]", ":smile:",
]  # fmt: skip
"""What a drawing library or a terminal takes for a formula or a style."""
TEXT = " ".join([*HOSTILE, *NOT_MARKUP])
FIELDS = ("title", "label", "source")


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    """The plain scenario with the same hostile text in every field that takes text."""
    value = r'("[^"]*"|[^\n,}]+)'
    text, n = re.subn(rf"\b({'|'.join(FIELDS)}): {value}", lambda m: f"{m[1]}: {json.dumps(TEXT)}", PLAIN)
    assert n >= 10
    return write(folder_with_evidence(tmp_path_factory.mktemp("text")), text)


def elements(path):
    """The elements of a drawing, and what its comments say: the text of which glyphs are drawn."""
    builder = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    nodes = list(ElementTree.parse(path, builder).iter())
    said = " ".join(html.unescape(node.text) for node in nodes if node.tag is ElementTree.Comment)
    return [node for node in nodes if node.tag is not ElementTree.Comment], said


def check_harmless(path, shown):
    """No element that runs, no attribute that does, no link but to the drawing itself; the text is there as text."""
    nodes, said = elements(path)
    tags = {node.tag.rpartition("}")[2] for node in nodes}
    assert tags <= {
        "svg", "metadata", "RDF", "Work", "type", "format", "creator", "Agent", "title", "defs", "style", "g", "path",
        "use", "clipPath", "rect", "pattern", "text", "tspan",
    }, tags  # fmt: skip
    for node in nodes:
        for name, value in node.attrib.items():
            name = name.rpartition("}")[2].lower()
            assert not name.startswith("on")
            assert name != "href" or value.startswith("#")
            assert "javascript:" not in value.lower()
    said = said.replace("- -", "--")  # which no comment may hold
    assert [word for word in shown if word not in said] == []


WORDS = TEXT.split()


def test_pictures_and_tables_of_a_run_show_text_as_text(scenario, tmp_path, capsys):
    """R24: <script>, onerror=, javascript: and their like in every text field: text in every picture."""
    done = ("run", scenario, "--replicates", 8, "--workers", 1, "--allow-failures", "--out", tmp_path / "out")
    assert nexttrial(*done) == 0, capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err
    pictures = sorted((tmp_path / "out").glob("*.svg"))
    assert {"power.svg", "flow_villages_24.svg", "flow_villages_32.svg"} <= {path.name for path in pictures}
    for path in pictures:
        check_harmless(path, WORDS)


def test_pictures_of_a_calendar_show_text_as_text(scenario, tmp_path, capsys):
    """R24: the same for the chart of one calendar and that of many start dates."""
    one = ("calendar", scenario, "--design", "villages_24")
    assert nexttrial(*one, "--out", tmp_path / "gantt.svg") == 0, capsys.readouterr().err
    many = ("--scan", "start=2027-01-04..2027-02-04", "--replicates", 4, "--workers", 1)
    assert nexttrial(*one, *many, "--out", tmp_path / "scan.svg") == 0, capsys.readouterr().err
    for name in ("gantt.svg", "scan.svg"):
        check_harmless(tmp_path / name, WORDS)


@pytest.mark.parametrize(
    "command",
    [("run", "--replicates", 8, "--workers", 1, "--allow-failures", "--out", "out"), ("run", "--preview"),
     ("run", "--explain", "--replicates", 8, "--workers", 1, "--allow-failures", "--out", "out"),
     ("calendar", "--design", "villages_24"), ("validate",)],
    ids=lambda command: " ".join(map(str, command[:2])),
)  # fmt: skip
def test_terminal_shows_text_as_text(scenario, tmp_path, monkeypatch, capsys, command):
    """R24: no text of a scenario is a style or a link of the terminal; where it is shown it is shown whole."""
    monkeypatch.chdir(tmp_path)
    name, *options = command
    assert nexttrial(name, scenario, *options) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "\x1b" not in said.out and "Traceback" not in said.err
    if SCRIPT[:8] in said.out:
        shown = re.sub(r"[\s│]", "", said.out)
        assert all(word in shown for word in ("[bold]", "[/bold]", "[link=javascript:x]", ":smile:"))
