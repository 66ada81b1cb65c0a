"""The reception on a socket: users introduce themselves, and wait for each other before the run."""

import asyncio
from abc import ABC, abstractmethod
from asyncio import Event, Future, Task
from typing import NamedTuple

from google.protobuf.message import DecodeError

from edge_server.attendance import Refused
from edge_server.credentials import Guard, Speakers
from edge_server.ending import Ending
from edge_server.judge import LIMIT
from edge_server.listening import Context, Limits, Listener, Method, as_status, first_message, listening
from edge_server.reception import Reception, names_in
from protos import LARGEST_INTRODUCTION
from protos import reception_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Reception"].full_name
_METHOD = "Introduce"
_GOODBYE = 2.0
"""Seconds in which guests hear what comes next."""


class NobodyCame(Exception):
    """Some users did not come in time; one line."""


class Stream(NamedTuple):
    """One process, or one connection of it, that has introduced itself."""

    context: Context
    said: pb.Introduction
    ending: Ending

    async def write(self, said: pb.FromEdge) -> None:
        """Say something on it."""
        await self.context.write(said.SerializeToString())


class Desk(ABC):
    """Hears introductions and hands them over; errors end a stream with a status. patience: for a silent stream."""

    def __init__(self, guard: Guard, patience: float):
        self.speakers = Speakers(guard)
        self._patience = patience

    @property
    def methods(self) -> dict[str, dict[str, Method]]:
        """What it serves."""
        return {SERVICE: {_METHOD: self.introduce}}

    async def introduce(self, _: object, context: Context) -> None:
        """One stream."""
        with as_status() as status:
            await self._heard(context)
        if status:
            code, reason = status[0]
            await context.abort(code, reason[:LIMIT])

    async def _heard(self, context: Context) -> None:
        ending = Ending()
        with ending.awaited(), self.speakers.admitted(context, ending) as speaker:
            said = read(await first_message(context, self._patience, "Introduction")).introduction
            if speaker:
                for user in names_in(said):
                    speaker.require(user)
            await self.attend(Stream(context, said, ending))

    @abstractmethod
    async def attend(self, stream: Stream) -> None:
        """What becomes of a stream after its introduction. Raises Refused."""


class WaitingRoom(Desk):
    """Before the run, or while it is taken back: guests wait until all are there, and are then told to come again."""

    def __init__(self, reception: Reception, guard: Guard, patience: float):
        super().__init__(guard, patience)
        self._reception, self._guard = reception, guard
        self._listener: Listener | None = None
        self._watching: Task[None] | None = None
        self._news = Event()
        self._over: Future[None] = asyncio.get_running_loop().create_future()

    async def attend(self, stream: Stream) -> None:
        """Until the waiting is over. Raises Refused."""
        self._reception.enter(stream.said)
        try:
            self._news.set()
            await stream.write(pb.FromEdge(waiting=pb.Waiting(whom=self._reception.waits_for)))
            await asyncio.shield(self._over)
            await stream.write(pb.FromEdge(again=pb.Again()))
        except BaseException:
            if not self._over.done():
                self._reception.leave(stream.said)
            raise

    async def everybody(self, seconds: float) -> None:
        """Returns once all are here. Raises NobodyCame."""
        try:
            async with asyncio.timeout(seconds):
                while not self._reception.complete:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise NobodyCame(f"no word from {self._reception.waits_for} within {seconds:g} s") from None

    def end(self, refused: Refused | None = None) -> None:
        """All who wait are told to come again, or why not."""
        if refused:
            self._over.set_exception(refused)
            self._over.exception()
        else:
            self._over.set_result(None)

    async def open(self, host: str, port: int) -> str:
        """Takes guests on host:port; the address. Raises PortTaken."""
        limits = Limits(LARGEST_INTRODUCTION, len(self._reception.users), self._patience)
        self._listener = await listening(self.methods, self._guard, host, port, limits)
        self._watching = asyncio.create_task(self.speakers.watch())
        return self._listener.address

    async def close(self) -> None:
        """Frees the port once everybody has been told; whoever still waits is told that it was stopped."""
        if not self._over.done():
            self.end(Refused("ABORTED", "the edge was stopped"))
        if self._listener and self._watching:
            await self._listener.stop(_GOODBYE)
            self._watching.cancel()


def read(data: object) -> pb.FromUsers:
    """What guests say. Raises Refused for what is no message."""
    try:
        if isinstance(data, bytes):
            return pb.FromUsers.FromString(data)
    except DecodeError:
        pass
    raise Refused("INVALID_ARGUMENT", "a stream starts with Introduction")
