"""Checks of memory, /dev/shm, disks, file descriptors and the clock."""

import math

from sim.doctor.machine import Machine, Space, seen
from sim.doctor.row import Row, size

RAY_SHARE, RAY_SLOW, RAY_MOST = 0.3, 10_000_000_000, 200_000_000_000
"""Of Ray 2.50 to 2.60: its object store's part of free memory, up to where it may be on a disk, and its cap."""
_RAY_MEMORY, _LEAST_MEMORY = 2_000_000_000, 500_000_000
"""Bytes of a small run on Ray with all its processes, and of one in memory, rounded up."""
_LOW_DISK, _NO_DISK = 1_000_000_000, 100_000_000
_RAY_FULL = 0.05
"""Share of a disk below which Ray puts nothing more on it."""
_COARSE = 1e-3
"""Seconds; deadlines and times of slots are milliseconds."""


def memory(machine: Machine) -> Row:
    """Enough for the processes of a small run."""
    found = seen(machine.memory)
    told = f"{size(found.free)} free of {size(found.total)}"
    if found.free < _LEAST_MEMORY:
        return Row("memory", "trouble", told, f"a run needs {size(_LEAST_MEMORY)}: end other processes")
    if found.free < _RAY_MEMORY:
        advice = f"a run on Ray takes up to {size(_RAY_MEMORY)}; with --transport memory it is one process"
        return Row("memory", "note", told, advice)
    return Row("memory", "ok", told)


def shared_memory(machine: Machine) -> Row:
    """Beside what Ray will want of it."""
    found, wanted = seen(machine.shared), object_store(seen(machine.memory).free, seen(machine.shared).free)
    told = f"{size(found.free)} free"
    if found.free >= wanted:
        return Row("/dev/shm", "ok", f"{told}, Ray takes {size(wanted)}")
    advice = f"for Docker: --shm-size={wanted * 1.1 / 1e9:.2f}gb; no tensor of a slot goes through it"
    return Row("/dev/shm", "note", f"{told}, Ray wants {size(wanted)} and will use the disk instead", advice)


def object_store(free: int, shared: int) -> int:
    """Bytes that Ray takes where nobody says: a part of the free memory, within what is free in /dev/shm."""
    most = min(RAY_MOST, max(RAY_SLOW, int(shared * 0.95)))
    return min(most, int(free * RAY_SHARE))


def runs_disk(machine: Machine) -> Row:
    """Where run directories go."""
    return _disk("runs/", seen(machine.runs))


def temporary_disk(machine: Machine) -> Row:
    """Where Ray's sockets and logs go."""
    row, found = _disk("/tmp", seen(machine.temporary)), seen(machine.temporary)
    if row.standing == "ok" and found.free < _RAY_FULL * found.total:
        return row._replace(standing="note", advice="Ray puts nothing more on a disk that is 95 % full: make room")
    return row


def _disk(name: str, found: Space) -> Row:
    told = f"{size(found.free)} free in {found.path}"
    if not found.writable:
        advice = "change its permissions, or give run directories with --out" if name == "runs/" else "Ray needs it"
        return Row(name, "trouble", f"{found.path} cannot be written to", advice)
    if found.free < _NO_DISK:
        return Row(name, "trouble", told, "make room: a run that cannot write its records ends")
    if found.free < _LOW_DISK:
        return Row(name, "note", told, "enough for small runs; `equiran validate` estimates a scenario's")
    return Row(name, "ok", told)


def descriptors(machine: Machine) -> Row:
    """What a process may raise its own limit to is what counts."""
    found = seen(machine.descriptors)
    raised = f", which a run may raise to {_files(found.hard)} by itself" if found.hard > found.soft else ""
    told = f"{_files(found.soft)}{raised}"
    many = f"1,000 users with certificates of their own need {found.thousand:,} in one process"
    if found.hard < found.least:
        advice = (
            f"a run over gRPC needs {found.least}; raise the hard limit (ulimit -Hn, limits.conf, docker run --ulimit)"
        )
        return Row("open files", "trouble", told, advice)
    if found.hard < found.thousand:
        advice = "raise the hard limit (ulimit -Hn), or let users of a host share one: equiran certs --host"
        return Row("open files", "note", f"{told}; {many}", advice)
    return Row("open files", "ok", told)


def _files(limit: float) -> str:
    return f"{limit:,.0f}" if math.isfinite(limit) else "any number"


def clock(machine: Machine) -> Row:
    """Certificates are good from a day on; deadlines need a fine clock."""
    found = seen(machine.clock)
    if found.now < found.installed:
        days = (found.installed - found.now) / 86_400
        told = f"{days:,.1f} days before this package was installed"
        return Row("clock", "trouble", told, "set the date: certificates (security: {kind: mtls}) go by it")
    if found.step > _COARSE:
        told = f"steps of {1e3 * found.step:.3g} ms"
        return Row("clock", "note", told, "deadlines and measured times are no finer")
    return Row("clock", "ok", f"steps of {1e9 * found.step:.3g} ns, and later than the installation")
