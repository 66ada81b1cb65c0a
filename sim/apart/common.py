"""What both sides of a run that stands apart look at first: the scenario, and the address of the edge."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sim.caller import BadScenario
from sim.console import Stopped
from sim.cross import Here
from sim.scenario import Loaded, Scenario, load
from sim.security import Mtls, Token

LISTEN = "127.0.0.1:7700"
"""Where `equiran serve` listens, unless told otherwise."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Hosts that only this machine reaches."""
_LOOK = 0.1
"""Seconds between two looks at whether somebody wants it to stop."""
_SIMULATED = "needs every user's data in one place: for `equiran run`, not for serve and join"
T = TypeVar("T")


class Address(NamedTuple):
    """host:port; an IPv6 host in brackets."""

    host: str
    port: int

    @classmethod
    def of(cls, option: str, said: str) -> "Address":
        """What an option says. Raises BadScenario."""
        host, _, port = said.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise BadScenario(f"{option} {said}: give HOST:PORT, such as {LISTEN}; a port is at most 65535")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def load_apart(path: Path, sets: Sequence[str], here: Here) -> Loaded:
    """A scenario for edge and users that stand apart. Raises ScenarioErrors, and BadScenario where it cannot be one."""
    loaded = load(path, sets, transport="grpc", here=here)
    if told := [*_refused(loaded)]:
        raise BadScenario("\n".join(told))
    return loaded


def _refused(loaded: Loaded) -> Iterator[str]:
    """Keys that need what nobody has, a line each."""
    scenario, edge = loaded.scenario, loaded.scenario.edge
    found = [
        (("edge", "meta", "target"), edge.meta.target, ("oracle",)),
        (("edge", "primal", "step"), edge.primal.step, ("theory", "guess")),
        (("record", "streams"), scenario.record.streams, (True,)),
        (("record", "privacy"), scenario.record.privacy, (True,)),
    ]
    for path, value, simulated in found:
        if value in simulated:
            shown = "true" if value is True else value
            yield f"{loaded.where(path)}: {'.'.join(path)}: {shown} {_SIMULATED}"
    if scenario.faults:
        yield f"{loaded.where(('faults',))}: faults: for `equiran run`; what runs apart can be killed in earnest"
    if lack := _made_up(scenario):
        yield f"{loaded.where(('security',))}: security: {lack}"


def _made_up(scenario: Scenario) -> str | None:
    match scenario.security:
        case Token(file=None, env=None):
            return "a token made up for one process is no use to another: give file or env"
        case Mtls(folder=None):
            return "certificates made up for one process are no use to another: give folder, see `equiran certs`"
    return None


async def unless_stopped(work: Coroutine[Any, Any, T], stop: Callable[[], bool]) -> T:
    """What `work` gives. Raises Stopped once `stop` says so, when work is cancelled."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            if stop():
                raise Stopped
            await asyncio.wait([task], timeout=_LOOK)
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])
