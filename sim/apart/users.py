"""Users of a scenario as a process of their own: they find the edge, live until goodbye, and keep their state.

Where the run is taken back, or the edge comes back, they begin anew from what they kept.
"""

import asyncio
from asyncio import FIRST_COMPLETED, Task
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, nullcontext, suppress
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import NamedTuple

from edge_server.compute import threads
from edge_server.judge import RunFailed
from edge_server.plan import RunPlan, Sizes
from edge_server.state import Flat
from protos import MOST_GUESTS, PROTOCOL
from protos import reception_pb2 as pb
from protos.edge_pb2 import Key
from protos.tensors import wire_dtype
from sim.apart.common import Address, unless_stopped
from sim.apart.states import UserStates
from sim.build import session_of
from sim.caller import BadScenario, RunError, Watcher, placed
from sim.checkpoint_files import NotSaved
from sim.descriptors import provide_descriptors
from sim.identity import shared
from sim.keys import Connection, NoKeys, keys_of
from sim.local import START, At, host, settled
from sim.planning import run_plan, sizes_of, user_plan
from sim.runner import alone
from sim.scenario import Loaded
from sim.suggest import did_you_mean
from user_client.credentials import Credentials
from user_client.reception import Beside, NotThere, TurnedAway, introduce
from user_client.session import Anew, Session

_REASON = 0.5
"""Seconds to wait for the edge's own reason after it has ended a user's stream."""
_LAST_WORDS = 5.0
"""Seconds in which an edge that said goodbye must end its other streams."""


class _Party(NamedTuple):
    """Users, by their place in the scenario, who introduce themselves together, and what they show."""

    users: Sequence[int]
    credentials: Credentials


class Joining(NamedTuple):
    """Who joins which edge, how long they look for it, and where they keep their state (None: nowhere)."""

    loaded: Loaded
    users: Sequence[str]
    edge: Address
    wait: float
    state: Path | None


class Joined(NamedTuple):
    """How it ended, at goodbye. rounds: how many were over."""

    users: Sequence[str]
    edge: str
    run: str
    rounds: int
    rounds_planned: int

    @property
    def status(self) -> str:
        """`done`, or `stopped` where the edge said goodbye before the last round was over."""
        return "done" if self.rounds == self.rounds_planned else "stopped"


def join_run(what: Joining, watcher: Watcher) -> Joined:
    """The users' lives, from the first word to goodbye. Raises RunError, BadScenario, Stopped."""
    scenario = what.loaded.scenario
    known = {user.name: k for k, user in enumerate(scenario.users)}
    for name in what.users:
        if name not in known:
            raise BadScenario(f"--users: {scenario.name} has no user {name!r}{did_you_mean(name, known)}")
    with placed(what.loaded), threads(scenario.threads.user):
        sizes = {known[name]: sizes_of(scenario, known[name]) for name in what.users}
    states = UserStates(what.state, scenario, what.users) if what.state else None
    with alone(what.state) if what.state else nullcontext(), threads(scenario.threads.user):
        try:
            return asyncio.run(_Users(what, sizes, states, watcher).live())
        except (NotThere, TurnedAway) as error:
            raise RunError(f"{scenario.name}: {error}") from error
        except RunFailed as error:
            raise RunError(f"{scenario.name} at {what.edge}: {error}") from error


class _Anew(Exception):
    """The run is taken back, or up again: these users introduce themselves anew."""


