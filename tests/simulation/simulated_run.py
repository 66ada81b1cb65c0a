"""A run of a case, quiet or in rough weather, and what must be true of the second because of the first."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Any

import numpy as np
from simulated_cases import CASES, Case, WatchedSession, case
from simulated_network import Host, Network
from simulated_revivals import Revivals
from simulated_strangers import Rival, strangers
from simulated_weather import Doom, Rough
from virtual_time import run

from edge_server.absence import WAITING, Absence, Log, Return
from edge_server.cell import Cell
from edge_server.credentials import OPEN
from edge_server.judge import RunFailed
from edge_server.record import APPLIED, Event, RoundRecord
from edge_server.streams import EdgeService
from sim.memory import MemoryLine
from user_client.link import carry, live
from user_client.session import Session
from user_client.together import Turn

_LIMIT = 5000.0
"""Virtual seconds of a run."""
SLACK = 30.0
"""Virtual seconds that mild weather may add to patience."""


@dataclass
class Edge:
    """The edge of a run, and what it wrote down. states: the model and the duals, whenever something was computed.

    stop_after: so many slots; stop_at: this virtual time; None: nobody asks it to stop. stopped_after: what came of it.
    applied: user, round and slot of all that counted in the rounds that were written.
    """

    case: Case
    stop_after: int | None
    stop_at: float | None = None
    pause: Callable[[], float] = lambda: 0.0
    stopped_after: int | None = None
    slots: int = 0
    unproven: int = 0
    events: list[Event] = field(default_factory=list)
    numbers: list[bytes] = field(default_factory=list)
    sizes: list[bytes] = field(default_factory=list)
    left_out: list[tuple[int, int, int, int]] = field(default_factory=list)
    returns: tuple[Return, ...] = ()
    states: set[tuple[bytes, bytes]] = field(default_factory=set)
    applied: set[tuple[int, int, int]] = field(default_factory=set)
    rounds_written: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.cell = Cell(self.case.design.plan, self.events.append, self._stop)
        told = self.events.append
        self.rounds = self.case.rounds(self.cell, self._compute, self._write, told)
        self.states.add(self.state)

    @property
    def state(self) -> tuple[bytes, bytes]:
        return self.rounds.model.theta.numpy().tobytes(), self.rounds.duals.w.numpy().tobytes()

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]

    def look(self) -> None:
        kept = (len(one._unproven) for one in self.cell.post.conversations.values())
        self.unproven = max(self.unproven, *kept, 0)

    def _stop(self) -> bool:
        """Asked by a task at the end of a slot, by a timer while the edge waits."""
        asked_after_a_slot = asyncio.current_task() is not None
        self.slots += asked_after_a_slot
        by_count = self.stop_after is not None and self.slots >= self.stop_after
        by_clock = self.stop_at is not None and asyncio.get_running_loop().time() >= self.stop_at
        if (by_count or by_clock) and asked_after_a_slot:
            self.stopped_after = self.stopped_after or self.slots
        return by_count or by_clock

    async def _compute(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.states.add(self.state)
        await asyncio.sleep(self.pause())
        found = function(*args, **kwargs)
        self.states.add(self.state)
        self.look()
        await asyncio.sleep(self.pause())
        return found

    def _write(self, record: RoundRecord) -> None:
        kept = record.loss, record.weight, record.utility, record.status, record.val_loss
        self.numbers += [rows.tobytes() for rows in kept]
        self.sizes += [record.bytes_up.tobytes(), record.bytes_down.tobytes()]
        self.left_out += [(record.round, i, k, record.left_out[i, k]) for i, k in np.argwhere(record.left_out).tolist()]
        self.returns += record.returns
        self.rounds_written.add(record.round)
        self.applied |= {(k, record.round, i) for i, k in np.argwhere(record.status == APPLIED).tolist()}


@dataclass(frozen=True)
class Story:
    """How a run went. digests: of the edge and its users. calls: what each user was asked to do."""

    digests: list[bytes]
    edge: Edge
    calls: list[list[tuple[str, int, int]]]


@cache
def quiet(number: int, stop_after: int | None) -> Story:
    """The run of this case in which nothing goes wrong, and no message takes any time."""
    return told(case(number), stop_after)


def told(chosen: Case, stop_after: int | None) -> Story:
    """A run of `chosen` in which nothing goes wrong."""
    sessions = [chosen.session(k) for k in range(len(chosen.names))]

    async def go() -> Story:
        edge = Edge(chosen, stop_after)
        for session in sessions:
            MemoryLine(edge.cell, session).join()
        users = await edge.rounds.run()
        return Story([edge.rounds.model.digest(), *users], edge, [session.user.calls for session in sessions])

    return run(go(), Random(0), _LIMIT)[0]


def _absence(random: Random, users: int) -> Absence:
    policy = random.choices(("wait", "fail", "drop"), (70, 5, 25))[0]
    if policy == "wait":
        return WAITING
    deadline = random.choice((None, 1e-3, 1e-2, 0.1)) if policy == "drop" else None
    return Absence(policy, deadline, random.randint(1, users))


class Busy(Turn):
    """A host's users take their time."""

    def __init__(self, delay: Callable[[], float]):
        super().__init__()
        self._delay = delay

    async def answers(self, session: Session, data: bytes) -> list[bytes]:
        await asyncio.sleep(self._delay())
        return await super().answers(session, data)


