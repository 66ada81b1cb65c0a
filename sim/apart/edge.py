"""The edge of a scenario as a process of its own: it waits for users, runs all rounds and writes the run directory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import NamedTuple

from edge_server.attendance import Refused
from edge_server.boundary import Keeper
from edge_server.cell import Cell
from edge_server.compute import OneThread, flushing_denormals
from edge_server.credentials import OPEN, Guard
from edge_server.judge import Forgotten, RunFailed
from edge_server.listening import PortTaken
from edge_server.reception import Reception
from edge_server.reception_service import Beside, NobodyCame, WaitingRoom
from edge_server.service import EdgeServer, serve
from sim.apart.common import LOOPBACK, Address, unless_stopped
from sim.apart.keeping import Together
from sim.blueprint import Blueprint
from sim.build import build_rounds, build_server_tasks
from sim.caller import BadScenario, Result, RunError, Watcher, placed
from sim.console import Stopped
from sim.descriptors import allow_descriptors
from sim.going_on import CannotGoOn, places_saved
from sim.identity import shared
from sim.keys import NoKeys, keys_of
from sim.local import At, Hooks, Outcome, ProcessLost
from sim.pausing import Pause
from sim.planning import check_edge, planned
from sim.recorder import Recorder
from sim.resume import continued, done_already, require_same
from sim.runner import Part, Way, alone, claim, finished
from sim.scenario import Loaded
from sim.served import go_on, served_run, write_served
from sim.step import Step

_LOOK = 0.1
_GRACE = 7.0
"""Seconds from a wish to stop to the end of the slot; then it is given up. The contract leaves ten for all."""
_GOODBYE, _REASON = 2.0, 0.3
"""Seconds in which users hear the last words, and why a run failed."""
_REBIND = 2.0
"""Seconds in which a port that was just ours is ours again."""


class Served(NamedTuple):
    """Where an edge serves a scenario, and how long it waits for its users. folder: of the run."""

    loaded: Loaded
    at: Address
    folder: Path
    wait: float


def serve_run(what: Served, watcher: Watcher) -> Result:
    """A new run from its first round to its last. Raises RunError, BadScenario, Stopped."""
    guard = _guard(what)
    claim(what.folder)
    with _gone_if_empty(what.folder), alone(what.folder):
        edge = _Edge(what, guard, f"{what.loaded.scenario.name}-{token_hex(8)}", watcher)
        part, _ = edge.gathered(None)
        recorder = Recorder(part.folder, part.name, part.design)
        return _told(part, lambda: finished(part, recorder, edge.way, watcher))


def serve_on(what: Served, watcher: Watcher) -> Result:
    """The rest of a served run, from the last slot before which edge and all users have their state. Raises as
    `serve_run`, and UnreadableRun."""
    scenario = what.loaded.scenario
    if done := done_already(scenario.name, what.folder):
        watcher.on_note(f"{what.folder} is done already")
        return done
    guard = _guard(what)
    with alone(what.folder):
        require_same(what.folder, scenario)
        edge = _Edge(what, guard, served_run(what.folder), watcher)
        part, first = edge.gathered(_places(what))
        return _told(part, lambda: continued(part, edge.way, watcher, among=(first,)))


@contextmanager
def _gone_if_empty(folder: Path) -> Iterator[None]:
    """A run that did not begin leaves nothing behind."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise


def _told(part: Part, run: Callable[[], Result]) -> Result:
    """Of a run that fails it is told how to go on, where it can be. Raises RunError."""
    try:
        return run()
    except RunError as error:
        with suppress(CannotGoOn):
            if places_saved(part.folder, part.design.scenario):
                raise RunError(f"{error}; go on with: {go_on(part.folder)}") from error
        raise


def _places(what: Served) -> list[At]:
    """Where its run can go on. Raises BadScenario."""
    try:
        return places_saved(what.folder, what.loaded.scenario)
    except CannotGoOn as error:
        raise BadScenario(str(error)) from error


def _guard(what: Served) -> Guard:
    """Who users must be; all that can be wrong before anybody comes is found here. Raises BadScenario."""
    with placed(what.loaded):
        check_edge(what.loaded.scenario)
    try:
        return keys_of(what.loaded.scenario.security).guard(what.at.host)
    except NoKeys as error:
        raise BadScenario(str(error)) from error


