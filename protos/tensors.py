"""Tensors on the wire: one dtype table, raw little-endian bytes, sizes checked before anything is allocated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protos import edge_pb2 as pb
from protos.codings import FULL, INDEX, Coding
from protos.narrow import LARGEST_FLOAT16, Narrow, widened

WIRE: dict[torch.dtype, tuple[pb.DType, np.dtype[np.floating]]] = {
    torch.float32: (pb.FLOAT32, np.dtype("<f4")),
    torch.float64: (pb.FLOAT64, np.dtype("<f8")),
}
"""By type of a run: its number in the protocol, and its layout on the wire."""
_CODED = {"float16": pb.FLOAT16, "bfloat16": pb.BFLOAT16, "int8": pb.INT8}
_NAMES = {pb.FLOAT32: "float32", pb.FLOAT64: "float64", **{number: name for name, number in _CODED.items()}}


class BadTensor(ValueError):
    """A tensor on the wire is not what was agreed."""


class NotFinite(BadTensor):
    """A tensor holds NaN or infinity."""


@dataclass(frozen=True)
class Spec:
    """What a tensor must be: numeric type and exact shape, batch included, and how it travels."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    coding: Coding = FULL

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the tensor as it travels."""
        return self.coding.nbytes(self.size, self.dtype.itemsize)

    @property
    def whole(self) -> int:
        """Bytes of the tensor in its own type."""
        return self.size * self.dtype.itemsize

    @property
    def described(self) -> pb.Coding:
        """Its coding, as Join says it; nothing for one that is sent whole. Raises BadTensor as `wire_dtype`."""
        if self.coding.kind == "full":
            return pb.Coding()
        kept = self.coding.kept(self.size) if self.coding.kind == "top_k" else 0
        return pb.Coding(dtype=coded_dtype(self.coding, self.dtype), kept=kept)

    @cached_property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


@cache
def agreed(dtype: torch.dtype, shape: tuple[int, ...], coding: Coding = FULL) -> Spec:
    """The spec of these; one and the same object for all who agree on it."""
    return Spec(dtype, shape, coding)


def wire_dtype(dtype: torch.dtype) -> pb.DType:
    """The protocol's number for `dtype`; raises BadTensor for a type that has none."""
    if dtype not in WIRE:
        raise BadTensor(f"dtype {dtype} cannot go over the wire; use float32 or float64")
    return WIRE[dtype][0]


def coded_dtype(coding: Coding, dtype: torch.dtype) -> pb.DType:
    """The protocol's number for what a tensor of `dtype` travels as; raises BadTensor as `wire_dtype`."""
    own = wire_dtype(dtype)
    return _CODED.get(coding.kind, own)


def pack(tensor: Tensor, into: pb.Tensor) -> None:
    """Write `tensor` (any shape, float32 or float64, CPU) into a message. Raises BadTensor for another dtype."""
    into.dtype = wire_dtype(tensor.dtype)
    into.shape.extend([*tensor.shape])
    into.data = tensor.detach().numpy().astype(WIRE[tensor.dtype][1], copy=False).tobytes()


def unpack(message: pb.Tensor, spec: Spec) -> Tensor:
    """The tensor that `message` carries, in fresh aligned memory.

    Raises BadTensor if dtype, shape or length differ from `spec` (before allocating), NotFinite on NaN, infinity.
    """
    if spec.coding.kind != "full":
        return torch.from_numpy(_widened(message, spec))
    return _copied(_whole(message, spec), spec, spec.shape)


def unpack_together(messages: Sequence[pb.Tensor], spec: Spec) -> Tensor:
    """The tensors [N, *shape] that N messages carry, as `unpack` gives each. Raises as it does for one of them."""
    if spec.coding.kind != "full":
        return torch.stack([unpack(message, spec) for message in messages])
    return _copied(b"".join([_whole(message, spec) for message in messages]), spec, (len(messages), *spec.shape))


