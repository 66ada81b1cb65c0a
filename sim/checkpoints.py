"""When a run with slots is saved, and what a checkpoint of it holds: edge, users and sums of the records, together."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from safetensors.torch import load, save

from edge_server.server_tasks.news import TaskState
from edge_server.state import Flat
from sim.blueprint import RunState
from sim.checkpoint_files import FOLDER, CheckpointFolder
from sim.identity import identity
from sim.local import At
from sim.recorder import numeric_versions
from sim.scenario import Checkpoints, Scenario

LEAST = 50
"""The least pause, in times of what the last one took: saving takes at most 2 % of a run."""

_EDGE, _RECORDS, _TASK = "edge.safetensors", "records.safetensors", "server_task.safetensors"
_USERS = "users.safetensors"
_TASK_SECONDS = "server_task_seconds"
_PLACES = 10**7
"""A checkpoint's number is its round, followed by its slot in so many places: more than a round can have."""


@dataclass(frozen=True)
class Saved:
    """Where a run goes on. records: the sums behind its summary. task: of its server task, if any."""

    at: At
    state: RunState
    records: Flat
    task: TaskState | None
    versions: dict[str, str]


class Pace:
    """Says when a checkpoint is due; `took` after each. least: as LEAST."""

    def __init__(self, config: Checkpoints, least: float) -> None:
        self._config, self._least = config, least
        self._due = perf_counter() + config.seconds

    def due(self, slots: int) -> bool:
        """After so many slots of a round that goes on: enough time has passed."""
        return slots % self._config.slots == 0 and perf_counter() >= self._due

    def took(self, seconds: float) -> None:
        """The last one took so long, waiting for everybody included."""
        self._due = perf_counter() + max(self._config.seconds, self._least * seconds)


class RunCheckpoints:
    """The checkpoints of one run, numbered by where it stood."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self._folder = CheckpointFolder(folder / FOLDER, identity(scenario), numeric_versions())

    def save(self, at: At, edge: Flat, users: Sequence[Flat], records: Flat, task: TaskState | None) -> None:
        """The run before this slot. Raises NotSaved."""
        files = {_EDGE: save(edge), _USERS: save(joined(dict(enumerate(users))))}
        if task is not None:
            files[_TASK] = task.data
            records = records | {_TASK_SECONDS: torch.tensor(task.seconds, dtype=torch.float64)}
        files[_RECORDS] = save(records)
        self._folder.save(number_of(at), files)

    def places(self, on_damage: Callable[[str], None]) -> list[At]:
        """Where the run can go on, the last place first. Raises NoCheckpoint."""
        return [place_of(number) for number in self._folder.whole(on_damage)]

    def newest(self, users: int, on_damage: Callable[[str], None], among: Collection[At] | None = None) -> Saved | None:
        """The last whole one, None before the first. among: places that will do; None: all. Raises NoCheckpoint."""
        found = self._folder.newest(on_damage, None if among is None else {number_of(at) for at in among})
        if found is None:
            return None
        files = found.files
        edge, records = load(files[_EDGE]), load(files[_RECORDS])
        apart = taken_apart(load(files[_USERS]), users)
        task = TaskState(files[_TASK], records[_TASK_SECONDS].item()) if _TASK in files else None
        return Saved(
            place_of(found.number), RunState(edge, apart, task.data if task else None), records, task, found.versions
        )


def number_of(at: At) -> int:
    """Of the checkpoint of this place."""
    return at.round * _PLACES + at.slot


def place_of(number: int) -> At:
    """Where a run stood that saved the checkpoint of this number."""
    return At(*divmod(number, _PLACES))


def joined(users: Mapping[int, Flat]) -> Flat:
    """Many users' states as one, each name behind its user's number."""
    return {f"{k}.{name}": values for k, state in users.items() for name, values in state.items()}


def taken_apart(state: Flat, users: int) -> list[Flat]:
    """What `joined` joined, of so many users."""
    apart: list[Flat] = [{} for _ in range(users)]
    for name, values in state.items():
        k, _, own = name.partition(".")
        apart[int(k)][own] = values
    return apart
