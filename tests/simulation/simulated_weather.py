"""What goes wrong in a simulated run, dealt from its seed."""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Literal

from simulated_network import Cut, Host, Stream

Doom = Literal["killed", "vanishes", "garbage", "replay"]
_KEEPALIVE = 40.0
"""Seconds after which both sides of a silent stream know."""

_BEFORE_A_WORD = 6
"""Cuts, at most, of streams of hosts that have heard nothing yet: they look for an edge for seconds only."""


class Rough:
    """Delays, cuts, silence and repetition; what `doom` says befalls one host, and it never comes back.

    doomed_at: when it did, in virtual seconds. mild: everybody is quick, and soon knows of a cut. hurried: who comes
    back late, after many cuts, ends the run.
    """

    def __init__(self, random: Random, doom: tuple[str, Doom] | None, *, mild: bool, hurried: bool):
        self._random = random
        self._pace = random.choice((1e-5, 1e-4, 1e-3, 1e-3 if mild else 1e-2))
        self._cuts = random.choice((0, 1, 2, 4, 4 if mild else 8, 4 if hurried else 20))
        self._whole = random.choice((0.0, 0.5, 1.0))
        self._often = random.choice((0.5, 1.0))
        self._again = random.choice((0.0, 0.0, 0.05, 0.3))
        self._mild, self._early = mild, _BEFORE_A_WORD
        self._doom, self._spoken = doom, Counter[str]()
        self._after = random.randint(1, 12)
        self.doomed_at: float | None = None

    def delay(self) -> Callable[[], float]:
        kind, mean = self._random.randrange(4), self._pace * self._random.choice((0.1, 1, 1, 10))
        if kind == 0:
            return lambda: mean
        if kind == 1:
            return lambda: self._random.uniform(0, mean)
        return lambda: self._random.expovariate(1 / mean)

    def effort(self) -> Callable[[], float]:
        """Seconds that users take to answer."""
        delay, times = self.delay(), 1 if self._mild else 10
        return lambda: times * delay()

    def cut(self, host: Host) -> Cut | None:
        early = not host.heard()
        if self._cuts == 0 or (early and self._early == 0) or self._random.random() > self._often:
            return None
        self._cuts -= 1
        self._early -= early
        soon = self._mild or early
        after = self._random.choice((1, 2, 3, self._random.randint(1, 15), self._random.randint(1, 15)))
        up, down = self._random.random() < 0.5, self._random.random() < 0.5
        user_notices, edge_notices = self._notice(soon=soon), self._notice(soon=self._mild)
        return Cut(after, up, down, user_notices, edge_notices, self._random.random() < self._whole)

    def again(self) -> bool:
        return self._random.random() < self._again

    def spoken(self, host: Host, stream: Stream) -> None:
        if self._doom is None or self._doom[0] not in host.names:
            return
        self._spoken["messages"] += 1
        if self.doomed_at is None and self._spoken["messages"] >= self._after and self._strikes(host, stream):
            self.doomed_at = asyncio.get_running_loop().time()

    def _strikes(self, host: Host, stream: Stream) -> bool:
        """Whether doom had its way."""
        kind = self._doom[1] if self._doom else None
        if kind == "garbage":
            stream.up.put(b"\xff\xffgarbage")
        elif kind == "replay":
            if len(stream.said) < 5:
                return False
            stream.up.put(stream.said[1])
        elif host.process is not None:
            if kind == "vanishes":
                stream.up.open = stream.down.open = False
                asyncio.get_running_loop().call_later(_KEEPALIVE, stream.lose)
            asyncio.get_running_loop().call_soon(host.process.cancel)
        return True

    def _notice(self, *, soon: bool) -> float:
        kind, random = self._random.randrange(4), self._random
        if kind == 0:
            return 0.0
        if soon or kind == 1:
            return random.uniform(0, 10 * self._pace)
        return random.uniform(0, 5) if kind == 2 else _KEEPALIVE
