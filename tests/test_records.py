"""Records that compiled code reads by their address, and functions compiled as parts of others."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import njit

from sim.compiled import part
from sim.lanes import lane_kernel
from sim.records import Addressed


class Inner(NamedTuple):
    """Arrays."""

    flag: np.ndarray
    matrix: np.ndarray
    name: np.ndarray


class Outer(NamedTuple):
    """Everything that a record can hold."""

    count: int
    inner: Inner
    share: float
    is_on: bool
    is_off: Any
    axis: tuple[int, ...]
    cube: np.ndarray


def record() -> Outer:
    matrix = np.arange(6.0).reshape(2, 3)
    inner = Inner(np.array([True, False, True]), matrix, np.array([2**63 + 1], np.uint64))
    return Outer(-7, inner, 0.1, True, np.False_, (4, 5, 6), np.arange(24).reshape(2, 3, 4))


@lane_kernel
def read(given, out):
    out[0] = given.count
    out[1] = given.share
    out[2] = 1.0 if given.is_on and not given.is_off else 0.0
    out[3] = len(given.axis) * given.axis[2]
    inner = given.inner
    for i in range(inner.flag.size):
        out[4] += inner.flag[i]
    out[5] = inner.matrix[1, 2]
    out[6] = given.cube[1, 2, 3] + given.cube[1][0].size
    out[7] = inner.name[0] == np.uint64(2**63 + 1)
    inner.matrix[0, 0] = -1.0


@njit
def run(given, out):
    read(given, out)


def test_every_field_is_read_and_arrays_are_written():
    given, out = record(), np.zeros(8)
    run(Addressed(given), out)
    np.testing.assert_array_equal(out, [-7, 0.1, 1, 18, 2, 5, 27, 1])
    assert given.inner.matrix[0, 0] == -1.0


def test_records_of_one_kind_share_their_code():
    before = len(run.overloads)
    other = record()._replace(count=3, share=2.5, cube=np.zeros((5, 3, 4), np.int64))
    for given in (record(), other):
        run(Addressed(given), np.zeros(8))
    assert len(run.overloads) == max(before, 1)


def test_arrays_in_another_order_are_refused():
    with pytest.raises(ValueError, match="C order"):
        Addressed(record()._replace(cube=np.zeros((2, 3, 4), order="F")))


def test_numbers_of_another_width_are_refused():
    with pytest.raises(TypeError):
        Addressed(record()._replace(count=np.float32(1.5)))


@part()
def twice(x):
    return x + x


def test_literals_share_the_code_of_ints():
    assert njit(lambda n: twice(3) + twice(n))(5) == 16
    assert len(twice.overloads) == 1


def test_a_part_is_called_by_compiled_code_alone():
    with pytest.raises(TypeError, match="twice"):
        twice(1)
