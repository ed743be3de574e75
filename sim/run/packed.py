"""A finished block as it travels from a worker and lies in the result folder: Parquet bytes and their checksum."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.run.blocks import Block, simulate_block
from sim.run.identity import processor, software
from sim.scenario.load import Scenario

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 16
"""Hexadecimal digits of SHA-256 in a file name: one damaged file in 2**64 passes for a sound one."""


@dataclass(frozen=True)
class Packed:
    """The rows of a block and its flow of people, as bytes, and what they were made with."""

    block: Block
    rows: bytes
    flow: bytes
    software: dict[str, str]
    cpu: str


def compute(scenario: Scenario, block: Block) -> Packed:
    """Simulates a block where it is called: what a worker does."""
    return pack(block, *simulate_block(scenario, block))


def pack(block: Block, rows: pd.DataFrame, flow: pd.DataFrame) -> Packed:
    return Packed(block, _parquet(rows), _parquet(flow), software(), processor())


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
