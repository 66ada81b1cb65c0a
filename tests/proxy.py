"""A TCP proxy with faults, on a thread of its own: latency, a rate, stalls as losses make them, cuts, black holes."""

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

_CHUNK = 16_384


@dataclass
class Weather:
    """What bytes go through, each way. latency: seconds, to which up to `jitter` are added. rate: bytes per second.

    loss: share of chunks that arrive `again` seconds late, and all behind them, as TCP makes up for a lost packet.
    silent: nothing arrives any more, and nobody is told. lives: bytes, from and to, of a connection.
    """

    latency: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    loss: float = 0.0
    again: float = 0.2
    silent: bool = False
    lives: tuple[int, int] | None = None
    random: Random = field(default_factory=lambda: Random(0))

    def life(self) -> float:
        """Bytes that a connection lives."""
        return self.random.uniform(*self.lives) if self.lives else float("inf")

    def delay(self, size: int) -> float:
        """Seconds that so many bytes take."""
        taken = self.latency + self.jitter * self.random.random()
        taken += size / self.rate if self.rate else 0.0
        return taken + (self.again if self.random.random() < self.loss else 0.0)


@dataclass
class _Life:
    """Of one connection."""

    left: float
    ends: tuple[asyncio.StreamWriter, ...]

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            for end in self.ends:
                end.transport.abort()


class Proxy:
    """Listens on `address` and passes everything on to `target`. connections: how many were ever made.

    weather: of connections that are made from now on.
    """

    def __init__(self, target: str, weather: Weather):
        self.weather, self.connections = weather, 0
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> int:
        """Resets every connection; how many there were."""
        return self._do(self._cut())

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _cut(self) -> int:
        writers = [*self._open]
        for writer in writers:
            writer.transport.abort()
        return len(writers) // 2

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        weather = self.weather
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        life = _Life(weather.life(), (writer, far_writer))
        try:
            await asyncio.gather(
                self._pass(reader, far_writer, weather, life), self._pass(far_reader, writer, weather, life)
            )
        finally:
            self._open -= {writer, far_writer}
            for end in (writer, far_writer):
                end.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, weather: Weather, life: "_Life"
    ) -> None:
        """In order, each chunk no sooner than its delay after it came."""
        arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.create_task(self._send(arriving, to, weather))
        with suppress(ConnectionError):
            while data := await source.read(_CHUNK):
                life.spend(len(data))
                arriving.put_nowait((self._loop.time() + weather.delay(len(data)), data))
        arriving.put_nowait((0.0, b""))
        await sending

    async def _send(
        self, arriving: "asyncio.Queue[tuple[float, bytes]]", to: asyncio.StreamWriter, weather: Weather
    ) -> None:
        with suppress(ConnectionError):
            while (item := await arriving.get())[1]:
                await asyncio.sleep(max(0.0, item[0] - self._loop.time()))
                if not weather.silent:
                    to.write(item[1])
                    await to.drain()
            to.write_eof()


@contextmanager
def before(target: str, weather: Weather | None = None) -> Iterator[Proxy]:
    """A proxy in front of host:port."""
    proxy = Proxy(target, weather or Weather())
    try:
        yield proxy
    finally:
        proxy.stop()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
