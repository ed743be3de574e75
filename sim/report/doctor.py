"""What this installation is: versions, processor, compiled code, what is there and what is not."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata, util
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "scipy", "pandas", "numba", "llvmlite", "simpy", "joblib", "pyarrow", "pydantic", "ruamel.yaml",
             "typer", "rich", "matplotlib")  # fmt: skip
VECTORS = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("neon", "NEON"), ("sse2", "SSE2"))


def diagnosis() -> dict[str, Any]:
    """Everything `nexttrial doctor` shows, as plain data."""
    from sim.lanes import LANES
    from sim.run.identity import processor

    return {
        "nexttrial": metadata.version("nexttrial"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "vector_instructions": _vectors(),
        "kernels": {
            "lanes": f"{LANES} replicates side by side: `lmm` of all visits and `mixed_ancova` of nested scores "
            "with monotone dropout",
            "generic": "one replicate at a time: everything else",
            "choice": "automatic; `nexttrial run FILE --explain` shows it for a scenario",
        },
        "compiled_code": _compiled(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "optional": {"Rscript (second opinion, peers of the benchmark)": shutil.which("Rscript") or "not found"},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing" if util.find_spec(name.split(".")[0]) is None else "present, version unknown"


def _vectors() -> str:
    """The widest vector instructions that LLVM compiles for here."""
    from llvmlite import binding

    found = binding.get_host_cpu_features()
    return next((name for feature, name in VECTORS if found.get(feature)), "none")


def _compiled() -> dict[str, Any]:
    """Where compiled code is kept and how much of it there is."""
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return {
        "folder": str(folder),
        "files": len(files),
        "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        "state": "ready" if files else "empty: the first run compiles, once",
    }


def doctor_lines(found: dict[str, Any]) -> list[str]:
    """The diagnosis as text."""
    lines = []
    for key, value in found.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            lines.append(f"{name}:")
            lines += [f"  {inner.replace('_', ' ')}: {text}" for inner, text in value.items()]
        else:
            lines.append(f"{name}: {value}")
    return lines
