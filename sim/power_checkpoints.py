"""When a power trainer is saved, and what a checkpoint of it holds."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from safetensors.torch import load

from edge_server.routed_mtl.training import State, Trainer
from sim.checkpoint_files import CheckpointFolder
from sim.power_scenario import PowerScenario
from sim.recorder import numeric_versions

PAUSE = 10.0
"""Seconds between two checkpoints."""
LEAST = 50
"""The least pause, in times of what the last one took: saving takes at most 2 % of a run."""

_STATE, _CLOCK = "state.safetensors", "clock.json"


@dataclass(frozen=True)
class Saved:
    """Where a run goes on: the trainer's state after `step` steps, which took `seconds`; versions: what they ran on."""

    step: int
    state: State
    seconds: float
    versions: dict[str, str]


class PowerCheckpoints:
    """The checkpoints of one training run, numbered by steps."""

    def __init__(self, folder: Path, scenario: PowerScenario, on_save: Callable[[int], None]) -> None:
        """on_save: called with the step of every checkpoint that is safe."""
        tree = scenario.model_dump(mode="json", by_alias=True)
        self._folder = CheckpointFolder(folder / "checkpoints", tree, numeric_versions())
        self._on_save = on_save
        self._due = perf_counter() + PAUSE

    def save_when_due(self, trainer: Trainer, seconds: float) -> None:
        """Saves it now and then. Raises NotSaved."""
        if perf_counter() >= self._due:
            self.save(trainer, seconds)

    def save(self, trainer: Trainer, seconds: float) -> None:
        """Saves it now. seconds: of training so far. Raises NotSaved."""
        start = perf_counter()
        try:
            clock = json.dumps({"train_seconds": seconds}).encode()
            self._folder.save(trainer.taken, {_STATE: trainer.packed(), _CLOCK: clock})
        finally:
            now = perf_counter()
            self._due = now + max(PAUSE, LEAST * (now - start))
        self._on_save(trainer.taken)

    def newest(self, on_damage: Callable[[str], None]) -> Saved | None:
        """The last whole one, None before the first. Raises NoCheckpoint, as `CheckpointFolder.newest` does."""
        found = self._folder.newest(on_damage)
        if found is None:
            return None
        seconds = json.loads(found.files[_CLOCK])["train_seconds"]
        return Saved(found.number, load(found.files[_STATE]), seconds, found.versions)
