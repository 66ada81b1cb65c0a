"""An event loop whose clock jumps to the next timer: minutes of waiting cost nothing, on any machine."""

import asyncio
import math
from collections.abc import Coroutine
from contextlib import ExitStack
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")
_TURNS = 200_000
"""Of the loop, in one run; a quiet run takes a few hundred."""
_MOMENT = 2e-5
"""Seconds that a turn takes, at most."""


class Stuck(Exception):
    """Everybody waits for somebody else, or somebody turns round for ever."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Every turn takes a moment, as long as chance says, so that timers fall between any two.

    limit: virtual seconds after which a run is stuck. It is its own selector: there is nothing to select.
    """

    def __init__(self, random: Random, limit: float) -> None:
        super().__init__()
        self._random, self._limit = random, limit
        self._now, self._turns = 0.0, 0
        self._selector = self

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Nobody waits: the clock goes on instead. Raises Stuck."""
        self._turns += 1
        if timeout is None:
            raise Stuck(f"after {self._now:g} virtual seconds everybody waits and nothing is on its way")
        self._now += max(timeout, _MOMENT * self._random.random())
        if self._now > self._limit or self._turns > _TURNS:
            raise Stuck(f"no end after {self._now:g} virtual seconds and {self._turns} turns")
        return []

    def give_up(self) -> None:
        """From now on nothing is too late."""
        self._limit, self._turns = math.inf, -_TURNS

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run(main: Coroutine[Any, Any, T], random: Random, limit: float) -> tuple[T, list[str]]:
    """What `main` gives, and what nobody caught. Retries of the link take their clock and their jitter from here.

    Raises Stuck, or what `main` raises.
    """
    loop, uncaught = VirtualLoop(random, limit), list[str]()
    loop.set_exception_handler(lambda _, told: uncaught.append(f"{told['message']}: {told.get('exception')!r}"))
    with ExitStack() as during:
        during.callback(loop.close)
        during.callback(_end, loop)
        during.enter_context(patch("tenacity.time", SimpleNamespace(monotonic=loop.time)))
        during.enter_context(patch("tenacity.wait.random", random))
        found = loop.run_until_complete(main)
    return found, uncaught


def _end(loop: VirtualLoop) -> None:
    """Tasks that end may begin others, to tell what they ended with."""
    loop.give_up()
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))
