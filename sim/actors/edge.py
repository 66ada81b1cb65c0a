"""The edge of one run in a process of its own."""

import asyncio
import traceback
from dataclasses import replace
from time import perf_counter

import torch
from safetensors.torch import load

from edge_server.boundary import Boundary, Keeper
from edge_server.compute import OneThread
from edge_server.device import require_device
from edge_server.judge import RunFailed
from edge_server.record import Event, RoundRecord
from edge_server.server_tasks.news import TaskNews
from edge_server.service import EdgeServer, serve
from edge_server.state import OtherShape
from sim.actors.ending import end_in
from sim.actors.news import News
from sim.allocator import keep_buffers, keep_objects
from sim.blueprint import RunState, devices
from sim.build import build_rounds, build_server_tasks
from sim.checkpoints import LEAST, Pace
from sim.faulty_edge import build_cell
from sim.keys import ANYBODY, unpack_guard
from sim.local import At, Outcome
from sim.oracle import NotConverged
from sim.pausing import Pause
from sim.recipe import from_recipe


class EdgeActor:
    """It listens, runs all rounds, and tells what happens."""

    def __init__(
        self,
        recipe: str,
        state: bytes = b"",
        task: bytes = b"",
        least: float = LEAST,
        grace: float | None = None,
    ):
        """state, task: what the edge and its server task go on from; empty at the start of a run. least: of `Pace`.

        grace: seconds from a failure to the end of this process, which nobody may be able to reach any more.
        """
        keep_buffers()
        design, self._step = from_recipe(recipe)
        self._design = replace(design, state=RunState(load(state), [], task or None)) if state else design
        self._saved, self._pace = asyncio.Event(), Pace(self._design.scenario.checkpoints, least)
        self._news = News()
        self._told = asyncio.Event()
        self._stop = self._paused = False
        self._server: EdgeServer | None = None
        self._grace = grace
        self._heard = asyncio.Event()
        self._cell = build_cell(self._design, self._on_event, lambda: self._stop, self._all_heard)

    async def listen(self, interface: str, guard: bytes = ANYBODY) -> bytes:
        """Start serving on a free port of `interface`, to those whom the guard lets in. The address for users.

        Raises NoDevice.
        """
        for device in devices(self._design.scenario):
            require_device(device)
        self._server = await serve(self._cell, interface, guard=unpack_guard(guard))
        return self._server.address.encode()

    async def run(self) -> None:
        """The rounds; what happens is told through `news`."""
        torch.set_flush_denormal(True)
        compute = OneThread(self._design.scenario.threads.edge)
        try:
            tasks = build_server_tasks(self._design, self._on_event, self._on_task)
            on_round = tasks.then(self._on_round)
            rounds = build_rounds(self._design, self._step, self._cell, compute, on_round, self._on_event, tasks)
            rounds.keeper = Keeper(self._pace.due, self._keep)
            rounds.pause = Pause(self._cell, lambda: self._paused, self._on_event)
            keep_objects()
            users = await tasks.beside(rounds.run())
            if self._cell.stopping and (last := rounds.boundary):
                self._tell_boundary(last)
            if self._server:
                self._server.account()
            self._news.outcome = Outcome(rounds.model.digest(), users, self._cell.stopping)
        except (RunFailed, NotConverged) as error:
            self._news.failure = str(error)
        except Exception as error:
            self._on_event({"event": "traceback", "text": traceback.format_exc()})
            self._news.failure = f"the edge failed: {type(error).__name__}: {error}"
        if self._news.failure:
            end_in(self._grace)
        self._told.set()

    async def news(self) -> bytes:
        """Waits until there is something to tell, then tells it once. Who asks again has heard what was told."""
        if not self._told.is_set():
            self._heard.set()
        await self._told.wait()
        self._told.clear()
        news, self._news = self._news, News()
        return news.pack()

    async def _all_heard(self) -> None:
        """Returns once somebody has heard all that has happened."""
        self._heard.clear()
        await self._heard.wait()

    def saved(self) -> None:
        """The boundary that was told is safe: go on."""
        self._saved.set()

    async def _keep(self, boundary: Boundary) -> None:
        """Tells of it, and waits until edge and users are saved together."""
        start = perf_counter()
        self._saved.clear()
        if self._tell_boundary(boundary):
            self._told.set()
            await self._saved.wait()
        self._pace.took(perf_counter() - start)

    def _tell_boundary(self, boundary: Boundary) -> bool:
        """Whether there is something to save; what cannot be saved is an event."""
        try:
            self._news.boundary = At(boundary.round, boundary.slot), boundary.state()
        except OtherShape as error:
            at = {"round": boundary.round, "slot": boundary.slot}
            self._on_event({"event": "not_saved", **at, "reason": str(error)})
            return False
        return True

    def stop(self) -> None:
        """Ask everybody to leave after the current slot."""
        self._stop = True

    def pause(self, wanted: bool) -> None:
        """Hold the run before its next slot, or let it go on."""
        self._paused = wanted

    def _on_round(self, record: RoundRecord) -> None:
        self._news.rounds.append(record)
        self._told.set()

    def _on_event(self, event: Event) -> None:
        self._news.events.append(event)
        self._told.set()

    def _on_task(self, news: TaskNews) -> None:
        self._news.tasks.append(news)
        self._told.set()
