"""What strangers do to an edge on a socket; each function attacks once."""

import contextlib
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import grpc

from protos import LIVE, PROTOCOL, TRUNK
from protos import edge_pb2 as pb
from siege import raw

Address = tuple[str, int]
Attack = Callable[[Address, int], None]
HeldAttack = Callable[..., None]
GIB = 1 << 30
_HOLD = 1.0
"""Seconds that an attack is held up."""


def _held(address: Address, many: int, hold: float, *said: bytes, trickle: bytes = b"") -> None:
    """So many connections on which this was said and nothing more, or one byte now and then, for `hold` seconds."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(raw.connected(address, *said)) for _ in range(many)]
        for byte in trickle:
            time.sleep(hold / len(trickle))
            for connection in held:
                with contextlib.suppress(OSError):  # it may be closed already
                    connection.sendall(raw.frame(raw.DATA, bytes([byte]), stream=1))
        if not trickle:
            time.sleep(hold)


def nothing_said(address: Address, many: int, hold: float = _HOLD) -> None:
    _held(address, many, hold)


def idle(address: Address, many: int, hold: float = _HOLD) -> None:
    _held(address, many, hold, raw.HELLO)


def joins_nothing(address: Address, many: int, hold: float = _HOLD) -> None:
    _held(address, many, hold, raw.HELLO, raw.call())


def many_streams_join_nothing(address: Address, many: int, hold: float = _HOLD) -> None:
    _held(address, many, hold, raw.HELLO, *(raw.call(stream) for stream in range(1, 37, 2)))


def byte_by_byte(address: Address, many: int, hold: float = _HOLD) -> None:
    _held(address, many, hold, raw.HELLO, raw.call(), raw.message(100, b""), trickle=b"\x0a\x05" * round(hold))


def claims_4_gib_and_stalls(address: Address, many: int) -> None:
    _held(address, many // 4, _HOLD, raw.HELLO, raw.call(), raw.message(2**32 - 1, bytes(1000)))


def sends_1_gib(address: Address, many: int) -> None:
    """Until the edge hangs up, whatever it says meanwhile."""
    connection = raw.connected(address, raw.HELLO, raw.call(), raw.message(GIB, b""))
    piece = raw.frame(raw.DATA, bytes(16_384), stream=1) * 64
    with connection, contextlib.suppress(OSError):
        for _ in range(GIB >> 20):
            connection.sendall(piece)


def resets(address: Address, many: int) -> None:
    """Streams opened and ended at once, 10,000 in a second."""
    with raw.connected(address, raw.HELLO) as connection, contextlib.suppress(OSError):
        for first in range(1, 20_000, 200):
            streams = range(first, first + 200, 2)
            connection.sendall(b"".join(raw.call(stream) + raw.reset(stream) for stream in streams))
            time.sleep(_HOLD / 100)


def comes_and_goes(address: Address, many: int) -> None:
    """Connections opened and ended at once, 500 in a second."""
    for _ in range(50):
        for _ in range(10):
            raw.connected(address, raw.HELLO, raw.call()).close()
        time.sleep(_HOLD / 50)


@cache
def bomb() -> bytes:
    """A gzip of 1 GiB of zeros, 1 MiB long."""
    packing = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packing.compress(bytes(1 << 20)) + packing.flush(zlib.Z_FULL_FLUSH)
    again = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    again.compress(b"")
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
    return head + block * (GIB >> 20) + again.flush() + struct.pack("<II", 0xA738EA1C, GIB & 0xFFFFFFFF)


def gzip_bombs(address: Address, many: int) -> None:
    data = bomb()
    for _ in range(5):
        said = raw.call(grpc_encoding="gzip") + raw.message(len(data), data, compressed=True)
        with contextlib.suppress(OSError), raw.connected(address, raw.HELLO, said):
            time.sleep(_HOLD / 5)


@contextlib.contextmanager
def _channel(address: Address) -> Iterator[Any]:
    """A client that would send anything."""
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 1 << 26),
        ("grpc.absolute_max_metadata_size", 1 << 26),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.insecure_channel(f"{address[0]}:{address[1]}", options=options) as channel:
        yield channel


def ended(address: Address, method: str, *messages: bytes, **call: Any) -> tuple[str, str]:
    """The status with which the edge ends a stream, and its details."""
    with _channel(address) as channel:
        try:
            for _ in channel.stream_stream(method)(iter(messages), timeout=60, **call):
                pass
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
    return "OK", ""


def one_gib_message(address: Address, many: int) -> None:
    assert ended(address, LIVE, bytes(GIB))[0] == "RESOURCE_EXHAUSTED"


def join(**changes: Any) -> bytes:
    said = {"protocol": PROTOCOL, "run": "siege", "user": "user_00", "dtype": pb.FLOAT64, "batch": 25}
    return pb.UserMessage(join=pb.Join(**{**said, **changes})).SerializeToString()


def shapes_of_2_to_the_40(address: Address, many: int) -> None:
    for shape in ([1 << 20, 1 << 20], [1 << 31] * 8, [1] * 5000):
        assert ended(address, LIVE, join(feature_shape=shape))[0] in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")


def metadata(address: Address, many: int) -> None:
    large, keys = [("large", "v" * (1 << 20))], [(f"key{number}", "value") for number in range(10_000)]
    for said in (large, keys):
        assert ended(address, LIVE, metadata=said)[0] == "RESOURCE_EXHAUSTED"


def unknown_methods(address: Address, many: int) -> None:
    stale = ("/equiran.v1.Edge/Steal", "/equiran.v0.Edge/Live", "/grpc.health.v1.Health/Old", "/a/b")
    with _channel(address) as channel:
        for method in (*stale, TRUNK) * (many // 10):
            answer = channel.unary_unary(method).future(b"")
            assert answer.code() is grpc.StatusCode.UNIMPLEMENTED, method


HELD: list[HeldAttack] = [nothing_said, idle, joins_nothing, many_streams_join_nothing, byte_by_byte]
"""Those whose cost grows with the number of connections."""
OTHERS: list[Attack] = [
    claims_4_gib_and_stalls,
    sends_1_gib,
    one_gib_message,
    gzip_bombs,
    shapes_of_2_to_the_40,
    metadata,
    unknown_methods,
    resets,
    comes_and_goes,
]
