"""HTTP/2 by hand: what no honest client would send."""

import socket
import struct

from protos import LIVE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS = 0, 1, 3, 4
END_HEADERS = 4


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


HELLO = PREFACE + frame(SETTINGS)


def _literal(name: str, value: str) -> bytes:
    """A header as a literal that nobody remembers."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


def call(stream: int = 1, method: str = LIVE, **more: str) -> bytes:
    """The headers of a call. Streams of a client are odd."""
    said = {
        ":method": "POST", ":scheme": "http", ":path": method, ":authority": "edge",
        "content-type": "application/grpc", "te": "trailers",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }  # fmt: skip
    return frame(HEADERS, b"".join(_literal(*header) for header in said.items()), END_HEADERS, stream)


def message(length: int, body: bytes, compressed: bool = False, stream: int = 1) -> bytes:
    """A message that claims `length` bytes, and the frames of as many as there are."""
    data = struct.pack(">BI", compressed, length) + body
    pieces = [data[at : at + 16_384] for at in range(0, len(data), 16_384)]
    return b"".join(frame(DATA, piece, stream=stream) for piece in pieces)


def reset(stream: int) -> bytes:
    """The end of a stream, at once."""
    return frame(RESET, struct.pack(">I", 8), stream=stream)


def connected(address: tuple[str, int], *said: bytes) -> socket.socket:
    """A connection on which this was said."""
    connection = socket.create_connection(address, timeout=10)
    connection.sendall(b"".join(said))
    return connection


def closed(connection: socket.socket, seconds: float) -> bool:
    """The other side ends the connection within so many seconds."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True
