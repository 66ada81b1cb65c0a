"""What a run and whoever calls it say to each other: what is watched, how it ended, and why it could not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edge_server.record import Event, RoundRecord

if TYPE_CHECKING:
    from edge_server.reception import Reception
    from sim.scenario import Loaded

Status = Literal["done", "failed", "stopped"]


class BadScenario(Exception):
    """A scenario whose parts cannot be built; nothing was started."""


class PartError(Exception):
    """A part of the scenario that cannot be built: `path` is where the scenario says so."""

    def __init__(self, path: tuple[str | int, ...], message: str):
        super().__init__(message)
        self.path = path


class RunError(Exception):
    """The run failed or could not start; one line for the user."""


@dataclass
class Watcher:
    """What a caller may want to see and say while runs go on. on_wait: users are waited for who come by themselves."""

    on_start: Callable[[str, int], None] = lambda _name, _rounds: None
    on_round: Callable[[RoundRecord], None] = lambda _record: None
    on_note: Callable[[str], None] = lambda _text: None
    stop: Callable[[], bool] = lambda: False
    on_event: Callable[[Event], None] = lambda _event: None
    on_wait: "Callable[[Reception], None]" = lambda _reception: None


@dataclass(frozen=True)
class Result:
    """A finished run. status `stopped` means that it was interrupted between two slots."""

    name: str
    folder: Path
    status: Status
    digest: str | None
    summary: dict[str, Any]
    compared: list["Result"] = field(default_factory=list)


@contextmanager
def placed(loaded: "Loaded") -> Iterator[None]:
    """A part that cannot be built is told with its line. Raises BadScenario."""
    try:
        yield
    except PartError as error:
        path = ".".join(str(step) for step in error.path)
        raise BadScenario(f"{loaded.where(error.path)}: {path}: {error}") from error
