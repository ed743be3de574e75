"""A battery of statistical tests for the random streams (`sim.streams`): normals, uniforms and the raw Philox words.

    python benchmarks/rng_battery.py            # about 1e8 normals; a Markdown table
    python benchmarks/rng_battery.py --raw replicate | dieharder -g 200 -d 0

Numbers come in blocks shaped (stream, replicate, cluster, member, draw), so every axis of the counter and the key can
be tested for dependence. Three families of neighbouring keys are used: seeds, design names and purposes. Every p-value
is two-sided (too regular is a fault as well) and is held against LEVEL over the number of tests (Bonferroni), so that
a perfect generator raises any alarm with a probability of at most LEVEL.

References: Knuth 1997, TAOCP 2, 3.3 (chi-square, serial, runs, two-level tests); Marsaglia, Tsang 2002,
doi:10.18637/jss.v007.i03 (birthday spacings); L'Ecuyer, Simard 2001, doi:10.1016/S0378-4754(00)00253-6 (their size);
Marsaglia, Marsaglia 2004, doi:10.18637/jss.v009.i02 (distribution of the Anderson-Darling statistic).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import special, stats

from sim.streams import Streams, philox

LEVEL = 0.01
AXES = ("stream", "replicate", "cluster", "member", "draw")
N_REPLICATE, N_CLUSTER, N_MEMBER, N_DRAW = 64, 25, 40, 4
N_CELL = 4096
N_SIDE = 64
N_WORD = 8
FIRST_BLOCK = {"uniforms": 10_000, "words": 20_000}  # replicates of their own: no test sees another's numbers again

Array = NDArray[Any]

FAMILIES = {
    "seeds": [(Streams(seed, "vil_4"), "outcome") for seed in (20260101, 20260102, 20260103, 20260104)],
    "designs": [(Streams(20260101, design), "outcome") for design in ("vil_4", "vil_5", "vil_40", "ind_4")],
    "purposes": [(Streams(20260101, "vil_4"), purpose) for purpose in ("outcome", "outcome2", "dropout", "allocation")],
}


# --- Numbers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """x : (stream, replicate, cluster, member, draw) normals or uniforms, or words with 4 a counter."""

    x: Array
    is_normal: bool = False

    @cached_property
    def u(self) -> Array:
        """The numbers as uniforms."""
        return special.ndtr(self.x) if self.is_normal else self.x


def _units() -> tuple[Array, Array]:
    cluster, member = np.divmod(np.arange(N_CLUSTER * N_MEMBER, dtype=np.int32), np.int32(N_MEMBER))
    return cluster, member


def _replicates(block: int) -> Array:
    return np.arange(block * N_REPLICATE, (block + 1) * N_REPLICATE, dtype=np.int32)


def _blocks(family: str, n_block: int, first: int, draw: Callable[[Streams, str, Array], Array]) -> Iterator[Array]:
    for block in range(first, first + n_block):
        streams = [draw(stream, purpose, _replicates(block)) for stream, purpose in FAMILIES[family]]
        yield np.stack(streams).reshape(len(streams), N_REPLICATE, N_CLUSTER, N_MEMBER, -1)


def normals(family: str, n_block: int) -> Iterator[Block]:
    for x in _blocks(family, n_block, 0, lambda stream, purpose, r: stream.normal(purpose, r, *_units(), N_DRAW)):
        yield Block(x, is_normal=True)


def uniforms(family: str, n_block: int) -> Iterator[Block]:
    first = FIRST_BLOCK["uniforms"]
    for x in _blocks(family, n_block, first, lambda stream, purpose, r: stream.uniform(purpose, r, *_units(), N_DRAW)):
        yield Block(x)


@njit(error_model="numpy")
def _fill_words(key: Any, replicate: Any, cluster: Any, member: Any, out: Any) -> None:
    """out[r, n, 4 d : 4 d + 4], the words of counter (d, member, cluster, replicate)."""
    k0, k1 = np.uint64(key) >> np.uint64(32), np.uint64(key) & np.uint64(0xFFFFFFFF)
    for r in range(out.shape[0]):
        for n in range(out.shape[1]):
            for d in range(out.shape[2] // 4):
                words = philox(
                    np.uint64(d), np.uint64(member[n]), np.uint64(cluster[n]), np.uint64(replicate[r]), k0, k1
                )
                for w in range(4):
                    out[r, n, 4 * d + w] = words[w]


def _raw(stream: Streams, purpose: str, replicate: Array, n_word: int = N_WORD) -> Array:
    cluster, member = _units()
    out = np.empty((len(replicate), len(member), n_word), dtype=np.uint32)
    _fill_words(np.uint64(stream.key(purpose)), replicate, cluster, member, out)
    return out


def words(family: str, n_block: int) -> Iterator[Block]:
    return (Block(x) for x in _blocks(family, n_block, FIRST_BLOCK["words"], _raw))


def check_words() -> None:
    """The words tested are those that the streams use."""
    stream, purpose = FAMILIES["seeds"][0]
    w = _raw(stream, purpose, _replicates(0)).astype(np.uint64)
    bits = (w[..., 0::2] << np.uint64(32) | w[..., 1::2]) >> np.uint64(12)
    made = (bits.astype(float) + 0.5) / 2.0**52
    if not np.array_equal(made, stream.uniform(purpose, _replicates(0), *_units(), N_WORD // 2)):
        raise SystemExit("the words tested are not those of Streams.uniform")


# --- Tests -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    name: str
    n: float
    statistic: str
    p: float


class Test(Protocol):
    """Takes blocks one by one, then says its p-value."""

    def add(self, block: Block) -> None: ...
    def result(self) -> Result: ...


def two_sided(lower: float, upper: float) -> float:
    return min(1.0, 2.0 * min(lower, upper))


@dataclass
class Mean:
    """z test of a mean that is 0 with a known SD; the terms are uncorrelated."""

    name: str
    terms: Callable[[Block], Array]
    sd: float
    total: float = 0.0
    n: int = 0

    def add(self, block: Block) -> None:
        terms = self.terms(block)
        self.total += float(terms.sum())
        self.n += terms.size

    def result(self) -> Result:
        z = self.total / (self.sd * np.sqrt(self.n))
        return Result(self.name, self.n, f"z = {z:.2f}", 2.0 * stats.norm.sf(abs(z)))


@dataclass
class ChiSquare:
    """Chi-square of independent cell numbers; equiprobable cells unless probabilities are given."""

    name: str
    cells: Callable[[Block], Array]
    probability: Array
    count: Array | None = None

    def add(self, block: Block) -> None:
        count = np.bincount(self.cells(block).ravel(), minlength=len(self.probability))
        self.count = count if self.count is None else self.count + count

    def result(self) -> Result:
        assert self.count is not None
        n, df = self.count.sum(), len(self.probability) - 1
        expected = n * self.probability
        x2 = float(((self.count - expected) ** 2 / expected).sum())
        return Result(self.name, n, f"X2 = {x2:.0f}, df {df}", two_sided(stats.chi2.cdf(x2, df), stats.chi2.sf(x2, df)))


@dataclass
class Rare:
    """Poisson test of the number of events with a small known rate: `events` gives how many, and how many expected."""

    name: str
    events: Callable[[Block], tuple[int, float]]
    found: int = 0
    expected: float = 0.0

    def add(self, block: Block) -> None:
        found, expected = self.events(block)
        self.found += found
        self.expected += expected

    def result(self) -> Result:
        law = stats.poisson(self.expected)
        p = two_sided(law.cdf(self.found), law.sf(self.found - 1))
        return Result(self.name, self.expected, f"{self.found} of {self.expected:.1f}", p)


@dataclass
class SecondLevel:
    """Kolmogorov-Smirnov of the p-values of one test over blocks."""

    name: str
    p_value: Callable[[Block], float]
    n: int = 0

    def __post_init__(self) -> None:
        self.p: list[float] = []

    def add(self, block: Block) -> None:
        self.p.append(self.p_value(block))
        self.n += block.x.size

    def result(self) -> Result:
        found = stats.kstest(self.p, "uniform")
        return Result(self.name, self.n, f"D = {found.statistic:.3f} over {len(self.p)} blocks", float(found.pvalue))


def uniform(n: int) -> Array:
    return np.full(n, 1.0 / n)


def neighbours(x: Array, axis: int, step: int = 1) -> tuple[Array, Array]:
    """Each number and the next one along an axis; step 2: pairs that share no number."""
    lead = (slice(None),) * axis
    n = x.shape[axis] // 2 * 2 if step == 2 else x.shape[axis]
    return x[(*lead, slice(0, n - 1, step))], x[(*lead, slice(1, n, step))]


def hermite(k: int, block: Block) -> Array:
    """He_k, k = 1 .. 6: mean 0, variance k!, uncorrelated; the sixth sees what the first six moments see."""
    return special.eval_hermitenorm(k, block.x)


def product(axis: int, square: bool, block: Block) -> Array:
    """Neighbours' product, of the numbers or of their squares less 1."""
    a, b = neighbours(block.x**2 - 1.0 if square else block.x, axis)
    return a * b


