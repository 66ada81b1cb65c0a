"""The edge of `bench scale`: that of a slot, whose rule is watched while it makes its weights."""

import asyncio
from collections.abc import Callable
from time import perf_counter, sleep
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from edge_server.aggregators import Aggregator, Cost, Slot, State
from edge_server.fairness import AlphaFair
from edge_server.rounds import Rounds
from sim.allocator import keep_buffers
from sim.bench.process import listen
from sim.bench.scale_memory import forget_peak, give_back, peak, resident
from sim.bench.wire import run_edge

T = TypeVar("T")

_SLOTS = 3
"""Slots to weigh."""

_LOOKS, _PAUSE, _SAME = 50, 0.1, 0.05
"""How often to look whether memory has settled, seconds between, and MB that count as no change."""


class Watched:
    """The rule that it is given, and what a slot's weights cost: seconds, and in the `weighed` round (from 1) MB.

    No slot is both weighed and timed.
    """

    cost: ClassVar[Cost] = "gramian"
    """At most."""

    def __init__(self, rule: Aggregator, weighed: int):
        self._rule = rule
        self._weighed = weighed
        self.seconds: list[float] = []
        self.mb: list[float | None] = []

    @property
    def fairness(self) -> AlphaFair:
        """The rule's."""
        return self._rule.fairness

    def start(self, users: int) -> State:
        """The rule's."""
        return self._rule.start(users)

    def begin_round(self, state: State) -> State:
        """The rule's."""
        return self._rule.begin_round(state)

    def step(self, state: State, slot: Slot) -> State:
        """The rule's."""
        return self._rule.step(state, slot)

    def weights(self, state: State, slot: Slot) -> Tensor:
        """The rule's weights, timed or weighed."""
        if state.rounds == self._weighed and len(self.mb) < _SLOTS:
            found, mb = weighed(lambda: self._rule.weights(state, slot))
            self.mb.append(mb)
            return found
        started = perf_counter()
        found = self._rule.weights(state, slot)
        self.seconds.append(perf_counter() - started)
        return found


def weighed(function: Callable[[], T]) -> tuple[T, float | None]:
    """What `function` returns, and the MB by which this process grew for it at most; None where nobody can tell.

    The heap first gives its free pages back, so that these are all that `function` takes, not what it takes beyond
    earlier peaks; and no other thread is taking any more, such as for messages on their way.
    """
    before = _settled()
    known = forget_peak("self")
    found = function()
    after = peak("self")
    return found, max(0.0, after - before) if known and before is not None and after is not None else None


def _settled() -> float | None:
    """MB of this process once they stay the same for a while; None where nobody can tell, or they do not."""
    last = None
    for _ in range(_LOOKS):
        if not give_back() or (now := resident("self")) is None:
            return None
        if last is not None and abs(now - last) < _SAME:
            return now
        last = now
        sleep(_PAUSE)
    return None


def _watch(rounds: Rounds) -> Callable[[], dict[str, Any]]:
    rule = Watched(rounds.aggregator, weighed=rounds.cell.plan.rounds)
    rounds.aggregator = rule

    def told() -> dict[str, Any]:
        seconds, rule.seconds = rule.seconds, []
        return {"rule": seconds, "rule_mb": rule.mb, "parameters": rounds.model.live_theta.numel()}

    return told


def main() -> None:
    """The edge, as the first line says."""
    keep_buffers()
    asyncio.run(run_edge(listen()["recipe"], _watch))


if __name__ == "__main__":
    main()
