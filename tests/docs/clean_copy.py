"""The repository as a reader has it after `make run`, in a folder of its own, and a shell in it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from page_commands import ROOT, Command, files

MADE = (".torch", ".ready", ".ready-dev", ".ready-docs")
"""By make, in .venv, for what is installed."""
SECONDS = 600
SERVES = ("watch",)
MAY_SAY = {"doctor": (0, 1)}
"""Exit codes that depend on the machine."""


def make_venv(venv: Path) -> None:
    """That of the tests, as make leaves it: nothing is installed anew, least of all into that of the tests."""
    venv.mkdir()
    for name in ("bin", "lib", "include", "pyvenv.cfg"):
        (venv / name).symlink_to(Path(sys.prefix) / name)
    for name in MADE:
        (venv / name).touch()


class CleanCopy:
    """What git tracks, and the files of one page."""

    def __init__(self, folder: Path, page: Path) -> None:
        self.folder, self._sessions = folder / "equiran", list[int]()
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        for name in filter(None, tracked.stdout.split("\0")):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.folder / name, follow_symlinks=False)
        for name, text in files(page).items():
            (self.folder / name).write_text(text, encoding="utf-8")
        make_venv(self.folder / ".venv")

    def run(self, command: Command) -> None:
        """As it is written. A server is interrupted at its first line. Raises AssertionError with what was said."""
        said = self.folder.parent / f"{command.line}.log"
        process = self._start(command.text, said)
        name = command.words[-1] if len(command.words) == 1 else command.words[1]
        serves = name in SERVES
        try:
            if serves:
                self._interrupt(process, said)
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = None
        expected = (130,) if serves else MAY_SAY.get(name, (0,))
        assert code in expected, f"{command}\nexit code {code}\n{said.read_text()[-3000:]}"

    def _start(self, text: str, said: Path) -> subprocess.Popen[bytes]:
        path = f"{self.folder}/.venv/bin:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(self.folder)}
        with said.open("w") as log:
            process = subprocess.Popen(
                ["bash", "-c", text],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._sessions.append(process.pid)
        return process

    def _interrupt(self, process: subprocess.Popen[bytes], said: Path) -> None:
        until = time.monotonic() + SECONDS
        while "\n" not in said.read_text() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)

    def left(self) -> list[psutil.Process]:
        """What the commands started that still runs."""
        return [process for process in psutil.process_iter() if self._runs(process)]

    def _runs(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) in self._sessions and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    def end(self) -> None:
        """Ends what is left. Raises AssertionError if that is not over within a while by itself."""
        until = time.monotonic() + 30
        while (left := self.left()) and time.monotonic() < until:
            time.sleep(0.1)
        said = [" ".join(process.cmdline()) for process in left]
        for process in left:
            process.kill()
        assert not said, f"left running: {said}"