def cell(u: Array, n: int) -> Array:
    return (u * n).astype(np.int64)


def pair_cell(axis: int, block: Block) -> Array:
    a, b = neighbours(block.u, axis, step=2)
    return cell(a, N_SIDE) * N_SIDE + cell(b, N_SIDE)


def polar_cell(block: Block) -> Array:
    """Radius by angle of the two normals of one counter, each cut into equiprobable intervals."""
    a, b = neighbours(block.x, len(AXES) - 1, step=2)
    angle = np.mod(np.arctan2(b, a) / (2.0 * np.pi), 1.0)
    radius = np.exp(-0.5 * (a * a + b * b))
    return np.minimum(cell(radius, N_SIDE), N_SIDE - 1) * N_SIDE + np.minimum(cell(angle, N_SIDE), N_SIDE - 1)


def beyond(limit: float, sign: int, block: Block) -> tuple[int, float]:
    return int((sign * block.x > limit).sum()), block.x.size * stats.norm.sf(limit)


def kolmogorov_smirnov(block: Block) -> float:
    """p-value; the law for infinite n with Stephens' correction, sqrt(n) + .12 + .11 / sqrt(n)."""
    u, n = np.sort(block.u, axis=None), block.u.size
    step = np.arange(1, n + 1) / n
    d = max((step - u).max(), (u - step).max() + 1.0 / n)
    return float(stats.kstwobign.sf(d * (np.sqrt(n) + 0.12 + 0.11 / np.sqrt(n))))


