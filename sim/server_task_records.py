"""What the edge's server tasks leave in a slot run's directory: the files of a power directory, and their scores."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors.torch import load

from edge_server.power_config import RoutedMtl
from edge_server.record import Event
from edge_server.routed_mtl.policy import load_policy
from edge_server.server_tasks.news import TaskEnd, TaskNews, TaskState
from sim.json_files import write_json
from sim.power_progress import PROGRESS, progress_batch
from sim.power_table import Scores, Trained, broken_limits, power_table, scored
from sim.records import Journal
from sim.report.files import read_table

Stop = Callable[[], bool]


class ServerTaskRecords:
    """Of one run with these tasks, of which there is at most one; without any, nothing is written.

    state: what the task goes on from, as it was last told; None before that. Given for a run that goes on.
    """

    def __init__(self, folder: Path, tasks: tuple[RoutedMtl, ...], seed: int, state: TaskState | None = None) -> None:
        self._folder, self._tasks, self._seed = folder, tasks, seed
        self._progress = Journal(folder, "progress", PROGRESS, _until(folder, state)) if tasks else None
        self._ends: dict[str, TaskEnd] = {}
        self._before = state.seconds if state else 0.0
        self.state = state

    def __call__(self, news: TaskNews) -> None:
        """Writes what a task tells."""
        if self._progress:
            for progress in news.progress:
                self._progress.append(progress_batch(progress))
        if news.state:
            self.state = replace(news.state, seconds=self._before + news.state.seconds)
        if news.end:
            self._ends[news.kind] = replace(news.end, seconds=self._before + news.end.seconds)
            for name, content in news.end.files.items():
                partial = self._folder / f"{name}.tmp"
                partial.write_bytes(content)
                partial.replace(self._folder / name)

    def score(self, on_event: Callable[[Event], None], on_note: Callable[[str], None], stop: Stop) -> None:
        """power.json for a policy as it ended; what keeps it from being scored is told, never raised."""
        for task in self._tasks:
            end = self._ends.get(task.kind)
            if end is None or end.status == "failed":
                continue
            try:
                self._score(task, end, on_event, on_note, stop)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                on_event({"event": "server_task_not_scored", "server_task": task.kind, "reason": reason})
                on_note(f"note: {task.kind}: its policy was not scored: {reason}")

    def close(self) -> None:
        """Leaves the journal as it is, for a run that goes on."""
        if self._progress:
            self._progress.close()

    def finish(self) -> list[dict[str, Any]]:
        """Ends the journal. For each task what summary.json says of it: `lost` if nobody told how it ended."""
        if self._progress:
            self._progress.finish()
        return [self._summary(task) for task in self._tasks]

    def _score(
        self,
        task: RoutedMtl,
        end: TaskEnd,
        on_event: Callable[[Event], None],
        on_note: Callable[[str], None],
        stop: Stop,
    ) -> None:
        tasks, scores = task.built_tasks(), Scores()
        for entry in scored(load_policy(self._folder / "policy"), tasks, self._seed, task.samples):
            scores.append(entry)
            if stop() and len(scores) < len(tasks):
                raise InterruptedError("somebody wanted the run to end")
        state, parameters = load(end.files["state.safetensors"]), end.bdnn_parameters
        trained = Trained(task.design(self._seed), end.step, end.seconds, parameters, state)
        write_json(self._folder / "power.json", power_table(trained, scores))
        for broken in broken_limits(tasks, scores):
            on_event(broken.event)
            on_note(broken.note)

    def _summary(self, task: RoutedMtl) -> dict[str, Any]:
        end = self._ends.get(task.kind)
        told = ("lost", None, None) if end is None else (end.status, end.step, end.seconds)
        status, taken, seconds = told
        return {
            "kind": task.kind,
            "status": status,
            "steps": sum(task.stages),
            "steps_taken": taken,
            "seconds": seconds,
        }


def _until(folder: Path, state: TaskState | None) -> pa.Table | None:
    """What the progress of an earlier run says of the steps behind this state."""
    import pyarrow.compute as pc

    table, _ = read_table(folder, "progress", live=True, needed=False) if state else (None, False)
    return None if table is None or state is None else table.filter(pc.field("step") <= int(load(state.data)["taken"]))
