"""Fuzzed tensors and frames: read whole and right, or refused with the documented error."""

import numpy as np
import torch
from google.protobuf.message import DecodeError

from fuzz.tape import Tape, require_one_line
from protos import edge_pb2 as pb
from protos.codings import Coding
from protos.frames import BadFrame, framed, opened
from protos.sender import Sender
from protos.tensors import WIRE, BadTensor, NotFinite, Spec, unpack, unpack_together

CODINGS = (
    Coding(),
    Coding("float16"),
    Coding("bfloat16"),
    Coding("int8"),
    Coding("top_k", share=0.4, error_feedback=False),
)
SPECS = [
    Spec(dtype, shape, coding)
    for coding in CODINGS
    for dtype in (torch.float32, torch.float64)
    for shape in ((2, 3), (1,), (2, 1, 2, 1))
]


def tensor(data: bytes) -> None:
    """A byte that picks what was agreed, then a Tensor message."""
    tape = Tape(data)
    spec, together = SPECS[tape.number(len(SPECS))], tape.number(2)
    try:
        message = pb.Tensor.FromString(tape.rest())
    except DecodeError:
        return
    try:
        found = unpack_together([message, message], spec)[1] if together else unpack(message, spec)
    except BadTensor as error:
        require_one_line(error)
        return
    assert found.shape == spec.shape
    assert found.dtype == spec.dtype
    assert found.isfinite().all()
    _same_again(found, spec, message)


def _same_again(found: torch.Tensor, spec: Spec, message: pb.Tensor) -> None:
    """What was read can be sent, and is then read as it was."""
    if spec.coding.kind == "int8":
        least = 127 * torch.finfo(spec.dtype).smallest_normal
        assert float(found.abs().max()) <= 127 * message.scale * (1 + 1e-6) + least
        return
    again = pb.Tensor()
    Sender(spec.coding).pack(found, again, 0, 0)
    if spec.coding.kind != "top_k":
        assert again.data == message.data
    assert torch.equal(unpack(again, spec), found)


def values(data: bytes) -> None:
    """Any numbers of the run's own type: there and back bit for bit, or not finite."""
    tape = Tape(data)
    dtype = (torch.float32, torch.float64)[tape.number(2)]
    size = WIRE[dtype][1].itemsize
    raw = tape.rest()[: 64 * size]
    if not (count := len(raw) // size):
        return
    numbers = np.frombuffer(raw[: count * size], WIRE[dtype][1])
    message, spec = pb.Tensor(), Spec(dtype, (count,))
    Sender(spec.coding).pack(torch.from_numpy(numbers.copy()), message, 0, 0)
    try:
        assert unpack(message, spec).numpy().tobytes() == numbers.tobytes()
    except NotFinite:
        assert not np.isfinite(numbers).all()


def frame(data: bytes) -> None:
    """A byte for the largest message, then a Frame."""
    tape = Tape(data)
    largest = tape.number()
    try:
        parcels = opened(tape.rest(), largest)
    except BadFrame as error:
        require_one_line(error)
        return
    assert all(len(parcel.message) <= largest for parcel in parcels)
    assert [parcel for again in framed(parcels) for parcel in opened(again, largest)] == parcels