def _whole(message: pb.Tensor, spec: Spec) -> bytes:
    """The bytes of a tensor that travels whole."""
    data = message.data
    wire, _ = WIRE[spec.dtype]
    if message.dtype != wire or not _same_shape(message, spec) or len(data) != spec.nbytes or _extra(message, spec):
        raise BadTensor(_difference(message, spec))
    return data


def _copied(data: bytes, spec: Spec, shape: tuple[int, ...]) -> Tensor:
    values = np.frombuffer(data, WIRE[spec.dtype][1]).reshape(shape)
    _require_finite(values)
    tensor = torch.empty(shape, dtype=spec.dtype)
    tensor.numpy()[...] = values
    return tensor


def _widened(message: pb.Tensor, spec: Spec) -> NDArray[np.floating]:
    """A tensor that came as its coding says, in the run's own type."""
    coding, sent = spec.coding, Narrow(message.data, message.scale, message.indices)
    wire = coded_dtype(coding, spec.dtype)
    got = len(sent.data) + len(sent.indices)
    if message.dtype != wire or not _same_shape(message, spec) or got != spec.nbytes or _extra(message, spec):
        raise BadTensor(_difference(message, spec))
    if coding.kind == "int8":
        _require_scale(sent.scale)
    if coding.kind == "top_k":
        _require_places(sent.indices, spec)
    if coding.kind == "int8" and b"\x80" in sent.data:
        raise BadTensor("it holds -128; an int8 is in [-127, 127]")
    values = widened(sent, coding, WIRE[spec.dtype][1], spec.size).reshape(spec.shape)
    try:
        _require_finite(values)
    except NotFinite as error:
        told = coding.kind == "float16" and "inf" in str(error)
        limit = f"; float16 holds at most {LARGEST_FLOAT16:g}" if told else ""
        raise NotFinite(f"{error}{limit}") from None
    return values


def _require_scale(scale: float) -> None:
    if not math.isfinite(scale):
        raise NotFinite(f"its scale is {scale}")
    if scale <= 0:
        raise BadTensor(f"its scale is {scale:g}; a scale is above 0")


def _require_places(indices: bytes, spec: Spec) -> None:
    kept = spec.coding.kept(spec.size)
    if len(indices) != INDEX * kept:
        raise BadTensor(f"{len(indices)} bytes of indices, expected {INDEX * kept}")
    places = np.frombuffer(indices, "<u4").astype(np.int64)
    if places[-1] >= spec.size or (np.diff(places) <= 0).any():
        raise BadTensor(f"its indices do not rise from 0 to at most {spec.size - 1}")


def _same_shape(message: pb.Tensor, spec: Spec) -> bool:
    """Of a message that may be all shape, one number more than there should be is looked at."""
    return message.shape[: len(spec.shape) + 1] == [*spec.shape]


def _difference(message: pb.Tensor, spec: Spec) -> str:
    name = _NAMES.get(message.dtype)
    expected = _NAMES[coded_dtype(spec.coding, spec.dtype)]
    if name is None:
        return f"dtype number {message.dtype} is unknown; expected {expected}"
    if name != expected:
        return f"dtype is {name}, expected {expected}"
    if not _same_shape(message, spec):
        return f"shape is {list(message.shape[:9])}, expected {list(spec.shape)}"
    if extra := _extra(message, spec):
        return f"{extra}, which this tensor's coding does not have"
    return f"{len(message.data) + len(message.indices)} bytes of data, expected {spec.nbytes}"


def _extra(message: pb.Tensor, spec: Spec) -> str:
    """A field that the coding has no use for must be empty: nothing else may travel there."""
    kind = spec.coding.kind
    if message.indices and kind != "top_k":
        return f"{len(message.indices)} bytes of indices"
    return f"a scale of {message.scale:g}" if repr(message.scale) != "0.0" and kind != "int8" else ""


def _require_finite(values: NDArray[np.floating]) -> None:
    """Raise NotFinite, naming the first index."""
    finite = np.isfinite(values)
    if b"\0" in finite.tobytes():  # half the price of .all() for the small tensors of a kernel task
        index = [int(i) for i in np.argwhere(~finite)[0]]
        raise NotFinite(f"{values[tuple(index)]} at index {index}")
