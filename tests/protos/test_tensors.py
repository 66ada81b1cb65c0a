"""Tensors over the wire: bit for bit there and back, and everything else refused before memory is taken."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from protos import edge_pb2 as pb
from protos.tensors import BadTensor, NotFinite, Spec, pack, unpack, unpack_together, wire_dtype

DTYPES = {np.float32: (torch.float32, pb.FLOAT32), np.float64: (torch.float64, pb.FLOAT64)}
SHAPES = array_shapes(max_dims=5, max_side=6)


@st.composite
def tensors(draw: st.DrawFn) -> np.ndarray:
    kind = draw(st.sampled_from([*DTYPES]))
    numbers = st.floats(width=np.dtype(kind).itemsize * 8, allow_nan=False, allow_infinity=False)
    return draw(arrays(kind, draw(SHAPES), elements=numbers))


def packed(values: np.ndarray) -> pb.Tensor:
    message = pb.Tensor()
    pack(torch.from_numpy(values), message)
    return message


def spec(values: np.ndarray) -> Spec:
    return Spec(DTYPES[values.dtype.type][0], values.shape)


@given(tensors())
def test_round_trip_is_bit_for_bit(values: np.ndarray) -> None:
    wire = packed(values).SerializeToString()
    back = unpack(pb.Tensor.FromString(wire), spec(values))
    assert back.dtype == spec(values).dtype
    assert back.shape == values.shape
    assert back.numpy().tobytes() == values.tobytes()


@given(tensors())
def test_the_bytes_are_little_endian_and_row_major(values: np.ndarray) -> None:
    message = packed(values)
    assert message.data == values.astype(values.dtype.newbyteorder("<")).tobytes(order="C")
    assert message.dtype == DTYPES[values.dtype.type][1]
    assert tuple(message.shape) == values.shape


@given(tensors(), st.randoms(use_true_random=False))
def test_a_view_is_packed_as_what_it_shows(values: np.ndarray, random) -> None:
    order = random.sample(range(values.ndim), values.ndim)
    message = pb.Tensor()
    pack(torch.from_numpy(values).permute(*order), message)
    assert message.data == np.ascontiguousarray(values.transpose(order)).tobytes()


@given(tensors())
def test_what_comes_back_owns_its_memory(values: np.ndarray) -> None:
    message = packed(values)
    unpack(message, spec(values)).zero_()
    assert message.data == values.tobytes()


@given(tensors(), st.lists(st.tuples(st.integers(0), st.sampled_from([math.nan, math.inf, -math.inf])), min_size=1))
def test_nan_and_infinity_are_refused_and_their_first_index_named(values: np.ndarray, bad: list) -> None:
    for index, number in bad:
        values.flat[index % values.size] = number
    first = np.argwhere(~np.isfinite(values))[0]
    with pytest.raises(NotFinite, match="at index ") as caught:
        unpack(packed(values), spec(values))
    assert str(caught.value).endswith(f"at index {first.tolist()}")


@given(tensors(), st.integers(1, 9))
def test_many_come_back_in_one_block_as_each_comes_back_alone(values: np.ndarray, count: int) -> None:
    messages = [packed(values * 2.0**-k) for k in range(count)]
    block = unpack_together(messages, spec(values))
    assert block.shape == (count, *values.shape)
    for row, message in zip(block, messages, strict=True):
        assert row.numpy().tobytes() == unpack(message, spec(values)).numpy().tobytes()


@given(tensors(), st.integers(0, 3))
def test_one_bad_tensor_among_many_is_refused(values: np.ndarray, place: int) -> None:
    messages = [packed(values) for _ in range(4)]
    messages[place].data += b"\0"
    with pytest.raises(BadTensor, match="bytes of data, expected"):
        unpack_together(messages, spec(values))
    values.flat[-1] = math.nan
    messages[place] = packed(values)
    with pytest.raises(NotFinite):
        unpack_together(messages, spec(values))


@given(tensors(), SHAPES)
def test_another_shape_is_refused(values: np.ndarray, shape: tuple[int, ...]) -> None:
    assume(shape != values.shape)
    with pytest.raises(BadTensor, match="shape is"):
        unpack(packed(values), Spec(spec(values).dtype, shape))


@given(tensors(), st.integers(0, 2**31 - 1))
def test_another_dtype_is_refused(values: np.ndarray, number: int) -> None:
    message = packed(values)
    assume(number != message.dtype)
    message.dtype = number  # type: ignore[assignment]
    with pytest.raises(BadTensor, match="dtype"):
        unpack(message, spec(values))


@given(tensors(), st.integers(-9, 9).filter(bool))
def test_another_length_is_refused_with_both_numbers(values: np.ndarray, more: int) -> None:
    message = packed(values)
    right = len(message.data)
    message.data = message.data[:more] if more < 0 else message.data + b"\0" * more
    assume(len(message.data) != right)
    with pytest.raises(BadTensor, match=f"{len(message.data)} bytes of data, expected {right}"):
        unpack(message, spec(values))


@given(
    st.just([2, 3]) | st.lists(st.integers(0, 2**32 - 1), max_size=12),
    st.binary(min_size=24, max_size=24) | st.binary(max_size=64),
    st.integers(0, 5),
)
def test_any_bytes_are_refused_or_read(shape: list[int], data: bytes, dtype: int) -> None:
    message = pb.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]
    agreed = Spec(torch.float32, (2, 3))
    if dtype == pb.FLOAT32 and shape == [2, 3] and len(data) == 24 and np.isfinite(np.frombuffer(data, "<f4")).all():
        assert unpack(message, agreed).numpy().tobytes() == data
        return
    with pytest.raises(BadTensor) as refused:
        unpack(message, agreed)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "shape", [[2**32 - 1] * 8, [2**31, 2**31], [1 << 20, 1 << 20], [0], [], [1] * 100_000], ids=lambda s: str(s)[:30]
)
def test_a_shape_bomb_takes_no_memory(shape: list[int]) -> None:
    message = pb.Tensor(dtype=pb.FLOAT64, shape=shape, data=b"\0" * 48)
    agreed = Spec(torch.float64, (2, 3))
    tracemalloc.start()
    with pytest.raises(BadTensor) as caught:
        unpack(message, agreed)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_types_that_have_no_place_on_the_wire(dtype: torch.dtype) -> None:
    with pytest.raises(BadTensor, match="use float32 or float64"):
        wire_dtype(dtype)
    with pytest.raises(BadTensor, match="use float32 or float64"):
        pack(torch.zeros(2, dtype=dtype), pb.Tensor())


def test_large_finite_values_whose_sum_overflows_are_fine() -> None:
    values = np.full((4, 4), np.finfo(np.float64).max)
    assert unpack(packed(values), spec(values)).isfinite().all()


def test_the_sign_of_zero_and_denormals_survive() -> None:
    values = np.array([0.0, -0.0, 5e-324, -5e-324])
    back = unpack(packed(values), spec(values)).numpy()
    assert back.tobytes() == values.tobytes()
    assert math.copysign(1, back[1]) == -1
