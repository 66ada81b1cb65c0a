"""One process at a time per run directory: `lock` names the one that writes there, and ends with it."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InUse(Exception):
    """Another live process writes into the directory; the message is one line."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else writes into `folder` meanwhile. The lock of a dead process is taken over. Raises InUse."""
    path = folder / "lock"
    descriptor = _taken(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _taken(path: Path) -> int:
    """The locked file's descriptor. The kernel lets go of it when its process dies, however it dies."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise InUse(f"{path.parent} is in use by {_owner(path)}; wait for it, or stop it") from error
        if _is_still(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the file was not removed by an owner that ended between our opening and locking it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def named(path: Path) -> tuple[int, str] | None:
    """The process that a lock names, and its machine; None where there is no lock, or it says nothing yet."""
    try:
        told = json.loads(path.read_text())
        return int(told["pid"]), str(told["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _owner(path: Path) -> str:
    found = named(path)
    return f"process {found[0]} on {found[1]}" if found else "another process"
