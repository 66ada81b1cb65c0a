"""Looking at this machine. What cannot be seen is said, never raised; nothing here takes longer than a second or so."""

import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from sim.doctor.machine import Clock, Cores, Data, Descriptors, Machine, Memory, Package, Python, Space, Torch, Unseen
from sim.doctor.network import EXCEPTIONS, PROXIES
from sim.doctor.software import SPINNING, THREADS

T = TypeVar("T")
_PACKAGE = "equiran"
_MANY = 1000
"""Users that one process is asked to hold connections to."""
_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""A container's memory and what it uses of it: cgroups 2, then 1."""
_UNLIMITED = 1 << 60


def look(*, start_ray: bool) -> Machine:
    """This machine, as far as it can be seen. start_ray: for a moment, to see whether it does."""
    from sim.doctor import look_around

    return Machine(
        python=attempt(_python),
        packages=attempt(_packages),
        torch=attempt(_torch),
        cores=attempt(_cores),
        memory=attempt(_memory),
        shared=attempt(lambda: _space(Path("/dev/shm").resolve(strict=True))),
        runs=attempt(lambda: _space(Path("runs"))),
        temporary=attempt(lambda: _space(Path("/tmp"))),
        descriptors=attempt(_descriptors),
        loopback=attempt(look_around.loopback),
        ray=attempt(look_around.ray),
        data=attempt(_data),
        clock=attempt(_clock),
        graphics=attempt(lambda: len([*Path("/dev").glob("nvidia[0-9]*")])),
        environment=_environment(),
        started=attempt(look_around.started) if start_ray else None,
    )


def attempt(see: Callable[[], T]) -> T | Unseen:
    """What `see` returns, or why it does not: an import that fails, a file that is not there, anything."""
    try:
        return see()
    except Exception as error:
        return Unseen(in_a_line(error))


def in_a_line(error: BaseException) -> str:
    """An error, without its trace."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _python() -> Python:
    return Python(".".join(map(str, sys.version_info[:3])), metadata.metadata(_PACKAGE)["Requires-Python"] or "")


def _packages() -> tuple[Package, ...]:
    """The declared dependencies, then those of the extras, each once."""
    from packaging.requirements import Requirement

    extras = metadata.metadata(_PACKAGE).get_all("Provides-Extra") or []
    asked = [Requirement(said) for said in metadata.requires(_PACKAGE) or []]
    found: dict[str, Package] = {}
    for extra in ("", *extras):
        for one in asked:
            if one.name not in found and (one.marker is None or one.marker.evaluate({"extra": extra})):
                found[one.name] = Package(one.name, str(one.specifier), _version(one.name), bool(extra))
    return tuple(found.values())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _torch() -> Torch:
    try:
        import torch
    except Exception as error:  # also what a library that is not there makes of it
        return Torch("", failed=in_a_line(error))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Torch(torch.__version__, torch.version.cuda, gpus)


def _cores() -> Cores:
    import joblib

    return Cores(os.cpu_count() or 1, joblib.cpu_count())


def _memory() -> Memory:
    import psutil

    whole = psutil.virtual_memory()
    total, free = whole.total, whole.available
    for limit, used in _LIMITS:
        if (most := _number(limit)) is not None and most < _UNLIMITED:
            total, free = min(total, most), min(free, most - (_number(used) or 0))
    return Memory(total, max(free, 0))


def _number(path: str) -> int | None:
    """None where there is no such file, or it says `max`."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _space(path: Path) -> Space:
    """Of the folder, or of the nearest above it that is there."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    found = os.statvfs(path)
    writable = os.access(path, os.W_OK | os.X_OK)
    return Space(str(path), found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail, writable)


def _descriptors() -> Descriptors:
    import resource

    from sim.descriptors import needed

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (float("inf") if limit == resource.RLIM_INFINITY else float(limit) for limit in limits)
    return Descriptors(soft, hard, needed(2), needed(2 * _MANY))


def _data() -> tuple[Data, ...]:
    from sim.data import list_data

    return tuple(Data(one.name, one.here, str(one.path), one.how) for one in list_data())


def _clock() -> Clock:
    return Clock(time.time(), Path(__file__).stat().st_mtime, time.get_clock_info("monotonic").resolution)


def _environment() -> dict[str, str]:
    """Only what the checks ask for: other variables may be secrets. Of proxies, either way they are written."""
    found = {name: os.environ[name] for name in (*THREADS, *SPINNING) if name in os.environ}
    for name in (*PROXIES, *EXCEPTIONS):
        if said := os.environ.get(name) or os.environ.get(name.upper()):
            found[name] = said
    return found
