"""A stopped or killed training run, continued from its last whole checkpoint to the same bits."""

from pathlib import Path
from typing import Any

from edge_server.compute import threads
from edge_server.routed_mtl.networks import ArchitectureError
from edge_server.routed_mtl.training import Trainer
from sim.caller import BadScenario
from sim.checkpoint_files import NoCheckpoint
from sim.power_checkpoints import PowerCheckpoints, Saved
from sim.power_recorder import PowerRecorder, PowerResult
from sim.power_run import PowerRun, PowerWatcher, rehearse
from sim.power_scenario import LoadedPower, load_power
from sim.recorder import other_versions
from sim.report.records import read_json
from sim.runner import alone


def resume_power(folder: Path, watcher: PowerWatcher) -> PowerResult:
    """Goes on in `folder` to the end; a run that is done already is only told about.

    Raises BadScenario or UnreadableRun, one line, where nothing can be continued, RunError when it failed,
    ScenarioErrors.
    """
    loaded = load_power(folder / "scenario.yaml")
    with alone(folder):
        manifest = _manifest(folder)
        if manifest["status"] == "done":
            watcher.on_note(f"{folder} is done already")
            return _as_it_is(folder, manifest)
        with threads(loaded.scenario.threads.edge):
            return _continued(loaded, folder, watcher)


def _manifest(folder: Path) -> dict[str, Any]:
    """Raises BadScenario or UnreadableRun, one line, for one that nobody can go on from."""
    found = read_json(folder / "manifest.json")
    if missing := [key for key in ("name", "started", "status", "steps", "digest") if key not in found]:
        raise BadScenario(f"{folder / 'manifest.json'} is damaged: it has no {missing[0]!r}; restore it or train again")
    return found


def _as_it_is(folder: Path, manifest: dict[str, Any]) -> PowerResult:
    power = read_json(folder / "power.json")
    return PowerResult(manifest["name"], folder, "done", manifest["steps"], manifest["digest"], power)


def _continued(loaded: LoadedPower, folder: Path, watcher: PowerWatcher) -> PowerResult:
    rehearsed, notes = rehearse(loaded), list[str]()
    try:
        saved = PowerCheckpoints(folder, loaded.scenario, lambda _step: None).newest(notes.append)
    except NoCheckpoint as error:
        raise BadScenario(str(error)) from error
    _refuse_other(rehearsed, saved, folder)
    step = saved.step if saved else 0
    recorder = PowerRecorder(folder, loaded.scenario, after=step)
    for note in [*notes, *other_versions(saved.versions if saved else {})]:
        recorder.events({"event": "checkpoint_note", "text": note})
        watcher.on_note(f"note: {note}")
    recorder.events({"event": "resumed", "step": step})
    watcher.on_note(f"goes on from step {step}")
    return PowerRun(loaded.scenario, rehearsed, recorder, watcher, saved=saved).to_the_end()


def _refuse_other(rehearsed: Trainer, saved: Saved | None, folder: Path) -> None:
    """Raises BadScenario for a state that this version's trainer cannot take up."""
    try:
        if saved:
            rehearsed.load_state_dict(saved.state)
    except ArchitectureError as error:
        raise BadScenario(f"{folder}: checkpoint {saved.step if saved else 0}: {error}") from error
