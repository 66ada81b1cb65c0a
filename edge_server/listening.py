"""A gRPC server of the edge's: its port, its limits, health and reflection. With `credentials`, the only grpc file."""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from edge_server.attendance import OutOfOrder, Refused
from edge_server.credentials import Guard
from protos import KEEPALIVE

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Method: TypeAlias = Callable[[Any, Context], Awaitable[None]]
"""Of a bidirectional stream of bytes."""

SLACK = 16
"""Streams beside the users' own: health checks, reflection."""
_STRANGERS = 1024
"""Connections and streams, in all, that may come beside the users' own."""
_LONGEST_IDLE = 3600
"""Seconds that a connection without a stream stays open, at most; as a rule, patience."""
_HANDSHAKE = 5_000
"""Milliseconds until a connection must have said who it is and begun to speak HTTP/2."""

_LAST = 5.0
"""Seconds, at most, that calls take to end once the server has stopped."""

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class PortTaken(Exception):
    """The address cannot be listened on."""


class Limits(NamedTuple):
    """largest: bytes of a message. streams: how many users open at a time. patience: seconds for a silent stranger."""

    largest: int
    streams: int
    patience: float


class _Unknown(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Asked last: counts calls of methods that nobody serves, and leaves them to be UNIMPLEMENTED."""

    def __init__(self) -> None:
        self.calls = 0

    def service(self, _: grpc.HandlerCallDetails) -> None:
        self.calls += 1


class _UnderWay(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Calls that are being answered. gRPC does not wait for what a call that it has ended still does."""

    def __init__(self) -> None:
        self._calls: set[asyncio.Task[Any]] = set()

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Notes the call, in whose task it is asked."""
        if (call := asyncio.current_task()) is not None:
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        return await continuation(details)

    async def over(self) -> None:
        """Returns when all are, or after a while."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=_LAST)


class Listener:
    """A server that listens. `address` is where users find it. services: what it serves.

    It must be stopped before its event loop ends: gRPC would go on taking calls, and write them into memory that is
    something else's by then.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        health: HealthServicer,
        address: str,
        services: Sequence[str],
        unknown: _Unknown,
        under_way: _UnderWay,
    ):
        self._server, self._health, self._services, self._unknown = server, health, services, unknown
        self._under_way = under_way
        self.address = address

    @property
    def unknown_calls(self) -> int:
        """How often a method was called that is not served."""
        return self._unknown.calls

    async def healthy(self, *, yes: bool) -> None:
        """What health checks are told from now on of all that is served."""
        for name in ("", *self._services):
            await self._health.set(name, _SERVING if yes else _NOT_SERVING)

    async def stop(self, grace: float | None = None) -> None:
        """Takes no new streams, ends those that are left after `grace` seconds, and frees the port."""
        await self._server.stop(grace)
        await self._under_way.over()


async def listening(
    services: Mapping[str, Mapping[str, Method]], guard: Guard, host: str, port: int, limits: Limits
) -> Listener:
    """Serve methods by service and name on host:port (0: any free port). Raises PortTaken.

    guard: who callers must be.
    """
    under_way = _UnderWay()
    interceptors = (under_way, *guard.interceptors())
    server = grpc.aio.server(interceptors=interceptors, options=_options(limits), maximum_concurrent_rpcs=_room(limits))
    for service, methods in services.items():
        handlers = {name: grpc.stream_stream_rpc_method_handler(method) for name, method in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection((*services, _HEALTH, reflection.SERVICE_NAME), server)
    unknown = _Unknown()
    server.add_generic_rpc_handlers((unknown,))
    try:
        bound = guard.bind(server, f"{host}:{port}")
    except RuntimeError as error:
        raise PortTaken(f"cannot listen on {host}:{port}: the port is taken or the address is not ours") from error
    listener = Listener(server, health, f"{host}:{bound}", [*services], unknown, under_way)
    await listener.healthy(yes=True)
    await server.start()
    return listener


async def first_message(context: Context, patience: float, what: str) -> object:
    """What a stream says first. Raises Refused where `what` it is to be takes longer than patience."""
    try:
        async with asyncio.timeout(patience):
            return await context.read()
    except TimeoutError:
        raise Refused("DEADLINE_EXCEEDED", f"no {what} within patience ({patience:g} s)") from None


@contextmanager
def as_status() -> Iterator[list[tuple[grpc.StatusCode, str]]]:
    """Collects the gRPC status of an error about who the peer is, or about a stream that makes no sense."""
    status: list[tuple[grpc.StatusCode, str]] = []
    try:
        yield status
    except Refused as error:
        status.append((grpc.StatusCode[error.code], str(error)))
    except OutOfOrder as error:
        status.append((grpc.StatusCode.FAILED_PRECONDITION, str(error)))


def _room(limits: Limits) -> int:
    """Connections, and streams, at once: each user's twice, as one may come back before its old one is given up, and
    strangers as far as there are file descriptors."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    wanted = 2 * limits.streams + _STRANGERS
    return (
        wanted if descriptors == resource.RLIM_INFINITY else max(limits.streams + SLACK, min(wanted, descriptors // 2))
    )


def _options(limits: Limits) -> list[tuple[str, int]]:
    """Limits of a server; uncompressed messages alone, so that no small message unpacks into a large one."""
    streams = limits.streams + SLACK
    return [
        ("grpc.max_receive_message_length", limits.largest),
        ("grpc.max_send_message_length", limits.largest),
        ("grpc.max_concurrent_streams", streams),
        ("grpc.server.max_pending_requests", streams),
        ("grpc.server.max_pending_requests_hard_limit", streams),
        ("grpc.max_allowed_incoming_connections", _room(limits)),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE),
        ("grpc.max_connection_idle_ms", max(1000, round(1000 * min(limits.patience, _LONGEST_IDLE)))),
        *KEEPALIVE,
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.so_reuseport", 0),
    ]
