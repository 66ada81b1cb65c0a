"""The work of a server task's process: trains, and tells of it in frames."""

import threading
import traceback
from dataclasses import asdict
from time import perf_counter
from typing import Any, BinaryIO

import torch
from safetensors.torch import load

from edge_server.routed_mtl.networks import parameter_count
from edge_server.routed_mtl.publishing import locked_tasks, publish
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.training import Diverged, Trainer
from edge_server.server_tasks.frames import write_frame
from edge_server.server_tasks.job import Job

PUBLISHING = 0.05
"""Share of the time that may go into publishing policies before the last one."""


def train(job: Job, frames: BinaryIO, stopping: threading.Event) -> None:
    """Trains until all steps are taken or `stopping` is set. What goes wrong is told as a frame, in one line."""
    training = _Training(job, frames, stopping)
    try:
        training.run()
    except Diverged as error:
        training.fail(str(error), keep=True)
    except Exception as error:
        training.fail(f"{type(error).__name__}: {error}", text=traceback.format_exc())


class _Training:
    """One job while it lives. Publishing reads the trainer and changes nothing: its moments do not change the bits."""

    def __init__(self, job: Job, frames: BinaryIO, stopping: threading.Event) -> None:
        self._job, self._frames, self._stopping = job, frames, stopping
        self._trainer: Trainer | None = None
        self._seconds = 0.0
        self._publish_at = 0.0

    def run(self) -> None:
        """Everything, from samples to the last policy."""
        torch.set_num_threads(self._job.threads)
        trainer = self._trainer = self._built()
        self._train(trainer)
        arrays, about = publish(trainer).packed()
        content = {
            "kind": "ended",
            "done": trainer.done,
            "policy": about,
            "locked": locked_tasks(trainer),
            "bdnn_parameters": parameter_count(trainer.network, len(trainer.tasks)),
        }
        self._tell({**content, **self._standing()}, {"state": trainer.packed(), "policy": arrays})

    def fail(self, reason: str, keep: bool = False, text: str | None = None) -> None:
        """The last words; with the trainer's state where it holds a good one."""
        blobs = {"state": self._trainer.packed()} if keep and self._trainer is not None else {}
        self._tell({"kind": "failed", "reason": reason, "traceback": text, **self._standing()}, blobs)

    def _built(self) -> Trainer:
        job = self._job
        tasks, design = job.task.built_tasks(), job.task.design(job.seed)
        trainer = Trainer(tasks, design, draw_samples(tasks, job.task.samples.train, job.seed, design.places))
        if job.state is not None:
            trainer.load_state_dict(load(job.state))
        return trainer

    def _train(self, trainer: Trainer) -> None:
        began = perf_counter()
        if self._job.state and self._job.pace and self._job.pace.holds(trainer.taken):
            self._publish(trainer)
        while not trainer.done and not self._stopping.is_set():
            progress, hardened = trainer.advance(self._job.task.every)
            self._seconds = perf_counter() - began
            if progress:
                self._tell({"kind": "progress", "progress": asdict(progress), "seconds": self._seconds})
            if not trainer.done and self._is_due(trainer.taken, told=progress is not None):
                self._publish(trainer)
            if hardened:
                self._tell({"kind": "masks_hardened", "step": trainer.taken})

    def _is_due(self, step: int, told: bool) -> bool:
        """A policy is due at the job's pace; without one behind progress, where its share of the time allows it."""
        pace = self._job.pace
        return told and perf_counter() >= self._publish_at if pace is None else pace.holds(step)

    def _publish(self, trainer: Trainer) -> None:
        began = perf_counter()
        arrays, about = publish(trainer).packed()
        header = {"kind": "policy", "policy": about, **self._standing()}
        self._tell(header, {"policy": arrays, "state": trainer.packed()})
        ended = perf_counter()
        self._publish_at = ended + (ended - began) * (1 / PUBLISHING - 1)

    def _standing(self) -> dict[str, Any]:
        return {"step": 0 if self._trainer is None else self._trainer.taken, "seconds": self._seconds}

    def _tell(self, header: dict[str, Any], blobs: dict[str, bytes] | None = None) -> None:
        write_frame(self._frames, header, blobs)
