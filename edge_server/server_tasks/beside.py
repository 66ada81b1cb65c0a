"""The edge's server tasks: started with the run, taken up at round boundaries, stopped when the slots are over."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

from edge_server.record import Event, RoundRecord
from edge_server.routed_mtl.policy import Policy, unpacked
from edge_server.routed_mtl.progress import Progress
from edge_server.server_tasks.frames import Frame
from edge_server.server_tasks.job import Job
from edge_server.server_tasks.news import TaskEnd, TaskNews, TaskState, TaskStatus
from edge_server.server_tasks.process import TaskProcess

T = TypeVar("T")

LAST_WORDS = 60.0
"""Seconds that a task has to give its state and its policy once the slots are over; then it is killed."""
_POLL = 0.02

OnEvent = Callable[[Event], None]
OnNews = Callable[[TaskNews], None]


class BesideSlots:
    """The tasks of one run. `policies` holds the newest policy of each by kind, as of the last round boundary.

    Whatever happens to a task is told through `on_event` and `on_news`; it never raises into the slots. `failures`: of
    the tasks that failed, by kind, why.
    """

    def __init__(self, jobs: Sequence[Job], on_event: OnEvent, on_news: OnNews) -> None:
        self.policies: dict[str, Policy] = {}
        self.failures: dict[str, str] = {}
        self._jobs, self._on_event, self._on_news = jobs, on_event, on_news
        self._tasks: list[_Task] = []

    async def beside(self, slots: Awaitable[T]) -> T:
        """What `slots` gives or raises, with the tasks at work until then; state and policies are told first."""
        with self._started():
            try:
                given = await slots
            except Exception:
                await self._finish()
                raise
            await self._finish()
            return given

    def then(self, on_round: Callable[[RoundRecord], None]) -> Callable[[RoundRecord], None]:
        """`on_round`, after which what the tasks told is taken up: the round boundary."""

        def boundary(record: RoundRecord) -> None:
            on_round(record)
            self.take_up(record.round)

        return boundary

    def take_up(self, round_: int) -> None:
        """Everything the tasks told until the end of this round."""
        for task in self._tasks:
            task.take_up(round_)

    def after(self, kind: str, step: int) -> tuple[int, Policy] | None:
        """This kind's policy after exactly so many steps, or after its last one, and after how many that was.

        None while it is not here. For jobs with a pace; the steps asked for may not fall.
        """
        return next((task.after(step) for task in self._tasks if task.kind == kind), None)

    @contextmanager
    def _started(self) -> Iterator[None]:
        self._tasks = [task for job in self._jobs if (task := self._start(job))]
        try:
            yield
        finally:
            for task in self._tasks:
                task.close()

    def _start(self, job: Job) -> "_Task | None":
        try:
            return _Task(job, self, self._on_event, self._on_news)
        except OSError as error:
            reason = self.failures[job.task.kind] = f"no process could be started: {error}"
            self._on_event({"event": "server_task_failed", "server_task": job.task.kind, "step": 0, "reason": reason})
            self._on_news(TaskNews(job.task.kind, (), TaskEnd("failed", 0, sum(job.task.stages), 0.0, {})))
        return None

    async def _finish(self) -> None:
        for task in self._tasks:
            task.stop()
        deadline = monotonic() + LAST_WORDS
        while not all(task.over for task in self._tasks) and monotonic() < deadline:
            await asyncio.sleep(_POLL)
        for task in self._tasks:
            task.give_up()
            task.take_up(None)


class _Task:
    """One task, and what the edge knows of it."""

    def __init__(self, job: Job, beside: BesideSlots, on_event: OnEvent, on_news: OnNews) -> None:
        self.kind, self._steps = job.task.kind, sum(job.task.stages)
        self._beside, self._on_event, self._on_news = beside, on_event, on_news
        self._paced = job.pace is not None
        self._ahead: deque[Frame] = deque()
        self._used: tuple[int, Policy] | None = None
        self._files: dict[str, bytes] = {}
        self._step, self._seconds = 0, 0.0
        self._state: TaskState | None = None
        self._last: Frame | None = None
        self._patience = ""
        self._told = False
        self._process = TaskProcess(job)
        self._event("server_task_started", pid=self._process.pid, steps=self._steps)

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self._process.over

    def stop(self) -> None:
        """Asks for state and policy."""
        self._process.stop()

    def close(self) -> None:
        """Nothing of its process is left."""
        self._process.close()

    def give_up(self) -> None:
        """Waits no longer: a process that is still there is killed."""
        if not self.over:
            self._patience = f"it did not stop within {LAST_WORDS:g} s: "
        self.close()

    def after(self, step: int) -> tuple[int, Policy] | None:
        """The policy after this step, or the last step; those before it are dropped. None while it is not here."""
        wanted = min(step, self._steps)
        while self._ahead and self._ahead[0].header["step"] <= wanted:
            frame = self._ahead.popleft()
            self._used = frame.header["step"], self._policy(frame)
            self._process.used()
        return self._used if self._used and self._used[0] == wanted else None

    def take_up(self, round_: int | None) -> None:
        """Everything that has arrived, and its end if it is over; round_: the one that ended, None after the slots."""
        if self._told:
            return
        over, progress = self._process.over, []
        for frame in self._process.take():
            match frame.header["kind"]:
                case "progress":
                    progress.append(Progress.from_dict(frame.header["progress"]))
                    self._step, self._seconds = progress[-1].taken, frame.header["seconds"]
                case "policy" if self._paced:
                    self._ahead.append(frame)
                case "policy":
                    self._take_policy(frame, round_)
                case "masks_hardened":
                    self._event("masks_hardened", step=frame.header["step"])
                case _:
                    self._last = frame
        end = self._end(round_) if over else None
        state, self._state = self._state, None
        if progress or end or state:
            self._on_news(TaskNews(self.kind, tuple(progress), end, state))

    def _take_policy(self, frame: Frame, round_: int | None) -> None:
        self._policy(frame)
        if round_ is not None:
            self._event("policy_published", round=round_, step=frame.header["step"])

    def _policy(self, frame: Frame) -> Policy:
        """A frame's policy, which becomes the task's, and the run's files; with the state that made it."""
        if "state" in frame.blobs:
            self._state = TaskState(frame.blobs["state"], frame.header["seconds"])
        about, arrays = frame.header["policy"], frame.blobs["policy"]
        self._files |= {"policy.safetensors": arrays, "policy.json": (json.dumps(about, indent=1) + "\n").encode()}
        policy = self._beside.policies[self.kind] = unpacked(arrays, about)
        return policy

    def _end(self, round_: int | None) -> TaskEnd:
        self._told = True
        self._process.close()
        if self._last is None:
            return self._died()
        header, blobs = self._last.header, self._last.blobs
        self._step, self._seconds = header["step"], header["seconds"]
        if "state" in blobs:
            self._files["state.safetensors"] = blobs["state"]
        if header["kind"] == "failed":
            return self._failed(header["reason"], traceback=header["traceback"])
        return self._ended(self._last, round_)

    def _ended(self, frame: Frame, round_: int | None) -> TaskEnd:
        before = self._state
        self._take_policy(frame, round_)
        if self._paced:
            self._state = before  # the rounds are behind the trainer, and would wait for policies that are past
        for task in frame.header["locked"]:
            self._event("locked", task=task)
        if frame.header["done"]:
            self._ahead.append(frame)
        status: TaskStatus = "finished" if frame.header["done"] else "stopped"
        self._event(f"server_task_{status}", step=self._step, steps=self._steps, stderr=self._process.stderr or None)
        return self._as_ended(status, frame.header["bdnn_parameters"])

    def _died(self) -> TaskEnd:
        """Of a process that ended without a word of its own."""
        return self._failed(self._patience + self._process.garbled + self._process.how)

    def _failed(self, reason: str, traceback: str | None = None) -> TaskEnd:
        self._beside.failures[self.kind] = reason
        words = {"traceback": traceback, "stderr": self._process.stderr or None}
        self._event("server_task_failed", reason=reason, step=self._step, steps=self._steps, **words)
        return self._as_ended("failed")

    def _as_ended(self, status: TaskStatus, parameters: int | None = None) -> TaskEnd:
        return TaskEnd(status, self._step, self._steps, self._seconds, dict(self._files), parameters)

    def _event(self, event: str, **more: Any) -> None:
        known = {key: value for key, value in more.items() if value is not None}
        self._on_event({"event": event, "server_task": self.kind, **known})
