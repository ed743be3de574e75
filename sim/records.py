"""NamedTuples handed to compiled code by their address, so that a call passes one number, however much they hold.

numba passes a NamedTuple as all the numbers in it, an array of n axes being 5 + 2 n of them, and copies them wherever a
variable is used.  Of a record that `Addressed` keeps in memory a function reads what it uses, when it uses it.
Compiled code cannot change the record itself, only what is in its arrays: what was read once need not be read again.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import NativeValue, lower_getattr_generic, models, register_model, unbox
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype

_BYTE, _WORD, _BYTES = ir.IntType(8), ir.IntType(64), 8


class Addressed:
    """A NamedTuple of numbers, Booleans, tuples of like numbers, C-ordered arrays and such NamedTuples, in memory.

    A number is a word of 64 bits; an array is its address and its shape.  ValueError for an array in another order.
    """

    def __init__(self, record: Any) -> None:
        self.record = record  # keeps the arrays alive
        self._words = np.array(_words(record), np.int64)
        self.address = self._words.ctypes.data
        self._numba_type_ = _kind(record)


def _words(value: Any) -> list[int]:
    if isinstance(value, tuple):
        return [word for one in value for word in _words(one)]
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise ValueError("an array of a record must be in C order")
        return [value.ctypes.data, *value.shape]
    if isinstance(value, float):
        return [int(np.float64(value).view(np.int64))]
    return [int(value) if isinstance(value, bool | np.bool_) else index(value)]


def _kind(value: Any) -> Any:
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return types.UniTuple(_kind(value[0]), len(value))
    if isinstance(value, tuple):
        return _Record(type(value).__name__, tuple(zip(type(value)._fields, map(_kind, value), strict=True)))  # type: ignore[attr-defined]
    if isinstance(value, np.ndarray):
        return types.Array(from_dtype(value.dtype), value.ndim, "C")
    return types.boolean if isinstance(value, bool | np.bool_) else from_dtype(np.asarray(value).dtype)


def _n_word(kind: Any) -> int:
    if isinstance(kind, _Record):
        return kind.n_word
    return kind.count if isinstance(kind, types.UniTuple) else 1 + kind.ndim if isinstance(kind, types.Array) else 1


class _Record(types.Type):
    """The numba type of an Addressed NamedTuple: names and types of its fields, and the words at which they begin."""

    def __init__(self, name: str, fields: tuple[tuple[str, Any], ...]) -> None:
        self.fields = dict(fields)
        ends = np.cumsum([_n_word(kind) for kind in self.fields.values()]).tolist()
        self.n_word: int = ends[-1]
        self.place = dict(zip(self.fields, [0, *ends], strict=False))
        super().__init__(f"{name} at ({', '.join(f'{field} {kind}' for field, kind in fields)})")


@register_model(_Record)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _BYTE.as_pointer())


@infer_getattr
class _Fields(AttributeTemplate):
    key = _Record

    def generic_resolve(self, record: Any, field: str) -> Any:  # type: ignore[override]
        return record.fields.get(field)


@lower_getattr_generic(_Record)
def _field(context: Any, builder: Any, record: Any, address: Any, field: str) -> Any:
    """Code that reads a field; of a record within a record, its address."""
    kind, place = record.fields[field], record.place[field]
    if isinstance(kind, _Record):
        return builder.gep(address, [_WORD(_BYTES * place)])
    if isinstance(kind, types.UniTuple):
        one = context.get_value_type(kind.dtype)
        return cgutils.pack_array(builder, [_word(builder, address, place + i, one) for i in range(kind.count)])
    if not isinstance(kind, types.Array):
        return _word(builder, address, place, context.get_value_type(kind))
    array = context.make_array(kind)(context, builder)
    shape = [_word(builder, address, place + 1 + axis, _WORD) for axis in range(kind.ndim)]
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides = [_WORD(size)]
    for extent in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], extent))
    set_up: Any = populate_array
    pointer = context.get_data_type(kind.dtype).as_pointer()
    set_up(array, _word(builder, address, place, pointer), shape, strides, _WORD(size), None)
    return array._getvalue()


def _word(builder: Any, address: Any, place: int, kind: Any) -> Any:
    """A word as LLVM type `kind`."""
    narrow = isinstance(kind, ir.IntType) and kind.width < 64
    at = builder.bitcast(builder.gep(address, [_WORD(_BYTES * place)]), (_WORD if narrow else kind).as_pointer())
    value = builder.load(at)
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return builder.trunc(value, kind) if narrow else value


@unbox(_Record)
def _unbox(kind: Any, record: Any, c: Any) -> Any:
    """The address of an Addressed."""
    number = c.pyapi.object_getattr_string(record, "address")
    address = c.pyapi.long_as_voidptr(number)
    c.pyapi.decref(number)
    return NativeValue(address, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))
