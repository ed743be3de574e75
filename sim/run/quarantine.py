"""Blocks that were being computed when a process died: tried alone from then on, given up after three deaths."""

from __future__ import annotations

from collections import Counter

from sim.errors import WorkersLost
from sim.run.blocks import Block
from sim.run.journal import Journal

ALONE_AFTER, GIVEN_UP_AFTER = 1, 3


class Quarantine:
    """Counts deaths by block, and keeps those that are given up."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.deaths: Counter[Block] = Counter()
        self.given_up: list[Block] = []

    def died(self, blocks: list[Block]) -> list[Block]:
        """Count a death against each block; those that are given up with it."""
        self.deaths.update(blocks)
        last = [block for block in blocks if self.deaths[block] >= GIVEN_UP_AFTER]
        for block in last:
            self.give_up(block)
        return last

    def give_up(self, block: Block) -> None:
        self.given_up.append(block)
        said = f"block {block.name} ended every worker that tried it and is left out"
        self.journal.note("quarantined", said, block=block.name)

    def report(self) -> None:
        """Raises WorkersLost if any block was given up."""
        if self.given_up:
            names = ", ".join(block.name for block in self.given_up)
            raise WorkersLost(
                f"{len(self.given_up)} blocks ended every worker that tried them: {names}. All others are stored; give "
                "the same command again to try these once more, with more memory, or with --workers 1 to see why."
            )
