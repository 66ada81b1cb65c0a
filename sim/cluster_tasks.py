"""Many independent tasks on a Ray cluster, each in whatever process has cores free for it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sim.ray_up import ray_itself
from sim.ray_words import in_one_line, last_line

_POLL = 0.2
"""Seconds between two looks at whether the caller wants to stop."""


class Order(NamedTuple):
    """What a task is given, and the cores that it keeps busy."""

    content: bytes
    cores: int


class Brought(NamedTuple):
    """What a task gives back."""

    head: bytes
    body: bytes


class Lost(NamedTuple):
    """Why there is no answer from a task, in one line."""

    why: str


def each(
    task: Callable[[bytes], tuple[bytes, bytes]], orders: Sequence[Order], at_once: int | None, stop: Callable[[], bool]
) -> Iterator[tuple[int, Brought | Lost]]:
    """What `task` makes of every order, with the order's index, as it comes from some machine of the cluster we are in.

    A task whose process dies is tried once more. Ends early, and gives up what is under way, when `stop` says so.
    """
    ray = ray_itself()
    most = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    remote, usual = ray.remote(task), {"num_returns": 2, "max_retries": 1, "scheduling_strategy": "SPREAD"}
    waiting, under_way = deque(enumerate(orders)), dict[Any, tuple[int, Any]]()
    try:
        while (waiting or under_way) and not stop():
            while waiting and (at_once is None or len(under_way) < at_once):
                index, order = waiting.popleft()
                if order.cores > most:
                    yield index, Lost(f"it asks for {order.cores} cores (threads), the largest machine has {most:g}")
                    continue
                head, body = remote.options(num_cpus=order.cores, **usual).remote(order.content)
                under_way[head] = index, body
            for head in ray.wait([*under_way], timeout=_POLL)[0] if under_way else ():
                index, body = under_way.pop(head)
                yield index, _fetched(ray, head, body)
    finally:
        for head in under_way:
            ray.cancel(head, force=True)


def _fetched(ray: Any, head: Any, body: Any) -> Brought | Lost:
    try:
        return Brought(ray.get(head), ray.get(body))
    except ray.exceptions.RayTaskError as error:
        return Lost(last_line(error))
    except ray.exceptions.RayError as error:
        return Lost(f"its process died twice: {in_one_line(error)}")