def anderson_darling(block: Block) -> float:
    """p-value of A^2 for a fully known law, n infinite (Marsaglia & Marsaglia 2004, adinf)."""
    x, n = np.sort(block.x, axis=None), block.x.size
    lower, upper = (special.log_ndtr(x), special.log_ndtr(-x)) if block.is_normal else (np.log(x), np.log1p(-x))
    z = -n - float(((2.0 * np.arange(1, n + 1) - 1.0) * (lower + upper[::-1])).sum()) / n
    if z < 2.0:
        c = (2.00012, 0.247105, -0.0649821, 0.0347962, -0.011672, 0.00168691)
        return 1.0 - float(np.exp(-1.2337141 / z) / np.sqrt(z) * np.polynomial.polynomial.polyval(z, c))
    c = (1.0776, -2.30695, 0.43424, -0.082433, 0.008056, -0.0003146)
    return 1.0 - float(np.exp(-np.exp(np.polynomial.polynomial.polyval(z, c))))


def bits(block: Block) -> Array:
    """(words, 32) bits, +1 or -1."""
    high_first = block.x.reshape(-1, 1).astype(">u4").view(np.uint8)
    return 2 * np.unpackbits(high_first, axis=1).astype(np.int8) - 1


def hamming(axis: int, block: Block) -> Array:
    """Bits that differ between neighbouring words, 4 or fewer and 28 or more put together."""
    a, b = neighbours(block.x, axis, step=2)
    return np.clip(np.bitwise_count(a ^ b), 4, 28).astype(np.int64) - 4


def hamming_probability() -> Array:
    law = stats.binom(32, 0.5)
    return np.concatenate([[law.cdf(4)], law.pmf(np.arange(5, 28)), [law.sf(27)]])


def repeated_spacings(birthday: Array) -> int:
    """Spacings, between sorted birthdays (groups, n), that are equal to another one in the group."""
    spacing = np.sort(np.diff(np.sort(birthday, axis=1), axis=1), axis=1)
    return int((spacing[:, 1:] == spacing[:, :-1]).sum())


