"""Many users' messages as frames of a trunk, and back."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from protos import edge_pb2 as pb
from protos.wire import BadBytes, parsed

MOST_PARCELS, MOST_BYTES = 128, 1 << 20
"""Of a frame that is sent. While one side works on a frame, the other makes the next one."""
_PER_PARCEL = 16
"""Bytes around a message, at most."""
_ALLOWED_PARCELS = 32 * MOST_PARCELS
"""Of a large frame that is received."""


class BadFrame(ValueError):
    """Bytes that are no frame, or a message beyond the limit; one line."""


class Parcel(NamedTuple):
    """A message of, or for, the user in this seat."""

    seat: int
    message: bytes


def largest_frame(largest_message: int) -> int:
    """Bytes of the largest frame either side may send: full, and one message more."""
    return MOST_BYTES + largest_message + _PER_PARCEL * MOST_PARCELS


def framed(parcels: Iterable[Parcel]) -> Iterator[bytes]:
    """All parcels in order, in as few frames as the limits allow."""
    frame, size = pb.Frame(), 0
    for seat, message in parcels:
        frame.parcels.add(seat=seat, message=message)
        size += len(message)
        if size >= MOST_BYTES or len(frame.parcels) == MOST_PARCELS:
            yield frame.SerializeToString()
            frame, size = pb.Frame(), 0
    if frame.parcels:
        yield frame.SerializeToString()


def opened(data: bytes, largest_message: int) -> list[Parcel]:
    """The parcels of a frame. Raises BadFrame for bytes that are none, or a message that is too large."""
    try:
        frame = parsed(pb.Frame, data, _ALLOWED_PARCELS)
    except BadBytes as error:
        raise BadFrame(str(error)) from error
    parcels = [Parcel(parcel.seat, parcel.message) for parcel in frame.parcels]
    for seat, message in parcels:
        if len(message) > largest_message:
            raise BadFrame(f"seat {seat}: a message of {len(message)} bytes, at most {largest_message} are allowed")
    return parcels
