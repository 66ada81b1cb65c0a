"""The edge's side of each stream: unpacks it into the cell, and ends it with a status where it makes no sense."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_server.attendance import OutOfOrder, Refused
from edge_server.cell import Cell
from edge_server.conversation import Line
from edge_server.credentials import Guard, Speaker, Speakers
from edge_server.ending import Ending
from edge_server.judge import LIMIT
from edge_server.listening import Context, as_status, first_message
from edge_server.messages import parse
from protos.frames import BadFrame, Parcel, framed, opened

Item = TypeVar("Item")


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


@dataclass(frozen=True, eq=False)
class _Stream:
    """A user's own stream as its line."""

    writer: _Writer[bytes]
    ending: Ending

    def send(self, data: bytes) -> None:
        self.writer.put(data)

    def end(self, error: Refused) -> None:
        self.ending.supersede(error)


@dataclass(frozen=True, eq=False)
class _Seat:
    """A place on a trunk as its user's line; with a user of another stream's, the trunk ends."""

    seat: int
    trunk: _Writer[Parcel]
    ending: Ending

    def send(self, data: bytes) -> None:
        self.trunk.put(Parcel(self.seat, data))

    def end(self, error: Refused) -> None:
        self.ending.supersede(error)


@dataclass
class _Talk:
    """What is said on one stream. speaker: who is at the other end, where that is known."""

    context: Context
    ending: Ending
    speaker: Speaker | None


class EdgeService:
    """Serves one cell. Messages stay bytes here: the cell parses them, so that it decides what a bad one means."""

    def __init__(self, cell: Cell, guard: Guard):
        self._cell = cell
        self.speakers = Speakers(guard)

    async def live(self, _: object, context: Context) -> None:
        """One user's stream, from Join to goodbye."""
        writer = _Writer[bytes](context, lambda messages: messages)
        await _served(context, writer, self._alone(context, lambda talk: self._converse(talk, writer)))

    async def trunk(self, _: object, context: Context) -> None:
        """The stream of a host, from its users' Joins to their goodbyes."""
        writer = _Writer[Parcel](context, framed)
        await _served(context, writer, self._alone(context, lambda talk: self._carry(talk, writer)))

    async def _alone(self, context: Context, conversation: Callable[[_Talk], Awaitable[None]]) -> None:
        """The conversation, which others may end. Raises Refused, OutOfOrder."""
        ending = Ending()
        with ending.awaited(), self.speakers.admitted(context, ending) as speaker:
            await conversation(_Talk(context, ending, speaker))

    async def _converse(self, talk: _Talk, writer: _Writer[bytes]) -> None:
        first = await self._first(talk.context)
        if not isinstance(first, bytes):
            raise Refused("INVALID_ARGUMENT", "a stream starts with Join")
        line = _Stream(writer, talk.ending)
        k = self._join(first, line, talk.speaker)
        with self._watched(talk.ending, {0: (k, line)}):
            while isinstance(data := await talk.context.read(), bytes):
                self._cell.receive(k, data)
        self._cell.hang_up(k, line)

    async def _first(self, context: Context) -> object:
        return await first_message(context, self._cell.plan.patience, "Join")

    async def _carry(self, talk: _Talk, trunk: _Writer[Parcel]) -> None:
        seats: dict[int, tuple[int, Line]] = {}
        with self._watched(talk.ending, seats, of_host=True):
            while isinstance(data := await (talk.context.read() if seats else self._first(talk.context)), bytes):
                for parcel in opened(data, self._cell.plan.largest_message):
                    self._take(parcel, seats, trunk, talk)
        for k, line in seats.values():
            self._cell.hang_up(k, line)

    def _take(self, parcel: Parcel, seats: dict[int, tuple[int, Line]], trunk: _Writer[Parcel], talk: _Talk) -> None:
        """One message of one user; the first of its seat is its Join. Raises OutOfOrder or Refused as `Cell` does."""
        if (seated := seats.get(parcel.seat)) is None:
            seat = _Seat(parcel.seat, trunk, talk.ending)
            seats[parcel.seat] = self._join(parcel.message, seat, talk.speaker), seat
            return
        k, line = seated
        try:
            self._cell.receive(k, parcel.message)
        except (OutOfOrder, Refused) as error:
            self._cell.lose(k, str(error), line, for_good=True)
            raise

    def _join(self, data: bytes, line: Line, speaker: Speaker | None) -> int:
        """The user whose Join is `data`, if this speaker may speak for it. Raises Refused."""
        if speaker:
            speaker.require(parse(data).join.user)
        return self._cell.join(data, line)

    @contextmanager
    def _watched(
        self, ending: Ending, seats: Mapping[int, tuple[int, Line]], *, of_host: bool = False
    ) -> Iterator[None]:
        """Around reading: however it breaks off, these users are lost by it, for good where it is their doing."""
        broke = "its host's connection broke" if of_host else "its connection broke"
        host = "its host's stream ended: " if of_host else ""
        try:
            yield
        except asyncio.CancelledError:
            if not ending.superseded:
                self._lose(seats, str(ending.error) if ending.error else broke, for_good=ending.error is not None)
            raise
        except BadFrame as error:
            self._lose(seats, str(error), for_good=True)
            raise Refused("INVALID_ARGUMENT", str(error)) from error
        except (OutOfOrder, Refused) as error:
            self._lose(seats, f"{host}{error}", for_good=True)
            raise

    def _lose(self, seats: Mapping[int, tuple[int, Line]], why: str, *, for_good: bool) -> None:
        for k, line in seats.values():
            self._cell.lose(k, why, line, for_good=for_good)


async def _served(context: Context, writer: _Writer[Item], conversation: Awaitable[None]) -> None:
    """The conversation, then everything that is queued; an error of it ends the stream with a status."""
    try:
        with as_status() as status:
            await conversation
        if status:
            code, reason = status[0]
            await context.abort(code, reason[:LIMIT])
        await writer.close()
    finally:
        writer.abandon()
