"""A trainer at a pace: its policies come after exactly their steps, wait in order, and the wait blocks nobody."""

import asyncio
import io
import json
import os
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from edge_server.judge import RunFailed
from edge_server.power_config import RoutedMtl
from edge_server.radio.power import Downlink, Routed
from edge_server.routed_mtl.publishing import publish
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.training import Trainer
from edge_server.server_tasks import process
from edge_server.server_tasks.frames import Frame
from edge_server.server_tasks.job import Job, Pace, read_job
from edge_server.server_tasks.pace import Paced, pace_of
from edge_server.server_tasks.process import TaskProcess

TASK = RoutedMtl.model_validate(
    {
        "kind": "routed_mtl",
        "tasks": [{"problem": "p3", "users": [2, 3]}],
        "samples": {"train": 60, "test": 10, "violation": 10},
        "places": 3, "batch": 4, "stages": [10, 12], "every": 7,
    }
)  # fmt: skip
ENDLESS = TASK.model_copy(update={"stages": (10**7, 0)})


def until(seen: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def policies(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.header["kind"] == "policy"]


def test_a_run_needs_policies_until_its_last_round() -> None:
    pace = pace_of(4, rounds=3)
    assert [step for step in range(1, 20) if pace.holds(step)] == [4, 8]
    assert not any(pace_of(4, rounds=1).holds(step) for step in range(1, 20))


def test_a_job_keeps_its_pace_on_the_way_to_its_process() -> None:
    job, line = Job(TASK, 5, 1, pace=Pace(4, 16)), io.BytesIO()
    job.write(line)
    assert read_job(json.loads(line.getvalue()), b"") == job


def test_every_policy_at_the_pace_is_that_of_its_step_and_none_is_lost() -> None:
    trainer = TaskProcess(Job(TASK, 5, 1, pace=Pace(4, 16)))
    try:
        until(lambda: trainer.over)
        frames = trainer.take()
    finally:
        trainer.close()
    assert [frame.header["step"] for frame in policies(frames)] == [4, 8, 12, 16]
    tasks = TASK.built_tasks()
    alone = Trainer(tasks, TASK.design(5), draw_samples(tasks, 60, 5, 3))
    for frame in policies(frames):
        alone.train(4)
        assert frame.blobs["policy"] == publish(alone).packed()[0]
    last = frames[-1]
    assert (last.header["kind"], last.header["step"], last.header["done"]) == ("ended", 22, True)
    alone.train()
    assert last.blobs["state"] == alone.packed()


def test_one_far_ahead_halts_and_is_read_on_when_used_or_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "AHEAD", 3)
    trainer, frames = TaskProcess(Job(ENDLESS, 5, 1, pace=Pace(1, 10**7))), list[Frame]()
    try:
        steps: Callable[[], list[int]] = lambda: [frame.header["step"] for frame in policies(frames)]  # noqa: E731

        def drained(count: int) -> bool:
            frames.extend(trainer.take())
            return len(steps()) >= count

        until(lambda: drained(4))
        time.sleep(0.3)
        drained(4)
        assert steps() == [1, 2, 3, 4]
        assert psutil.Process(trainer.pid).nice() == os.nice(0)
        trainer.used()
        until(lambda: drained(5))
        assert steps() == [1, 2, 3, 4, 5]
        trainer.stop()
        until(lambda: drained(5) and trainer.over)
        drained(5)
    finally:
        trainer.close()
    assert steps() == [*range(1, len(steps()) + 1)]
    assert frames[-1].header["kind"] == "ended"


def test_a_trainer_that_nobody_waits_for_yields_to_all() -> None:
    trainer = TaskProcess(Job(ENDLESS, 5, 1))
    try:
        until(lambda: bool(trainer.take()))
        assert psutil.Process(trainer.pid).nice() == 19
    finally:
        trainer.close()


class Tasks:
    """A trainer whose policy after ten steps comes when it has been looked for often enough."""

    def __init__(self, looks: int) -> None:
        self.failures: dict[str, str] = {}
        self.looks = looks

    def after(self, kind: str, step: int) -> tuple[int, Any] | None:
        assert (kind, step) == ("routed_mtl", 10)
        self.looks -= 1
        return (10, "trained") if self.looks < 0 else None

    def take_up(self, round_: int) -> None:
        assert round_ == 0


class Users:
    """A cell whose users may be lost, and whose run may be wanted to stop."""

    wanted_to_stop = False
    failure: RunFailed | None = None

    def check(self) -> None:
        if self.failure:
            raise self.failure


class Wait:
    """Round 1 of a run at ten steps a round, begun while something else happens."""

    def __init__(self, looks: int = 10**9) -> None:
        self.tasks, self.users, self.events, self.ticks = Tasks(looks), Users(), list[dict[str, Any]](), 0
        self.power = Routed(Downlink(10.0, 1e6), None)
        self.paced = Paced(self.power, 10, self.tasks, self.users, self.events.append)  # type: ignore[arg-type]

    def begin(self, meanwhile: Callable[[], None] = lambda: None) -> bool:
        return asyncio.run(asyncio.wait_for(self._begin(meanwhile), 20))

    async def _begin(self, meanwhile: Callable[[], None]) -> bool:
        assert await self.paced.before(0)
        assert self.power.policy is None
        asyncio.get_running_loop().call_later(0.1, meanwhile)
        ticking = asyncio.create_task(self._tick())
        try:
            return await self.paced.before(1)
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            self.ticks += 1


def test_while_it_waits_everything_else_goes_on() -> None:
    wait = Wait(looks=30)
    assert wait.begin()
    assert wait.power.policy == "trained"
    assert wait.ticks >= 15
    told = {"event": "policy_in_use", "server_task": "routed_mtl"}
    assert wait.events == [{**told, "round": 0, "step": None}, {**told, "round": 1, "step": 10}]


def test_it_waits_no_longer_once_the_run_is_to_stop() -> None:
    wait = Wait()
    assert not wait.begin(lambda: setattr(wait.users, "wanted_to_stop", True))
    assert wait.power.policy is None
    assert len(wait.events) == 1


def test_it_waits_no_longer_once_a_user_is_lost() -> None:
    wait = Wait()
    with pytest.raises(RunFailed, match="user 'u' was lost"):
        wait.begin(lambda: setattr(wait.users, "failure", RunFailed("user 'u' was lost")))


def test_a_policy_that_came_before_its_trainer_failed_is_used() -> None:
    for looks, comes in ((0, True), (10**9, False)):
        wait = Wait(looks)
        wait.tasks.failures["routed_mtl"] = "killed by SIGKILL"
        if comes:
            assert wait.begin()
        else:
            with pytest.raises(RunFailed, match=r"after 10 steps, but its .* failed: killed by SIGKILL;"):
                wait.begin()
