"""An edge and its honest users in processes of their own, while a test attacks: what it costs them."""

import contextlib
import json
import os
import queue
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

import runs

ROOT = Path(__file__).parent.parent.parent
MIB = 2**20


class Seen(NamedTuple):
    """Seconds of each slot, quiet and under attack; MiB by which the edge grew at most."""

    quiet: list[float]
    attacked: list[float]
    grown: float

    @property
    def slowed(self) -> float:
        """Median slot under attack over the median without."""
        return float(np.median(self.attacked) / np.median(self.quiet)) if self.attacked else np.inf

    @property
    def tail(self) -> float:
        """The slot that one in a hundred is longer than, under attack over without."""
        return float(np.percentile(self.attacked, 99) / np.percentile(self.quiet, 99)) if self.attacked else np.inf


class Castle:
    """A run that goes on and on. address: host, port. log: what the edge writes on its standard error."""

    def __init__(self, edge: "subprocess.Popen[str]", users: "subprocess.Popen[str]", log: Path):
        self.log = log
        self._edge, self._lines = edge, queue.SimpleQueue[dict[str, Any]]()
        assert edge.stdin
        assert edge.stdout
        assert users.stdin
        assert users.stdout
        assert users.stdout.readline()
        assert edge.stdout.readline()
        threading.Thread(target=self._read, daemon=True).start()
        edge.stdin.write("\n")
        edge.stdin.flush()
        self.target = self._lines.get(timeout=60)["address"]
        host, _, port = self.target.rpartition(":")
        self.address = host, int(port)
        users.stdin.write(f"{self.target}\n")
        users.stdin.flush()
        self.process = psutil.Process(edge.pid)
        self.events: list[dict[str, Any]] = []
        self._rounds: list[dict[str, Any]] = [self._lines.get(timeout=60)]

    def _read(self) -> None:
        assert self._edge.stdout
        for line in self._edge.stdout:
            self._lines.put(json.loads(line))

    def slots(self, start: float, end: float) -> list[float]:
        """Of the rounds that ended in this time; waits for one behind it."""
        while self._rounds[-1]["at"] < end:
            said = self._lines.get(timeout=30)
            (self._rounds if "at" in said else self.events).append(said)
        return [slot for said in self._rounds if start < said["at"] < end for slot in said["slots"]]

    def quiet(self, seconds: float) -> list[float]:
        """Slots without an attack."""
        start = time.monotonic()
        time.sleep(seconds)
        return self.slots(start, time.monotonic())

    def under(self, attack: Callable[[], None]) -> list[float]:
        """Slots during an attack, which is repeated for a second at least, ten times a second at most."""
        start = time.monotonic()
        while time.monotonic() < start + 1:
            attack()
            time.sleep(0.1)
        return self.slots(start, time.monotonic())

    def _peak(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

    def besieged(self, attack: Callable[[], None], times: int, seconds: float = 0.4, rest: float = 0.0) -> Seen:
        """Quiet and attack in turn. rest: seconds behind an attack that count as neither, while the edge clears up."""
        seen, before = Seen([], [], 0), self.process.memory_info().rss
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")
        for _ in range(times):
            seen.quiet.extend(self.quiet(seconds))
            seen.attacked.extend(self.under(attack))
            time.sleep(rest)
        seen.quiet.extend(self.quiet(seconds))
        return seen._replace(grown=(self._peak() - before) / MIB)


@contextlib.contextmanager
def castle(folder: Path, files: int | None = None, **changes: Any) -> Iterator[Castle]:
    """Two honest users of a kernel task, unless `changes` says otherwise. files: descriptors that the edge may hold."""
    tree = runs.kernel(many=2, rounds=10**6, slots=5, transport="grpc", **changes)
    scenario = str(runs.write(folder, tree))
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    begun: list[subprocess.Popen[str]] = []

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files or 0, files or 0))

    def begin(role: str, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "siege", role, *arguments]
        with (folder / f"{role}.log").open("w") as log:
            begun.append(
                subprocess.Popen(
                    command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, text=True, stderr=log,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    preexec_fn=limit if files and role == "edge" else None,
                )
            )  # fmt: skip
        return begun[-1]

    try:
        yield Castle(begin("edge", scenario), begin("users", scenario), folder / "edge.log")
    finally:
        for process in begun:
            process.kill()
            process.communicate()
