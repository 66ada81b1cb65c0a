"""A server task's process as the edge sees it: started, drained by a thread, asked to stop, never waited for."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO, cast

from edge_server.server_tasks.frames import Frame, read_frame
from edge_server.server_tasks.job import Job, Pace

_WORKER = "edge_server.server_tasks.worker"
_LAST_MOMENT = 5.0
"""Seconds from its last word to its end."""
_TAIL = 4000
"""Bytes kept of what a process said on stderr."""
AHEAD = 64
"""Policies at a pace that may wait to be used; a trainer further ahead is not read from, and so halts."""


class TaskProcess:
    """One process from its start to its end. Of the policies that nobody has taken up it keeps the newest alone; those
    of a job with a pace are all kept, and `used` says that one of them waits no longer.

    Once closed, `how` says how it ended (a signal or an exit code) and `stderr` the last that it said there; `garbled`
    is not empty where it said something that is no frame.
    """

    def __init__(self, job: Job) -> None:
        """Raises OSError when no process can be started."""
        self.how, self.stderr, self.garbled = "", "", ""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=_environment(os.environ, sys.path),
            process_group=0,
        )
        self._lock = threading.Lock()
        self._pace: Pace | None = job.pace
        self._room, self._ending = threading.Semaphore(AHEAD), False
        self._frames: list[Frame] = []
        self._drain = threading.Thread(target=self._read, name="server task", daemon=True)
        with suppress(BrokenPipeError):
            job.write(self._stdin)
        self._drain.start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def over(self) -> bool:
        """It has ended, and everything it told is here."""
        return not self._drain.is_alive()

    def take(self) -> list[Frame]:
        """What it told since it was last asked, in order."""
        with self._lock:
            frames, self._frames = self._frames, []
        return frames

    def used(self) -> None:
        """One policy of those at a pace is in use."""
        self._room.release()

    def stop(self) -> None:
        """Asks for state and policy, and for the end; a process that is gone is not missed here."""
        self._read_on()
        if self._stdin.closed:
            return
        with suppress(BrokenPipeError):
            self._stdin.write(b"stop\n")
            self._stdin.flush()

    def close(self) -> None:
        """Ends it if it has not ended, and frees what it held; may be called again."""
        if self._said.closed:
            return
        if not self.over:
            self._process.kill()
        self._read_on()
        self._drain.join()
        code = self._code()
        self.how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TAIL))
        self.stderr = self._said.read().decode(errors="replace").strip()
        self._said.close()
        with suppress(BrokenPipeError):
            self._stdin.close()
        cast("BinaryIO", self._process.stdout).close()

    def _code(self) -> int:
        """The exit code of a process that has nothing more to tell; one that does not end is killed."""
        try:
            return self._process.wait(_LAST_MOMENT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    @property
    def _stdin(self) -> BinaryIO:
        return cast("BinaryIO", self._process.stdin)

    def _read(self) -> None:
        stdout = cast("BinaryIO", self._process.stdout)
        while (frame := self._next(stdout)) is not None:
            is_policy = frame.header["kind"] == "policy"
            with self._lock:
                if is_policy and self._pace is None:
                    self._frames = [old for old in self._frames if old.header["kind"] != "policy"]
                self._frames.append(frame)
            if is_policy and self._pace is not None and not self._ending:
                self._room.acquire()

    def _read_on(self) -> None:
        """From now on everything is read, however far ahead it is."""
        self._ending = True
        self._room.release()

    def _next(self, stdout: BinaryIO) -> Frame | None:
        """The next frame; what is none ends the reading, and its process."""
        try:
            return read_frame(stdout)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.garbled = f"it sent what is no frame ({type(error).__name__}: {error}): "
            return None


def _environment(own: Mapping[str, str], path: list[str]) -> dict[str, str]:
    """The worker finds the same modules as this process, also a problem of the user's own."""
    return {**own, "PYTHONPATH": os.pathsep.join(entry for entry in path if entry)}