class _Users:
    """sizes: by place in the scenario, in the order of `what.users`."""

    def __init__(self, what: Joining, sizes: dict[int, Sizes], states: UserStates | None, watcher: Watcher):
        self._what, self._sizes, self._states, self._watcher = what, sizes, states, watcher
        self._scenario = what.loaded.scenario
        self._process = token_hex(8)
        self._run = states.run if states else ""
        self._connections: list[Connection] = []
        self._sessions: list[Session] = []
        self._first = START
        self._kept: At | None = None
        self._keeping = asyncio.Lock()
        self._away = self._lives = 0
        self._told = ""

    async def live(self) -> Joined:
        """Until goodbye, over as many attempts at the run as it takes."""
        try:
            self._connections = keys_of(self._scenario.security).connections(self._what.users)
        except NoKeys as error:
            raise BadScenario(str(error)) from error
        provide_descriptors(2 * len(self._connections))
        parties = [*self._parties()]
        while True:
            with suppress(_Anew):
                await unless_stopped(self._attempted(parties), self._watcher.stop)
                break
        rounds = max(self._first.round, *(session.rounds_over for session in self._sessions))
        return Joined(self._what.users, str(self._what.edge), self._run, rounds, self._scenario.rounds)

    def _parties(self) -> Iterator[_Party]:
        """Users of a connection who introduce themselves together."""
        places = [*self._sizes]
        for connection in self._connections:
            for first in range(0, len(connection.users), MOST_GUESTS):
                some = connection.users[first : first + MOST_GUESTS]
                yield _Party([places[user] for user in some], connection.credentials)

    async def _attempted(self, parties: Sequence[_Party]) -> None:
        """The users' lives from where the run begins or goes on. Raises _Anew where they are to be begun anew."""
        self._kept = None
        async with AsyncExitStack() as stack:
            streams = await self._introduced(parties, stack)
            terms = streams[0].terms
            if any(stream.terms != terms for stream in streams):
                raise _Anew
            plan = self._prepare(terms)
            self._tell(terms)
            standing = asyncio.create_task(self._stand_by(parties, streams, stack))
            hosting = asyncio.create_task(host(self._sessions, str(self._what.edge), plan, self._connections))
            try:
                await self._lived(hosting, standing)
            finally:
                for task in (hosting, standing):
                    task.cancel()
                await asyncio.gather(hosting, standing, return_exceptions=True)

    async def _lived(self, hosting: "Task[None]", standing: "Task[None]") -> None:
        """Until goodbye, and until the edge has nothing more to keep. Raises RunFailed, NotThere, TurnedAway, _Anew.

        Where the users' own streams end first, those beside the run may know why.
        """
        await asyncio.wait([hosting, standing], return_when=FIRST_COMPLETED)
        if not hosting.done():
            standing.result()
            await asyncio.wait([hosting])
        failed = hosting.exception() is not None
        await asyncio.wait([standing], timeout=_REASON if failed else _LAST_WORDS)
        while failed and self._away and not standing.done():
            await asyncio.wait([standing], timeout=_REASON)
        if standing.done() and (failed or not isinstance(standing.exception(), NotThere)):
            standing.result()
        hosting.result()

    async def _introduced(self, parties: Sequence[_Party], stack: AsyncExitStack) -> list[Beside]:
        """A stream beside the run for each party."""
        tasks: list[Task[Beside]] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks += [group.create_task(self._introduce(party, stack)) for party in parties]
        except* (NotThere, TurnedAway) as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _stand_by(self, parties: Sequence[_Party], streams: Sequence[Beside], stack: AsyncExitStack) -> None:
        """Keeps the users' state whenever the edge asks, until it ends the run. Raises as `_beside`."""
        try:
            async with asyncio.TaskGroup() as group:
                for party, stream in zip(parties, streams, strict=True):
                    group.create_task(self._beside(party, stream, stack))
        except* (_Anew, RunFailed, NotThere, TurnedAway) as failures:
            raise min(failures.exceptions, key=lambda failure: not isinstance(failure, _Anew)) from None

    async def _beside(self, party: _Party, stream: Beside, stack: AsyncExitStack) -> None:
        """One stream, opened again where it is cut. Raises _Anew, RunFailed, NotThere, TurnedAway."""
        attempt = stream.terms.attempt
        while (end := await stream.keep(self._keep)).kind == "cut":
            self._away += 1
            await stream.close()
            stream = await self._introduce(party, stack)
            self._away -= 1
            if stream.terms.attempt != attempt:
                raise _Anew
        if end.kind == "again":
            raise _Anew
        if end.kind == "failed":
            raise RunFailed(f"the edge ended the run: {end.why}")
        if end.kind == "refused":
            raise RunFailed(f"the edge says {end.why}")

    async def _introduce(self, party: _Party, stack: AsyncExitStack) -> Beside:
        places = self._states.places() if self._states else []
        said = pb.Introduction(
            protocol=PROTOCOL,
            scenario=shared(self._scenario),
            guests=[self._guest(k) for k in party.users],
            run=self._run,
            places=[Key(round=at.round, slot=at.slot) for at in places],
            keeps=self._states is not None,
            process=self._process,
        )
        found = await introduce(str(self._what.edge), party.credentials, said, self._what.wait, self._on_wait)
        stack.push_async_callback(found.close)
        return found

    def _on_wait(self, whom: str) -> None:
        if whom and whom != self._told:
            self._told = whom
            self._watcher.on_note(f"the edge at {self._what.edge} still waits for {whom}")

    def _guest(self, k: int) -> pb.Guest:
        sizes = self._sizes[k]
        return pb.Guest(
            user=self._scenario.users[k].name,
            dtype=wire_dtype(sizes.dtype),
            feature_shape=sizes.feature_shape,
            batch=sizes.batch,
            validation_batch=sizes.validation_batch,
        )

    def _prepare(self, terms: pb.Terms) -> RunPlan:
        """The users as the run begins or goes on. Raises BadScenario, RunError."""
        outputs = tuple(terms.output_shape)
        plans = [user_plan(self._scenario, k, sizes, outputs) for k, sizes in self._sizes.items()]
        plan = run_plan(self._scenario, terms.attempt, tuple(plans))
        anew = Anew(terms.process, terms.first) if terms.process else None
        try:
            self._sessions = [
                session_of(self._scenario, k, plan, user, anew=anew) for k, user in zip(self._sizes, plans, strict=True)
            ]
        except (ValueError, OSError) as error:
            raise BadScenario(f"users cannot be built: {error}") from error
        self._first = At(terms.first.round, terms.first.slot)
        if self._first != START:
            for session, state in zip(self._sessions, self._before(self._first), strict=True):
                session.restore(state)
        if self._states:
            self._states.begin(terms.run)
        self._run = terms.run
        return plan

    def _before(self, at: At) -> list[Flat]:
        if self._states is None:
            raise RunError(f"{self._scenario.name}: the run goes on from {at}, and these users keep no --state")
        return self._states.before(at)

    def _tell(self, terms: pb.Terms) -> None:
        where = f" from {self._first}" if self._first != START or self._lives else ""
        self._watcher.on_note(f"{', '.join(self._what.users)}: in run {terms.run} at {self._what.edge}{where}")
        if not self._states and not self._lives:
            self._watcher.on_note("note: without --state these users cannot go on once the run is stopped")
        self._lives += 1

    async def _keep(self, key: Key) -> str:
        """Why the users here have not kept their state before this slot; empty if they have."""
        if self._states is None:
            return "no --state"
        at, until = At(key.round, key.slot), monotonic() + self._scenario.patience

        def check() -> None:
            if monotonic() > until:
                raise RunFailed("a user was not told how its last slot ended")

        async with self._keeping:
            if self._kept != at:
                try:
                    self._states.keep(at, await settled(self._sessions, check))
                except (NotSaved, RunFailed) as error:
                    self._watcher.on_note(f"note: {error}")
                    return str(error)
                self._kept = at
        return ""
