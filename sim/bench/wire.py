"""The slot as it is run for real, in processes of their own: the edge, or a host of some users; with clocks inside."""

import asyncio
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

import torch

from edge_server.cell import Cell
from edge_server.compute import OneThread
from edge_server.record import Event, RoundRecord
from edge_server.rounds import Rounds
from edge_server.service import serve
from sim.allocator import keep_buffers, keep_objects
from sim.bench.process import answer, listen
from sim.bench.scale_memory import resident
from sim.build import build_rounds, build_session
from sim.keys import ANYBODY, unpack_connections, unpack_guard
from sim.local import LOOPBACK, host
from sim.priority import yield_to_edge
from sim.recipe import from_recipe
from user_client.session import Session

P = ParamSpec("P")
T = TypeVar("T")


class _Clocked(OneThread):
    """The edge's compute thread; `seconds` gets what each call took on that thread."""

    def __init__(self, count: int):
        super().__init__(count)
        self.seconds: list[float] = []

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def call() -> T:
            started = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds.append(perf_counter() - started)

        return await super().__call__(call)


class _ClockedSession(Session):
    """The session it is given; `seconds` gets what each answer took: features and feedback in turn, then leave."""

    def __init__(self, session: Session):
        vars(self).update(vars(session))
        self.seconds: list[float] = []

    def react(self, data: bytes) -> Iterator[bytes]:
        answers = super().react(data)
        while True:
            started = perf_counter()
            if (said := next(answers, None)) is None:
                return
            self.seconds.append(perf_counter() - started)
            yield said


Watch = Callable[[Rounds], Callable[[], dict[str, Any]]]
"""Given the rounds before the first of them; what it gives is asked at the end of each what else to tell."""


async def run_edge(recipe: str, watch: Watch, guard: bytes = ANYBODY) -> None:
    """Every round is a block: told when it is over, and the next one waits for a word. guard: packed."""
    design, step = from_recipe(recipe)
    compute = _Clocked(design.scenario.threads.edge)
    joined: list[float] = []

    def on_round(record: RoundRecord) -> None:
        seconds, compute.seconds = compute.seconds, []
        answer({**_block(record, seconds), "join": joined[-1] - joined[0], **more()})
        listen()

    def on_event(event: Event) -> None:
        if event["event"] == "join":
            joined.append(perf_counter())

    cell = Cell(design.plan, on_event, lambda: False)
    rounds = build_rounds(design, step, cell, compute, on_round, on_event)
    more = watch(rounds)
    server = await serve(cell, LOOPBACK, guard=unpack_guard(guard))
    keep_objects()
    answer({"address": server.address})
    await rounds.run()
    await asyncio.to_thread(listen)
    await server.stop()
    compute.close()


def _block(record: RoundRecord, seconds: list[float]) -> dict[str, Any]:
    """seconds: of every slot's forward and backward pass in turn, then of the round's end."""
    slots = len(record.t_slot)
    return {
        "slot": record.t_slot.tolist(),
        "forward": seconds[: 2 * slots : 2],
        "backward": seconds[1 : 2 * slots : 2],
        "loss": record.loss.tolist(),
        "bytes_up": record.bytes_up.tolist(),
        "bytes_down": record.bytes_down.tolist(),
    }


async def _host(recipe: str, users: list[int], address: str, connections: bytes) -> None:
    yield_to_edge()
    base = resident("self")
    design, _ = from_recipe(recipe)
    torch.set_num_threads(design.scenario.threads.user)
    sessions = [_ClockedSession(build_session(design, k)) for k in users]
    keep_objects()
    await host([*sessions], address, design.plan, unpack_connections(connections))
    answer({"seconds": [session.seconds for session in sessions], "base": base})


def main() -> None:
    """The edge or a host, as the first line says."""
    keep_buffers()
    task = listen()
    if "users" in task:
        connections = task.get("connections", "[]").encode()
        asyncio.run(_host(task["recipe"], task["users"], task["address"], connections))
    else:
        guard = task["guard"].encode() if "guard" in task else ANYBODY
        asyncio.run(run_edge(task["recipe"], lambda _: dict, guard))


if __name__ == "__main__":
    main()
