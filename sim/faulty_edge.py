"""An edge with faults: it tells of what strikes a slot before it does, and may die; a disk that is full."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from edge_server.cell import Cell, Tensors
from edge_server.messages import Feedback
from edge_server.record import Event
from sim.blueprint import Blueprint
from sim.fault_schedule import Strike, Victim

OnEvent = Callable[[Event], None]
Written = Callable[[], Awaitable[None]]


async def _at_once() -> None:
    """Events of this process are written as they happen."""


def build_cell(design: Blueprint, on_event: OnEvent, stop: Callable[[], bool], written: Written = _at_once) -> Cell:
    """The cell of a run; one that knows of its faults, where the scenario has any.

    written: returns once all events so far are, so that none is lost with a process.
    """
    if not design.scenario.faults:
        return Cell(design.plan, on_event, stop)
    return _FaultyCell(design, on_event, stop, written)


class _FaultyCell(Cell):
    """Tells whom a fault strikes: users that are sent outputs, and the edge itself."""

    def __init__(self, design: Blueprint, on_event: OnEvent, stop: Callable[[], bool], written: Written) -> None:
        super().__init__(design.plan, on_event, stop)
        self._edge = Victim(design.scenario, None, design.spent)
        everybody = ((k, Victim(design.scenario, user.name, design.spent)) for k, user in enumerate(design.plan.users))
        self._victims = [(k, victim) for k, victim in everybody if victim]
        self._written = written

    async def feedback(self, t: int, i: int, outputs: Tensors) -> list[Feedback | None]:
        """As any cell, after what strikes in this slot was told; users in memory who were hit have a turn, too."""
        await asyncio.sleep(0)
        if dying := [strike for strike in self._edge.strikes(t, i) if strike.kind == "edge_crash"]:
            await self._tell(dying)
            os._exit(1)
        sent = [victim for k, victim in self._victims if outputs[k] is not None]
        await self._tell([strike for victim in sent for strike in victim.strikes(t, i)])
        return await super().feedback(t, i, outputs)

    async def _tell(self, struck: list[Strike]) -> None:
        """Before a process dies, what is told must be written."""
        for strike in struck:
            self.tell(strike.event)
        if any(strike.kind in ("crash", "edge_crash") for strike in struck):
            await self._written()


class Disk:
    """Where checkpoints go: full for the first one after a `disk_full`."""

    def __init__(self, design: Blueprint) -> None:
        self._victim = Victim(design.scenario, None, design.spent)
        self._slots = design.scenario.slots
        self._seen = design.plan.first * self._slots + design.plan.first_slot

    def full(self, round_: int, slot: int) -> Strike | None:
        """The fault because of which the checkpoint before this slot cannot be written."""
        here = round_ * self._slots + slot
        passed, self._seen = range(self._seen, here) if self._victim else (), here
        struck = (strike for n in passed for strike in self._victim.strikes(*divmod(n, self._slots)))
        return next((strike for strike in struck if strike.kind == "disk_full"), None)
