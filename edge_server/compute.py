"""Where the edge's tensors are computed: here, or on one thread beside an event loop that must stay responsive."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, Protocol, TypeVar

import torch

_SMALL = 1e-155
"""Its square is denormal, and so zero where those are flushed."""
P = ParamSpec("P")
T = TypeVar("T")


class Compute(Protocol):
    """Runs a function that computes with torch."""

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns."""
        ...


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Below the smallest normal number comes zero, inside, on this thread and on those that it starts.

    It is part of the numbers. Without it a slot of a LeNet is 40 times as slow with features of 1e-40 or 1e-38, and any
    user could send them.
    """
    before = _SMALL * _SMALL == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch's intra-op threads are `count` inside; they are part of the numbers (architecture rule 9).

    So are denormal numbers, which are flushed.
    """
    before = torch.get_num_threads()
    with flushing_denormals():
        if before == count:
            yield
            return
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)


class Inline:
    """At once, on the caller's thread: for users in the same process, who wait anyway."""

    def __init__(self, count: int):
        self._count = count

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns."""
        with threads(self._count):
            return function(*args, **kwargs)


class OneThread:
    """On one thread of its own, so that the event loop keeps answering keepalives and health checks.

    A bare queue: a hand-over costs about half of what an executor takes.
    """

    def __init__(self, count: int):
        self._count = count
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            try:
                said = function(*args, **kwargs)
            except BaseException as error:
                loop.call_soon_threadsafe(_tell, done, done.set_exception, error)
            else:
                loop.call_soon_threadsafe(_tell, done, done.set_result, said)

        self._jobs.put(job)
        return await done

    def close(self) -> None:
        """Ends the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        with threads(self._count):
            while (job := self._jobs.get()) is not None:
                job()


def _tell(done: "asyncio.Future[Any]", tell: Callable[[Any], None], said: Any) -> None:
    if not done.cancelled():
        tell(said)