class _Edge:
    """Serves the run of this id. way: its rounds, with users who come to its address."""

    def __init__(self, what: Served, guard: Guard, run: str, watcher: Watcher):
        self._what, self._guard, self._run, self._watcher = what, guard, run, watcher
        self._scenario = what.loaded.scenario
        self._at, self._ours = what.at, False
        allow_descriptors(2 * len(self._scenario.users))
        self._reception = Reception([user.name for user in self._scenario.users], shared(self._scenario))
        self.way = Way(self._go, self._back)

    def gathered(self, places: Sequence[At] | None) -> tuple[Part, At]:
        """The run as planned from what all users say, and where it begins. Raises RunError, BadScenario, Stopped.

        places: where a run that goes on can; None for a new one.
        """
        if places is not None:
            self._reception = replace(self._reception, run=self._run, places=[*places])
        try:
            design = asyncio.run(self._gather())
        except (PortTaken, NobodyCame) as error:
            more = "; give another --listen" if isinstance(error, PortTaken) else "; raise --wait if they are just slow"
            raise RunError(f"{self._scenario.name}: {error}{more}") from error
        self._reception.run = self._run
        write_served(self._what.folder, self._run, str(self._at))
        if forgetful := self._reception.forgetful:
            lacking = ", ".join(forgetful)
            self._watcher.on_note(f"note: no state is kept by {lacking}: what is lost of this run begins anew")
        return Part(self._scenario.name, self._what.folder, design), At(*self._reception.first)

    async def _gather(self) -> Blueprint:
        room = WaitingRoom(self._reception, self._guard, self._scenario.patience)
        self._watcher.on_wait(self._reception)
        try:
            await self._listening(lambda: room.open(*self._at))
            self._tell()
            await unless_stopped(room.everybody(self._what.wait), self._watcher.stop)
            with placed(self._what.loaded):
                design = await asyncio.to_thread(planned, self._scenario, self._run, self._reception.sizes)
            room.end()
        except (NobodyCame, BadScenario) as error:
            room.end(Refused("ABORTED", f"the run does not begin: {error}"))
            raise
        finally:
            await room.close()
        return design

    async def _listening(self, open_: Callable[[], Awaitable[str]]) -> None:
        """Opens a port; one that was ours a moment ago is waited for. Raises PortTaken."""
        until = monotonic() + _REBIND
        while True:
            try:
                self._at, self._ours = Address.of("--listen", await open_()), True
                return
            except PortTaken:
                if not self._ours or monotonic() > until:
                    raise
            await asyncio.sleep(_LOOK)

    def _tell(self) -> None:
        whom = self._reception.waits_for
        self._watcher.on_note(f"{self._run}: at {self._at}, waits {self._what.wait:g} s for {whom}")
        if self._guard == OPEN and self._at.host not in LOOPBACK:
            self._watcher.on_note("note: whoever reaches this address may join, in plain text; see `security`")

    def _back(self, lost: ProcessLost) -> Collection[At]:
        """Everybody comes anew, and goes on from what all have. Raises RunFailed, or `lost` if it is to stop."""
        self._reception = replace(self._reception, here={})
        try:
            _, first = self.gathered(_places(self._what))
        except Stopped:
            raise lost from None
        except (RunError, BadScenario) as error:
            raise RunFailed(f"{lost}; {error}") from error
        return (first,)

    def _go(self, design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
        plan = replace(design.plan, run=f"{self._run}.{token_hex(4)}")
        with flushing_denormals():
            return asyncio.run(self._served(replace(design, plan=plan), step, hooks))

    async def _served(self, design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
        cell = Cell(design.plan, hooks.on_event, hooks.stop)
        beside = Beside(self._reception, self._guard, self._run, design.plan, cell.takes_anew)
        compute = OneThread(design.scenario.threads.edge)
        tasks = build_server_tasks(design, hooks.on_event, hooks.on_task)
        rounds = build_rounds(design, step, cell, compute, tasks.then(hooks.on_round), hooks.on_event, tasks)
        together = Together(beside, cell, hooks, design.scenario.checkpoints)
        rounds.keeper = Keeper(together.due, together.keep)
        rounds.pause = Pause(cell, hooks.pause, hooks.on_event)
        try:
            async with self._open(cell, beside) as server, _draining(cell, server, beside, hooks.stop):
                users = await _taken_back(tasks.beside(rounds.run()))
                if cell.stopping and rounds.boundary:
                    await together.keep(rounds.boundary)
        finally:
            compute.close()
        return Outcome(rounds.model.digest(), users, cell.stopping)

    @asynccontextmanager
    async def _open(self, cell: Cell, beside: Beside) -> AsyncIterator[EdgeServer]:
        """The edge at an address that was ours a moment ago. Raises RunFailed."""
        server: EdgeServer | None = None

        async def opened() -> str:
            nonlocal server
            server = await serve(cell, self._at.host, self._at.port, self._guard, beside.methods)
            return server.address

        try:
            await self._listening(opened)
        except PortTaken as error:
            raise RunFailed(str(error)) from error
        assert server
        watching = asyncio.create_task(beside.speakers.watch())
        failure, grace, again = "it stopped at once", _REASON, False
        try:
            yield server
            failure, grace = "", _GOODBYE
        except RunFailed as error:
            failure, again = str(error), isinstance(error, ProcessLost) and not self._watcher.stop()
            grace = _GOODBYE if again else _REASON
            raise
        finally:
            watching.cancel()
            beside.end(failure, again=again)
            await server.stop(grace)


async def _taken_back(run: Awaitable[list[bytes]]) -> list[bytes]:
    """What a run gives. Raises ProcessLost where it waited for what a process knew that is gone."""
    try:
        return await run
    except Forgotten as error:
        raise ProcessLost(str(error)) from error


@asynccontextmanager
async def _draining(cell: Cell, server: EdgeServer, beside: Beside, stop: Callable[[], bool]) -> AsyncIterator[None]:
    """Once somebody wants it to stop, health checks are told so, and a slot that does not end is given up."""

    async def drain() -> None:
        while not stop():
            await asyncio.sleep(_LOOK)
        await server.drain()
        beside.hurry()
        await asyncio.sleep(_GRACE)
        cell.fail(RunFailed(f"the slot was not over {_GRACE:g} s after the edge was told to stop; it was given up"))

    task = asyncio.create_task(drain())
    try:
        yield
    finally:
        task.cancel()
