"""The edge of `bench power --beside-slots`: slots over gRPC in blocks, and a server task as in a run."""

import asyncio
from typing import Any

from edge_server.record import Event
from edge_server.server_tasks.news import TaskNews
from sim.allocator import keep_buffers
from sim.bench.process import listen
from sim.bench.wire import run_edge
from sim.build import build_server_tasks
from sim.recipe import from_recipe

_POLL = 0.05


class _Trainer:
    """What the edge knows of the trainer's process: `pid`, and the steps it has taken."""

    def __init__(self, recipe: str) -> None:
        self.pid, self.step = 0, 0
        self.tasks = build_server_tasks(from_recipe(recipe)[0], self._on_event, self._on_task)

    async def at_work(self) -> None:
        """Returns when its first steps are taken: modules loaded, samples drawn."""
        while not self.step:
            await asyncio.sleep(_POLL)
            self.tasks.take_up(0)

    def told(self) -> dict[str, Any]:
        """Taken up at the end of a block, as at that of a round."""
        self.tasks.take_up(0)
        return {"pid": self.pid, "step": self.step}

    def _on_event(self, event: Event) -> None:
        if event["event"] == "server_task_failed":
            raise RuntimeError(event["reason"])
        self.pid = event.get("pid", self.pid)

    def _on_task(self, news: TaskNews) -> None:
        if news.progress:
            self.step = news.progress[-1].taken


async def _run(recipe: str) -> None:
    trainer = _Trainer(recipe)

    async def slots() -> None:
        await trainer.at_work()
        await run_edge(recipe, lambda _rounds: trainer.told)

    await trainer.tasks.beside(slots())


def main() -> None:
    """The edge, as the first line says."""
    keep_buffers()
    asyncio.run(_run(listen()["recipe"]))


if __name__ == "__main__":
    main()
