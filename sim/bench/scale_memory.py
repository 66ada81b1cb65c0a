"""Resident memory of processes, as Linux tells it; None where the system does not."""

import ctypes
import re
from pathlib import Path
from typing import Literal

Process = int | Literal["self"]

MB = 1e6
"""Bytes."""

_FORGET_PEAK = "5"


def resident(process: Process) -> float | None:
    """MB of physical memory that a process holds now."""
    return _status(process, "VmRSS")


def peak(process: Process) -> float | None:
    """MB of physical memory that a process held at most, since it began or since `forget_peak`."""
    return _status(process, "VmHWM")


def forget_peak(process: Process) -> bool:
    """From now on `peak` looks at what comes. False where the system cannot."""
    try:
        Path(f"/proc/{process}/clear_refs").write_text(_FORGET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def give_back() -> bool:
    """Free pages of this process's heap go back to the system. False where the C library is not glibc."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    trim(0)
    return True


def _status(process: Process, key: str) -> float | None:
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 / MB if found else None
