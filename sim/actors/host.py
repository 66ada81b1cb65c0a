"""Some users of one run in a process of their own."""

from dataclasses import replace
from time import perf_counter

import torch
from safetensors.torch import load, save

from edge_server.judge import RunFailed
from sim.actors.ending import end_in
from sim.allocator import keep_buffers, keep_objects
from sim.blueprint import RunState
from sim.build import build_session
from sim.checkpoints import joined, taken_apart
from sim.keys import ALL_ON_ONE, unpack_connections
from sim.local import ReasonLost, host, settled
from sim.priority import yield_to_edge
from sim.recipe import from_recipe
from user_client.session import Session


class HostActor:
    """They share one event loop."""

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
            end_in(self._grace)
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
