"""`equiran serve` and `equiran join` as real processes; what they say goes to files, which can be read meanwhile."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/serve_join.md").read_text(encoding="utf-8")
EQUIRAN = f"{sys.executable} -m sim"
EAGER = "from sim import checkpoints; checkpoints.LEAST = 0; from sim.__main__ import main; main()"
"""The command, with a checkpoint whenever the scenario says, whatever it takes."""


class Running:
    """A process of ours, in a folder that it has for itself."""

    def __init__(self, command: list[str], folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [folder / f"{len([*folder.glob('*.err')])}.{name}" for name in ("out", "err")]
        out, err = (file.open("w") for file in self._files)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)

    @property
    def out(self) -> str:
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        return self._files[1].read_text()

    def until(self, true: Callable[[], object], seconds: float = 120) -> None:
        """Returns once something is so while the process lives."""
        end = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, (self.out, self.err)
            assert time.monotonic() < end, (self.out, self.err)
            time.sleep(0.05)

    def says(self, what: str) -> str:
        """The first group of a pattern, once it is on stderr."""
        self.until(lambda: re.search(what, self.err))
        found = re.search(what, self.err)
        assert found
        return found[1]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self, code: int, seconds: float = 120) -> None:
        assert self.process.wait(seconds) == code, (self.out, self.err)


class Apart:
    """Processes of one test. eager: see EAGER."""

    def __init__(self, *, eager: bool = False):
        self._command = [sys.executable, "-c", EAGER] if eager else EQUIRAN.split()
        self._all: list[Running] = []

    def start(self, folder: Path, *words: object) -> Running:
        return self.run([*self._command, *map(str, words)], folder)

    def run(self, command: list[str], folder: Path) -> Running:
        """Any command."""
        self._all.append(Running(command, folder))
        return self._all[-1]

    def serve(self, folder: Path, *words: object, listen: str = "127.0.0.1:0") -> tuple[Running, str]:
        """An edge that listens, and its address."""
        running = self.start(folder, "serve", *words, "--listen", listen, "--wait", 300)
        return running, running.says(r": at (\S+), waits")

    def join(self, folder: Path, scenario: Path, at: str, users: str) -> Running:
        """Users who keep their state."""
        return self.start(folder, "join", scenario, "--edge", at, "--users", users, "--state", "state")

    def end(self) -> None:
        for running in self._all:
            running.process.kill()
            running.process.wait()


@contextmanager
def apart(*, eager: bool = False) -> Iterator[Apart]:
    """None of its processes is left."""
    processes = Apart(eager=eager)
    try:
        yield processes
    finally:
        processes.end()


def free_address() -> str:
    """Of nobody, a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def page_scenario() -> str:
    """The scenario of docs/serve_join.md."""
    return re.findall(r"^```yaml\n(schema.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]


def page_command(who: str) -> str:
    """What docs/serve_join.md runs there."""
    return re.findall(rf"^```sh\n# {who}\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)[0]


def page_data(folder: Path, user: str) -> None:
    """Data of Ann or Bob."""
    (folder / "mine").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(user) + ord(user[0]))
    x = rng.normal(size=(20, 10, 2, 4))
    np.savez(folder / f"mine/{user}.npz", x=x, y=x.sum(-1) + rng.normal(size=(20, 10, 2)))
