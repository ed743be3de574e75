"""What goes wrong in a worker, on purpose. Workers find this module by the path they inherit."""

import os
import signal
from pathlib import Path

from sim.run.packed import compute

FOLDER, BLOCK, TIMES = "FAULTS_FOLDER", "FAULTS_BLOCK", "FAULTS_TIMES"


def dies(scenario, block):
    """Computes a block, but kills its own process the first so many times that it is given the named block."""
    if block.name == os.environ[BLOCK]:
        folder = Path(os.environ[FOLDER])
        n = len(list(folder.iterdir()))
        if n < int(os.environ[TIMES]):
            (folder / str(n)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return compute(scenario, block)


def plan(monkeypatch, folder, block, times):
    """The named block is to end the first `times` workers."""
    folder.mkdir(exist_ok=True)
    for name, value in ((FOLDER, str(folder)), (BLOCK, block), (TIMES, str(times))):
        monkeypatch.setenv(name, value)
