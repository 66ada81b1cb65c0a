"""The process that writes into a run's directory, found through its lock, and what may be asked of it."""

import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from sim.pause_file import FILE as PAUSE
from sim.report.records import read_json
from sim.run_lock import named

_LATER = 2.0
"""Seconds by which a process may seem to have begun after it took its lock."""


class Refused(Exception):
    """Nothing was asked of the run; the message is one line."""


@dataclass(frozen=True)
class Owner:
    """A process on a machine. here: it is this machine. alive: None where that cannot be seen from here."""

    pid: int
    host: str
    here: bool
    alive: bool | None


def owner_of(folder: Path) -> Owner | None:
    """Who writes into `folder`, or into the run that it is compared with; None where nobody has locked either."""
    for path in (folder / "lock", folder.parent / "lock"):
        if found := named(path):
            pid, host = found
            here = host == socket.gethostname()
            return Owner(pid, host, here, _lives(pid, _taken(path)) if here else None)
    return None


def _taken(path: Path) -> float:
    """When; never, where the lock is gone by now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _lives(pid: int, since: float) -> bool:
    """Whether the process that had this number then is still there, and not another one."""
    try:
        process = psutil.Process(pid)
        gone = process.status() == psutil.STATUS_ZOMBIE
        return not gone and process.create_time() <= since + _LATER
    except psutil.Error:
        return False


class Control:
    """What the page's buttons do. Each process is asked to stop once: asked again, it would end at once."""

    def __init__(self) -> None:
        self._asked: set[int] = set()

    def stop(self, folder: Path) -> None:
        """SIGINT, as Ctrl-C: the run ends after its slot, saved. Raises Refused."""
        owner = self._reachable(folder)
        if owner.pid in self._asked:
            raise Refused("the run has been asked to stop already; it ends after the slot that it is in")
        try:
            os.kill(owner.pid, signal.SIGINT)
        except OSError as error:
            raise Refused(f"process {owner.pid} cannot be asked to stop: {error.strerror}") from error
        self._asked.add(owner.pid)

    def stopping(self, owner: Owner | None) -> bool:
        """It was asked to."""
        return owner is not None and owner.here and owner.pid in self._asked

    def hold(self, folder: Path, *, wanted: bool) -> None:
        """Before its next slot the run waits while the file `pause` is there. Raises Refused."""
        self._reachable(folder)
        try:
            (folder / PAUSE).touch() if wanted else (folder / PAUSE).unlink(missing_ok=True)
        except OSError as error:
            raise Refused(f"{folder / PAUSE}: {error.strerror}") from error

    def _reachable(self, folder: Path) -> Owner:
        owner = owner_of(folder)
        if owner is None or owner.alive is False or read_json(folder / "manifest.json").get("status") != "running":
            raise Refused("no process runs in this directory")
        if not owner.here:
            raise Refused(f"the run is process {owner.pid} on {owner.host}; ask it there")
        return owner
