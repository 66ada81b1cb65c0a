"""Where the edge's tensors are computed: here, or on one thread beside an event loop that must stay responsive."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, Protocol, TypeVar

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
    """On one thread of its own, so that the event loop keeps answering keepalives and health checks."""

    def __init__(self, count: int):
        self._count = count
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns."""

        def call() -> T:
            with threads(self._count):
                return function(*args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        """Ends the thread."""
        self._executor.shutdown()
