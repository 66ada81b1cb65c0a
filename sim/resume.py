"""A stopped or killed run with slots, continued from its last whole checkpoint to the same bits."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from sim.caller import BadScenario, Result, Watcher
from sim.going_on import CannotGoOn, begins, saved_last, taken_back
from sim.identity import ELSEWHERE, fingerprint
from sim.local import At
from sim.report.records import read_json
from sim.report.words import listed
from sim.runner import Part, Way, alone, finished, going, parts_of, run_one, run_parts
from sim.scenario import Scenario, load, opened, trains_alone
from sim.served import go_on, was_served


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
    if was_served(folder):
        raise BadScenario(f"{folder} is a served run, whose users keep their own state; go on with: {go_on(folder)}")
    parts = parts_of(load(folder / "scenario.yaml", transport=transport), folder)
    with alone(folder):
        for part in parts:
            require_same(part.folder, part.design.scenario)
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


def require_same(folder: Path, scenario: Scenario) -> None:
    """Raises BadScenario unless the run began with this scenario, naming the field where a checkpoint knows it."""
    manifest = folder / "manifest.json"
    if not manifest.exists() or read_json(manifest).get("fingerprint") == fingerprint(scenario):
        return
    try:
        saved_last(folder, scenario, lambda _note: None)
    except CannotGoOn as error:
        raise BadScenario(str(error)) from error
    raise BadScenario(
        f"{folder}: the scenario, or a file that it names, was changed after the run began; set it back, or start "
        f"a new run with it (only {listed([*ELSEWHERE])} may change)"
    )


def done_already(name: str, folder: Path) -> Result | None:
    """The result of a run that is done. Raises UnreadableRun."""
    if read_json(folder / "manifest.json")["status"] != "done":
        return None
    summary = read_json(folder / "summary.json")
    return Result(name, folder, "done", summary["digest"], summary)


def _continued(part: Part, cluster: Any, watcher: Watcher) -> Result:
    status = _status(part)
    if status is None:
        return run_one(part, cluster, watcher)
    return done_already(part.name, part.folder) or continued(part, going(cluster), watcher)


def continued(part: Part, way: Way, watcher: Watcher, among: Collection[At] | None = None) -> Result:
    """The rest of a run that is not done, from its last whole checkpoint. among: places that will do; None: all.

    Raises BadScenario, UnreadableRun, RunError.
    """
    try:
        design, recorder = taken_back(part.folder, part.name, part.design, watcher.on_note, among)
    except CannotGoOn as error:
        raise BadScenario(str(error)) from error
    at = begins(design)
    recorder.events({"event": "resumed", **at._asdict()})
    watcher.on_note(f"{part.name}: goes on from {at}")
    return finished(part._replace(design=design), recorder, way, watcher)
