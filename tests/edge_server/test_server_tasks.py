"""A server task's process: what it tells, how it ends, and that nothing of it is left."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from edge_server.power_config import RoutedMtl
from edge_server.record import RoundRecord
from edge_server.routed_mtl.policy import unpacked
from edge_server.routed_mtl.publishing import publish
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.training import Trainer
from edge_server.server_tasks import beside, process
from edge_server.server_tasks.beside import BesideSlots
from edge_server.server_tasks.frames import Frame, read_frame, write_frame
from edge_server.server_tasks.job import Job, read_job
from edge_server.server_tasks.news import TaskEnd, TaskNews
from edge_server.server_tasks.process import TaskProcess
from edge_server.server_tasks.training import train

ROOT = Path(__file__).parents[2]
TASK = RoutedMtl.model_validate(
    {
        "kind": "routed_mtl",
        "tasks": [{"problem": "p3", "users": [2, 4]}, {"problem": "p4", "users": [3]}],
        "samples": {"train": 200, "test": 50, "violation": 300},
        "places": 4, "batch": 8, "stages": [20, 30], "every": 10,
    }
)  # fmt: skip
ENDLESS = TASK.model_copy(update={"stages": (10**7, 0), "every": 5})


def trainer_of(task: RoutedMtl, seed: int) -> Trainer:
    tasks = task.built_tasks()
    return Trainer(tasks, task.design(seed), draw_samples(tasks, task.samples.train, seed, task.places))


class Told:
    """Everything that the tasks of one run told."""

    def __init__(self, *jobs: Job) -> None:
        self.events: list[dict[str, Any]] = []
        self.news: list[TaskNews] = []
        self.tasks = BesideSlots(jobs, self.events.append, self.news.append)

    def beside(self, until: Callable[[], bool], seconds: float = 60) -> None:
        """Slots that go on until something is true, with a round boundary every 50 ms."""
        asyncio.run(self.tasks.beside(self._slots(until, seconds)))

    async def _slots(self, until: Callable[[], bool], seconds: float) -> None:
        boundary, deadline, t = self.tasks.then(lambda _record: None), time.monotonic() + seconds, 0
        while not until():
            assert time.monotonic() < deadline, (self.events, self.news)
            await asyncio.sleep(0.05)
            boundary(RoundRecord.empty(t, 1, 1))
            t += 1

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    @property
    def ends(self) -> list[TaskEnd]:
        return [news.end for news in self.news if news.end]

    @property
    def steps(self) -> list[int]:
        return [progress.taken for news in self.news for progress in news.progress]

    @property
    def pid(self) -> int:
        return int(self.of("server_task_started")[0]["pid"])


@given(st.dictionaries(st.text(max_size=5), st.integers()), st.dictionaries(st.text(max_size=5), st.binary()))
def test_a_frame_comes_back_and_a_cut_one_is_an_end(header: dict[str, int], blobs: dict[str, bytes]) -> None:
    stream = io.BytesIO()
    write_frame(stream, header, blobs)
    assert read_frame(io.BytesIO(stream.getvalue())) == (header, blobs)
    assert read_frame(io.BytesIO(stream.getvalue()[:-1])) is None
    assert read_frame(io.BytesIO()) is None


def test_it_trains_to_the_bits_of_the_trainer_alone() -> None:
    told = Told(Job(TASK, 5, 1))
    told.beside(lambda: bool(told.ends))
    alone = trainer_of(TASK, 5)
    alone.train()
    (end,) = told.ends
    assert (end.status, end.step, end.steps) == ("finished", 50, 50)
    assert end.files["state.safetensors"] == alone.packed()
    arrays, about = publish(alone).packed()
    assert end.files["policy.safetensors"] == arrays
    assert told.tasks.policies["routed_mtl"].packed() == unpacked(arrays, about).packed()
    assert told.steps == [10, 20, 30, 40, 50]
    assert [event["step"] for event in told.of("masks_hardened")] == [20]
    assert told.of("policy_published")[-1]["step"] == 50
    assert [event["step"] for event in told.of("server_task_finished")] == [50]
    assert not psutil.pid_exists(told.pid)
    for news in told.news:
        content, files = news.to_dict()
        assert TaskNews.from_dict(json.loads(json.dumps(content)), files) == news


class Frames(io.BytesIO):
    """What a worker writes, kept; with `once` it is asked to stop as soon as it has told of progress."""

    def __init__(self, once: bool) -> None:
        super().__init__()
        self.stopping, self._once = threading.Event(), once

    def flush(self) -> None:
        if self._once and b'"kind": "progress"' in self.getvalue():
            self.stopping.set()


def last_frame(job: Job, once: bool = False) -> Frame:
    """The last that a worker says of a job, here in this process."""
    frames, last = Frames(once), None
    train(job, frames, frames.stopping)
    frames.seek(0)
    while (frame := read_frame(frames)) is not None:
        last = frame
    assert last is not None
    return last


@pytest.mark.parametrize("stages", [(10**6, 0), (5, 10**6)], ids=["stage 1", "stage 2"])
def test_stopped_and_continued_gives_the_bits_of_one_go(stages: tuple[int, int]) -> None:
    task = TASK.model_copy(update={"stages": stages})
    stopped = last_frame(Job(task, 5, 1), once=True)
    assert (stopped.header["done"], stopped.header["step"]) == (False, 10)
    job = Job(task, 5, 1, stopped.blobs["state"])
    line = io.BytesIO()
    job.write(line)
    head, _, state = line.getvalue().partition(b"\n")
    assert read_job(json.loads(head), state) == job
    again = last_frame(job, once=True)
    alone = trainer_of(task, 5)
    alone.train(again.header["step"])
    assert again.header["step"] > 10
    assert again.blobs["state"] == alone.packed()


def test_a_killed_process_is_an_event_with_its_reason_and_keeps_its_last_policy() -> None:
    told = Told(Job(ENDLESS, 5, 1))

    def until() -> bool:
        if told.of("policy_published") and not told.ends and psutil.pid_exists(told.pid):
            os.kill(told.pid, signal.SIGKILL)
        return bool(told.ends)

    told.beside(until)
    (end,) = told.ends
    (event,) = told.of("server_task_failed")
    assert (event["reason"], event["steps"]) == ("killed by SIGKILL", 10**7)
    assert (end.status, end.step) == ("failed", told.steps[-1])
    assert {*end.files} == {"policy.safetensors", "policy.json"}


def test_a_diverged_trainer_says_so_and_keeps_its_last_good_state() -> None:
    told = last_frame(Job(TASK.model_copy(update={"rate": 1e30, "stages": (500, 0)}), 5, 1))
    assert told.header["kind"] == "failed"
    assert "training stopped and holds the state of step" in told.header["reason"]
    state = load(told.blobs["state"])
    assert int(state["taken"]) == told.header["step"]
    assert all(bool(torch.isfinite(value).all()) for name, value in state.items() if name.startswith("network."))


def test_what_cannot_be_built_or_continued_is_one_line_with_the_traceback_beside_it() -> None:
    absent = TASK.model_validate({**TASK.model_dump(), "tasks": [{"problem": "absent:Absent", "users": [2]}]})
    told = last_frame(Job(absent, 5, 1))
    assert told.header["reason"].startswith("ValueError: problem absent:Absent: ")
    assert "Traceback" in told.header["traceback"]
    other = last_frame(Job(TASK, 6, 1, trainer_of(TASK, 5).packed()))
    assert "saved for another design" in other.header["reason"]


def test_slots_that_fail_still_get_the_state() -> None:
    told = Told(Job(ENDLESS, 5, 1))

    def until() -> bool:
        if told.steps:
            raise ValueError("the slots failed")
        return False

    with pytest.raises(ValueError, match="the slots failed"):
        told.beside(until)
    assert [end.status for end in told.ends] == ["stopped"]
    assert "state.safetensors" in told.ends[0].files


def test_one_that_does_not_stop_is_killed_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "LAST_WORDS", 0.2)
    told = Told(Job(ENDLESS, 5, 1))

    def until() -> bool:
        if told.steps:
            os.kill(told.pid, signal.SIGSTOP)
        return bool(told.steps)

    told.beside(until)
    assert told.of("server_task_failed")[0]["reason"] == "it did not stop within 0.2 s: killed by SIGKILL"
    assert not psutil.pid_exists(told.pid)


def test_no_process_to_be_had_is_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    told = Told(Job(TASK, 5, 1))
    told.beside(lambda: True)
    assert "Resource temporarily unavailable" in told.of("server_task_failed")[0]["reason"]
    assert [end.status for end in told.ends] == ["failed"]


PARENT = """
import sys, time
from edge_server.power_config import RoutedMtl
from edge_server.server_tasks.job import Job
from edge_server.server_tasks.process import TaskProcess
process = TaskProcess(Job(RoutedMtl.model_validate_json(sys.argv[1]), 5, 1))
wanted = sys.argv[2]
while wanted == "progress" and not process.take():
    time.sleep(0.05)
