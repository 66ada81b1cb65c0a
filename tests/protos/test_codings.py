"""Tensors in fewer bytes: what comes back is what each coding promises, and what does not fit is refused."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from protos import edge_pb2 as pb
from protos.codings import Coding, Codings
from protos.sender import Sender
from protos.tensors import BadTensor, NotFinite, Spec, coded_dtype, unpack

TYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}
KINDS = ("float16", "bfloat16", "int8", "top_k")
HALF = Coding("top_k", 0.5)


@st.composite
def tensors(draw: st.DrawFn) -> np.ndarray:
    kind = draw(st.sampled_from([*TYPES]))
    numbers = st.floats(-1e4, 1e4, width=kind.itemsize * 8)
    return draw(arrays(kind, draw(array_shapes(max_dims=4, max_side=6)), elements=numbers))


def coding(kind: str) -> Coding:
    return HALF if kind == "top_k" else Coding(kind)  # type: ignore[arg-type]


def sent(values: np.ndarray, how: Coding, sender: Sender | None = None, slot: int = 0) -> pb.Tensor:
    message = pb.Tensor()
    (sender or Sender(how, (1, 0))).pack(torch.from_numpy(values), message, 0, slot)
    return pb.Tensor.FromString(message.SerializeToString())


def spec(values: np.ndarray, how: Coding) -> Spec:
    return Spec(TYPES[values.dtype], values.shape, how)


def there(values: np.ndarray, how: Coding, sender: Sender | None = None, slot: int = 0) -> np.ndarray:
    back = unpack(sent(values, how, sender, slot), spec(values, how))
    assert back.dtype == TYPES[values.dtype]
    return back.numpy()


@given(tensors())
def test_half_precision_is_numpys_own(values: np.ndarray) -> None:
    np.testing.assert_array_equal(there(values, Coding("float16")), values.astype(np.float16).astype(values.dtype))


@given(tensors())
def test_bfloat16_keeps_eight_bits_of_the_mantissa(values: np.ndarray) -> None:
    back = there(values, Coding("bfloat16"))
    np.testing.assert_allclose(back, values, rtol=2.0**-8, atol=1e-38)
    single = np.ascontiguousarray(back, np.float32)
    assert not (single.view(np.uint32) & 0xFFFF).any()


@given(tensors())
def test_int8_is_off_by_less_than_its_scale(values: np.ndarray) -> None:
    message = sent(values, Coding("int8"))
    back = unpack(message, spec(values, Coding("int8"))).numpy()
    rounding = np.finfo(values.dtype).smallest_normal
    assert message.scale > 0
    assert np.abs(back - values).max() <= message.scale * (1 + 1e-5) + rounding
    assert np.abs(back).max() <= np.abs(values).max() * (1 + 1e-5) + rounding


def test_int8_is_right_on_average() -> None:
    values = np.random.default_rng(0).normal(size=(20, 5))
    many = [there(values, Coding("int8"), Sender(Coding("int8"), (7, 2)), slot) for slot in range(1500)]
    scale = np.abs(values).max() / 127
    assert np.abs(np.mean(many, axis=0) - values).max() < 5 * scale * 0.5 / math.sqrt(1500)
    assert np.std(many, axis=0).max() > 0.3 * scale


def test_chance_depends_on_seed_phase_round_and_slot_alone() -> None:
    values, how = np.random.default_rng(0).normal(size=200), Coding("int8")
    one, same, other = Sender(how, (7, 2)), Sender(how, (7, 2)), Sender(how, (7, 0))
    first = sent(values, how, one, 0).data
    assert sent(values, how, one, 1).data != first
    assert sent(values, how, same, 0).data == first
    assert sent(values, how, other, 0).data != first


@given(tensors(), st.sampled_from([0.01, 0.1, 0.5]))
def test_top_k_keeps_the_largest_as_they_are(values: np.ndarray, share: float) -> None:
    how = Coding("top_k", share)
    back = there(values, how)
    kept = max(1, round(share * values.size))
    flat, given_back = values.ravel(), back.ravel()
    assert ((given_back == flat) | (given_back == 0)).all()
    largest = np.sort(np.abs(flat))[-kept:]
    np.testing.assert_array_equal(np.sort(np.abs(given_back))[-kept:], largest)


@given(tensors(), st.sampled_from(KINDS))
def test_a_message_has_the_bytes_that_its_coding_says(values: np.ndarray, kind: str) -> None:
    how = coding(kind)
    message = sent(values, how)
    assert len(message.data) + len(message.indices) == spec(values, how).nbytes
    assert len(sent(np.zeros_like(values), how).SerializeToString()) == len(message.SerializeToString())


def test_error_feedback_in_closed_form() -> None:
    """Of a constant gradient (5.5, 2, 1) one value is sent a slot: the largest, with what earlier slots owe."""
    how = Coding("top_k", 0.34)
    sender, gradient = Sender(how), np.array([5.5, 2.0, 1.0])
    expected = [[5.5, 0, 0], [5.5, 0, 0], [0, 6, 0], [11, 0, 0], [5.5, 0, 0]]
    for slot, values in enumerate(expected):
        np.testing.assert_array_equal(there(gradient, how, sender, slot), values)
        sender.settle()
    owed = len(expected) * gradient - np.sum(expected, axis=0)
    np.testing.assert_array_equal(sender.owed, owed)


@given(arrays(np.float64, (9, 6), elements=st.floats(-8, 8).map(lambda x: round(x * 64) / 64)))
def test_nothing_is_lost_with_error_feedback(gradients: np.ndarray) -> None:
    how = Coding("top_k", 0.2)
    sender, arrived = Sender(how), np.zeros(6)
    for slot, gradient in enumerate(gradients):
        arrived += there(gradient, how, sender, slot)
        sender.settle()
    np.testing.assert_array_equal(arrived + sender.owed, gradients.sum(axis=0))


def test_what_a_slot_that_was_not_used_left_out_is_not_owed() -> None:
    how = Coding("top_k", 0.34)
    sender, gradient = Sender(how), np.array([4.0, 2.0, 1.0])
    there(gradient, how, sender, 0)
    np.testing.assert_array_equal(there(gradient, how, sender, 1), [4, 0, 0])
    assert sender.owed is None


def test_without_error_feedback_nothing_is_owed() -> None:
    how = Coding("top_k", 0.34, error_feedback=False)
    sender, gradient = Sender(how), np.array([4.0, 2.0, 1.0])
    for slot in range(3):
        np.testing.assert_array_equal(there(gradient, how, sender, slot), [4, 0, 0])
        sender.settle()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_nan_and_infinity_stay_what_they_are(kind: str, number: float) -> None:
    values = np.array([1.0, number, 2.0, 3.0], np.float32)
    with pytest.raises(NotFinite, match=r"nan|inf"):
        there(values, coding(kind))


def test_beyond_float16_is_said() -> None:
    with pytest.raises(NotFinite, match=r"inf at index \[1\]; float16 holds at most 65504"):
        there(np.array([1.0, 7e4]), Coding("float16"))


def test_numbers_too_small_for_a_scale_become_zero() -> None:
    np.testing.assert_array_equal(there(np.array([1e-45, -1e-44], np.float32), Coding("int8")), [0, 0])


def test_zeros_travel_as_zeros() -> None:
    for kind in KINDS:
        np.testing.assert_array_equal(there(np.zeros((2, 3)), coding(kind)), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"scale": 0.0}, BadTensor, "its scale is 0"),
        ({"scale": -1.0}, BadTensor, "its scale is -1"),
        ({"scale": math.nan}, NotFinite, "its scale is nan"),
        ({"scale": math.inf}, NotFinite, "its scale is inf"),
        ({"scale": 1e300}, NotFinite, "at index"),
        ({"dtype": pb.FLOAT16}, BadTensor, "dtype is float16, expected int8"),
        ({"dtype": 99}, BadTensor, "dtype number 99 is unknown; expected int8"),
        ({"data": b"123"}, BadTensor, "3 bytes of data, expected 4"),
        ({"shape": [2, 3]}, BadTensor, r"shape is \[2, 3\], expected \[2, 2\]"),
    ],
)
def test_a_bad_int8_tensor_is_refused(change: dict, error: type[BadTensor], reason: str) -> None:
    good = pb.Tensor(dtype=pb.INT8, shape=[2, 2], data=bytes([1, 2, 3, 4]), scale=0.5)
    agreed = Spec(torch.float32, (2, 2), Coding("int8"))
    assert unpack(good, agreed).tolist() == [[0.5, 1.0], [1.5, 2.0]]
    changed = {name: change.get(name, getattr(good, name)) for name in ("dtype", "shape", "data", "scale")}
    with pytest.raises(error, match=reason):
        unpack(pb.Tensor(**changed), agreed)


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ([3, 1], "do not rise"),
        ([1, 1], "do not rise"),
        ([1, 4], "at most 3"),
        ([1, 2**32 - 1], "at most 3"),
        ([1], "20 bytes of data, expected 24|4 bytes of indices"),
        ([0, 1, 2], "28 bytes of data, expected 24"),
    ],
)
def test_bad_places_are_refused(places: list[int], reason: str) -> None:
    values = np.array([5.0, 6.0])
    message = pb.Tensor(dtype=pb.FLOAT64, shape=[4], data=values.tobytes(), indices=np.array(places, "<u4").tobytes())
    with pytest.raises(BadTensor, match=reason):
        unpack(message, Spec(torch.float64, (4,), HALF))


def test_bytes_cannot_move_between_numbers_and_places() -> None:
    """Together as long as agreed, but one place too many and half a number too few."""
    message = pb.Tensor(dtype=pb.FLOAT64, shape=[4], data=bytes(12), indices=np.arange(3, dtype="<u4").tobytes())
    with pytest.raises(BadTensor, match="12 bytes of indices, expected 8"):
        unpack(message, Spec(torch.float64, (4,), HALF))


def test_codings_survive_json() -> None:
    codings = Codings(Coding("int8"), Coding(), HALF, Coding("top_k", 0.1, error_feedback=False))
    assert Codings.from_dict(asdict(codings)) == codings


@pytest.mark.parametrize("kind", ["full", "float16", "bfloat16", "int8"])
def test_places_travel_with_top_k_alone(kind: str) -> None:
    """Bytes that nobody looks at could carry anything."""
    values = np.array([1.0, 2.0])
    how = Coding() if kind == "full" else coding(kind)
    message = sent(values, how)
    message.indices = b"labels"
    with pytest.raises(BadTensor, match=r"6 bytes of indices, which this|\d+ bytes of data"):
        unpack(message, spec(values, how))


@pytest.mark.parametrize("kind", ["full", "float16", "bfloat16", "top_k"])
def test_a_scale_travels_with_int8_alone(kind: str) -> None:
    values = np.array([1.0, 2.0])
    how = Coding() if kind == "full" else coding(kind)
    message = sent(values, how)
    message.scale = 0.25
    with pytest.raises(BadTensor, match=r"a scale of 0\.25, which this tensor's coding does not have"):
        unpack(message, spec(values, how))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "data"), [("bfloat16", b"\x81\x7f"), ("float16", b"\x01\x7c")])
def test_a_signalling_nan_is_refused_without_a_warning(dtype: torch.dtype, kind: str, data: bytes) -> None:
    message = pb.Tensor(dtype=coded_dtype(Coding(kind), dtype), shape=[1], data=data)
    with pytest.raises(NotFinite, match=r"nan at index \[0\]"):
        unpack(message, Spec(dtype, (1,), Coding(kind)))
