"""The reception on a socket: users introduce themselves before the run, and stand by beside it to keep their state."""

import asyncio
import math
from abc import ABC, abstractmethod
from asyncio import FIRST_COMPLETED, Event, Future, Task
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from edge_server.attendance import Refused
from edge_server.credentials import Guard, Speakers
from edge_server.ending import Ending
from edge_server.judge import LIMIT
from edge_server.listening import Context, Limits, Listener, Method, as_status, first_message, listening
from edge_server.plan import RunPlan
from edge_server.reception import START, Place, Reception, names_in, places_in, taken
from protos import LARGEST_INTRODUCTION
from protos import edge_pb2 as edge
from protos import reception_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Reception"].full_name
_METHOD = "Introduce"
_GOODBYE = 2.0
"""Seconds in which guests hear what comes next."""
_LAST = 3.0
"""Seconds, at most, in which state is kept once somebody wants the run to stop."""


class NobodyCame(Exception):
    """Some users did not come in time; one line."""


class _Stream(NamedTuple):
    """One process, or one connection of it, that has introduced itself."""

    context: Context
    said: pb.Introduction
    ending: Ending

    async def write(self, said: pb.FromEdge) -> None:
        await self.context.write(said.SerializeToString())


class _Desk(ABC):
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
            said = _read(await first_message(context, self._patience, "Introduction")).introduction
            if speaker:
                for user in names_in(said):
                    speaker.require(user)
            await self.attend(_Stream(context, said, ending))

    @abstractmethod
    async def attend(self, stream: _Stream) -> None:
        """What becomes of a stream after its introduction. Raises Refused."""


class WaitingRoom(_Desk):
    """Before the run, or while it is taken back: guests wait until all are there, and are then told to come again."""

    def __init__(self, reception: Reception, guard: Guard, patience: float):
        super().__init__(guard, patience)
        self._reception, self._guard = reception, guard
        self._listener: Listener | None = None
        self._watching: Task[None] | None = None
        self._news = Event()
        self._over: Future[None] = asyncio.get_running_loop().create_future()

    async def attend(self, stream: _Stream) -> None:
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