print(process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("when", "halted"), [("start", False), ("progress", True)])
def test_it_does_not_outlive_an_edge_that_is_killed(when: str, halted: bool) -> None:
    command = [sys.executable, "-c", PARENT, ENDLESS.model_dump_json(), when]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    if halted:
        worker.suspend()
        while worker.status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([worker], timeout=20)[1] == []


def test_policies_nobody_takes_up_do_not_pile_up() -> None:
    process = TaskProcess(Job(ENDLESS.model_copy(update={"every": 1}), 5, 1))
    try:
        policies, deadline = [0], time.monotonic() + 60
        while not any(policies) and time.monotonic() < deadline:
            time.sleep(1)
            policies.append(sum(frame.header["kind"] == "policy" for frame in process.take()))
    finally:
        process.close()
    assert max(policies) == 1
    assert process.how == "killed by SIGKILL"


def test_what_is_no_frame_ends_it_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "garbling.py").write_text(
        "import struct, sys, time\n"
        "sys.stdout.buffer.write(struct.pack('<I', 2) + b'{]'); sys.stdout.flush(); time.sleep(60)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(process, "_WORKER", "garbling")
    monkeypatch.setattr(process, "_LAST_MOMENT", 0.1)
    told = Told(Job(TASK, 5, 1))
    told.beside(lambda: bool(told.of("server_task_failed")))
    reason = told.of("server_task_failed")[0]["reason"]
    assert reason.startswith("it sent what is no frame (JSONDecodeError")
    assert reason.endswith("killed by SIGKILL")
    assert not psutil.pid_exists(told.pid)
