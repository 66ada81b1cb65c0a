"""Columns of records as Arrow arrays, from their buffers: `pa.array` imports pandas where it is installed, .25 s."""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_NUMBERS: dict[pa.DataType, type[np.generic]] = {
    pa.bool_(): np.bool_,
    pa.int8(): np.int8,
    pa.int32(): np.int32,
    pa.int64(): np.int64,
    pa.float64(): np.float64,
}
"""`to_pandas_dtype` has them, too, and imports pandas in older versions."""


def record_batch(columns: Mapping[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    """One row per value of the columns [n]. NaN and None become null: a value that is not there.

    Raises ValueError for columns of several lengths or dimensions, and for a number that its type cannot hold.
    """
    return pa.RecordBatch.from_arrays([_column(columns[field.name], field.type) for field in schema], schema=schema)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return _strings(values)
    given = np.asarray(values)
    with np.errstate(invalid="ignore"):
        numbers = np.ascontiguousarray(given, _NUMBERS[kind])
    there = ~np.isnan(numbers)
    if given.ndim != 1 or (there & (numbers != given)).any():
        raise ValueError(f"not a column of {kind}: {given!r}")
    known = None if there.all() else _bits(there)
    data = _bits(numbers) if pa.types.is_boolean(kind) else pa.py_buffer(numbers)
    return pa.Array.from_buffers(kind, len(numbers), [known, data])


def _strings(values: Iterable[str]) -> pa.Array:
    encoded = [value.encode() for value in values]
    ends = np.fromiter(accumulate(map(len, encoded), initial=0), np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def _bits(mask: NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(mask, bitorder="little"))
