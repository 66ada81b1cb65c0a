"""Run directories as arrays: what the report knows, and nothing else (contract.md, "Run directory")."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sim.report.columns import Rounds, Slots, read_rounds, read_slots
from sim.report.files import UnreadableRun, read_table

Json = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run directory. `label` tells it from the others on the page; `slots` is None where not recorded."""

    folder: Path
    label: str
    manifest: Json
    scenario: Json
    scenario_text: str
    summary: Json
    rounds: Rounds
    slots: Slots | None
    events: tuple[Json, ...]
    notes: tuple[str, ...]
    compared: bool = False

    @property
    def aggregator(self) -> Json:
        """The scenario's `edge.aggregator`; empty where the scenario does not say."""
        found = (self.scenario.get("edge") or {}).get("aggregator")
        return found if isinstance(found, dict) else {}


def read_runs(dirs: Sequence[Path]) -> list[Run]:
    """The runs in `dirs`, each followed by the runs compared with it (its sub-folders), labelled apart.

    Raises UnreadableRun, one line, where a folder is not a run or a file of it is damaged.
    """
    runs: dict[Path, Run] = {}
    for folder in map(Path, dirs):
        base = read_run(folder)
        runs.setdefault(folder.resolve(), base)
        for inner in _compared(base):
            runs[inner.resolve()] = replace(read_run(inner), compared=True)
    return _labelled(list(runs.values()))


def read_run(folder: Path) -> Run:
    """One run, finished or not. Raises UnreadableRun."""
    manifest = _json(folder / "manifest.json")
    text = _text(folder / "scenario.yaml")
    live = manifest.get("status") == "running"
    rounds, cut_rounds = read_table(folder, "rounds", live=live, needed=not live)
    slots, cut_slots = read_table(folder, "slots", live=live, needed=False)
    events, cut_events = _events(folder / "events.jsonl")
    cut = {"the rounds journal": cut_rounds, "the slots journal": cut_slots, "events.jsonl": cut_events}
    return Run(
        folder=folder,
        label=str(manifest.get("name", folder.name)),
        manifest=manifest,
        scenario=_scenario(folder / "scenario.yaml", text),
        scenario_text=text,
        summary=_json(folder / "summary.json") if (folder / "summary.json").exists() else {},
        rounds=(found := read_rounds(rounds, folder)),
        slots=read_slots(slots, found.users, folder) if slots is not None else None,
        events=events,
        notes=tuple(f"{what} ends in an unfinished record, left out" for what, is_cut in cut.items() if is_cut),
    )


def _compared(base: Run) -> list[Path]:
    """Sub-folders that are runs: in the scenario's order first, then by name."""
    inner = sorted(path.parent for path in base.folder.glob("*/manifest.json"))
    entries = base.scenario.get("compare") or []
    order = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    return sorted(inner, key=lambda path: order.index(path.name) if path.name in order else len(order))


def _labelled(runs: list[Run]) -> list[Run]:
    """The shortest labels that tell the runs apart."""
    bases = {run.folder for run in runs if any(other.folder.parent == run.folder for other in runs)}
    choices = [_label_choices(run, has_compared=run.folder in bases) for run in runs]
    for labels in zip(*choices, strict=True):
        if len(set(labels)) == len(labels):
            return [replace(run, label=label) for run, label in zip(runs, labels, strict=True)]
    return [replace(run, label=str(run.folder.resolve())) for run in runs]


def _label_choices(run: Run, *, has_compared: bool) -> tuple[str, ...]:
    name, folder = run.label, run.folder.resolve()
    if run.compared:
        return folder.name, folder.name, f"{folder.parent.name}/{folder.name}"
    kind = str(run.aggregator.get("kind", name)) if has_compared else name
    return kind, name, folder.name


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UnreadableRun(
            f"{path.parent} is not a run: {path.name} is missing; give a directory that `equiran run` wrote"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableRun(f"{path}: cannot be read ({error}); restore it or run again") from error


def _json(path: Path) -> Json:
    try:
        found = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise UnreadableRun(f"{path}:{error.lineno}: not JSON ({error.msg}); restore it or run again") from error
    if not isinstance(found, dict):
        raise UnreadableRun(f"{path}: must hold one JSON object, holds {type(found).__name__}")
    return found


def _scenario(path: Path, text: str) -> Json:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UnreadableRun(f"{path}: not YAML ({reason}); restore it or run again") from error
    return found if isinstance(found, dict) else {}


def _events(path: Path) -> tuple[tuple[Json, ...], bool]:
    """The events, and whether the last line was still being written."""
    if not path.exists():
        return (), False
    *whole, rest = _text(path).split("\n")
    events = [_event(path, number, line) for number, line in enumerate(whole, 1) if line.strip()]
    return tuple(events), bool(rest.strip())


def _event(path: Path, number: int, line: str) -> Json:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise UnreadableRun(f"{path}:{number}: not JSON ({error.msg}); remove the line or run again") from error
    if not isinstance(found, dict):
        raise UnreadableRun(f"{path}:{number}: an event must be one JSON object")
    return found
