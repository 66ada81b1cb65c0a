"""How an edge that stands alone saves a run: its users keep their own state first, then it keeps its own."""

from time import perf_counter

from edge_server.boundary import Boundary
from edge_server.cell import Cell
from edge_server.reception_service import Beside
from sim import checkpoints
from sim.checkpoints import Pace
from sim.local import At, Hooks
from sim.scenario import Checkpoints


class Together:
    """beside: the way to the users. A reason why a run is not saved is told once, until it is another.

    Nothing is saved while a process comes anew: what it has is of an earlier slot.
    """

    def __init__(self, beside: Beside, cell: Cell, hooks: Hooks, config: Checkpoints):
        self._beside, self._cell, self._hooks = beside, cell, hooks
        self._pace = Pace(config, checkpoints.LEAST)
        self.due = self._pace.due
        self._told = ""

    async def keep(self, boundary: Boundary) -> None:
        """Edge and users before a slot: what the edge has, all have."""
        start, at = perf_counter(), At(boundary.round, boundary.slot)
        coming = self._cell.coming
        why = f"user {coming!r} is coming back" if coming else await self._beside.keep(at)
        if self._hooks.saver and not why:
            self._hooks.saver.save(at, boundary.state, [])
        elif why != self._told:
            self._hooks.on_event({"event": "not_saved", **at._asdict(), "reason": why})
        self._told = why
        self._pace.took(perf_counter() - start)
