"""NextTrial: simulation-based power of the next randomised trial. The command is `nexttrial`."""

import hashlib
import os
import sys
from pathlib import Path


def _cache_folder() -> str:
    """Where compiled code is kept: a folder of its own for each state of the sources that are compiled.

    numba looks only at the file of the function that is called, not at those it calls: without this, a changed kernel
    could go on running as it was compiled before the change.
    """
    root = Path(__file__).parent
    compiled = (root / "kernels", root / "fused")
    sources = sorted(p for p in root.rglob("*.py") if p.parent in compiled or b"numba" in p.read_bytes())
    state = hashlib.sha256()
    for path in sources:
        state.update(str(path.relative_to(root)).encode() + path.read_bytes())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(base / "nexttrial" / f"compiled-{state.hexdigest()[:16]}")


os.environ.setdefault("NUMBA_CACHE_DIR", _cache_folder())
if "numba" in sys.modules:  # imported before us, it has looked for the folder already
    sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
