"""The command as a user runs it, in a process of its own that can be killed, and what it leaves behind."""

import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
TABLES = ("summary.csv", "designs.csv", "estimands.csv", "flow.csv")


def small(folder, replicates=64, **changes):
    """The shipped scenario with its primary analysis alone; a design of it takes a few seconds."""
    yaml = YAML()
    yaml.width = 4096
    content = yaml.load((ROOT / "scenarios" / "crm_rwanda.yaml").read_text(encoding="utf-8"))
    content["evidence"]["file"] = str(ROOT / "scenarios" / content["evidence"]["file"])
    primary = content["hypotheses"]["primary_analysis"]
    content["analyses"] = {primary: content["analyses"][primary]}
    content |= {"replicates": replicates, **changes}
    path = Path(folder) / "small.yaml"
    yaml.dump(content, path)
    return path


def start(path, out, *options, **how):
    """The command `run` as a process."""
    command = [sys.executable, "-m", "sim", "run", str(path), "--out", str(out), "--quiet", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def finish(path, out, *options, **how):
    """Exit code and both outputs of a whole run."""
    process = start(path, out, *options, **how)
    said, complained = process.communicate(timeout=300)
    return process.returncode, said + complained


def digest(out):
    """Of every table and every block: the checksum of its bytes."""
    files = [*(Path(out) / name for name in TABLES), *sorted(Path(out).rglob("*.parquet"))]
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def children(pid):
    """Processes that descend from one, by /proc."""
    parent = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        parent[int(path.parent.name)] = int(text.rsplit(")", 1)[1].split()[1])
    found, layer = [], [pid]
    while layer:
        layer = [child for child, its in parent.items() if its in layer]
        found += layer
    return found


def workers(pid):
    """The loky workers of a run."""
    return [child for child in children(pid) if "LokyProcess" in _command(child)]


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(true, seconds=60.0):
    """Wait until something is so; whether it came to be."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return False


def n_block(out):
    """Blocks whose rows are there."""
    return len(list(Path(out).glob("blocks/*.parquet")))


def number_said(text, pattern):
    match = re.search(pattern, text)
    return None if match is None else int(match.group(1).replace(",", ""))


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def cores():
    return len(os.sched_getaffinity(0))
