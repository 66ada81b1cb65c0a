"""Streams that break, wait and die as a scenario's faults say: over a socket, and in memory."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from edge_server.judge import RunFailed
from protos import TRUNK
from protos import edge_pb2 as pb
from sim.faulty_user import FaultySession, Interruption
from sim.memory import MemoryLine
from user_client.credentials import Channel
from user_client.link import StreamCut
from user_client.session import Session

_CUT = "a fault cut its stream"


class UserDied(Exception):
    """A fault has ended this user's life: nothing of it goes on."""


def with_faults(channel: Channel, sessions: Sequence[Session]) -> Channel:
    """The channel of these users, whose streams are hit by their faults; the same where they have none."""
    faulty = [session for session in sessions if isinstance(session, FaultySession)]
    return _FaultyChannel(channel, faulty) if faulty else channel


class _FaultyChannel:
    def __init__(self, channel: Channel, sessions: Sequence[FaultySession]) -> None:
        self._channel, self._sessions = channel, {session.name: session for session in sessions}

    def stream_stream(self, method: str) -> Any:
        opened = self._channel.stream_stream(method)
        everybody = [*self._sessions.values()] if method == TRUNK else None
        return lambda: _FaultyCall(opened(), self._sessions, everybody)

    async def close(self, grace: float | None) -> None:
        await self._channel.close(grace)


class _FaultyCall:
    """A stream that is hit before it says the next thing. concerned: who speaks on it; None: whose Join comes first."""

    def __init__(self, call: Any, sessions: dict[str, FaultySession], concerned: Sequence[FaultySession] | None):
        self._call, self._sessions, self._concerned = call, sessions, concerned

    async def write(self, data: bytes) -> None:
        if self._concerned is None:
            speaker = self._sessions.get(pb.UserMessage.FromString(data).join.user)
            self._concerned = [speaker] if speaker else []
        await _strike([(session, session.take()) for session in self._concerned])
        await self._call.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


async def _strike(struck: Sequence[tuple[FaultySession, Interruption]]) -> None:
    """Raises StreamCut, UserDied; does not return where a process dies."""
    for session, interruption in struck:
        if interruption.dies:
            _die(session)
    if seconds := max((interruption.seconds for _, interruption in struck), default=0.0):
        await asyncio.sleep(seconds)
    if any(interruption.cut for _, interruption in struck):
        raise StreamCut(_CUT)


def _die(session: FaultySession) -> NoReturn:
    if session.kills:
        os._exit(1)
    session.forget()
    raise UserDied(session.name)


class FaultyLine(MemoryLine):
    """A user beside the edge that may answer later, or over another line."""

    def __init__(self, cell: Any, session: FaultySession) -> None:
        super().__init__(cell, session)
        self._faulty = session

    def _say(self, k: int, answers: Iterable[bytes]) -> None:
        """As any user in memory; one that was hit answers when it has come to itself."""
        made = [*answers]
        struck = self._faulty.take()
        if struck.seconds:
            asyncio.get_running_loop().call_later(struck.seconds, self._go_on, k, made, struck.cut)
        else:
            self._go_on(k, made, struck.cut)

    def _go_on(self, k: int, answers: list[bytes], cut: bool) -> None:
        if cut:
            self._cell.lose(k, _CUT, self)
            asyncio.get_running_loop().call_soon(self._come_back)
        else:
            super()._say(k, answers)

    def _come_back(self) -> None:
        try:
            FaultyLine(self._cell, self._faulty).join()
        except RunFailed as failure:
            self._cell.fail(failure)
