"""The run directory of a power trainer, from its first line to its digest."""

import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from edge_server.routed_mtl.policy import Policy
from edge_server.routed_mtl.progress import Progress
from edge_server.routed_mtl.training import Trainer
from sim.caller import Status
from sim.effective import effective
from sim.json_files import write_json
from sim.power_progress import PROGRESS, progress_batch
from sim.power_scenario import PowerScenario
from sim.recorder import about, begun, standing
from sim.records import Events, Journal
from sim.report.files import read_table


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

    def __init__(self, folder: Path, scenario: PowerScenario, after: int | None = None) -> None:
        """after: the step from which an earlier run goes on; its records of later steps are dropped."""
        self.folder, self._scenario = folder, scenario
        goes_on = after is not None
        self._started = begun(folder) if goes_on else datetime.now(UTC)
        self.events = Events(folder, goes_on=goes_on)
        self._progress = Journal(folder, "progress", PROGRESS, None if after is None else _until(folder, after))
        (folder / "scenario.yaml").write_text(effective(scenario), encoding="utf-8")
        self._manifest("running")

    def add(self, progress: Progress) -> None:
        """One row per task of progress.parquet."""
        self._progress.append(progress_batch(progress))

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
        state = trainer.packed()
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


def _until(folder: Path, step: int) -> pa.Table | None:
    """What `progress` says of the steps up to this one; None without a record."""
    import pyarrow.compute as pc

    table, _ = read_table(folder, "progress", live=True, needed=False)
    return None if table is None else table.filter(pc.field("step") <= step)
