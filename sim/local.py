"""Runs in one process: `memory` without a socket, `grpc` with one per user over loopback."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from edge_server.boundary import Boundary
from edge_server.cell import Cell
from edge_server.compute import Inline, OneThread, threads
from edge_server.judge import RunFailed
from edge_server.plan import RunPlan
from edge_server.record import Event, RoundRecord
from edge_server.rounds import Rounds
from edge_server.server_tasks.news import TaskNews
from edge_server.service import serve
from edge_server.state import Flat
from sim.build import Blueprint, build_rounds, build_server_tasks, build_session
from sim.keys import Connection, keys_of
from sim.memory import MemoryLine
from sim.step import Step
from user_client.credentials import NOTHING, Channel
from user_client.link import StatusLost, carry, live, open_channel
from user_client.session import Session
from user_client.together import Turn, UserFailed

LOOPBACK = "127.0.0.1"
_MOMENT = 0.001


class ReasonLost(RunFailed):
    """A user's stream was ended, and only the edge knows why."""


class ProcessLost(RunFailed):
    """A process is gone, or the machine that it was on; what was saved is not."""


class Saver(Protocol):
    """Keeps what a run can go on from."""

    def due(self) -> bool:
        """It is time for another."""
        ...

    def save(self, round_: int, edge: Callable[[], Flat], users: Sequence[Flat]) -> None:
        """The edge before this round, which may raise OtherShape, and every user, in scenario order."""
        ...


class Outcome(NamedTuple):
    """How a run ended. edge, users: SHA-256 of each party's parameters, users in scenario order."""

    edge: bytes
    users: list[bytes]
    stopped: bool


class Hooks(NamedTuple):
    """What a run tells while it goes on, and how it is asked to stop. on_task: None starts no server tasks.

    saver: None keeps nothing to go on from.
    """

    on_round: Callable[[RoundRecord], None]
    on_event: Callable[[Event], None]
    stop: Callable[[], bool]
    on_task: Callable[[TaskNews], None] | None = None
    saver: Saver | None = None


def run_in_memory(design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
    """All rounds with the users beside the edge. Raises RunFailed."""
    return asyncio.run(_in_memory(design, step, hooks))


async def _in_memory(design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
    counts = design.scenario.threads
    cell = Cell(design.plan, hooks.on_event, hooks.stop)
    tasks = build_server_tasks(design, hooks.on_event, hooks.on_task)
    rounds = build_rounds(design, step, cell, Inline(counts.edge), tasks.then(hooks.on_round), hooks.on_event, tasks)
    with threads(counts.user):
        sessions = [build_session(design, k) for k in range(len(design.plan.users))]
        for session in sessions:
            MemoryLine(cell, session).join()
        with _kept(rounds, sessions, hooks.saver):
            users = await tasks.beside(rounds.run())
    return Outcome(rounds.model.digest(), users, cell.stopping)


def run_over_grpc(design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
    """All rounds with every user on a stream of its own over loopback. Raises RunFailed."""
    return asyncio.run(_over_grpc(design, step, hooks))


async def _over_grpc(design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
    cell = Cell(design.plan, hooks.on_event, hooks.stop)
    compute = OneThread(design.scenario.threads.edge)
    tasks = build_server_tasks(design, hooks.on_event, hooks.on_task)
    rounds = build_rounds(design, step, cell, compute, tasks.then(hooks.on_round), hooks.on_event, tasks)
    keys = keys_of(design.scenario.security)
    connections = keys.connections([user.name for user in design.plan.users])
    server = await serve(cell, LOOPBACK, guard=keys.guard(LOOPBACK))
    sessions = [build_session(design, k) for k in range(len(design.plan.users))]
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
    """Saves at boundaries while inside, and the last boundary of a run that is stopped."""
    if saver is None:
        yield
        return

    async def keep(boundary: Boundary) -> None:
        if saver.due():
            users = await users_at(sessions, boundary.round, rounds.cell.check)
            saver.save(boundary.round, boundary.state, users)

    rounds.on_boundary = keep
    yield
    if rounds.cell.stopping and (last := rounds.boundary):
        saver.save(last.round, last.state, [kept.state for session in sessions if (kept := session.kept)])


async def users_at(sessions: Sequence[Session], round_: int, check: Callable[[], None]) -> list[Flat]:
    """The users' states before this round, once they have heard that the one before it is over. check: may raise."""
    while any(session.kept is None or session.kept.round < round_ for session in sessions):
        check()
        await asyncio.sleep(_MOMENT)
    return [kept.state for session in sessions if (kept := session.kept)]


async def host(sessions: list[Session], address: str, plan: RunPlan, connections: Sequence[Connection] = ()) -> None:
    """Let many users live on one event loop, on streams of their own or on one per connection; by default one for all.

    Raises RunFailed, naming the first that knows why.
    """
    channels: list[Channel] = []
    turn = Turn()
    try:
        async with asyncio.TaskGroup() as group:
            for users, credentials in connections or [Connection(range(len(sessions)), NOTHING)]:
                channels.append(open_channel(address, plan.largest_on_a_stream, credentials))
                for life in _lives([sessions[k] for k in users], channels[-1], plan, turn):
                    group.create_task(life)
    except* RunFailed as failures:
        raise min(failures.exceptions, key=lambda failure: isinstance(failure, ReasonLost)) from failures
    finally:
        for channel in channels:
            await channel.close(None)


def _lives(sessions: list[Session], channel: Channel, plan: RunPlan, turn: Turn) -> list[Coroutine[Any, Any, None]]:
    if plan.trunk:
        return [_carried(sessions, channel, plan.largest_message)]
    return [_live(session, channel, turn) for session in sessions]


async def _live(session: Session, channel: Channel, turn: Turn) -> None:
    try:
        await live(session, channel, turn)
    except Exception as error:
        failure = ReasonLost if isinstance(error, StatusLost) else RunFailed
        raise failure(f"user {session.name!r} failed: {type(error).__name__}: {error}") from error


async def _carried(sessions: list[Session], channel: Channel, largest_message: int) -> None:
    names = sessions[0].name if len(sessions) == 1 else f"{sessions[0].name} to {sessions[-1].name}"
    try:
        await carry(sessions, channel, largest_message)
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