def birthdays(axis: int, block: Block, n: int = 4096) -> tuple[int, float]:
    """Groups of n birthdays in a year of 2^32 days, taken along one axis first."""
    flat = np.moveaxis(block.x, axis, -1).ravel()
    groups = flat[: len(flat) // n * n].reshape(-1, n)
    return repeated_spacings(groups), len(groups) * n**3 / 2.0**34


class BitFrequency:
    """Chi-square over the 128 bits of a counter's words, each of which is 1 half of the time."""

    def __init__(self, name: str) -> None:
        self.name, self.sum, self.n = name, np.zeros((4, 32)), 0

    def add(self, block: Block) -> None:
        found = bits(block).reshape(-1, 4, 32)
        self.sum += found.sum(axis=0, dtype=np.int64)
        self.n += len(found)

    def result(self) -> Result:
        x2 = float((self.sum**2).sum() / self.n)
        p = two_sided(stats.chi2.cdf(x2, 128), stats.chi2.sf(x2, 128))
        return Result(self.name, self.n * 128, f"X2 = {x2:.0f}, df 128", p)


def runs(block: Block) -> Array:
    """+1 where two bits that follow each other in a word are equal, -1 where they differ: the runs test."""
    found = bits(block)
    return found[:, 1:] * found[:, :-1]


# --- The battery -----------------------------------------------------------------------------------------------------


def across(what: str, axes: Iterable[int]) -> list[Test]:
    """Tests of dependence along axes, for normals."""
    tests: list[Test] = []
    for axis in axes:
        tests += [
            Mean(f"{what}: correlation, next {AXES[axis]}", partial(product, axis, False), 1.0),
            Mean(f"{what}: correlation of squares, next {AXES[axis]}", partial(product, axis, True), 2.0),
            ChiSquare(f"{what}: 64 x 64 cells, next {AXES[axis]}", partial(pair_cell, axis), uniform(N_SIDE**2)),
        ]
    return tests


def level(what: str) -> list[Test]:
    """Tests of the distribution, for normals and uniforms."""
    return [
        ChiSquare(f"{what}: {N_CELL} equiprobable cells", lambda b: cell(b.u, N_CELL), uniform(N_CELL)),
        SecondLevel(f"{what}: Kolmogorov-Smirnov", kolmogorov_smirnov),
        SecondLevel(f"{what}: Anderson-Darling", anderson_darling),
    ]


def normal_tests() -> list[Test]:
    moments: list[Test] = [
        Mean(f"normals: moment {k} (He_{k})", partial(hermite, k), float(np.sqrt(special.factorial(k))))
        for k in range(1, 7)
    ]
    tails: list[Test] = [
        Rare(f"normals: {'above' if sign > 0 else 'below'} {sign * limit} SD", partial(beyond, limit, sign))
        for limit in (3, 4, 5)
        for sign in (1, -1)
    ]
    polar = ChiSquare("normals: radius by angle, 64 x 64 cells", polar_cell, uniform(N_SIDE**2))
    return [*moments, *level("normals"), *tails, polar, *across("normals", range(len(AXES)))]


def uniform_tests() -> list[Test]:
    pairs: list[Test] = [
        ChiSquare(f"uniforms: 64 x 64 cells, next {AXES[axis]}", partial(pair_cell, axis), uniform(N_SIDE**2))
        for axis in range(len(AXES))
    ]
    # 52, not 53: above 1/2 a double holds no 53rd bit beside the half that keeps uniforms off 0.
    low_bits = ChiSquare("uniforms: low 12 of 52 bits", lambda b: cell(b.u * 2.0**40 % 1.0, N_CELL), uniform(N_CELL))
    return [*level("uniforms"), low_bits, *pairs]


def word_tests() -> list[Test]:
    tests: list[Test] = [
        BitFrequency("words: frequency of each bit"),
        Mean("words: runs of bits", runs, 1.0),
        ChiSquare("words: 16-bit halves", lambda b: b.x.view(np.uint16).astype(np.int64), uniform(65536)),
    ]
    for axis, name in enumerate(AXES):
        tests += [
            ChiSquare(f"words: bits changed, next {name}", partial(hamming, axis), hamming_probability()),
            Rare(f"words: birthday spacings of 2^32 days, {name} first", partial(birthdays, axis)),
        ]
    return tests


def take(tests: list[Test], blocks: Iterable[Block]) -> list[Result]:
    for block in blocks:
        for test in tests:
            test.add(block)
    return [test.result() for test in tests]


def long_birthdays(n_group: int, n: int = 2**22) -> Result:
    """Birthday spacings in a year of 2^64 days, n a group, about one repeat each; words joined two by two."""
    stream, purpose = FAMILIES["seeds"][0]
    n_replicate = -(-n // (N_CLUSTER * N_MEMBER * N_WORD // 2))
    found = 0
    for group in range(n_group):
        replicate = np.arange(group * n_replicate, (group + 1) * n_replicate, dtype=np.int32)
        found += repeated_spacings(_raw(stream, purpose, replicate).view(np.uint64).reshape(1, -1)[:, :n])
    expected = n_group * n**3 / 2.0**66
    law = stats.poisson(expected)
    p = two_sided(law.cdf(found), law.sf(found - 1))
    return Result("words: birthday spacings of 2^64 days", expected, f"{found} of {expected:.1f}", p)


def key_tests(n: int = 20000) -> list[Result]:
    """Bits that change between the keys of neighbouring seeds, designs and purposes: half of 64, each one alike."""
    makers = {
        "seeds": lambda i: Streams(i, "vil_4").key("outcome"),
        "designs": lambda i: Streams(1, f"vil_{i}").key("outcome"),
        "purposes": lambda i: Streams(1, "vil_4").key(f"outcome{i}"),
    }
    results = []
    for name, key in makers.items():
        keys = np.array([key(i) for i in range(2 * n)], dtype=np.uint64)
        changed = np.unpackbits((keys[0::2] ^ keys[1::2])[:, None].view(np.uint8), axis=1)
        x2 = float(((2.0 * changed.sum(axis=0) - n) ** 2 / n).sum())
        p = two_sided(stats.chi2.cdf(x2, 64), stats.chi2.sf(x2, 64))
        results.append(Result(f"keys: each bit changed, next of {name}", n, f"X2 = {x2:.0f}, df 64", p))
    return results


def battery(n_block: int) -> list[Result]:
    """All results. n_block blocks of about a million normals; uniforms, words and the other families a quarter each."""
    fewer = max(8, n_block // 4)
    results = take(normal_tests(), normals("seeds", n_block))
    for family in ("designs", "purposes"):
        results += take(across(f"normals of {family}", [0]), normals(family, fewer))
    results += take(uniform_tests(), uniforms("seeds", fewer))
    results += take(word_tests(), words("seeds", fewer))
    return [*results, long_birthdays(max(1, n_block // 6)), *key_tests()]


def table(results: list[Result]) -> str:
    limit = LEVEL / len(results)
    alarms = [r for r in results if not r.p >= limit]
    lines = [
        f"{len(results)} tests, family-wise false-alarm level {LEVEL}: an alarm is p < {limit:.1e}. "
        f"Alarms: {len(alarms)}. Smallest p {min(r.p for r in results):.2g}.",
        "",
        "| test | n, or events expected | statistic | p | alarm |",
        "| --- | ---: | --- | ---: | --- |",
    ]
    for r in results:
        lines.append(f"| {r.name} | {r.n:.3g} | {r.statistic} | {r.p:.3g} | {'ALARM' if r in alarms else ''} |")
    return "\n".join(lines)


def raw_stream(first: str) -> None:
    """Endless words on standard output, one axis of the counter fastest, for other test programs."""
    stream, purpose = FAMILIES["seeds"][0]
    axis = {"draw": 2, "member": 1, "replicate": 0}[first]
    block = 0
    try:
        while True:
            x = _raw(stream, purpose, np.arange(block * 1024, (block + 1) * 1024, dtype=np.int32))
            sys.stdout.buffer.write(np.moveaxis(x, axis, -1).tobytes())
            block += 1
    except BrokenPipeError:
        sys.stderr.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Statistical tests of the random streams.")
    parser.add_argument("--blocks", type=int, default=100, help="blocks of 1.02 million normals")
    parser.add_argument("--raw", choices=["draw", "member", "replicate"], help="write words for ever instead")
    choice = parser.parse_args()
    if choice.raw:
        raw_stream(choice.raw)
        return
    check_words()
    began = time.process_time()
    results = battery(choice.blocks)
    print(table(results))
    print(f"\n{time.process_time() - began:.0f} s of processor time")
    if any(not r.p >= LEVEL / len(results) for r in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
