"""Runs in one process: `memory` without a socket, `grpc` with one per user over loopback."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from edge_server.boundary import Boundary, Keeper
from edge_server.cell import Cell
from edge_server.compute import Inline, OneThread, threads
from edge_server.judge import RunFailed
from edge_server.plan import RunPlan
from edge_server.record import Event, RoundRecord
from edge_server.rounds import Rounds
from edge_server.server_tasks.news import TaskNews
from edge_server.service import serve
from edge_server.state import Flat
from sim.blueprint import Blueprint
from sim.build import build_rounds, build_server_tasks, build_session
from sim.descriptors import provide_descriptors
from sim.faulty_edge import build_cell
from sim.faulty_stream import FaultyLine, UserDied, with_faults
from sim.faulty_user import FaultySession
from sim.keys import Connection, keys_of
from sim.memory import MemoryLine
from sim.pausing import Pause
from sim.step import Step
from user_client.credentials import NOTHING, Channel
from user_client.link import StatusLost, carry, live, open_channel
from user_client.reach import Unreachable, require_reachable
from user_client.session import Session
from user_client.together import Turn, UserFailed

LOOPBACK = "127.0.0.1"
_MOMENT = 0.001


class ReasonLost(RunFailed):
    """A user's stream was ended, and only the edge knows why."""


class ProcessLost(RunFailed):
    """A process is gone, or the machine that it was on; what was saved is not."""


class At(NamedTuple):
    """A place in a run: before this slot of this round."""

    round: int
    slot: int

    def __str__(self) -> str:
        return f"round {self.round}, slot {self.slot}" if self.slot else f"round {self.round}"


START = At(0, 0)


class Saver(Protocol):
    """Keeps what a run can go on from."""

    def due(self, slots: int) -> bool:
        """It is time for another, after so many slots of a round that goes on."""
        ...

    def save(self, at: At, edge: Callable[[], Flat], users: Sequence[Flat]) -> None:
        """The edge before a slot, which may raise OtherShape, and every user, in scenario order."""
        ...


class Outcome(NamedTuple):
    """How a run ended. edge, users: SHA-256 of each party's parameters, users in scenario order."""

    edge: bytes
    users: list[bytes]
    stopped: bool


class Hooks(NamedTuple):
    """What a run tells while it goes on, and how it is asked to stop. on_task: None starts no server tasks.

    saver: None keeps nothing to go on from. pause: whether the run is to be held before its next slot.
    """

    on_round: Callable[[RoundRecord], None]
    on_event: Callable[[Event], None]
    stop: Callable[[], bool]
    on_task: Callable[[TaskNews], None] | None = None
    saver: Saver | None = None
    pause: Callable[[], bool] = lambda: False


