"""All checks of a machine."""

from collections.abc import Callable

from sim.doctor import hardware, network, software
from sim.doctor.machine import Machine, Unseen
from sim.doctor.row import Row

Check = Callable[[Machine], Row]

CHECKS: dict[str, Check] = {
    "python": software.python,
    "packages": software.packages,
    "torch": software.torch,
    "gpu": software.gpu,
    "threads": software.threads,
    "memory": hardware.memory,
    "/dev/shm": hardware.shared_memory,
    "runs/": hardware.runs_disk,
    "/tmp": hardware.temporary_disk,
    "open files": hardware.descriptors,
    "clock": hardware.clock,
    "loopback": network.loopback,
    "proxy": network.proxy,
    "ray": network.ray,
    "data sets": network.data,
}
"""By the name of the row."""


def diagnosis(machine: Machine) -> list[Row]:
    """A row of each check, in order; what could not be looked at is a note that says why. Never raises."""
    asked = CHECKS if machine.started is None else {**CHECKS, "ray start": network.started}
    return [_row(name, check, machine) for name, check in asked.items()]


def _row(name: str, check: Check, machine: Machine) -> Row:
    try:
        return check(machine)
    except Unseen as reason:
        return Row(name, "note", f"cannot look: {reason}")
    except Exception as error:
        return Row(name, "note", f"cannot judge: {type(error).__name__}: {error}")
