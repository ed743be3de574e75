"""What a machine, a place or a planted file can change of a result: nothing. R27 and R32 of the reliability table."""

import ast
import hashlib
import os
import pickle
from pathlib import Path

import pytest
from mistakes import SCENARIOS
from reliability.plain import nexttrial, outside, write

RUN = ("-m", "sim", "run")
OPTIONS = ("--replicates", 40, "--workers", 1, "--quiet", "--allow-failures")


def digest(folder):
    """SHA-256 of the results: the tables, the blocks and the pictures, without the manifest, which has the times."""
    files = [*folder.glob("*.csv"), *folder.glob("*.svg"), *(folder / "blocks").iterdir()]
    assert {"summary.csv", "designs.csv"} <= {path.name for path in files}
    assert any(path.suffix == ".parquet" for path in files)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """What the run gives where nothing is unusual."""
    folder = tmp_path_factory.mktemp("usual")
    assert nexttrial("run", write(folder), *OPTIONS, "--out", folder / "out") == 0
    return digest(folder / "out")


def read_only(folder):
    """A folder in which nobody, root included, can make a file."""
    if os.getuid() == 0:
        return Path("/proc")
    folder.mkdir()
    folder.chmod(0o555)
    return folder


FRENCH = {"LANG": "fr_FR.UTF-8", "LC_ALL": "fr_FR.UTF-8", "LC_NUMERIC": "fr_FR.UTF-8"}
ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
EAST, WEST = {"TZ": "Pacific/Kiritimati"}, {"TZ": "Etc/GMT+12"}
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
FULL = pytest.mark.reliability


@pytest.mark.parametrize(
    "environment, in_read_only, name",
    [
        pytest.param({**FRENCH, **EAST}, True, "d\u00e9j\u00e0 vu \u2603", id="all at once"),
        pytest.param(FRENCH, False, "out", id="French", marks=FULL),
        pytest.param(ASCII, False, "out", id="ASCII", marks=FULL),
        pytest.param(EAST, False, "out", id="14 hours east", marks=FULL),
        pytest.param(WEST, False, "out", id="12 hours west", marks=FULL),
        pytest.param({}, True, "out", id="read-only folder", marks=FULL),
        pytest.param({}, False, "d\u00e9j\u00e0 vu \u2603", id="non-ASCII path", marks=FULL),
        pytest.param({"PYTHONHASHSEED": "1"}, False, "out", id="hash seed", marks=FULL),
        pytest.param({**THREADS}, False, "out", id="two threads", marks=FULL),
    ],
)
def test_surroundings_change_no_byte(usual, tmp_path, environment, in_read_only, name):
    """R32: locale, time zone, a working directory without write access, a non-ASCII path: the same bytes."""
    home = tmp_path / name
    home.mkdir()
    scenario = write(home)
    cwd = read_only(tmp_path / "read_only") if in_read_only else home
    done = outside(*RUN, scenario, *OPTIONS, "--out", home / "out", cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    assert digest(home / "out") == usual
    assert {path.name for path in home.iterdir()} == {"scenario.yaml", "out"}


def test_results_without_out_need_a_folder_that_can_be_written(tmp_path):
    """R32: without --out in a folder that cannot be written: refused with a message, no traceback."""
    done = outside(*RUN, write(tmp_path), *OPTIONS, cwd=read_only(tmp_path / "read_only"))
    assert done.returncode in (2, 4)  # 2 where the disk, as that of /proc, has no room
    assert done.stderr and "Traceback" not in done.stderr


# ---- what could run code ---------------------------------------------------------------------------------------------

LOADERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "jsonpickle"}
CALLS = {("joblib", "load"), ("np", "load"), ("numpy", "load"), ("pd", "read_pickle"), ("pandas", "read_pickle")}
BUILT_IN = {"eval", "exec", "compile", "__import__"}


def dangers(path):
    """What in a source could make an object or run code from a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            yield from (name for name in names if name.split(".")[0] in LOADERS)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in CALLS:
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield "allow_pickle"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILT_IN:
            yield node.func.id


def test_a_danger_is_seen(tmp_path):
    source = write(tmp_path, "import pickle\nimport numpy as np\nnp.load('x', allow_pickle=True)\neval('1')\n", "a.py")
    assert sorted(dangers(source)) == ["allow_pickle", "eval", "np.load", "pickle"]


def test_no_source_loads_objects_from_files():
    """R27: no pickle, joblib.load, np.load or eval in the sources."""
    sources = sorted((SCENARIOS.parent / "sim").rglob("*.py"))
    assert len(sources) > 100
    found = {str(path): names for path in sources if (names := list(dangers(path)))}
    assert found == {}


WATCHED = """
import sys
folder = sys.argv[1]
def watch(event, arguments):
    if event == "pickle.find_class" and arguments[0] in ("os", "posix", "nt"):
        print("find_class", *arguments, flush=True)
    if event == "open" and str(arguments[0]).startswith(folder) and str(arguments[0]).endswith(PLANTED):
        print("open", arguments[0], flush=True)
PLANTED = (".pkl", ".pickle", ".joblib", ".npy", ".npz")
sys.addaudithook(watch)
from sim.cli import main
sys.argv = ["nexttrial", *sys.argv[2:]]
main()
"""


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.fixture
def planted(tmp_path):
    """A finished run with malicious pickles beside its files and under names like theirs; what they would make."""
    out, mark = tmp_path / "out", tmp_path / "ran"
    assert nexttrial("run", write(tmp_path), *OPTIONS, "--out", out) == 0
    poison = pickle.dumps(Touch(str(mark)))
    blocks = sorted((out / "blocks").glob("*.parquet"))
    for name in ("results", "summary", "cache", "manifest"):
        for suffix in (".pkl", ".pickle", ".joblib", ".npy", ".npz"):
            (out / f"{name}{suffix}").write_bytes(poison)
    for block in blocks:
        (block.parent / f"{block.name}.pkl").write_bytes(poison)
        block.with_suffix(".pkl").write_bytes(poison)
    return out, mark, poison


def test_planted_pickles_do_what_they_say(planted):
    """R27: the plant is poison indeed, and the hook sees it opened and executed."""
    out, mark, _ = planted
    unwary = WATCHED.replace("from sim.cli import main", "import pickle")
    unwary = unwary.replace("\nmain()", "\npickle.load(open(sys.argv[1], 'rb'))")
    done = outside("-c", unwary, out, out / "summary.pkl")
    assert done.returncode == 0, done.stderr
    assert "find_class posix mkdir" in done.stdout or "find_class nt mkdir" in done.stdout
    assert f"open {out / 'summary.pkl'}" in done.stdout
    assert mark.is_dir()


def test_planted_pickles_are_not_opened(planted):
    """R27: a run that goes on in a folder with malicious pickles neither opens nor executes one."""
    out, mark, _ = planted
    done = outside("-c", WATCHED, out, "run", out.parent / "scenario.yaml", *OPTIONS, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert not mark.exists()


def test_blocks_that_are_pickles_are_not_executed(planted):
    """R27: a malicious pickle in place of a block is a broken block: it is not executed."""
    out, mark, poison = planted
    for block in (out / "blocks").glob("*.parquet"):
        block.write_bytes(poison)
    done = outside("-c", WATCHED, out, "run", out.parent / "scenario.yaml", *OPTIONS, "--out", out)
    assert "find_class" not in done.stdout
    assert not mark.exists()
