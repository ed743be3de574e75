"""Evidence for other processors: linear algebra made for another kind moves last digits and no decision."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from reliability.command import finish, small

CPU = Path("/proc/cpuinfo")
HAS_AVX512 = CPU.exists() and "avx512f" in CPU.read_text(encoding="utf-8")


def rows(out):
    key = ["design", "replicate", "outcome", "analysis", "truth"]
    tables = [pd.read_parquet(path) for path in sorted((out / "blocks").glob("*.parquet"))]
    return pd.concat(tables).sort_values(key, ignore_index=True)


@pytest.mark.reliability
@pytest.mark.skipif(not HAS_AVX512, reason="needs a processor that can be told to be two kinds")
@pytest.mark.parametrize("kinds", [("OPENBLAS_CORETYPE", "Haswell", "SkylakeX"), ("NUMBA_CPU_NAME", "haswell", "")])
def test_decisions_are_those_of_another_processor(tmp_path, kinds):
    """R06: OpenBLAS's kernels, and then this package's own compiled code, for AVX2 and for AVX-512."""
    name, *values = kinds
    found = []
    for value in values:
        out = tmp_path / (value or "own")
        given = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / f"cache {value}")} | ({name: value} if value else {})
        code, text = finish(small(tmp_path), out, "--workers", "1", "--design", "ind_1", "--allow-failures", env=given)
        assert code == 0, text
        found.append(rows(out))
    a, b = found
    near = (a["p_value"] - 0.05).abs() < 1e-9
    assert ((a["p_value"] <= 0.05) == (b["p_value"] <= 0.05))[~near].all()
    assert (a["status"].astype(str) == b["status"].astype(str)).all()
    for column in ("estimate", "standard_error"):
        pd.testing.assert_series_equal(a[column], b[column], rtol=1e-8)


def test_the_processor_is_recorded():
    code = "from sim.run.identity import machine; print(machine()['cpu'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
