"""Order statistics of more numbers than memory holds, exactly, from several passes over them.

Numbers are sorted as unsigned 64-bit integers of the same order. As long as they are few they are held. Of more, a pass
counts how many begin with each of 2^16 patterns of the next 16 bits; the next pass looks only at those that share the
pattern of a wanted one: a radix selection, after four passes at the latest one number. Reference: Munro & Paterson
1980, doi:10.1016/0304-3975(80)90061-4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.evaluate.spans import Index, Real

Image = NDArray[np.uint64]

HELD = 2**15
"""Numbers that are held, at most; more are counted."""
BITS = 16
_SIGN = np.uint64(2**63)


class OrderStatistics:
    """Some order statistics of a stream of finite numbers that comes again in every pass.

    wanted : how many numbers there are -> positions from 0 of those wanted, ascending.
    """

    def __init__(self, wanted: Callable[[int], Sequence[int]]) -> None:
        self._wanted = wanted
        self._brackets = [_Bracket(0, 64)]
        self._found: dict[int, float] = {}
        self.n: int | None = None
        self.rank: list[int] = []

    def add(self, value: Real) -> None:
        """The next numbers of this pass, (L,)."""
        if self._brackets:
            image = _image(value)
            for bracket in self._brackets:
                bracket.add(image)

    def needs_another_pass(self) -> bool:
        """At the end of a pass."""
        if self.n is None:
            self.n = self._brackets[0].n
            self.rank = list(self._wanted(self.n))
            self._brackets[0].rank = sorted(set(self.rank))
        narrower = []
        for bracket in self._brackets:
            found, inner = bracket.narrow()
            self._found |= found
            narrower += inner
        self._brackets = narrower
        return bool(narrower)

    def value(self) -> list[float]:
        """The numbers at the wanted positions."""
        return [self._found[rank] for rank in self.rank]


class _Bracket:
    """The numbers whose first 64 - `shift` bits are `prefix`; `below` numbers are smaller."""

    def __init__(self, prefix: int, shift: int, below: int = 0) -> None:
        self.prefix, self.shift, self.below = prefix, shift, below
        self.rank: list[int] = []
        self.n = 0
        self._held: list[Image] = []
        self._count: Index | None = None

    def add(self, image: Image) -> None:
        if self.shift < 64:
            image = image[image >> np.uint64(self.shift) == np.uint64(self.prefix)]
        self.n += len(image)
        self._held.append(image)
        if self.n > HELD:
            next_bits = np.concatenate(self._held) >> np.uint64(self.shift - BITS) & np.uint64(2**BITS - 1)
            count = np.bincount(next_bits.astype(np.int64), minlength=2**BITS)
            self._count = count if self._count is None else self._count + count
            self._held = []

    def narrow(self) -> tuple[dict[int, float], list[_Bracket]]:
        """The wanted numbers that are known by now, and narrower brackets for the others."""
        if self._count is None:
            value = _number(np.sort(np.concatenate(self._held)) if self._held else np.zeros(0, dtype=np.uint64))
            return {rank: float(value[rank - self.below]) for rank in self.rank}, []
        up_to = np.cumsum(self._count)
        inner: dict[int, _Bracket] = {}
        for rank in self.rank:
            bits = int(np.searchsorted(up_to, rank - self.below, side="right"))
            below = self.below + int(up_to[bits] - self._count[bits])
            narrower = _Bracket(self.prefix << BITS | bits, self.shift - BITS, below)
            inner.setdefault(bits, narrower).rank.append(rank)
        if self.shift > BITS:
            return {}, list(inner.values())
        known = {rank: float(_number(np.array([b.prefix], np.uint64))[0]) for b in inner.values() for rank in b.rank}
        return known, []


def _image(value: Real) -> Image:
    """Unsigned integers in the order of the numbers: positive ones with the sign bit set, negative ones inverted."""
    bits = (value + 0.0).view(np.uint64)  # one zero, not two
    return np.asarray(np.where(bits & _SIGN, ~bits, bits | _SIGN))


def _number(image: Image) -> Real:
    return np.where(image & _SIGN, image ^ _SIGN, ~image).view(np.float64)
