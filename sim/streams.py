"""Named random streams: every number is a pure function of (seed, design, purpose, replicate, cluster, member, draw).

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, doi:10.1145/2063384.2063405) is used as a keyed counter: the key is a
hash of (seed, design, purpose), the counter is (draw, member, cluster, replicate). Nothing is consumed in order, so
workers, blocks, resumes, other designs and a new purpose cannot move a draw, and a larger trial contains the smaller
one. Each function runs on one counter or on one per lane (sim.lanes), with the same bits.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.lanes import LANES, as_bits, as_real, everywhere, fma, inline, load, log, sqrt, store, to_real, where

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_MASK = np.uint64(0xFFFFFFFF)
_UNIT = 1.0 / 4503599627370496.0  # 2^-52


@inline
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Four 32-bit words of Philox4x32-10 for a counter (lanes, or all uint64) and a key (uint64), all below 2**32."""
    for _ in range(10):
        p0 = c0 * np.uint64(0xD2511F53)
        p1 = c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ k0,
            p1 & _MASK,
            (p0 >> np.uint64(32)) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0 = (k0 + np.uint64(0x9E3779B9)) & _MASK
        k1 = (k1 + np.uint64(0xBB67AE85)) & _MASK
    return c0, c1, c2, c3


@inline
def uniform_pair(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Two uniforms strictly inside (0, 1): the middles of 2^52 equal parts, all of them exact in float64."""
    w0, w1, w2, w3 = philox(c0, c1, c2, c3, k0, k1)
    first = (to_real(((w0 << np.uint64(32)) | w1) >> np.uint64(12)) + 0.5) * _UNIT
    second = (to_real(((w2 << np.uint64(32)) | w3) >> np.uint64(12)) + 0.5) * _UNIT
    return first, second


@inline
def normal_pair(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Two independent standard normals: Box-Muller with 52 bits for the radius and 54 for the angle.

    The angle's top two bits choose a quarter of the circle, the other 52 an angle within it, from -pi/4 to pi/4; sine
    and cosine of that are their Taylor series, within 1 unit in the last place.
    """
    w0, w1, w2, w3 = philox(c0, c1, c2, c3, k0, k1)
    u = (to_real(((w0 << np.uint64(32)) | w1) >> np.uint64(12)) + 0.5) * _UNIT
    radius = sqrt(-2.0 * log(u))
    word = (w2 << np.uint64(32)) | w3
    within = to_real((word & np.uint64(0x3FFFFFFFFFFFFFFF)) >> np.uint64(10)) + 0.5
    angle = fma(within, _UNIT * (0.5 * math.pi), -0.25 * math.pi)
    square = angle * angle
    sine = fma(square, 1.0 / 355687428096000.0, -1.0 / 1307674368000.0)
    sine = fma(sine, square, 1.0 / 6227020800.0)
    sine = fma(sine, square, -1.0 / 39916800.0)
    sine = fma(sine, square, 1.0 / 362880.0)
    sine = fma(sine, square, -1.0 / 5040.0)
    sine = fma(sine, square, 1.0 / 120.0)
    sine = fma(sine, square, -1.0 / 6.0)
    sine = fma(sine * square, angle, angle)
    cosine = fma(square, 1.0 / 20922789888000.0, -1.0 / 87178291200.0)
    cosine = fma(cosine, square, 1.0 / 479001600.0)
    cosine = fma(cosine, square, -1.0 / 3628800.0)
    cosine = fma(cosine, square, 1.0 / 40320.0)
    cosine = fma(cosine, square, -1.0 / 720.0)
    cosine = fma(cosine, square, 1.0 / 24.0)
    cosine = fma(cosine, square, -0.5)
    cosine = fma(cosine, square, 1.0)
    is_turned = to_real((word >> np.uint64(62)) & np.uint64(1)) > 0.5  # by a quarter of the circle
    sign = (word >> np.uint64(63)) << np.uint64(63)  # by half of it
    first = as_real(as_bits(where(is_turned, -sine, cosine)) ^ sign)
    second = as_real(as_bits(where(is_turned, cosine, sine)) ^ sign)
    return radius * first, radius * second


@njit(cache=True, error_model="numpy")
def _fill(key: Any, replicate: Any, cluster: Any, member: Any, normal: Any, out: Any) -> None:
    """out[r, n, d] for replicate[r], unit (cluster[n], member[n]) and draw d; two draws share one counter.

    LANES units at a time; cluster and member (uint64) are padded to a multiple of LANES.
    """
    k0 = np.uint64(key) >> np.uint64(32)
    k1 = np.uint64(key) & _MASK
    n_unit, n_draw = out.shape[1], out.shape[2]
    pair = np.empty((2, LANES))
    for r in range(out.shape[0]):
        c3 = everywhere(np.uint64(replicate[r]))
        for start in range(0, n_unit, LANES):
            c1, c2 = load(member, start // LANES), load(cluster, start // LANES)
            for at in range(0, n_draw, 2):
                c0 = everywhere(np.uint64(at // 2))
                u, v = normal_pair(c0, c1, c2, c3, k0, k1) if normal else uniform_pair(c0, c1, c2, c3, k0, k1)
                store(pair, u, 0)
                store(pair, v, 1)
                for lane in range(min(LANES, n_unit - start)):
                    out[r, start + lane, at] = pair[0, lane]
                    if at + 1 < n_draw:
                        out[r, start + lane, at + 1] = pair[1, lane]


class Streams:
    """The random streams of one design under one seed.

    seed : integer, at least 0.  design : the design's name; two designs share no stream unless given one name.
    """

    def __init__(self, seed: int, design: str) -> None:
        self.seed = seed
        self.design = design

    def key(self, purpose: str) -> int:
        """64-bit Philox key of one purpose."""
        text = f"{self.seed}\x1f{self.design}\x1f{purpose}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

    def normal(self, purpose: str, replicate: Ints, cluster: Ints, member: Ints, n_draw: int) -> Floats:
        """Standard normals (R, N, n_draw) for R replicate numbers and N units named by (cluster, member), all >= 0."""
        return self._draw(purpose, replicate, cluster, member, n_draw, normal=True)

    def uniform(self, purpose: str, replicate: Ints, cluster: Ints, member: Ints, n_draw: int) -> Floats:
        """Uniforms on (0, 1), shaped like `normal`."""
        return self._draw(purpose, replicate, cluster, member, n_draw, normal=False)

    def generator(self, purpose: str, number: int) -> np.random.Generator:
        """A numpy generator for one realisation of something drawn in order (a calendar, an allocation)."""
        return np.random.Generator(np.random.Philox(key=[self.key(purpose), number]))

    def _draw(self, purpose: str, replicate: Ints, cluster: Ints, member: Ints, n_draw: int, *, normal: bool) -> Floats:
        out = np.empty((len(replicate), len(member), n_draw))
        names = (in_lanes(cluster), in_lanes(member))
        _fill(np.uint64(self.key(purpose)), replicate, *names, normal, out)
        return out


def in_lanes(number: Ints) -> NDArray[np.uint64]:
    """(n,) numbers as uint64 (ceil(n / LANES), LANES), zeros at the end."""
    padded = np.zeros(-(-len(number) // LANES) * LANES, np.uint64)
    padded[: len(number)] = number
    return padded.reshape(-1, LANES)
