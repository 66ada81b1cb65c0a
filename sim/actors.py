"""The processes of a run as plain classes: one edge, and hosts that carry users. Ray wraps them in `sim.cluster`."""

import asyncio
import io
import json
import os
import traceback
from dataclasses import dataclass, field, fields, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from edge_server.boundary import Boundary, Keeper
from edge_server.compute import OneThread
from edge_server.device import require_device
from edge_server.judge import RunFailed
from edge_server.record import Event, Leaks, RadioRecord, RoundRecord, Trace
from edge_server.server_tasks.news import TaskNews
from edge_server.service import EdgeServer, serve
from edge_server.state import Flat, OtherShape
from sim.allocator import keep_buffers, keep_objects
from sim.blueprint import RunState, devices
from sim.build import build_rounds, build_server_tasks, build_session
from sim.checkpoints import LEAST, Pace, joined, taken_apart
from sim.faulty_edge import build_cell
from sim.keys import ALL_ON_ONE, ANYBODY, unpack_connections, unpack_guard
from sim.local import At, Outcome, ReasonLost, host, settled
from sim.oracle import NotConverged
from sim.pausing import Pause
from sim.priority import yield_to_edge
from sim.recipe import from_recipe
from user_client.session import Session


@dataclass
class News:
    """What the edge has to tell since it was last asked; the end of the run is the last of it."""

    rounds: list[RoundRecord] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    tasks: list[TaskNews] = field(default_factory=list)
    boundary: tuple[At, Flat] | None = None
    outcome: Outcome | None = None
    failure: str | None = None

    def pack(self) -> bytes:
        """As bytes: a JSON header and the arrays of every round."""
        arrays: dict[str, Any] = {}
        rounds = [_split(record, f"{number}.", arrays) for number, record in enumerate(self.rounds)]
        outcome = self.outcome and {
            "edge": self.outcome.edge.hex(),
            "users": [user.hex() for user in self.outcome.users],
            "stopped": self.outcome.stopped,
        }
        tasks = [_unfiled(news, f"task{number}.", arrays) for number, news in enumerate(self.tasks)]
        told = {"rounds": rounds, "events": self.events, "tasks": tasks}
        at = self.boundary and self.boundary[0]
        header = {**told, "boundary": at, "outcome": outcome, "failure": self.failure}
        if self.boundary:
            arrays["boundary"] = np.frombuffer(save(self.boundary[1]), np.uint8)
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> "News":
        """What `pack` packed."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            rounds = [_join(scalars, f"{number}.", arrays) for number, scalars in enumerate(header["rounds"])]
            tasks = [_filed(content, f"task{number}.", arrays) for number, content in enumerate(header["tasks"])]
            at = header["boundary"]
            boundary = None if at is None else (At(*at), load(arrays["boundary"].tobytes()))
        outcome = header["outcome"]
        if outcome:
            users = [bytes.fromhex(user) for user in outcome["users"]]
            outcome = Outcome(bytes.fromhex(outcome["edge"]), users, outcome["stopped"])
        return cls(rounds, header["events"], tasks, boundary, outcome, header["failure"])


def _split(record: RoundRecord | Trace | RadioRecord | Leaks, prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """The record's numbers; its arrays go into `arrays`, named by their field."""
    scalars: dict[str, Any] = {}
    for name, value in ((f.name, getattr(record, f.name)) for f in fields(record)):
        if isinstance(value, np.ndarray):
            arrays[prefix + name] = value
        elif isinstance(value, Trace | RadioRecord | Leaks):
            scalars[name] = _split(value, f"{prefix}{name}.", arrays)
        else:
            scalars[name] = value
    return scalars


def _join(scalars: dict[str, Any], prefix: str, arrays: Any, kind: type[Any] = RoundRecord) -> Any:
    values = dict(scalars)
    for name in (f.name for f in fields(kind)):
        if prefix + name in arrays:
            values[name] = arrays[prefix + name]
    for name, part in (("trace", Trace), ("radio", RadioRecord), ("leaks", Leaks)):
        if isinstance(values.get(name), dict):
            values[name] = _join(values[name], f"{prefix}{name}.", arrays, part)
    return kind(**values)


def _unfiled(news: TaskNews, prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """The news without its files, which go into `arrays`."""
    content, files = news.to_dict()
    arrays |= {prefix + name: np.frombuffer(data, np.uint8) for name, data in files.items()}
    return {**content, "files": [*files]}


def _filed(content: dict[str, Any], prefix: str, arrays: Any) -> TaskNews:
    """What `_unfiled` took apart."""
    files = {name: arrays[prefix + name].tobytes() for name in content.pop("files")}
    return TaskNews.from_dict(content, files)


class EdgeActor:
    """The edge of one run in a process of its own."""

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
            _end_in(self._grace)
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


def _end_in(seconds: float | None) -> None:
    """This process ends by itself then, unless it is ended before; None: never."""
    if seconds is not None:
        asyncio.get_running_loop().call_later(seconds, os._exit, 1)


class HostActor:
    """Some users of one run on one event loop in a process of their own."""

    def __init__(self, recipe: str, users: list[int], state: bytes = b"", grace: float | None = None):
        """state: what these users go on from; empty at the start of a run. grace: as the edge's."""
        keep_buffers()
        yield_to_edge()
        self._design, _ = from_recipe(recipe)
        if state:
            everybody = taken_apart(load(state), len(self._design.plan.users))
            self._design = replace(self._design, state=RunState({}, everybody))
        self._users = users
        self._over = False
        self._grace = grace
        self._sessions: list[Session] = []

    async def prepare(self) -> bytes:
        """Build the users and their data. Empty, or the one line that says why it failed."""
        torch.set_num_threads(self._design.scenario.threads.user)
        torch.set_flush_denormal(True)
        for k in self._users:
            try:
                self._sessions.append(build_session(self._design, k))
            except (ValueError, OSError) as error:
                return f"user {self._design.plan.users[k].name!r} cannot be built: {error}".encode()
        keep_objects()
        return b""

    async def live(self, address: str | bytes, connections: bytes = ALL_ON_ONE) -> bytes:
        """The users' lives on these connections, once prepared. Empty at goodbye, or the line that says why one failed.

        Empty, too, where the edge ended a stream and only it knows why: it tells.
        """
        where = address if isinstance(address, str) else address.decode()
        try:
            await host(self._sessions, where, self._design.plan, unpack_connections(connections))
        except RunFailed as failure:
            _end_in(self._grace)
            return b"" if isinstance(failure, ReasonLost) else str(failure).encode()
        finally:
            self._over = True
        return b""

    async def states(self) -> bytes:
        """The users' states between two slots, by their place in the scenario; nothing if one is never told how its
        last slot ended.
        """
        until = perf_counter() + self._design.plan.patience

        def check() -> None:
            if self._over or perf_counter() > until:
                raise RunFailed("a user was not told how its last slot ended")

        try:
            states = await settled(self._sessions, check)
        except RunFailed:
            return b""
        return save(joined(dict(zip(self._users, states, strict=True))))
