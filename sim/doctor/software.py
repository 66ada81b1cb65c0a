"""Checks of Python, the packages, torch, threads and the GPU."""

import re
from collections.abc import Iterator

from sim.doctor.machine import Machine, Package, Unseen, seen
from sim.doctor.row import Row

_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SPINNING = {"OMP_WAIT_POLICY": "active", "KMP_BLOCKTIME": "infinite", "GOMP_SPINCOUNT": "infinite"}
"""Values that make a thread without work keep its core busy."""


def python(machine: Machine) -> Row:
    """Its version beside the one that the package declares."""
    found = seen(machine.python)
    if _fits(found.version, found.needs):
        return Row("python", "ok", found.version)
    told = f"{found.version}, EquiRAN needs {found.needs}"
    return Row("python", "trouble", told, "make the environment with another one: make run PYTHON=python3.11")


def packages(machine: Machine) -> Row:
    """Every declared dependency beside what is installed."""
    declared = seen(machine.packages)
    needed = [package for package in declared if not package.optional]
    missing = [_wanted(package) for package in needed if not _good(package)]
    extra = [_wanted(package) for package in declared if package.optional and package.found and not _good(package)]
    install = "python -m pip install " + " ".join(f"'{package.name}{package.needs}'" for package in _bad(declared))
    if missing:
        return Row("packages", "trouble", "; ".join(missing + extra), install)
    if extra:
        return Row("packages", "note", f"of the extras: {'; '.join(extra)}", install)
    return Row("packages", "ok", f"{len(needed)} within their ranges")


def torch(machine: Machine) -> Row:
    """Whether it can be imported, and whether it is a CUDA build for nothing."""
    found = seen(machine.torch)
    cpu = f"the CPU build: python -m pip install --force-reinstall torch --index-url {_CPU_INDEX}"
    if found.failed:
        return Row("torch", "trouble", f"cannot be imported: {found.failed}", cpu)
    if found.cuda and not seen(machine.graphics) and not found.gpus:
        told = f"{found.version}, a build for CUDA {found.cuda}, and there is no GPU: gigabytes for nothing"
        return Row("torch", "note", told, cpu)
    return Row("torch", "ok", found.version)


def gpu(machine: Machine) -> Row:
    """Whether torch can use what the machine has; most runs need none."""
    found, there = seen(machine.torch), seen(machine.graphics)
    if found.failed:
        raise Unseen("torch cannot be imported")
    if found.gpus:
        return Row("gpu", "ok", f"{found.gpus} that torch can use, with edge.device: cuda")
    if not there:
        return Row("gpu", "ok", "none, and none is needed: edge.device: cpu")
    why = "cannot use it: its driver does not answer" if found.cuda else "is a CPU build"
    advice = "the edge runs on the CPU; for edge.device: cuda install a CUDA build of torch and its driver"
    return Row("gpu", "note", f"{there} here, but torch {why}", advice)


def threads(machine: Machine) -> Row:
    """More threads than cores wait for each other, and those that spin take the core from whoever they wait for."""
    cores = seen(machine.cores)
    told, advice = [*_too_many(machine, cores.usable)], []
    if told:
        advice.append("export OMP_NUM_THREADS=1; a run's own threads are its scenario's, `threads`")
    if spinning := [*_spinning(machine)]:
        told.append(f"{', '.join(spinning)} makes idle threads spin")
        advice.append(f"unset {' '.join(said.partition('=')[0] for said in spinning)}")
    if told:
        return Row("threads", "note", "; ".join(told), "; ".join(advice))
    if cores.usable < cores.seen:
        found = f"{cores.usable} of {cores.seen} cores may be used (affinity, or a container's limit)"
        if not any(machine.environment.get(name) for name in THREADS):
            return Row("threads", "note", found, "export OMP_NUM_THREADS=1: some libraries go by the cores they see")
        return Row("threads", "ok", found)
    return Row("threads", "ok", f"{cores.usable} cores, and no more threads than that asked for")


def _too_many(machine: Machine, cores: int) -> Iterator[str]:
    for name in THREADS:
        said = machine.environment.get(name, "")
        first = said.partition(",")[0].strip()
        if first.isdecimal() and int(first) > cores:
            yield f"{name}={said} on {cores} cores"
        elif first and not first.isdecimal():
            yield f"{name}={said} is no number"


def _spinning(machine: Machine) -> Iterator[str]:
    for name, bad in SPINNING.items():
        said = machine.environment.get(name, "")
        if said.lower() == bad:
            yield f"{name}={said}"


def _wanted(package: Package) -> str:
    return f"{package.name} {package.found or 'is missing'} (needs {package.needs or 'any'})"


def _bad(declared: tuple[Package, ...]) -> list[Package]:
    return [package for package in declared if not _good(package) and (package.found or not package.optional)]


def _good(package: Package) -> bool:
    return package.found is not None and _fits(package.found, package.needs)


def _fits(version: str, needs: str) -> bool:
    """By PEP 440; builds such as +cpu, and pre-releases of what is new enough, fit."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(re.sub(r"\s", "", needs)).contains(version, prereleases=True)
