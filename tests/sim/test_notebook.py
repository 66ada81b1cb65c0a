"""`import sim` in a notebook: runs, frames and pictures, beside an event loop and under interrupts."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import runs
import sim
from sim.caller import BadScenario
from sim.report.files import UnreadableRun
from sim.scenario import ScenarioErrors

ROOT = Path(__file__).parent.parent.parent
NOTEBOOK = ROOT / "docs/fairness.ipynb"


def test_every_cell_of_the_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    shown = "\nprint(utilities.shape, last.shape, again.digest)"
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-c", code + shown], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("(2, 3) (50, 13) ")


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def test_frames_and_pictures_are_of_the_records(tmp_path: Path) -> None:
    async def notebook() -> sim.Run:
        return sim.run(runs.write(tmp_path, runs.kernel()), {"rounds": 3}, out=tmp_path / "run", quiet=True)

    run = asyncio.run(notebook())
    assert (run.status, run.digest) == ("done", run.summary["digest"])
    assert repr(sim.Run(run.folder)) == repr(run)
    written = runs.slots(run.folder)
    np.testing.assert_array_equal(run.slots["loss"].to_numpy(), written["loss"])
    assert len(run.rounds) == 3 * 2
    assert run.events["event"].tolist() == ["join", "join"]
    assert run.compared == {}
    picture = run.plot("weights")
    assert picture._repr_png_().startswith(b"\x89PNG")
    picture.save(tmp_path / "weights.svg")
    assert "Weights" in (tmp_path / "weights.svg").read_text()
    assert run.report().read_text().startswith("<!doctype html>")
    with pytest.raises(ValueError, match=r"no chart 'weight' of .*; there are fairness, utilities, losses, weights"):
        run.plot("weight")


def test_what_cannot_run_is_told(tmp_path: Path) -> None:
    scenario = runs.write(tmp_path, runs.kernel())
    with pytest.raises(ScenarioErrors, match=r"rounds: "):
        sim.run(scenario, {"rounds": "many"}, out=tmp_path / "run", quiet=True)
    sim.run(scenario, out=tmp_path / "run", quiet=True)
    with pytest.raises(BadScenario, match="holds a run already"):
        sim.run(scenario, out=tmp_path / "run", quiet=True)
    with pytest.raises(UnreadableRun, match=r"manifest\.json"):
        sim.Run(tmp_path)
    with pytest.raises(AttributeError, match="'sim' has no attribute 'walk'"):
        sim.walk  # noqa: B018


def test_an_interrupt_stops_it_between_two_slots(tmp_path: Path) -> None:
    def interrupt() -> None:
        while not (tmp_path / "run/rounds.arrows").exists() or (tmp_path / "run/rounds.arrows").stat().st_size < 5000:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    run = sim.run(runs.write(tmp_path, runs.kernel(rounds=1_000_000)), out=tmp_path / "run", quiet=True)
    assert run.status == "stopped"
    assert run.digest is None
    assert 0 < run.summary["rounds"] < 1_000_000
