"""Bytes into messages, so that bad ones are told apart and large ones cannot blow up."""

from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

AnyMessage = TypeVar("AnyMessage", bound=Message)

_SMALL = 1 << 16
"""Bytes of a message whose fields are not worth counting."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


class BadBytes(ValueError):
    """Bytes that are no message of the kind that was due; one line."""


def parsed(kind: type[AnyMessage], data: bytes, most: int) -> AnyMessage:
    """The message in `data`. Raises BadBytes for bytes that are none, or for more than `most` fields in a large one.

    A parser takes some 50 bytes for a field of two, so fields are counted before it starts.
    """
    if len(data) > _SMALL and _more_fields(data, most):
        raise BadBytes(f"{len(data)} bytes with more than {most} fields, which no {kind.DESCRIPTOR.name} has")
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise BadBytes(f"{len(data)} bytes that are no {kind.DESCRIPTOR.name}") from error


def _more_fields(data: bytes, most: int) -> bool:
    """There are more than `most` fields at the top, as far as the bytes make sense."""
    return any(count == most for count, _ in enumerate(_fields(data)))


def _fields(data: bytes) -> Iterator[int]:
    """The wire type of each field at the top, up to the first one that makes no sense; groups count by their parts."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        yield (wire := tag & 7)
        if wire == _VARINT:
            _, at = _varint(data, at)
        elif wire == _BYTES:
            length, at = _varint(data, at)
            at += length
        else:
            at += _FIXED.get(wire, 0)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at `at`, and where the next thing starts."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value, at
