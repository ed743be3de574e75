"""Named random streams: every number is a pure function of (seed, design, purpose, replicate, cluster, member, draw).

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, doi:10.1145/2063384.2063405) is used as a keyed counter: the key is a
hash of (seed, design, purpose), the counter is (draw, member, cluster, replicate). Nothing is consumed in order, so
workers, blocks, resumes, other designs and a new purpose cannot move a draw, and a larger trial contains the smaller
one. Normals are Box-Muller on two 53-bit uniforms.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_TWO_PI = 2.0 * math.pi
_MASK = np.uint64(0xFFFFFFFF)


@njit(cache=True, inline="always")
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Four 32-bit words (held in uint64) of Philox4x32-10 for one counter and key, all uint64 below 2**32."""
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ k0,
            p1 & _MASK,
            (p0 >> np.uint64(32)) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0 = (k0 + np.uint64(0x9E3779B9)) & _MASK
        k1 = (k1 + np.uint64(0xBB67AE85)) & _MASK
    return c0, c1, c2, c3


@njit(cache=True, inline="always")
def _uniform_pair(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Two uniforms strictly inside (0, 1), 53 bits each."""
    w0, w1, w2, w3 = philox(c0, c1, c2, c3, k0, k1)
    unit = 1.0 / 9007199254740992.0
    first = (np.float64(((w0 << np.uint64(32)) | w1) >> np.uint64(11)) + 0.5) * unit
    second = (np.float64(((w2 << np.uint64(32)) | w3) >> np.uint64(11)) + 0.5) * unit
    return first, second


@njit(cache=True, error_model="numpy")
def _fill(key: Any, replicate: Any, cluster: Any, member: Any, normal: Any, out: Any) -> None:
    """out[r, n, d] for replicate[r], unit (cluster[n], member[n]) and draw d; two draws share one counter."""
    k0 = np.uint64(key) >> np.uint64(32)
    k1 = np.uint64(key) & _MASK
    n_draw = out.shape[2]
    for r in range(out.shape[0]):
        c3 = np.uint64(replicate[r])
        for n in range(out.shape[1]):
            c1 = np.uint64(member[n])
            c2 = np.uint64(cluster[n])
            for pair in range((n_draw + 1) // 2):
                u, v = _uniform_pair(np.uint64(pair), c1, c2, c3, k0, k1)
                if normal:
                    radius = math.sqrt(-2.0 * math.log(u))
                    u = radius * math.cos(_TWO_PI * v)
                    v = radius * math.sin(_TWO_PI * v)
                out[r, n, 2 * pair] = u
                if 2 * pair + 1 < n_draw:
                    out[r, n, 2 * pair + 1] = v


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
        _fill(np.uint64(self.key(purpose)), replicate, cluster, member, normal, out)
        return out
