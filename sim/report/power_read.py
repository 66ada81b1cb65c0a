"""Directories of power trainers as the report knows them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sim.report.columns import Training, read_training
from sim.report.files import read_table
from sim.report.read import telling_apart
from sim.report.records import Json, read_events, read_json, read_scenario, read_text


@dataclass(frozen=True)
class PowerRun:
    """One directory. power: power.json, empty until the run is done. label: tells it from the others on the page."""

    folder: Path
    label: str
    manifest: Json
    scenario: Json
    scenario_text: str
    power: Json
    training: Training
    events: tuple[Json, ...]
    notes: tuple[str, ...]

    @property
    def task(self) -> Json:
        """The scenario's one server task."""
        found = (self.scenario.get("edge") or {}).get("server_tasks") or [{}]
        return found[0] if isinstance(found[0], dict) else {}

    @property
    def hardened(self) -> int | None:
        """The step at which the masks became hard; None where nothing is routed or it has not come to it."""
        first, second = self.task.get("stages") or (0, 0)
        there = self.task.get("scheme") == "routed" and bool(second) and first < self.manifest.get("steps", 0)
        return first if there else None


def read_power_runs(dirs: Sequence[Path]) -> list[PowerRun]:
    """Each once, labelled apart. Raises UnreadableRun, one line."""
    runs = [_read(folder) for folder in {folder.resolve(): folder for folder in map(Path, dirs)}.values()]
    choices = [(run.label, run.folder.resolve().name, str(run.folder.resolve())) for run in runs]
    return [replace(run, label=label) for run, label in zip(runs, telling_apart(choices), strict=True)]


def _read(folder: Path) -> PowerRun:
    manifest = read_json(folder / "manifest.json")
    text = read_text(folder / "scenario.yaml")
    live = manifest.get("status") == "running"
    table, cut_table = read_table(folder, "progress", live=live, needed=not live)
    events, cut_events = read_events(folder / "events.jsonl")
    cut = {"the progress journal": cut_table, "events.jsonl": cut_events}
    return PowerRun(
        folder=folder,
        label=str(manifest.get("name", folder.name)),
        manifest=manifest,
        scenario=read_scenario(folder / "scenario.yaml", text),
        scenario_text=text,
        power=read_json(folder / "power.json") if (folder / "power.json").exists() else {},
        training=read_training(table, folder),
        events=events,
        notes=tuple(f"{what} ends in an unfinished record, left out" for what, is_cut in cut.items() if is_cut),
    )
