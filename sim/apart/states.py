"""Where users that stand apart keep their state, for a run that goes on: a folder that is theirs alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from edge_server.state import Flat
from sim.caller import BadScenario, RunError
from sim.checkpoint_files import FOLDER, CheckpointFolder, NoCheckpoint
from sim.checkpoints import joined, number_of, place_of, taken_apart
from sim.identity import shared
from sim.json_files import write_json
from sim.local import At
from sim.recorder import numeric_versions
from sim.report.records import read_json
from sim.scenario import Scenario

_FILE = "joined.json"
_USERS = "users.safetensors"


class UserStates:
    """`folder` holds the last three states of these users in one run. Raises BadScenario if it cannot be made."""

    def __init__(self, folder: Path, scenario: Scenario, users: Sequence[str]):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadScenario(f"--state {folder}: {error.strerror}") from error
        self._folder, self._users = folder, [*users]
        belongs: dict[str, Any] = {"scenario": shared(scenario), "users": self._users}
        self._kept = CheckpointFolder(folder / FOLDER, belongs, numeric_versions())

    @property
    def run(self) -> str:
        """Id of the run that they are in; empty before there is one. Raises UnreadableRun."""
        file = self._folder / _FILE
        return str(read_json(file)["run"]) if file.exists() else ""

    def begin(self, run: str) -> None:
        """They are in this run now."""
        write_json(self._folder / _FILE, {"run": run, "users": self._users})

    def places(self) -> list[At]:
        """Before which their state is here, the last one first. Raises BadScenario."""
        try:
            return [place_of(number) for number in self._kept.whole(lambda _damage: None)]
        except NoCheckpoint as error:
            raise BadScenario(f"--state: {error}") from error

    def keep(self, at: At, states: Sequence[Flat]) -> None:
        """Their states before this slot would survive a power cut. Raises NotSaved."""
        self._kept.save(number_of(at), {_USERS: save(joined(dict(enumerate(states))))})

    def before(self, at: At) -> list[Flat]:
        """Their states before this slot. Raises RunError."""
        found = self._kept.newest(lambda _damage: None, (number_of(at),))
        if found is None:
            raise RunError(f"--state {self._folder}: the state before {at} is not there any more")
        return taken_apart(load(found.files[_USERS]), len(self._users))
