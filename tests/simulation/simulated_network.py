"""Streams as gRPC gives them to both sides, without a socket: delays, cuts, half-open streams, repeated messages."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, Protocol

import grpc

from edge_server.streams import EdgeService
from protos import LIVE

Status = tuple[grpc.StatusCode, str]
_GONE: Status = (grpc.StatusCode.UNAVAILABLE, "the connection is gone")


class Cut(NamedTuple):
    """When so many messages were put onto a stream, both ways together, it breaks.

    up, down: what is on its way, or comes later, still arrives, until the side that it goes to has noticed.
    user_notices, edge_notices: seconds until then. connection: all streams of its host break with it.
    """

    after: int
    up: bool
    down: bool
    user_notices: float
    edge_notices: float
    connection: bool


class Weather(Protocol):
    """What happens to streams."""

    def delay(self) -> Callable[[], float]:
        """Seconds that each message takes, one way of one stream."""
        ...

    def cut(self, host: "Host") -> Cut | None:
        """What befalls the host's next stream."""
        ...

    def again(self) -> bool:
        """The message that was just put arrives twice."""
        ...

    def spoken(self, host: "Host", stream: "Stream") -> None:
        """The host has put a message onto the stream."""
        ...


class Pipe:
    """One way of a stream: what is put arrives in order. open: what is on its way still arrives."""

    def __init__(self, delay: Callable[[], float]):
        self.open = True
        self._loop, self._delay = asyncio.get_running_loop(), delay
        self._travelling, self._arrived = deque[Any](), deque[Any]()
        self._free = 0.0
        self._reader: asyncio.Future[None] | None = None

    def put(self, item: Any) -> None:
        self._free = max(self._free, self._loop.time() + self._delay())
        self._travelling.append(item)
        self._loop.call_at(self._free, self._arrive)

    async def get(self) -> Any:
        """The next item; None once nothing will come any more."""
        while not self._arrived:
            self._reader = self._loop.create_future()
            await self._reader
        return self._arrived.popleft()

    def end(self) -> None:
        """Nothing arrives any more, not even what waits to be read, and the reader is told."""
        self.open = False
        self._arrived = deque([None])
        self._wake()

    def _arrive(self) -> None:
        item = self._travelling.popleft()
        if self.open:
            self._arrived.append(item)
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Stream:
    """One call. status: how it ended for the user; None while it lives."""

    def __init__(self, network: "Network", host: "Host | None", method: str):
        self.status: Status | None = None
        self.said: list[bytes] = []
        self.host = host
        weather = network.weather
        self.up, self.down = Pipe(weather.delay()), Pipe(weather.delay())
        self._network, self._method = network, method
        self._loop = asyncio.get_running_loop()
        self._cut = weather.cut(host) if host else None
        self._put = 0
        self._handling: asyncio.Task[None] | None = None
        self._gone = False
        self._loop.call_later(weather.delay()(), self._arrive)

    def put_up(self, data: bytes) -> None:
        self.up.put(data)
        if self.said and self._network.weather.again():
            self._network.repeated += 1
            self.up.put(data)
        self._network.note("up", data)
        self.said.append(data)
        self._count()
        if self.host:
            self._network.weather.spoken(self.host, self)

    def put_down(self, data: Any) -> None:
        self._network.look()
        self._network.note("down", data)
        self.down.put(data)
        self._count()

    def fail(self, status: Status) -> None:
        """The user sees it end."""
        if self.status is None:
            self.status = status
            self.down.end()

    def lose(self) -> None:
        """The edge sees it break."""
        self._gone = True
        self.up.open = False
        if self._handling is not None:
            self._handling.cancel()

    def _count(self) -> None:
        self._put += 1
        if self._cut and self.host and self._put == self._cut.after:
            self._network.cuts += 1
            for stream in self.host.living if self._cut.connection else [self]:
                stream.break_off(self._cut)

    def break_off(self, cut: Cut) -> None:
        """What befalls it as `cut` says; what was gone before does not come back."""
        self.up.open, self.down.open = self.up.open and cut.up, self.down.open and cut.down
        self._loop.call_later(cut.user_notices, self.fail, _GONE)
        self._loop.call_later(cut.edge_notices, self.lose)

    def _arrive(self) -> None:
        if self.up.open and not self._gone:
            self._handling = self._loop.create_task(self._handle())

    async def _handle(self) -> None:
        """What gRPC does around a handler."""
        service = self._network.service
        code, details = grpc.StatusCode.OK, ""
        try:
            await (service.live if self._method == LIVE else service.trunk)(None, Context(self))  # type: ignore[arg-type]
        except asyncio.CancelledError:
            code, details = grpc.StatusCode.CANCELLED, ""
        except _Aborted as ended:
            code, details = ended.status
        except Exception as error:
            self._network.bugs.append(f"a handler raised {error!r}")
            code, details = grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}"
        self._gone = True
        self.down.put((code, details))


