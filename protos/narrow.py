"""Numbers in fewer bytes and back: half precision, 8 bits with a scale, the largest values alone."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protos.codings import Coding

Floats = NDArray[np.floating]

LARGEST_FLOAT16 = 65504.0
_LEVELS = 127


def overflow(tensor: Tensor, coding: Coding) -> str:
    """That `tensor` holds more than `float16` can, in words; empty where it fits."""
    if coding.kind != "float16" or (largest := float(tensor.abs().max())) <= LARGEST_FLOAT16:
        return ""
    return f"{largest:.6g}, beyond {LARGEST_FLOAT16:g}, the most that float16 holds"


class Narrow(NamedTuple):
    """A tensor as it travels. scale: of `int8`. indices: places of the values that are kept, rising; of `top_k`."""

    data: bytes
    scale: float = 0.0
    indices: bytes = b""


def narrowed(values: Floats, coding: Coding, rng: np.random.Generator) -> Narrow:
    """`values` as `coding` sends them, little-endian. rng: of the rounding to `int8`."""
    if coding.kind == "float16":
        with np.errstate(over="ignore"):
            return Narrow(values.astype("<f2").tobytes())
    if coding.kind == "bfloat16":
        bits = torch.from_numpy(np.ascontiguousarray(values)).to(torch.bfloat16).view(torch.int16)
        return Narrow(bits.numpy().astype("<i2", copy=False).tobytes())
    if coding.kind == "int8":
        return _in_levels(values, rng)
    return _largest(values.ravel(), coding.kept(values.size))


def widened(sent: Narrow, coding: Coding, layout: np.dtype[np.floating], size: int) -> Floats:
    """[size]: the numbers that `sent` stands for, in `layout`. Lengths and places were checked before."""
    if coding.kind == "float16":
        return np.frombuffer(sent.data, "<f2").astype(layout)
    if coding.kind == "bfloat16":
        upper = np.frombuffer(sent.data, "<u2").astype("<u4") << 16
        with np.errstate(invalid="ignore"):
            return upper.view("<f4").astype(layout)
    if coding.kind == "int8":
        with np.errstate(over="ignore", invalid="ignore"):
            levels: Floats = np.frombuffer(sent.data, np.int8).astype(layout)
            levels *= layout.type(sent.scale)
        return levels
    values = np.zeros(size, layout)
    values[np.frombuffer(sent.indices, "<u4")] = np.frombuffer(sent.data, layout)
    return values


def _in_levels(values: Floats, rng: np.random.Generator) -> Narrow:
    """Multiples of max |values| / 127, rounded up or down at random so that the mean is right."""
    largest = float(np.abs(values).max())
    scale = float(values.dtype.type(largest / _LEVELS)) or 1.0
    if not np.isfinite(scale):
        return Narrow(bytes(values.size), scale)
    levels = np.floor(values / values.dtype.type(scale) + rng.random(values.shape, np.float32))
    return Narrow(levels.clip(-_LEVELS, _LEVELS).astype(np.int8).tobytes(), scale)


def _largest(values: Floats, kept: int) -> Narrow:
    """The `kept` largest of values [n] by magnitude, the first of equal ones; NaN counts as infinite."""
    size = np.where(np.isnan(values), np.inf, np.abs(values))
    least = np.partition(size, len(size) - kept)[len(size) - kept]
    above = np.flatnonzero(size > least)
    places = np.sort(np.concatenate([above, np.flatnonzero(size == least)[: kept - len(above)]]))
    little = values.dtype.newbyteorder("<")
    return Narrow(values[places].astype(little).tobytes(), indices=places.astype("<u4").tobytes())
