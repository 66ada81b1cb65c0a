"""Processes that die where slots go on without their users, and come anew with what was kept last."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from simulated_cases import Place, WatchedSession
from simulated_network import Host

from edge_server.attendance import Refused
from edge_server.boundary import Boundary, Keeper
from edge_server.state import Flat
from protos import edge_pb2 as pb
from user_client.session import Anew

if TYPE_CHECKING:
    from simulated_run import Rehearsal

_LOOKS, _MOMENT = 200, 1e-4


class Revivals:
    """Of one host of a run. before: sessions of processes that are dead, by user. many: processes that came anew."""

    def __init__(self, run: "Rehearsal", random: Random, delay: Callable[[], float]):
        self._run, self._random, self._delay = run, random, delay
        self._which = random.randrange(len(run.case.hosts))
        self._deaths = random.choice((1, 1, 2, 4))
        self._often = random.choice((0.1, 1.0, 1.0))
        self._at: Place = (0, 0)
        self._states: Sequence[Flat] = ()
        self._alive = True
        self.many = 0
        self.before: dict[int, list[WatchedSession]] = {}

    @property
    def keeper(self) -> Keeper:
        return Keeper(lambda _slots: self._random.random() < self._often, self._keep)

    async def _keep(self, boundary: Boundary) -> None:
        """As the reception has it: only where all processes are there, and hear in time how the last slot ended."""
        sessions = [*self._run.sessions]
        for _ in range(_LOOKS):
            if not self._alive or sessions != self._run.sessions or self._run.edge.cell.coming:
                return
            if all(session.settled for session in sessions):
                self._at, self._states = (boundary.round, boundary.slot), [session.state() for session in sessions]
                return
            await asyncio.sleep(_MOMENT)

    async def live(self) -> None:
        """Deaths and new lives, until the run is over."""
        for _ in range(self._deaths):
            await self._some(1, 30, 100, 300, 1000, 3000)
            host = self._run.hosts[self._which]
            if host.process is None or host.process.done():
                return
            host.process.cancel()
            self._alive = False
            await self._some(0, 1, 30)
            try:
                if not all(self._run.edge.cell.takes_anew(name, self.many + 1) for name in host.names):
                    return
            except Refused:
                return
            self._run.hosts[self._which] = self._begun()
            self._alive = True

    async def _some(self, *times: int) -> None:
        await asyncio.sleep(self._random.choice(times) * self._delay())

    def _begun(self) -> Host:
        run, users = self._run, self._run.case.hosts[self._which]
        self.many += 1
        anew = Anew(self.many, pb.Key(round=self._at[0], slot=self._at[1]))
        for k in users:
            self.before.setdefault(k, []).append(run.sessions[k])
            run.sessions[k] = run.case.session(k, anew)
            if self._states:
                run.sessions[k].restore(self._states[k])
        sessions = [run.sessions[k] for k in users]
        return run.start(sessions, trunk=run.case.trunks[self._which], after=0.0)
