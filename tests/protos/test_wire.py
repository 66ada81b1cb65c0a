"""Bytes that are no message, and small bytes that would take much memory, are refused before a parser sees them."""

import tracemalloc

import pytest
import torch

from protos import edge_pb2 as pb
from protos.frames import BadFrame, Parcel, framed, opened
from protos.tensors import BadTensor, Spec, unpack
from protos.wire import BadBytes, parsed

MANY = 1 << 20
EMPTY_FEATURES, EMPTY_FEEDBACK = b"\x12\x00", b"\x1a\x00"


def test_a_message_comes_back_as_it_was() -> None:
    said = pb.UserMessage(feedback=pb.Feedback(loss=2.5, gradient=pb.Tensor(data=bytes(1 << 17))))
    said.ahead.key.slot = 3
    assert parsed(pb.UserMessage, said.SerializeToString(), 16) == said


def test_fields_that_nobody_knows_are_ignored() -> None:
    unknown = b"\xc2\x3e\x03abc" + b"\xc8\x3e\x05" + b"\xcd\x3e1234" + b"\xc9\x3e12345678" + b"\xd3\x3e\xd4\x3e"
    said = pb.UserMessage(leave=pb.Leave(parameters_sha256=bytes(1 << 17)))
    assert parsed(pb.UserMessage, said.SerializeToString() + unknown, 16).leave == said.leave


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05a", b"\x0a\x03\x12\x01\xff"], ids=["tag", "short", "utf-8"])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(BadBytes, match=f"^{len(data)} bytes that are no UserMessage$"):
        parsed(pb.UserMessage, data, 16)


@pytest.mark.parametrize(
    "data",
    [EMPTY_FEATURES + EMPTY_FEEDBACK, b"\x80" * 69 + b"\x00", b"\xc8\x3e\x05", b"\xd3\x3e", b"\x00\x00"],
    ids=["kinds in turn", "endless numbers", "unknown", "groups", "zeros"],
)
def test_a_large_message_with_too_many_fields_takes_no_memory(data: bytes) -> None:
    many = data * (MANY // len(data))
    tracemalloc.start()
    with pytest.raises(BadBytes, match=r"with more than 16 fields, which no UserMessage has|that are no UserMessage"):
        parsed(pb.UserMessage, many, 16)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_frame_of_a_million_parcels_is_refused() -> None:
    with pytest.raises(BadFrame, match="with more than 4096 fields, which no Frame has"):
        opened(b"\x0a\x00" * MANY, 100)
    parcels = [Parcel(seat, bytes(1000)) for seat in range(1000)]
    assert [parcel for frame in framed(parcels) for parcel in opened(frame, 1000)] == parcels


def test_a_tensor_that_is_all_shape_takes_no_memory() -> None:
    message = pb.Tensor(dtype=pb.FLOAT32, shape=[1 << 20] * MANY, data=bytes(24))
    tracemalloc.start()
    with pytest.raises(BadTensor, match=r"^shape is \[1048576, .*\], expected \[2, 3\]$"):
        unpack(message, Spec(torch.float32, (2, 3)))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
