"""A run's directory, and those compared with it, told to trackers; while the run goes on, as it comes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from sim.live.owner import owner_of
from sim.report.records import read_json, read_scenario, read_text
from sim.tracking.about import About, about, outcome
from sim.tracking.numbers import Numbers
from sim.tracking.tracker import Tracker

_LOOK = 0.5
"""Seconds between two looks at a run that goes on."""


@dataclass(frozen=True)
class Where:
    """Who is told. mlflow: where, None for not at all."""

    tensorboard: bool = False
    mlflow: str | None = None

    def __str__(self) -> str:
        """As the command has it."""
        told = ["--tensorboard"] if self.tensorboard else []
        return " ".join([*told, f"--mlflow {self.mlflow}"] if self.mlflow is not None else told)

    def trackers(self, run: About) -> list[Tracker]:
        """For one run. Raises TrackingFailed."""
        found: list[Tracker] = []
        if self.tensorboard:
            from sim.tracking.event_files import EventFiles

            found.append(EventFiles(run))
        if self.mlflow is not None:
            from sim.tracking.mlflow_runs import MlflowRun

            found.append(MlflowRun(self.mlflow, run))
        return found


def goes_on(folder: Path) -> bool:
    """Whether a process writes there, as far as can be seen from here."""
    owner = owner_of(folder)
    return owner is not None and owner.alive is not False


def follow(folder: Path, where: Where, going: Callable[[], bool]) -> list[Path]:
    """Tells of the run in `folder` and of those compared with it, to their ends or until it is not `going` any more.

    The directories told of. Raises UnreadableRun, TrackingFailed.
    """
    return [part for part in _parts(folder) if _followed(part, where, going)]


def _parts(folder: Path) -> Iterator[Path]:
    yield folder
    path = folder / "scenario.yaml"
    tree = read_scenario(path, read_text(path)) if path.exists() else {}
    for entry in tree.get("compare") or ():
        yield folder / entry["name"]


def _followed(folder: Path, where: Where, going: Callable[[], bool]) -> bool:
    """Whether there is a run."""
    if not _begun(folder, going):
        return False
    run, numbers = about(folder), Numbers(folder)
    trackers = where.trackers(run)
    last = False
    while not last:
        last = _over(folder) or not going()
        for rounds in numbers.take():
            for tracker in trackers:
                tracker.tell(rounds)
        if not last:
            sleep(_LOOK)
    numbers.close()
    for tracker in trackers:
        tracker.end(outcome(folder))
    return True


def _begun(folder: Path, going: Callable[[], bool]) -> bool:
    """Waits for a run that is about to begin."""
    while going() and not (folder / "manifest.json").exists():
        sleep(_LOOK)
    return (folder / "manifest.json").exists()


def _over(folder: Path) -> bool:
    return read_json(folder / "manifest.json").get("status") != "running"
