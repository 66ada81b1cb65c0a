"""The edge on a socket: unpacks streams into the cell, packs errors into status codes.

With `credentials`, the only grpc file here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from edge_server.attendance import OutOfOrder, Refused
from edge_server.cell import Cell
from edge_server.credentials import OPEN, Guard, Speaker, Speakers
from edge_server.judge import LIMIT
from edge_server.messages import parse
from edge_server.post import Line
from protos import KEEPALIVE
from protos import edge_pb2 as pb
from protos.frames import BadFrame, Parcel, framed, opened

SERVICE = pb.DESCRIPTOR.services_by_name["Edge"].full_name
_SLACK = 16
"""Streams beside the users' own: health checks, reflection."""

Context = grpc.aio.ServicerContext[bytes, bytes]
Item = TypeVar("Item")


class PortTaken(Exception):
    """The address cannot be listened on."""


class _Writer(Generic[Item]):
    """Writes onto a stream what is put, in order; `put` never blocks. packed: bytes to write, for what has gathered."""

    def __init__(self, context: Context, packed: Callable[[list[Item]], Iterable[bytes]]):
        self._context, self._packed = context, packed
        self._waiting: list[Item] = []
        self._more = asyncio.Event()
        self._closing = False
        self._writing = asyncio.create_task(self._write())

    def put(self, item: Item) -> None:
        """Queues one item."""
        self._waiting.append(item)
        self._more.set()

    async def close(self) -> None:
        """Returns when everything queued is written."""
        self._closing = True
        self._more.set()
        await self._writing

    def abandon(self) -> None:
        """What is queued is not written any more."""
        self._writing.cancel()

    async def _write(self) -> None:
        while self._waiting or not self._closing:
            await self._more.wait()
            self._more.clear()
            waiting, self._waiting = self._waiting, []
            for data in self._packed(waiting):
                await self._context.write(data)


class _Stream(NamedTuple):
    """A user's own stream as its line."""

    writer: _Writer[bytes]

    def send(self, data: bytes) -> None:
        self.writer.put(data)


class _Seat(NamedTuple):
    """A place on a trunk as its user's line."""

    seat: int
    trunk: _Writer[Parcel]

    def send(self, data: bytes) -> None:
        self.trunk.put(Parcel(self.seat, data))


class EdgeService:
    """Serves one cell. Messages stay bytes here: the cell parses them, so that it decides what a bad one means."""

    def __init__(self, cell: Cell, guard: Guard):
        self._cell = cell
        self.speakers = Speakers(guard)

    async def live(self, _: Any, context: Context) -> None:
        """One user's stream, from Join to goodbye."""
        writer = _Writer[bytes](context, lambda messages: messages)
        await _served(context, writer, self._converse(context, _Stream(writer)))

    async def trunk(self, _: Any, context: Context) -> None:
        """The stream of a host, from its users' Joins to their goodbyes."""
        writer = _Writer[Parcel](context, framed)
        await _served(context, writer, self._carry(context, writer))

    async def _carry(self, context: Context, trunk: _Writer[Parcel]) -> None:
        seats: dict[int, int] = {}
        with self.speakers.admitted(context) as speaker:
            await self._take_all(context, seats, trunk, speaker)
        for k in seats.values():
            self._cell.hang_up(k)

    async def _take_all(
        self, context: Context, seats: dict[int, int], trunk: _Writer[Parcel], speaker: Speaker | None
    ) -> None:
        try:
            while isinstance(data := await context.read(), bytes):
                for parcel in opened(data, self._cell.plan.largest_message):
                    self._take(parcel, seats, trunk, speaker)
        except asyncio.CancelledError:
            self._lose(seats, self.speakers.why("its host's connection broke"))
            raise
        except BadFrame as error:
            self._lose(seats, str(error))
            raise Refused("INVALID_ARGUMENT", str(error)) from error
        except (OutOfOrder, Refused) as error:
            self._lose(seats, f"its host's stream ended: {error}")
            raise

    def _take(self, parcel: Parcel, seats: dict[int, int], trunk: _Writer[Parcel], speaker: Speaker | None) -> None:
        """One message of one user; the first of its seat is its Join. Raises OutOfOrder or Refused as `Cell` does."""
        k = seats.get(parcel.seat)
        if k is None:
            seats[parcel.seat] = self._join(parcel.message, _Seat(parcel.seat, trunk), speaker)
            return
        try:
            self._cell.receive(k, parcel.message)
        except (OutOfOrder, Refused) as error:
            self._cell.lose(k, str(error))
            raise

    def _lose(self, seats: dict[int, int], why: str) -> None:
        for k in seats.values():
            self._cell.lose(k, why)

    def _join(self, data: bytes, line: Line, speaker: Speaker | None) -> int:
        """The user whose Join is `data`, if this speaker may speak for it. Raises Refused."""
        if speaker:
            speaker.require(parse(data).join.user)
        return self._cell.join(data, line)

    async def _converse(self, context: Context, line: _Stream) -> None:
        with self.speakers.admitted(context) as speaker:
            first = await context.read()
            if not isinstance(first, bytes):
                raise Refused("INVALID_ARGUMENT", "a stream starts with Join")
            k = self._join(first, line, speaker)
            await self._hear(context, k)
        self._cell.hang_up(k)

    async def _hear(self, context: Context, k: int) -> None:
        try:
            while isinstance(data := await context.read(), bytes):
                self._cell.receive(k, data)
        except asyncio.CancelledError:
            self._cell.lose(k, self.speakers.why("its connection broke"))
            raise
        except (OutOfOrder, Refused) as error:
            self._cell.lose(k, str(error))
            raise


