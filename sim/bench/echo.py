"""The floor of a slot: bare bidirectional asyncio gRPC streams that carry as many bytes and do nothing with them.

Run as a module this is one process of the echo: the server, which drives as the edge does, or one client
with as many streams as a host has users.
"""

import asyncio
from itertools import cycle
from time import perf_counter
from typing import Any

import grpc

from sim.bench.process import answer, listen
from sim.overrides import USER_CAP

_SERVICE, _METHOD = "equiran.bench.Echo", "Live"
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.server.max_pending_requests", USER_CAP),
    ("grpc.server.max_pending_requests_hard_limit", USER_CAP),
]


class _Server:
    """exchanges: (bytes down, bytes up) of each exchange of a slot, with every user."""

    def __init__(self, users: int, exchanges: list[tuple[int, int]]):
        self._users = users
        self._down = [bytes(down) for down, _ in exchanges]
        self._streams: list[Any] = []
        self._full, self._over = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Serve, then do as many slots as each line says and answer their seconds."""
        server = grpc.aio.server(options=_OPTIONS)
        live = grpc.stream_stream_rpc_method_handler(self._live)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: live}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        answer({"address": f"127.0.0.1:{port}"})
        await self._full.wait()
        while slots := listen():
            answer([await self._slot() for _ in range(slots)])
        self._over.set()
        await server.stop(1.0)

    async def _live(self, _: Any, context: Any) -> None:
        self._streams.append(context)
        if len(self._streams) == self._users:
            self._full.set()
        await self._over.wait()

    async def _slot(self) -> float:
        started = perf_counter()
        for down in self._down:
            await asyncio.gather(*(_exchange(stream, down) for stream in self._streams))
        return perf_counter() - started


async def _exchange(stream: Any, down: bytes) -> None:
    await stream.write(down)
    await stream.read()


async def _client(address: str, up: list[int], streams: int) -> None:
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        await asyncio.gather(*(_stream(channel, up) for _ in range(streams)))


async def _stream(channel: grpc.aio.Channel, up: list[int]) -> None:
    call: Any = channel.stream_stream(f"/{_SERVICE}/{_METHOD}")()  # type: ignore[call-arg]  # stubs know no raw bytes
    for data in cycle([bytes(size) for size in up]):
        if not isinstance(await call.read(), bytes):
            break
        await call.write(data)


def main() -> None:
    """One process of the echo, as its first line says."""
    task = listen()
    if "address" in task:
        asyncio.run(_client(task["address"], [up for _, up in task["exchanges"]], task["streams"]))
    else:
        asyncio.run(_Server(task["users"], task["exchanges"]).run())


if __name__ == "__main__":
    main()
