"""The run directory of a power trainer, from its first line to its digest."""

import math
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors.torch import save

from edge_server.routed_mtl.policy import Policy
from edge_server.routed_mtl.progress import Progress, TaskProgress
from edge_server.routed_mtl.training import Trainer
from sim.power_scenario import PowerScenario
from sim.recorder import Status, about, standing, write_json
from sim.records import Events, Journal
from sim.scenario import effective

PROGRESS = pa.schema(
    [
        ("step", pa.int32()),
        ("stage", pa.int8()),
        ("loss", pa.float64()),
        ("task", pa.string()),
        ("task_loss", pa.float64()),
        ("rate", pa.float64()),
        ("violation", pa.float64()),
    ]
)


@dataclass(frozen=True)
class PowerResult:
    """A training run that ended. digest: SHA-256 of state.safetensors. power: power.json, None unless it is done."""

    name: str
    folder: Path
    status: Status
    steps: int
    digest: str | None
    power: dict[str, Any] | None


class PowerRecorder:
    """Writes one training run's directory."""

    def __init__(self, folder: Path, scenario: PowerScenario) -> None:
        self.folder, self._scenario = folder, scenario
        self._started = datetime.now(UTC)
        self.events = Events(folder)
        self._progress = Journal(folder, "progress", PROGRESS)
        (folder / "scenario.yaml").write_text(effective(scenario), encoding="utf-8")
        self._manifest("running")

    def add(self, progress: Progress) -> None:
        """One row per task of progress.parquet."""
        columns: dict[str, Any] = {
            "step": [progress.taken] * len(progress.tasks),
            "stage": [progress.stage] * len(progress.tasks),
            "loss": [progress.loss] * len(progress.tasks),
            "task": [task.task for task in progress.tasks],
        }
        columns |= {name: [_numbers(task)[name] for task in progress.tasks] for name in PROGRESS.names[4:]}
        self._progress.append(pa.RecordBatch.from_pydict(columns, schema=PROGRESS))

    def publish(self, policy: Policy, power: dict[str, Any]) -> None:
        """policy.safetensors, policy.json and power.json."""
        policy.save(self.folder / "policy")
        write_json(self.folder / "power.json", power)

    def finish(
        self, status: Status, trainer: Trainer | None, power: dict[str, Any] | None = None, error: str | None = None
    ) -> PowerResult:
        """Saves the trainer's state, turns the journal into Parquet, and writes how it ended."""
        digest = None if trainer is None else self._save(trainer)
        if error is not None:
            self.events({"event": "failed", "reason": error})
        self.events.close()
        self._progress.finish()
        steps = 0 if trainer is None else trainer.taken
        self._manifest(status, steps, digest, error)
        return PowerResult(self._scenario.name, self.folder, status, steps, digest, power)

    def fail(self, line: str, trainer: Trainer | None, cause: BaseException) -> None:
        """It ends here, for this reason; where it came from goes into the events."""
        self.events({"event": "traceback", "text": "".join(traceback.format_exception(cause))})
        self.finish("failed", trainer, error=line)

    def _save(self, trainer: Trainer) -> str:
        state = save({name: tensor.contiguous() for name, tensor in trainer.state_dict().items()})
        path = self.folder / "state.safetensors"
        partial = path.with_suffix(".tmp")
        partial.write_bytes(state)
        partial.replace(path)
        return sha256(state).hexdigest()

    def _manifest(self, status: str, steps: int = 0, digest: str | None = None, error: str | None = None) -> None:
        scenario = self._scenario
        content = {
            **about(scenario.name, scenario.name),
            "seed": scenario.seed,
            "device": scenario.task.device,
            "threads": scenario.threads.model_dump(),
            **standing(self._started, status, error, digest),
            "steps": steps,
        }
        write_json(self.folder / "manifest.json", content)


def _numbers(task: TaskProgress) -> dict[str, float | None]:
    """What a task's row says; null for what it does not have or has not seen yet."""
    known = None if math.isnan(task.objective) else task.objective
    if task.kind == "supervised":
        return {"task_loss": known, "rate": None, "violation": None}
    return {"task_loss": None, "rate": known, "violation": None if math.isnan(task.violation) else task.violation}
