"""Two run directories compared: what was asked, what ran it, how it ended, and every number of every slot."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from sim.differences.pairs import Rows, side_by_side
from sim.differences.tally import Kind, Tally
from sim.differences.trees import Difference, differences
from sim.identity import ELSEWHERE
from sim.report.files import UnreadableRun, read_batches
from sim.report.records import Json, is_training, parsed_event, read_json, read_scenario, read_text

SLOTS = Kind(
    "slots",
    ("round", "slot"),
    "user",
    decisive=("loss", "utility", "weight", "status"),
    skipped=("t_slot", "t_user", "t_edge"),
    meaned="utility",
)
ROUNDS = Kind("rounds", ("round",), "user", meaned="mean_utility")
PROGRESS = Kind("progress", ("step",), "task")
_IDLE = frozenset((*ELSEWHERE, "name", "record"))
"""Keys of a scenario that no number depends on."""
_ENDED = ("status", "digest", "parties", "steps")
_RAN_BY = ("equiran", "python", "torch", "numpy", "grpc", "ray", "device", "error")
"""What a manifest says that is told, and does not count: equal numbers are equal, whatever made them."""
_MEASURED = ("train_seconds",)
_JOIN, _POWER = "join", "power.json"


@dataclass(frozen=True)
class Part:
    """One run, or one that stands beside it. name: empty for the first. event: the first that differs, of either."""

    name: str
    scenario: tuple[Difference, ...]
    manifest: tuple[Difference, ...]
    results: tuple[Difference, ...]
    tables: tuple[Tally, ...]
    missing: tuple[Difference, ...]
    event: tuple[Json | None, Json | None] | None
    standing: tuple[Json, Json]

    @property
    def differs(self) -> bool:
        """In anything that counts."""
        said = chain(self.scenario, self.manifest, self.results)
        return any(one.counts for one in said) or any(table.differs for table in self.tables)


@dataclass(frozen=True)
class Comparison:
    """Two run directories. only: the runs compared inside that the other has not."""

    folders: tuple[Path, Path]
    parts: tuple[Part, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def differs(self) -> bool:
        """In anything that counts."""
        return any(part.differs for part in self.parts) or any(self.only)


def compared(a: Path, b: Path) -> Comparison:
    """The runs in two directories, and those beside them by name. Raises UnreadableRun."""
    training = [is_training(_run(folder)) for folder in (a, b)]
    if training[0] != training[1]:
        trainer, other = (a, b) if training[0] else (b, a)
        raise UnreadableRun(f"{trainer} is a power trainer's run, {other} has slots: they have nothing to compare")
    ours, theirs = _inner(a), _inner(b)
    both = [name for name in ours if name in theirs]
    only = tuple(name for name in ours if name not in theirs), tuple(name for name in theirs if name not in ours)
    parts = [_part(name, a / name, b / name, training=training[0]) for name in ("", *both)]
    return Comparison((a, b), tuple(parts), only)


def _run(folder: Path) -> Path:
    """Raises UnreadableRun for a folder that is no run."""
    read_text(folder / "manifest.json")
    read_text(folder / "scenario.yaml")
    return folder


def _inner(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/manifest.json"))


def _part(name: str, a: Path, b: Path, *, training: bool) -> Part:
    ours, theirs = (read_json(folder / "manifest.json") for folder in (a, b))
    kinds = (PROGRESS,) if training else (SLOTS, ROUNDS)
    tables = {kind: _table(kind, a, b, (ours, theirs)) for kind in kinds}
    there = tuple(table for table in tables.values() if isinstance(table, Tally))
    same = not any(table.differs for table in there)
    return Part(
        name=name,
        scenario=tuple(differences(_scenario(a), _scenario(b), _IDLE)),
        manifest=(
            *differences(_picked(ours, _ENDED), _picked(theirs, _ENDED)),
            *differences(_picked(ours, _RAN_BY), _picked(theirs, _RAN_BY), frozenset(_RAN_BY)),
        ),
        results=_results(a, b),
        tables=there,
        missing=tuple(table for table in tables.values() if isinstance(table, Difference)),
        event=_event(a, b) if same else None,
        standing=(ours, theirs),
    )


def _scenario(folder: Path) -> Json:
    path = folder / "scenario.yaml"
    return read_scenario(path, read_text(path))


def _picked(manifest: Json, keys: tuple[str, ...]) -> Json:
    return {key: manifest[key] for key in keys if key in manifest}


def _results(a: Path, b: Path) -> tuple[Difference, ...]:
    """Of power.json, which is there once a training is done, without what the clock decides."""
    there = [(folder / _POWER).exists() for folder in (a, b)]
    if not all(there):
        a_said, b_said = ("there" if one else "not there" for one in there)
        return (Difference(_POWER, a_said, b_said),) if any(there) else ()
    ours, theirs = (read_json(folder / _POWER) for folder in (a, b))
    return tuple(key for key in differences(ours, theirs) if key.path not in _MEASURED)


def _table(kind: Kind, a: Path, b: Path, manifests: tuple[Json, Json]) -> Tally | Difference | None:
    """None where neither has it; a difference where only one has."""
    there = [_recorded(folder, kind.name) for folder in (a, b)]
    if not all(there):
        a_said, b_said = ("recorded" if one else "not recorded" for one in there)
        return Difference(kind.name, a_said, b_said, counts=False) if any(there) else None
    tally = Tally(kind)
    ours, theirs = (
        Rows(read_batches(folder, kind.name, live=manifest.get("status") == "running"), kind.places[0])
        for folder, manifest in zip((a, b), manifests, strict=True)
    )
    for one, other in side_by_side(ours, theirs):
        tally.add(one, other)
    return tally


def _recorded(folder: Path, name: str) -> bool:
    return any((folder / f"{name}.{ending}").exists() for ending in ("parquet", "arrows"))


def _event(a: Path, b: Path) -> tuple[Json | None, Json | None] | None:
    """The first events that are not the same; None for a side that has no more."""
    return next((pair for pair in zip_longest(_events(a), _events(b)) if pair[0] != pair[1]), None)


def _events(folder: Path) -> Iterator[Json]:
    """One at a time, without times of day; who joined first is the clock's affair, too. Raises UnreadableRun.

    A last line that was still being written is left out.
    """
    path = folder / "events.jsonl"
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            event = parsed_event(path, number, line) if line.endswith("\n") else {"event": _JOIN}
            if event.get("event") != _JOIN:
                yield {key: value for key, value in event.items() if key != "time"}
