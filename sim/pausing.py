"""A run that is held between two slots."""

import asyncio
from collections.abc import Callable
from time import perf_counter

from edge_server.cell import Cell
from edge_server.record import Event

_POLL = 0.05


class Pause:
    """Awaited before a slot: returns at once, or when the run is not `wanted` to be held any more, or is to stop.

    Users wait on open streams, and nobody's patience runs: it counts from when a slot asks them.
    """

    def __init__(self, cell: Cell, wanted: Callable[[], bool], on_event: Callable[[Event], None]) -> None:
        self._cell, self._wanted, self._on_event = cell, wanted, on_event

    async def __call__(self, t: int, i: int) -> None:
        """Before slot i of round t. Raises RunFailed if the run fails meanwhile."""
        if not self._wanted():
            return
        since, place = perf_counter(), {"round": t, "slot": i}
        self._on_event({"event": "paused", **place})
        while self._wanted() and not self._cell.wanted_to_stop:
            self._cell.check()
            await asyncio.sleep(_POLL)
        self._on_event({"event": "continued", **place, "seconds": round(perf_counter() - since, 3)})
