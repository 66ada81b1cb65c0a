"""Processes of a run that are killed at seeded moments, and what is left of them then."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

import runs

ROOT = Path(__file__).parent.parent
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
EDGE, HOST = "ray::EdgeActor", "ray::HostActor"
_LONG = 240.0
"""Seconds after which what was waited for will not come."""
_NOTICED = 20.0
"""Seconds in which a kill is noticed, unless it hit a process that was about to end."""


class Running:
    """An `equiran` command in a process of its own, and all processes that it started. out: its run's directory."""

    def __init__(self, out: Path, *line: str) -> None:
        self.out = out
        command = [sys.executable, "-m", "sim", *line, "--json", "--quiet"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        self._over: set[int] = set()

    def ended(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr, once it has ended."""
        said, complaint = self.process.communicate(timeout=_LONG)
        return self.process.returncode, said, complaint

    def kill_one(self, name: str, rng: random.Random) -> None:
        """SIGKILL for a process of this name, at a moment of its start, or of the slots behind a checkpoint.

        Returns once the run has taken itself up again.
        """
        before = self._count("recovered")
        while self._count("recovered") == before:
            victim = self._wait(lambda: rng.choice(self._new(name) or [None]))
            self._moment(rng)
            self._over |= {process.pid for who in (EDGE, HOST) for process in self._named(who)}
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
            until = time.monotonic() + _NOTICED
            while self._count("recovered") == before and time.monotonic() < until:
                self._look()

    def kill(self, rng: random.Random) -> list[psutil.Process]:
        """SIGKILL for the command itself; what it had started by then, Ray's agents left out."""
        self._wait(lambda: self.owner() == self.process.pid)
        self._moment(rng)
        family = [process for process in psutil.Process(self.process.pid).children(recursive=True) if _counts(process)]
        self.process.kill()
        self.process.communicate()
        return family

    def owner(self) -> int | None:
        """The process that the lock of the run's directory names."""
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads((self.out / "lock").read_text())["pid"])
        return None

    def _moment(self, rng: random.Random) -> None:
        if rng.random() < 2 / 3:
            before = self._count("checkpoint")
            self._wait(lambda: self._count("checkpoint") > before)
        time.sleep(rng.uniform(0, 0.3))

    def _new(self, name: str) -> list[psutil.Process]:
        return [process for process in self._named(name) if process.pid not in self._over]

    def _named(self, name: str) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if " ".join(process.cmdline()).startswith(name):
                    found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def _count(self, event: str) -> int:
        file = self.out / "events.jsonl"
        return file.read_text(encoding="utf-8").count(f'"event": "{event}"') if file.exists() else 0

    def _wait(self, what: Callable[[], Any]) -> Any:
        until = time.monotonic() + _LONG
        while not (found := what()):
            assert time.monotonic() < until
            self._look()
        return found

    def _look(self) -> None:
        assert self.process.poll() is None, f"the run ended before it could be killed: {self.process.communicate()}"
        time.sleep(0.005)


@contextmanager
def started(folder: Path, tree: runs.Tree, *options: str) -> Iterator[Running]:
    """`equiran run` of the tree, into `folder`/out."""
    file, out = runs.write(folder, tree), folder / "out"
    with _ending(Running(out, "run", str(file), "--out", str(out), *options)) as running:
        yield running


@contextmanager
def resumed(out: Path, *options: str) -> Iterator[Running]:
    """`equiran resume`."""
    with _ending(Running(out, "resume", str(out), *options)) as running:
        yield running


@contextmanager
def _ending(running: Running) -> Iterator[Running]:
    """Whatever a test finds, the command ends with it."""
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.communicate()


def _counts(process: psutil.Process) -> bool:
    """Two agents of Ray see to their own end, which takes them a minute."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return not " ".join(process.cmdline()).startswith(AGENTS)
    return False


def gone(family: list[psutil.Process], within: float) -> list[psutil.Process]:
    """Those that are not, after so many seconds."""
    _, alive = psutil.wait_procs(family, timeout=within)
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
