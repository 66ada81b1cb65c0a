"""Tensors on the wire: one dtype table, raw little-endian bytes, sizes checked before anything is allocated."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protos import edge_pb2 as pb

_WIRE: dict[torch.dtype, tuple[pb.DType, np.dtype[np.floating]]] = {
    torch.float32: (pb.FLOAT32, np.dtype("<f4")),
    torch.float64: (pb.FLOAT64, np.dtype("<f8")),
}
_DTYPE = {wire: dtype for dtype, (wire, _) in _WIRE.items()}


class BadTensor(ValueError):
    """A tensor on the wire is not what was agreed."""


class NotFinite(BadTensor):
    """A tensor holds NaN or infinity."""


@dataclass(frozen=True)
class Spec:
    """What a tensor must be: numeric type and exact shape, batch included."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the raw data."""
        return math.prod(self.shape) * self.dtype.itemsize


def wire_dtype(dtype: torch.dtype) -> pb.DType:
    """The protocol's number for `dtype`; raises BadTensor for a type that has none."""
    if dtype not in _WIRE:
        raise BadTensor(f"dtype {dtype} cannot go over the wire; use float32 or float64")
    return _WIRE[dtype][0]


def pack(tensor: Tensor, into: pb.Tensor) -> None:
    """Write `tensor` (any shape, float32 or float64, CPU) into a message. Raises BadTensor for another dtype."""
    into.dtype = wire_dtype(tensor.dtype)
    into.shape.extend(tensor.shape)
    into.data = tensor.detach().numpy().astype(_WIRE[tensor.dtype][1], copy=False).tobytes()


def unpack(message: pb.Tensor, spec: Spec) -> Tensor:
    """The tensor that `message` carries, in fresh aligned memory.

    Raises BadTensor if dtype, shape or length differ from `spec` (before allocating), NotFinite on NaN, infinity.
    """
    data = message.data
    wire, layout = _WIRE[spec.dtype]
    if message.dtype != wire or tuple(message.shape) != spec.shape or len(data) != spec.nbytes:
        raise BadTensor(_difference(message, spec))
    values = np.frombuffer(data, layout).reshape(spec.shape)
    _require_finite(values)
    tensor = torch.empty(spec.shape, dtype=spec.dtype)
    tensor.numpy()[...] = values
    return tensor


def _difference(message: pb.Tensor, spec: Spec) -> str:
    dtype = _DTYPE.get(message.dtype)
    if dtype is None:
        return f"dtype number {message.dtype} is unknown; expected {spec.dtype}"
    if dtype != spec.dtype:
        return f"dtype is {dtype}, expected {spec.dtype}"
    if tuple(message.shape) != spec.shape:
        return f"shape is {list(message.shape[:9])}, expected {list(spec.shape)}"
    return f"{len(message.data)} bytes of data, expected {spec.nbytes}"


def _require_finite(values: NDArray[np.floating]) -> None:
    """Raise NotFinite, naming the first index."""
    finite = np.isfinite(values)
    if b"\0" in finite.tobytes():  # half the price of .all() for the small tensors of a kernel task
        index = [int(i) for i in np.argwhere(~finite)[0]]
        raise NotFinite(f"{values[tuple(index)]} at index {index}")
