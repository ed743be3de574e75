"""What a run will take, as a table."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from sim.run.pilot import Estimate, in_bytes, in_words


def estimate_json(estimate: Estimate, workers: int) -> dict[str, Any]:
    """Everything `--dry-run` shows, as plain data; bytes and seconds."""
    return {
        "n_design": estimate.n_design,
        "n_replicate": estimate.n_replicate,
        "workers": workers,
        "seconds": estimate.seconds,
        "cpu_hours": estimate.cpu_seconds / 3600,
        "memory_bytes": estimate.memory,
        "disk_bytes": estimate.disk,
        "measured": estimate.measured,
        "expected_mcse": {str(p): mcse for p, mcse in estimate.mcse.items()},
    }


def estimate_table(estimate: Estimate, workers: int) -> Table:
    """Time, memory, disk and expected Monte Carlo error of a run that was not begun."""
    table = Table(
        title=f"{estimate.n_design} designs x {estimate.n_replicate:,} replicates, {workers} workers: nothing was run",
        caption="From one calendar of each design." if estimate.measured else "By arithmetic alone: too large to try.",
        title_justify="left", caption_justify="left", title_style="bold", show_header=False,
    )  # fmt: skip
    table.add_row("time", f"about {in_words(estimate.seconds)}")
    table.add_row("processor time", f"{estimate.cpu_seconds / 3600:,.2f} CPU-hours")
    table.add_row("memory", f"about {in_bytes(estimate.memory)}")
    table.add_row("disk", in_bytes(estimate.disk))
    for p, mcse in estimate.mcse.items():
        what = "type I error" if p < 0.1 else "power"
        table.add_row(f"expected MCSE of a {what} of {p:g}", f"{mcse:.4f}")
    return table
