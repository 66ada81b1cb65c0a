"""Files below the temporary folder that belong to a living process; what a killed one left, a later one removes."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

RAY, TOKEN = "equiran-ray-", "equiran-token-"
HELD = ".held"
"""How their names begin, and end."""
_OLD = 3600.0
"""Seconds after which what nobody holds is litter."""


def short_tmp() -> str:
    """Ray's sockets live below its folder, and a socket's path has at most 107 characters."""
    return "/tmp" if Path("/tmp").is_dir() else tempfile.gettempdir()


def hold(path: Path) -> int:
    """A descriptor that keeps `path` from being litter until it is closed, or this process ends, however it ends."""
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def left(folder: Path) -> Iterator[Path]:
    """What killed processes of this user left in `folder`."""
    for path in (*folder.glob(f"{RAY}*{HELD}"), *folder.glob(f"{TOKEN}*{HELD}")):
        with suppress(OSError):
            if path.stat().st_uid == os.getuid() and not _held(path):
                yield path


def sweep(folder: Path) -> None:
    """Removes what they left an hour ago or earlier."""
    for path in left(folder):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