class _Aborted(Exception):
    def __init__(self, status: Status):
        super().__init__(status)
        self.status = status


class Context:
    """The edge's end, as grpc.aio.ServicerContext."""

    def __init__(self, stream: Stream):
        self._stream = stream

    async def read(self) -> Any:
        data = await self._stream.up.get()
        return grpc.aio.EOF if data is None else data

    async def write(self, data: bytes) -> None:
        self._stream.put_down(data)

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise _Aborted((code, details))


class Call:
    """The user's end, as grpc.aio.StreamStreamCall."""

    def __init__(self, stream: Stream):
        self._stream = stream
        self._done_writing = False

    async def write(self, data: bytes) -> None:
        """As grpc.aio: what is known to have ended is another error than what ends meanwhile."""
        if self._stream.status is not None:
            raise asyncio.InvalidStateError("RPC already finished.")
        self._stream.put_up(data)
        await asyncio.sleep(0)
        self._raise_for_status()

    async def read(self) -> Any:
        self._raise_for_status()
        if self._stream.status is None:
            data = await self._stream.down.get()
            if isinstance(data, bytes):
                return data
            if isinstance(data, tuple):
                self._stream.fail(data)
        self._raise_for_status()
        return grpc.aio.EOF

    async def done_writing(self) -> None:
        if self._stream.status is None and not self._done_writing:
            self._done_writing = True
            self._stream.up.put(None)

    def cancel(self) -> None:
        """The edge hears of it, unless the way up is gone."""
        if self._stream.status is None:
            self._stream.status = (grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
            if self._stream.up.open:
                asyncio.get_running_loop().call_later(self._stream.up._delay(), self._stream.lose)

    async def code(self) -> grpc.StatusCode:
        return (self._stream.status or _GONE)[0]

    async def details(self) -> str:
        return (self._stream.status or _GONE)[1]

    def _raise_for_status(self) -> None:
        if self._stream.status and self._stream.status[0] is not grpc.StatusCode.OK:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(self._stream.status[0], nothing, nothing, self._stream.status[1])


@dataclass(eq=False)
class Host:
    """Where users live. names: theirs. process: their life; None before it starts. living: its connection's streams."""

    names: list[str]
    heard: Callable[[], int]
    network: "Network"
    process: "asyncio.Task[None] | None" = None
    living: list[Stream] = field(default_factory=list)

    def stream_stream(self, method: str) -> Callable[[], Call]:
        """As grpc.aio.Channel."""

        def call() -> Call:
            stream = self.network.opened(self, method)
            self.living = [*(one for one in self.living if one.status is None), stream]
            return Call(stream)

        return call


class Network:
    """All streams of a run. cuts, repeated: how many there were. bugs: what no handler may do.

    look: called whenever the edge says something."""

    def __init__(self, service: EdgeService, weather: Weather, look: Callable[[], None]):
        self.service, self.weather, self.look = service, weather, look
        self.cuts = self.repeated = 0
        self.bugs: list[str] = []
        self.log: list[tuple[float, str, bytes]] = []

    def opened(self, host: Host | None, method: str) -> Stream:
        return Stream(self, host, method)

    def note(self, way: str, data: bytes) -> None:
        self.log.append((asyncio.get_running_loop().time(), way, data))

    async def ask(self, data: bytes, method: str = LIVE) -> Status:
        """How a stream ends on which this is all that is said."""
        call = Call(self.opened(None, method))
        try:
            await call.write(data)
            while isinstance(await call.read(), bytes):
                pass
        except grpc.aio.AioRpcError:
            pass
        return await call.code(), await call.details()