class Beside(_Desk):
    """Beside the run: tells its terms, and has all users keep their state together.

    run: its id, of which `plan` is an attempt. on_new: told of a user whose process is not the one that it was, and the
    new one's number; whether the run goes on with it, and is not taken back.
    """

    def __init__(
        self,
        reception: Reception,
        guard: Guard,
        run: str,
        plan: RunPlan,
        on_new: Callable[[str, int], bool],
    ):
        super().__init__(guard, plan.patience)
        self._reception, self._plan, self._on_new = reception, plan, on_new
        self._last: Place = (plan.first, plan.first_slot)
        self._terms = pb.Terms(run=run, output_shape=plan.users[0].output_shape, attempt=plan.run)
        self._processes: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._streams: dict[int, _Stream] = {}
        self._answers: dict[int, pb.Kept] = {}
        self._news = Event()
        self._over: Future[bool] = asyncio.get_running_loop().create_future()
        self._keeping: asyncio.Timeout | None = None
        self._settled = asyncio.Lock()

    async def attend(self, stream: _Stream) -> None:
        """Until the process or the run ends. Raises Refused."""
        said = stream.said
        self._reception.check(said)
        self._require_free(said)
        new = [user for user in names_in(said) if self._processes.get(user, said.process) != said.process]
        if new:
            self._require_way_back(new[0], said)
        number = self._numbers.get(said.process, 1 + max(self._numbers.values()) if new else 0)
        if new and not all(self._on_new(user, number) for user in new):
            await asyncio.wait([self._over])
        else:
            async with self._settled:
                self._require_place(said)
                self._numbers[said.process] = number
                terms = self._terms_of(said.process)
            await self._stand_by(stream, terms)
        if self._over.done() and self._over.result():
            await stream.write(pb.FromEdge(again=pb.Again()))

    def _require_free(self, said: pb.Introduction) -> None:
        """No other process is these users now; what is left of this process's own streams ends. Raises Refused."""
        for other in [*self._streams.values()]:
            if both := {*names_in(said)}.intersection(names_in(other.said)):
                if other.said.process != said.process:
                    raise taken(min(both))
                other.ending.supersede(Refused("FAILED_PRECONDITION", "another stream of this process took its place"))

    def _require_way_back(self, user: str, said: pb.Introduction) -> None:
        """A process may come that does not know what the one before it knew. Raises Refused."""
        self._reception.require_state(said)
        if self._numbers.get(said.process, math.inf) < self._numbers[self._processes[user]]:
            raise Refused("FAILED_PRECONDITION", f"stale epoch: a later process of user {user!r} has taken its place")
        if self._plan.absence.policy == "fail":
            raise Refused("FAILED_PRECONDITION", f"user {user!r} was lost, and the run ends by it")

    def _require_place(self, said: pb.Introduction) -> None:
        """Raises Refused unless these users know how the run goes on, or have their state from where it was kept."""
        known = all(self._processes.get(user) == said.process for user in names_in(said))
        if not known and self._last != START and self._last not in places_in(said):
            told = f"no state before round {self._last[0]}, slot {self._last[1]}, where the run goes on"
            raise Refused("FAILED_PRECONDITION", f"{', '.join(map(repr, names_in(said)[:5]))}: {told}")

    def _terms_of(self, process: str) -> pb.Terms:
        terms = pb.Terms(first=_key(self._last), process=self._numbers[process])
        terms.MergeFrom(self._terms)
        return terms

    async def _stand_by(self, stream: _Stream, terms: pb.Terms) -> None:
        place = id(stream.context)
        self._processes |= dict.fromkeys(names_in(stream.said), stream.said.process)
        await stream.write(pb.FromEdge(terms=terms))
        self._streams[place] = stream
        hearing = asyncio.create_task(self._hear(place, stream))
        waiting: list[Future[Any]] = [hearing, self._over]
        try:
            await asyncio.wait(waiting, return_when=FIRST_COMPLETED)
            if hearing.done():
                hearing.result()
        finally:
            hearing.cancel()
            del self._streams[place]
            self._news.set()

    async def _hear(self, place: int, stream: _Stream) -> None:
        while isinstance(data := await stream.context.read(), bytes):
            self._answers[place] = _read(data).kept
            self._news.set()

    def end(self, failure: str, *, again: bool) -> None:
        """There is nothing more to keep: all streams end, and say why if the run failed. again: it is taken back."""
        if again or not failure:
            self._over.set_result(again)
        else:
            self._over.set_exception(Refused("ABORTED", failure))
            self._over.exception()

    def hurry(self) -> None:
        """Somebody wants the run to stop: from now on state is kept within seconds, or not."""
        self._patience = min(self._patience, _LAST)
        if self._keeping:
            self._keeping.reschedule(asyncio.get_running_loop().time() + self._patience)

    async def keep(self, at: Place) -> str:
        """Why not all users have kept their state before this slot; empty if they have. Within the run's patience."""
        async with self._settled:
            return await self._keep(at)

    async def _keep(self, at: Place) -> str:
        streams = {place: stream for place, stream in self._streams.items() if stream.said.keeps}
        keeping = {user for stream in streams.values() for user in names_in(stream.said)}
        if lacking := [name for name in self._reception.users if name not in keeping]:
            return f"user {lacking[0]!r} keeps no state, or cannot be reached now"
        self._answers.clear()
        asking = [stream.write(pb.FromEdge(keep=pb.Keep(at=_key(at)))) for stream in streams.values()]
        await asyncio.gather(*asking, return_exceptions=True)  # who is gone does not answer
        with suppress(TimeoutError):  # who did not answer has not kept it
            async with asyncio.timeout(self._patience) as self._keeping:
                while any(place in self._streams and place not in self._answers for place in streams):
                    self._news.clear()
                    await self._news.wait()
        self._keeping = None
        why = next((why for place, stream in streams.items() if (why := self._failure(place, stream, at))), "")
        if not why:
            self._reception.places.append(at)
            self._last = at
        return why

    def _failure(self, place: int, stream: _Stream, at: Place) -> str:
        answer = self._answers.get(place)
        if answer is not None and answer.at == _key(at):
            return answer.failure
        return f"no word from user {stream.said.guests[0].user!r}"


def _key(place: Place) -> edge.Key:
    return edge.Key(round=place[0], slot=place[1])


def _read(data: object) -> pb.FromUsers:
    """Raises Refused for what is no message."""
    try:
        if isinstance(data, bytes):
            return pb.FromUsers.FromString(data)
    except DecodeError:
        pass
    raise Refused("INVALID_ARGUMENT", "a stream starts with Introduction")