def run_in_memory(design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
    """All rounds with the users beside the edge. Raises RunFailed."""
    return asyncio.run(_in_memory(design, step, hooks))


async def _in_memory(design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
    counts = design.scenario.threads
    cell = build_cell(design, hooks.on_event, hooks.stop)
    tasks = build_server_tasks(design, hooks.on_event, hooks.on_task)
    rounds = build_rounds(design, step, cell, Inline(counts.edge), tasks.then(hooks.on_round), hooks.on_event, tasks)
    rounds.pause = Pause(cell, hooks.pause, hooks.on_event)
    with threads(counts.user):
        sessions = [build_session(design, k) for k in range(len(design.plan.users))]
        for session in sessions:
            line = FaultyLine(cell, session) if isinstance(session, FaultySession) else MemoryLine(cell, session)
            line.join()
        with _kept(rounds, sessions, hooks.saver):
            users = await tasks.beside(rounds.run())
    return Outcome(rounds.model.digest(), users, cell.stopping)


def run_over_grpc(design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
    """All rounds with every user on a stream of its own over loopback. Raises RunFailed."""
    return asyncio.run(_over_grpc(design, step, hooks))


async def _over_grpc(design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
    cell = build_cell(design, hooks.on_event, hooks.stop)
    compute = OneThread(design.scenario.threads.edge)
    tasks = build_server_tasks(design, hooks.on_event, hooks.on_task)
    rounds = build_rounds(design, step, cell, compute, tasks.then(hooks.on_round), hooks.on_event, tasks)
    rounds.pause = Pause(cell, hooks.pause, hooks.on_event)
    keys = keys_of(design.scenario.security)
    connections = keys.connections([user.name for user in design.plan.users])
    provide_descriptors(2 * len(connections))
    sessions = [build_session(design, k) for k in range(len(design.plan.users))]
    server = await serve(cell, LOOPBACK, guard=keys.guard(LOOPBACK))
    with threads(design.scenario.threads.user):
        hosting = asyncio.create_task(host(sessions, server.address, design.plan, connections))
        hosting.add_done_callback(lambda task: _report(task, cell))
        try:
            with _kept(rounds, sessions, hooks.saver):
                users = await tasks.beside(rounds.run())
                await hosting
        except RunFailed as failure:
            raise await _reason(hosting) or failure from None
        finally:
            hosting.cancel()
            await server.stop()
            compute.close()
    return Outcome(rounds.model.digest(), users, cell.stopping)


@contextmanager
def _kept(rounds: Rounds, sessions: Sequence[Session], saver: Saver | None) -> Iterator[None]:
    """Saves while inside, and where a run stands that is stopped."""
    if saver is None:
        yield
        return

    async def keep(boundary: Boundary) -> None:
        until = perf_counter() + rounds.cell.plan.patience

        def check() -> None:
            rounds.cell.check()
            if perf_counter() > until:
                raise RunFailed("a user was not told how its last slot ended")

        saver.save(At(boundary.round, boundary.slot), boundary.state, await settled(sessions, check))

    rounds.keeper = Keeper(saver.due, keep)
    yield
    if rounds.cell.stopping and (last := rounds.boundary):
        saver.save(At(last.round, last.slot), last.state, [session.state() for session in sessions])


async def settled(sessions: Sequence[Session], check: Callable[[], None]) -> list[Flat]:
    """The users' states, once they have heard how their last slot ended. check: may raise."""
    while not all(session.settled for session in sessions):
        check()
        await asyncio.sleep(_MOMENT)
    return [session.state() for session in sessions]


async def host(sessions: list[Session], address: str, plan: RunPlan, connections: Sequence[Connection] = ()) -> None:
    """Let many users live on one event loop, on streams of their own or on one per connection; by default one for all.

    Raises RunFailed, naming the first that knows why.
    """
    channels: list[Channel] = []
    turn = Turn()
    await _prepare(address, len(connections))
    try:
        async with asyncio.TaskGroup() as group:
            for users, credentials in connections or [Connection(range(len(sessions)), NOTHING)]:
                there = [sessions[k] for k in users]
                channel = open_channel(address, plan.largest_on_a_stream, credentials)
                channels.append(with_faults(channel, there))
                for life in _lives(there, channels[-1], plan, turn):
                    group.create_task(life)
    except* RunFailed as failures:
        raise min(failures.exceptions, key=lambda failure: isinstance(failure, ReasonLost)) from failures
    finally:
        for channel in channels:
            await channel.close(None)


async def _prepare(address: str, connections: int) -> None:
    """Raises RunFailed where the connections cannot be opened."""
    provide_descriptors(connections)
    try:
        await require_reachable(address)
    except Unreachable as error:
        raise RunFailed(str(error)) from error


def _lives(sessions: list[Session], channel: Channel, plan: RunPlan, turn: Turn) -> list[Coroutine[Any, Any, None]]:
    if plan.trunk:
        return [_carried(sessions, channel, plan)]
    return [_live(session, channel, turn, plan.patience) for session in sessions]


async def _live(session: Session, channel: Channel, turn: Turn, patience: float) -> None:
    try:
        await live(session, channel, turn, patience)
    except UserDied:
        return
    except Exception as error:
        failure = ReasonLost if isinstance(error, StatusLost) else RunFailed
        raise failure(f"user {session.name!r} failed: {type(error).__name__}: {error}") from error


async def _carried(sessions: list[Session], channel: Channel, plan: RunPlan) -> None:
    names = sessions[0].name if len(sessions) == 1 else f"{sessions[0].name} to {sessions[-1].name}"
    try:
        await carry(sessions, channel, plan.largest_message, plan.patience)
    except UserFailed as error:
        why = error.__cause__
        raise RunFailed(f"user {error.name!r} failed: {type(why).__name__}: {why}") from why
    except Exception as error:
        failure = ReasonLost if isinstance(error, StatusLost) else RunFailed
        raise failure(f"users {names!r} failed: {type(error).__name__}: {error}") from error


async def _reason(hosting: "asyncio.Task[None]") -> RunFailed | None:
    """Why a user left, where the host knows better than the edge, which only saw the stream break."""
    await asyncio.wait([hosting], timeout=1.0)
    error = hosting.exception() if hosting.done() and not hosting.cancelled() else None
    return error if isinstance(error, RunFailed) and not isinstance(error, ReasonLost) else None


def _report(hosting: "asyncio.Task[None]", cell: Cell) -> None:
    if not hosting.cancelled() and isinstance(error := hosting.exception(), RunFailed):
        cell.fail(error)
