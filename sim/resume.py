"""A stopped or killed run with slots, continued from its last whole checkpoint to the same bits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_server.state import OtherShape
from sim.checkpoint_files import NoCheckpoint
from sim.checkpoints import RunCheckpoints, Saved
from sim.identity import ELSEWHERE, fingerprint
from sim.recorder import Recorder, Result, other_versions
from sim.report.records import read_json
from sim.report.words import listed
from sim.runner import BadScenario, Part, Watcher, alone, finished, parts_of, run_one, run_parts
from sim.scenario import load, opened, trains_alone
from sim.spools import SpoolDamaged


def trained_alone(folder: Path) -> bool:
    """Whether the run in `folder` is a power trainer's. Raises BadScenario for a folder that is no run."""
    for name in ("manifest.json", "scenario.yaml"):
        if not (folder / name).is_file():
            raise BadScenario(
                f"{folder} is not a run: {name} is missing; give a directory that run or train-power wrote"
            )
    root, _ = opened(folder / "scenario.yaml", (), {})
    return trains_alone(root)


def resume_run(folder: Path, transport: str | None, address: str | None, watcher: Watcher) -> Result:
    """Goes on in `folder`, and with the runs it is compared with, to the end; what is done already is left alone.

    transport: instead of the one it ran on. Raises BadScenario or UnreadableRun, one line, where nothing can be
    continued, RunError when it failed, ScenarioErrors.
    """
    parts = parts_of(load(folder / "scenario.yaml", transport=transport), folder)
    with alone(folder):
        for part in parts:
            _require_same(part)
        if all(_status(part) == "done" for part in parts):
            watcher.on_note(f"{folder} is done already")
            address, parts = None, [_elsewhere(part) for part in parts]
        return run_parts(parts, address, watcher, _continued)


def _elsewhere(part: Part) -> Part:
    """A part that will not run needs no cluster."""
    scenario = part.design.scenario.model_copy(update={"transport": "memory"})
    return part._replace(design=replace(part.design, scenario=scenario))


def _status(part: Part) -> str | None:
    """How the run ended, `running` if it was killed; None if it had not begun. Raises UnreadableRun."""
    manifest = part.folder / "manifest.json"
    return read_json(manifest)["status"] if manifest.exists() else None


def _require_same(part: Part) -> None:
    """Raises BadScenario unless the run began with this scenario, naming the field where a checkpoint knows it."""
    manifest = part.folder / "manifest.json"
    if not manifest.exists() or read_json(manifest).get("fingerprint") == fingerprint(part.design.scenario):
        return
    _saved(part, [])
    raise BadScenario(
        f"{part.folder}: the scenario, or a file that it names, was changed after the run began; set it back, or start "
        f"a new run with it (only {listed([*ELSEWHERE])} may change)"
    )


def _continued(part: Part, cluster: Any, watcher: Watcher) -> Result:
    status = _status(part)
    if status is None:
        return run_one(part, cluster, watcher)
    if status == "done":
        summary = read_json(part.folder / "summary.json")
        return Result(part.name, part.folder, "done", summary["digest"], summary)
    notes: list[str] = []
    saved = _saved(part, notes)
    part = _from(part, saved)
    recorder = _recorder(part, saved)
    for note in [*notes, *other_versions(saved.versions if saved else {})]:
        recorder.events({"event": "checkpoint_note", "text": note})
        watcher.on_note(f"note: {note}")
    recorder.events({"event": "resumed", "round": part.design.plan.first})
    watcher.on_note(f"{part.name}: goes on from round {part.design.plan.first}")
    return finished(part, recorder, cluster, watcher)


def _saved(part: Part, notes: list[str]) -> Saved | None:
    """The last whole checkpoint, None before the first. Raises BadScenario."""
    scenario = part.design.scenario
    try:
        return RunCheckpoints(part.folder, scenario).newest(len(scenario.users), notes.append)
    except NoCheckpoint as error:
        advice = "; set it back, or start a new run with it" if "is not of this run" in str(error) else ""
        raise BadScenario(f"{error}{advice}") from error


def _from(part: Part, saved: Saved | None) -> Part:
    if saved is None:
        return part
    plan = replace(part.design.plan, first=saved.round)
    return part._replace(design=replace(part.design, plan=plan, state=saved.state))


def _recorder(part: Part, saved: Saved | None) -> Recorder:
    """Raises BadScenario where records or sums are not those of the checkpoint."""
    try:
        records, task = (saved.records, saved.task) if saved else (None, None)
        return Recorder(part.folder, part.name, part.design, records, task, goes_on=True)
    except (SpoolDamaged, OtherShape) as error:
        raise BadScenario(f"{part.folder}: {error}") from error
