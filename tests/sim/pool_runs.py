"""Runs that need no torch, for tests of the pool: its processes start in a tenth of a second."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Patient(NamedTuple):
    """Leaves a file as it begins, waits until `stop` or for so many seconds, and leaves another one."""

    name: str
    seconds: float

    def run(self, folder: Path, stop: Callable[[], bool]) -> tuple[str, float]:
        folder.mkdir(parents=True)
        (folder / "begun").write_text(str(os.getpid()))
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            if stop():
                (folder / "stopped").touch()
                return "stopped", 0.0
            time.sleep(0.01)
        (folder / "done").touch()
        return "done", self.seconds


class Deadly(NamedTuple):
    """Takes its process with it."""

    name: str

    def run(self, folder: Path, stop: Callable[[], bool]) -> tuple[str, float]:
        os._exit(9)


class Wrong(NamedTuple):
    """Fails; sets: a tuple must arrive as one."""

    name: str
    sets: tuple[str, ...]

    def run(self, folder: Path, stop: Callable[[], bool]) -> tuple[str, float]:
        raise ValueError(f"{self.sets!r}\nin {os.environ['OMP_NUM_THREADS']} thread")