class Rehearsal:
    """The run of one seed. lines: what was found wrong."""

    def __init__(self, seed: int):
        self.seed = seed
        self.random = random = Random(seed)
        number = seed % CASES
        plan = case(number).design.plan
        slots = plan.rounds * plan.slots
        stop_after = random.choice((None, None, None, 1, slots // 2 + 1))
        stop_at = random.expovariate(20.0) if stop_after is None and random.random() < 0.1 else None
        self.doom: tuple[str, Doom] | None = None
        if random.random() < 0.15:
            self.doom = random.choice(case(number).names), random.choice(("killed", "vanishes", "garbage", "replay"))
        absence = _absence(random, len(plan.users))
        self.hopeless = absence is not WAITING or self.doom is not None or stop_at is not None
        patience = random.uniform(1.0, 20.0) if self.hopeless else plan.patience
        design = replace(case(number).design, plan=replace(plan, patience=patience, absence=absence))
        self.case = replace(case(number), design=design)
        stops = stop_after is not None
        hurried = stops or (self.hopeless and not absence.drops)
        self.weather = Rough(random, self.doom, mild=self.hopeless or stops, hurried=hurried)
        self.edge = Edge(self.case, stop_after, stop_at, self.weather.delay())
        self.sessions = [self.case.session(k) for k in range(len(self.case.names))]
        self.revivals: Revivals | None = None
        if absence.drops and self.doom is None and (fate := Random(f"{seed} anew")).random() < 0.5:
            self.revivals = Revivals(self, fate, self.weather.delay())
            self.edge.rounds.keeper = self.revivals.keeper
        self.failure: RunFailed | None = None
        self.failed_at = 0.0
        self.digests: list[bytes] = []
        self.lines: list[str] = []

    def run(self) -> None:
        """Raises Stuck."""
        _, uncaught = run(self._go(), self.random, _LIMIT)
        self.lines += uncaught

    async def _go(self) -> None:
        service = EdgeService(self.edge.cell, OPEN)
        self.network = Network(service, self.weather, self.edge.look)
        self.hosts = [self._host(users, trunk) for users, trunk in zip(self.case.hosts, self.case.trunks, strict=True)]
        self.rivals = self._rivals()
        self.strangers = [
            asyncio.create_task(one) for one in strangers(self.random, self.case, self.network, self.edge.cell)
        ]
        reviving = asyncio.create_task(self.revivals.live()) if self.revivals else None
        try:
            users = await self.edge.rounds.run()
            self.digests = [self.edge.rounds.model.digest(), *users]
            if reviving:
                reviving.cancel()
            await asyncio.wait([host.process for host in self.all_hosts if host.process])
            self.lines += [line for task in self.strangers for line in await task]
        except RunFailed as failure:
            self.failure = failure
            self.failed_at = asyncio.get_running_loop().time()

    @property
    def all_hosts(self) -> list[Host]:
        return [*self.hosts, *(rival.host for rival in self.rivals)]

    @property
    def everybody(self) -> list[WatchedSession]:
        return [*self.sessions, *(rival.session for rival in self.rivals)]

    @property
    def quiet(self) -> Story:
        """What it is measured by."""
        return quiet(self.seed % CASES, self.edge.stopped_after)

    @property
    def followed(self) -> Story:
        """A quiet run that goes on without the users whom this one went on without."""
        plan = self.case.design.plan
        absence = replace(
            plan.absence, log=Log(len(self.edge.rounds_written), tuple(self.edge.left_out), self.edge.returns)
        )
        design = replace(self.case.design, plan=replace(plan, absence=absence))
        return told(replace(self.case, design=design), None)

    @property
    def doomed_at(self) -> float | None:
        return self.weather.doomed_at

    def _host(self, users: tuple[int, ...], trunk: bool) -> Host:
        sessions = [self.sessions[k] for k in users]
        return self.start(sessions, trunk=trunk, after=self.weather.delay()())

    def start(self, sessions: list[WatchedSession], *, trunk: bool, after: float) -> Host:
        """A host of these users, that begins after a while."""
        heard = sum if trunk else min
        host = Host([one.name for one in sessions], lambda: heard(one.heard for one in sessions), self.network)
        host.process = asyncio.create_task(self._live(host, sessions, trunk, after))
        return host

    async def _live(self, host: Host, sessions: list[WatchedSession], trunk: bool, after: float) -> None:
        await asyncio.sleep(after)
        plan, turn, channel = self.case.design.plan, Busy(self.weather.effort()), host
        if trunk:
            await carry(sessions, channel, plan.largest_message, plan.patience)  # type: ignore[arg-type]
            return
        async with asyncio.TaskGroup() as group:
            for session in sessions:
                group.create_task(live(session, channel, turn, plan.patience))  # type: ignore[arg-type]

    def _rivals(self) -> list[Rival]:
        """Second processes of users that live alone."""
        hosts = zip(self.case.hosts, self.case.trunks, strict=True)
        alone = [users[0] for users, trunk in hosts if len(users) == 1 and not trunk]
        if self.hopeless or not alone or self.random.random() < 0.8:
            return []
        k = self.random.choice(alone)
        session = self.case.session(k)
        after = self.random.choice((1, 10, 100)) * self.weather.delay()()
        return [Rival(k, session, self.start([session], trunk=False, after=after))]
