"""Where the edge's tensors are computed: here, or on one thread beside an event loop that must stay responsive."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, Protocol, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


class Compute(Protocol):
    """Runs a function that computes with torch."""

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns."""
        ...


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch's intra-op threads are `count` inside; they are part of the numbers (architecture rule 9)."""
    before = torch.get_num_threads()
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
