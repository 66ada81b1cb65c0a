"""The reception beside the run: users stand by to keep their state, and who was lost comes back."""

import asyncio
from asyncio import FIRST_COMPLETED, Event, Future
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edge_server.attendance import Refused
from edge_server.credentials import Guard
from edge_server.plan import RunPlan
from edge_server.reception import START, Place, Reception, names_in, places_in, shown, taken
from edge_server.reception_service import Desk, Stream, read
from protos import edge_pb2 as edge
from protos import reception_pb2 as pb

_LAST = 3.0
"""Seconds, at most, in which state is kept once somebody wants the run to stop."""


class Beside(Desk):
    """Beside the run: tells its terms, and has all users keep their state together.

    run: its id, of which `plan` is an attempt. on_new: told of a user whose process is not the one that it was.
    """

    def __init__(self, reception: Reception, guard: Guard, run: str, plan: RunPlan, on_new: Callable[[str], None]):
        super().__init__(guard, plan.patience)
        self._reception, self._plan, self._on_new = reception, plan, on_new
        self._first: Place = (plan.first, plan.first_slot)
        self._terms = pb.Terms(
            run=run, output_shape=plan.users[0].output_shape, first=_key(self._first), attempt=plan.run
        )
        self._processes: dict[str, str] = {}
        self._streams: dict[int, Stream] = {}
        self._returning: dict[int, Stream] = {}
        self._answers: dict[int, pb.Kept] = {}
        self._news = Event()
        self._last: Place | None = None
        self._over: Future[bool] = asyncio.get_running_loop().create_future()
        self._keeping: asyncio.Timeout | None = None

    async def attend(self, stream: Stream) -> None:
        """Until the process or the run ends. Raises Refused."""
        said = stream.said
        self._reception.check(said)
        self._require_free(said)
        if new := [user for user in names_in(said) if self._processes.get(user, said.process) != said.process]:
            await self._come_back(new[0], stream)
        else:
            self._require_place(said)
            await self._stand_by(stream)
        if self._over.done() and self._over.result():
            await stream.write(pb.FromEdge(again=pb.Again()))

    def _require_free(self, said: pb.Introduction) -> None:
        """No other process is these users now; what is left of this process's own streams ends. Raises Refused."""
        for other in [*self._streams.values(), *self._returning.values()]:
            if both := {*names_in(said)}.intersection(names_in(other.said)):
                if other.said.process != said.process:
                    raise taken(min(both))
                other.ending.supersede(Refused("FAILED_PRECONDITION", "another stream of this process took its place"))

    async def _come_back(self, user: str, stream: Stream) -> None:
        """The run is taken back for a process that does not know what the one before it knew. Raises Refused.

        Where the run went on without the user, that is once nobody else is lost.
        """
        self._reception.require_state(stream.said)
        self._returning[id(stream.context)] = stream
        try:
            if self._plan.absence.policy != "wait":
                await self._nobody_lost(user, stream)
            if not self._over.done():
                self._on_new(user)
                await asyncio.wait([self._over])
        finally:
            del self._returning[id(stream.context)]
        if not self._over.result():
            raise Refused("FAILED_PRECONDITION", f"user {user!r} was lost, and the run ended without it")

    async def _nobody_lost(self, user: str, stream: Stream) -> None:
        """Returns then, or once the run is over. Raises Refused for who cannot go on from where all were saved last.

        Something was saved since the run was last taken back: it gets further each time.
        """
        if self._last is None or self._last not in places_in(stream.said):
            why = "nothing was saved since the run was last taken up" if self._last is None else _no_state(self._last)
            told = f"user {user!r} was lost, and the run goes on without it: {why}"
            raise Refused("FAILED_PRECONDITION", f"{told}; it can come back when the edge is started with --resume")
        self._news.set()
        heard = ""
        while (whom := self._lost()) and not self._over.done():
            if whom != heard:
                heard = whom
                await stream.write(pb.FromEdge(waiting=pb.Waiting(whom=whom)))
            else:
                self._news.clear()
                await self._news.wait()

    def _lost(self) -> str:
        """Whose process is gone, and has not come back yet, for people; empty if nobody's."""
        streams = [*self._streams.values(), *self._returning.values()]
        here = {user for stream in streams for user in names_in(stream.said)}
        return shown([user for user in self._reception.users if user not in here])

    def _require_place(self, said: pb.Introduction) -> None:
        """Raises Refused unless these users have their state from where the run goes on."""
        if self._first != START and self._first not in places_in(said):
            who = ", ".join(map(repr, names_in(said)[:5]))
            raise Refused("FAILED_PRECONDITION", f"{who}: {_no_state(self._first)}, where the run goes on")

    async def _stand_by(self, stream: Stream) -> None:
        place = id(stream.context)
        self._processes |= dict.fromkeys(names_in(stream.said), stream.said.process)
        await stream.write(pb.FromEdge(terms=self._terms))
        self._streams[place] = stream
        self._news.set()
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

    async def _hear(self, place: int, stream: Stream) -> None:
        while isinstance(data := await stream.context.read(), bytes):
            self._answers[place] = read(data).kept
            self._news.set()

    def end(self, failure: str, *, again: bool) -> None:
        """There is nothing more to keep: all streams end, and say why if the run failed. again: it is taken back."""
        if again or not failure:
            self._over.set_result(again)
        else:
            self._over.set_exception(Refused("ABORTED", failure))
            self._over.exception()
        self._news.set()

    def hurry(self) -> None:
        """Somebody wants the run to stop: from now on state is kept within seconds, or not."""
        self._patience = min(self._patience, _LAST)
        if self._keeping:
            self._keeping.reschedule(asyncio.get_running_loop().time() + self._patience)

    async def keep(self, at: Place) -> str:
        """Why not all users have kept their state before this slot; empty if they have. Within the run's patience."""
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

    def _failure(self, place: int, stream: Stream, at: Place) -> str:
        answer = self._answers.get(place)
        if answer is not None and answer.at == _key(at):
            return answer.failure
        return f"no word from user {stream.said.guests[0].user!r}"


def _no_state(before: Place) -> str:
    return f"no state before round {before[0]}, slot {before[1]}"


def _key(place: Place) -> edge.Key:
    return edge.Key(round=place[0], slot=place[1])
