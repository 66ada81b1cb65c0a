"""Users whose answers come in another order every time: over a real socket, and in memory."""

import asyncio
from typing import Any

import numpy as np

from edge_server.cell import Cell
from edge_server.judge import RunFailed
from user_client.credentials import Credentials
from user_client.link import open_channel
from user_client.session import Session

LONGEST = 0.003
"""Seconds by which an answer may be held back."""


class LateCall:
    """A gRPC call that waits before it writes."""

    def __init__(self, call: Any, rng: np.random.Generator):
        self._call, self._rng = call, rng

    async def write(self, data: bytes) -> None:
        await asyncio.sleep(self._rng.uniform(0, LONGEST))
        await self._call.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class LateChannel:
    """A channel whose streams hold their messages back at random, each by its own time."""

    def __init__(self, address: str, largest_message: int, credentials: Credentials, seed: int = 0):
        self._channel = open_channel(address, largest_message, credentials)
        self._rng = np.random.default_rng(seed)

    def stream_stream(self, method: str) -> Any:
        return lambda: LateCall(self._channel.stream_stream(method)(), self._rng)

    async def close(self, grace: float | None) -> None:
        await self._channel.close(grace)


class ShufflingLine:
    """A user beside the edge that thinks for a random number of turns of the event loop before it answers."""

    arrivals: list[str] = []  # noqa: RUF012 - shared on purpose: who spoke, in order
    rng = np.random.default_rng(1)

    def __init__(self, cell: Cell, session: Session):
        self._cell, self._session = cell, session
        self._unread: asyncio.Queue[bytes] = asyncio.Queue()
        self._k = -1

    def join(self) -> None:
        self._k = self._cell.join(self._session.join(), self)
        self._task = asyncio.create_task(self._live())

    def send(self, data: bytes) -> None:
        self._unread.put_nowait(data)

    async def _live(self) -> None:
        try:
            while not self._session.done:
                data = await self._unread.get()
                for _ in range(int(self.rng.integers(20))):
                    await asyncio.sleep(0)
                for answer in self._session.react(data):
                    await asyncio.sleep(0)
                    self.arrivals.append(self._session.name)
                    self._cell.receive(self._k, answer)
        except Exception as error:
            self._cell.fail(RunFailed(repr(error)))
