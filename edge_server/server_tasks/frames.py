"""What a server task's process and the edge say to each other: a JSON header and named blobs of bytes."""

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

_LENGTH = struct.Struct("<I")


class Frame(NamedTuple):
    """One message; `header["kind"]` says what it is."""

    header: dict[str, Any]
    blobs: dict[str, bytes]


def write_frame(stream: BinaryIO, header: Mapping[str, Any], blobs: Mapping[str, bytes] | None = None) -> None:
    """Writes one message and flushes. Raises BrokenPipeError when nobody reads."""
    blobs = blobs or {}
    sizes = {name: len(blob) for name, blob in blobs.items()}
    text = json.dumps({"header": dict(header), "blobs": sizes}).encode()
    stream.write(b"".join((_LENGTH.pack(len(text)), text, *blobs.values())))
    stream.flush()


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next message; None at the end of the stream, also where it was cut off inside a message."""
    length = _exactly(stream, _LENGTH.size)
    text = length and _exactly(stream, _LENGTH.unpack(length)[0])
    if not text:
        return None
    content = json.loads(text)
    blobs: dict[str, bytes] = {}
    for name, size in content["blobs"].items():
        blob = _exactly(stream, size)
        if blob is None:
            return None
        blobs[name] = blob
    return Frame(content["header"], blobs)


def _exactly(stream: BinaryIO, size: int) -> bytes | None:
    data = stream.read(size)
    return data if len(data) == size else None
