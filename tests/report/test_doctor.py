"""What `nexttrial doctor` finds: this installation, as data and as text."""

import json
import platform

import numpy as np

from sim.report.doctor import LIBRARIES, _version, diagnosis, doctor_lines


def test_diagnosis_is_of_this_installation():
    found = diagnosis()
    assert found["python"] == platform.python_version()
    assert found["libraries"]["numpy"] == np.__version__
    assert set(found["libraries"]) == set(LIBRARIES)
    assert "missing" not in found["libraries"].values()
    assert found["cores"] >= 1
    json.dumps(found, allow_nan=False)


def test_library_that_is_not_there_is_missing():
    assert _version("no_such_library") == "missing"
    assert _version("json") == "present, version unknown"


def test_compiled_code_is_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert diagnosis()["compiled_code"]["state"] == "empty: the first run compiles, once"
    (tmp_path / "cache" / "kernels").mkdir(parents=True)
    (tmp_path / "cache" / "kernels" / "one.nbc").write_bytes(bytes(250_000))
    (tmp_path / "cache" / "two.nbi").write_bytes(bytes(150_000))
    found = diagnosis()["compiled_code"]
    assert found == {"folder": str(tmp_path / "cache"), "files": 2, "megabytes": 0.4, "state": "ready"}


def test_text_has_every_value():
    found = diagnosis()
    text = "\n".join(doctor_lines(found))
    for value in found.values():
        for part in value.values() if isinstance(value, dict) else [value]:
            assert str(part) in text
    assert "vector instructions: " in text
    assert "  folder: " in text
