"""Columns from their buffers are what Arrow itself makes of the same values."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.columns import record_batch

NUMBERS = {
    pa.float64(): st.one_of(st.none(), st.floats()),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(max_size=5),
}


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
@given(data=st.data())
def test_as_arrow_itself(kind, data):
    values = data.draw(st.lists(NUMBERS[kind], max_size=20))
    made = record_batch({"a": values}, pa.schema([("a", kind)]))
    made.validate(full=True)
    assert made.column(0).equals(pa.array(values, kind, from_pandas=True))


def test_of_numpy_arrays():
    columns = {
        "a": np.array([1.5, np.nan]),
        "b": np.array([True, False]),
        "c": np.array(["x", "ü"]),
        "d": np.arange(4)[::2],
    }
    made = record_batch(
        columns, pa.schema([("a", pa.float64()), ("b", pa.bool_()), ("c", pa.string()), ("d", pa.int32())])
    )
    made.validate(full=True)
    assert made.to_pydict() == {"a": [1.5, None], "b": [True, False], "c": ["x", "ü"], "d": [0, 2]}


def test_another_length_is_refused():
    with pytest.raises(ValueError, match="length"):
        record_batch({"a": [1.0], "b": [1.0, 2.0]}, pa.schema([("a", pa.float64()), ("b", pa.float64())]))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.int32(), np.array([2**31])),
        (pa.int8(), np.array([-129, 0])),
        (pa.int32(), np.array([1.5])),
        (pa.int32(), np.array([1.0, np.nan])),
        (pa.bool_(), np.array([2])),
        (pa.bool_(), np.array([np.nan])),
        (pa.float64(), np.zeros((2, 2))),
    ],
)
def test_a_number_that_its_type_cannot_hold_is_refused(kind, values):
    with pytest.raises(ValueError, match="not a column of"):
        record_batch({"a": values}, pa.schema([("a", kind)]))


def test_pandas_is_not_imported():
    pytest.importorskip("pandas")
    said = "from sim.columns import record_batch; import pyarrow as pa, sys; "
    made = "record_batch({'a': [1.0], 'b': ['x']}, pa.schema([('a', pa.float64()), ('b', pa.string())])); "
    ended = subprocess.run(
        [sys.executable, "-c", f"{said}{made}print('pandas' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "False\n"