async def _served(context: Context, writer: _Writer[Item], conversation: Awaitable[None]) -> None:
    """The conversation, then everything that is queued; an error of it ends the stream with a status."""
    try:
        with _as_status() as status:
            await conversation
        if status:
            code, reason = status[0]
            await context.abort(code, reason[:LIMIT])
        await writer.close()
    finally:
        writer.abandon()


@contextmanager
def _as_status() -> Iterator[list[tuple[grpc.StatusCode, str]]]:
    """Collects the gRPC status of an error about who the peer is, or about a stream that makes no sense."""
    status: list[tuple[grpc.StatusCode, str]] = []
    try:
        yield status
    except Refused as error:
        status.append((grpc.StatusCode[error.code], str(error)))
    except OutOfOrder as error:
        status.append((grpc.StatusCode.FAILED_PRECONDITION, str(error)))


class EdgeServer:
    """A listening edge. `address` is where users find it."""

    def __init__(self, server: grpc.aio.Server, address: str, watching: "asyncio.Task[None]"):
        self._server, self._watching = server, watching
        self.address = address

    async def stop(self) -> None:
        """Ends every stream at once and frees the port."""
        self._watching.cancel()
        await self._server.stop(None)


async def serve(cell: Cell, host: str, port: int = 0, guard: Guard = OPEN) -> EdgeServer:
    """Listen for the cell's users on host:port (0: any free port). guard: who they must be. Raises PortTaken."""
    server = grpc.aio.server(interceptors=guard.interceptors(), options=_options(cell))
    service = EdgeService(cell, guard)
    methods = {"Live": service.live} | ({"Trunk": service.trunk} if cell.plan.trunk else {})
    handlers = {name: grpc.stream_stream_rpc_method_handler(method) for name, method in methods.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    try:
        bound = guard.bind(server, f"{host}:{port}")
    except RuntimeError as error:
        raise PortTaken(f"cannot listen on {host}:{port}: the port is taken or the address is not ours") from error
    await server.start()
    for name in ("", SERVICE):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    return EdgeServer(server, f"{host}:{bound}", asyncio.create_task(service.speakers.watch()))


def _options(cell: Cell) -> list[tuple[str, int]]:
    """Limits from the scenario; uncompressed messages alone, so that no small message unpacks into a large one."""
    largest, streams = cell.plan.largest_on_a_stream, len(cell.plan.users) + _SLACK
    return [
        ("grpc.max_receive_message_length", largest),
        ("grpc.max_send_message_length", largest),
        ("grpc.max_concurrent_streams", streams),
        ("grpc.server.max_pending_requests", streams),
        ("grpc.server.max_pending_requests_hard_limit", streams),
        *KEEPALIVE,
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.so_reuseport", 0),
    ]
