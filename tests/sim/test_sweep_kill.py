"""A sweep that is killed, or whose processes are: nothing is left running, and nothing done is done again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import runs
from sim.caller import RunError
from sim.console import Screen
from sim.run_lock import locked
from sim.sweep.plan import plan
from sim.sweep.run import Room, sweep

ROOT = Path(__file__).parents[2]
GRID = ("--over", "edge.primal.step=0.01,0.02,0.05", "--seeds", "2", "--quiet")
SIZE = {"rounds": 12, "slots": 25}


class Running:
    """`equiran sweep` as a process, and the workers that it started."""

    def __init__(self, file: Path, out: Path, jobs: int):
        command = [sys.executable, "-m", "sim", "sweep", str(file), *GRID, "--out", str(out), "--jobs", str(jobs)]
        self.out = out
        self.begun = time.time_ns()
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.workers: list[psutil.Process] = []

    def wait_for(self, runs_done: int) -> None:
        """Returns when so many runs are done and others are under way."""
        deadline = time.monotonic() + 60
        while len(done(self.out)) < runs_done or not under_way(self.out, self.begun):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.02)
        self.workers = psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> int:
        """Signal the parent alone; its exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=20)
        return self.process.returncode

    def survivors(self) -> list[psutil.Process]:
        return psutil.wait_procs(self.workers, timeout=5)[1]


def statuses(out: Path) -> dict[Path, str]:
    """By run; manifests that are being replaced are left out."""
    return {path: runs.read_json(path)["status"] for path in out.glob("runs/*/*/manifest.json")}


def done(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path, status in statuses(out).items() if status == "done"}


def under_way(out: Path, since: int) -> bool:
    """Manifests that a killed sweep left behind say "running", too, but are older."""
    found = statuses(out).items()
    return any(status == "running" and path.stat().st_mtime_ns >= since for path, status in found)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[int], Running]]:
    file, made = runs.write(tmp_path, runs.kernel(**SIZE)), list[Running]()

    def begin(jobs: int) -> Running:
        made.append(Running(file, tmp_path / "out", jobs))
        return made[-1]

    yield begin
    for running in made:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()


def test_killed_and_terminated_it_goes_on_where_it_was(start: Callable[[int], Running]) -> None:
    killed = start(2)
    killed.wait_for(1)
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    assert killed.workers
    assert killed.survivors() == []
    before = done(killed.out)
    assert not (killed.out / "sweep.csv").exists()

    again = start(1)
    again.wait_for(len(before) + 1)
    assert again.end(signal.SIGTERM) == 143
    assert again.survivors() == []
    assert set(statuses(again.out).values()) <= {"done", "stopped"}
    between = done(again.out)
    assert before.items() <= between.items()

    last = start(1)
    assert last.process.communicate(timeout=60)[1] == ""
    assert last.process.returncode == 0
    assert between.items() <= done(last.out).items()
    assert len(done(last.out)) == 6
    assert len((last.out / "sweep.csv").read_text().splitlines()) == 7


def test_two_sweeps_cannot_share_a_folder(tmp_path: Path) -> None:
    planned = plan(runs.write(tmp_path, runs.kernel()), ["slots=1"], 1, (), "memory")
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(RunError, match="is in use by process"):
        sweep(planned, tmp_path / "out", Room(1), Screen(True), lambda: False)
