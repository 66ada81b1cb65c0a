"""The edge on a socket: a cell's streams, and what is served beside them."""

import asyncio
from collections.abc import Callable, Mapping

from edge_server.cell import Cell
from edge_server.credentials import OPEN, Guard
from edge_server.listening import Limits, Listener, Method, listening
from edge_server.record import Event
from edge_server.streams import EdgeService
from protos import edge_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Edge"].full_name


class EdgeServer:
    """A listening edge. `address` is where users find it."""

    def __init__(self, listener: Listener, watching: "asyncio.Task[None]", tell: Callable[[Event], None]):
        self._listener, self._watching, self._tell = listener, watching, tell
        self.address = listener.address

    async def drain(self) -> None:
        """Health checks are told from now on that it is not serving; streams go on."""
        await self._listener.healthy(yes=False)

    async def stop(self, grace: float | None = None) -> None:
        """Ends every stream that is left after `grace` seconds, or at once, and frees the port."""
        self._watching.cancel()
        await self._listener.stop(grace)
        self.account()

    def account(self) -> None:
        """An event where methods were called that nobody serves, before the run's events are over."""
        if calls := self._listener.unknown_calls:
            self._tell({"event": "unknown_calls", "calls": calls})


async def serve(
    cell: Cell,
    host: str,
    port: int = 0,
    guard: Guard = OPEN,
    beside: Mapping[str, Mapping[str, Method]] | None = None,
) -> EdgeServer:
    """Listen for the cell's users on host:port (0: any free port). guard: who they must be. Raises PortTaken.

    beside: methods of other services on the same port, which take as many streams as the users.
    """
    service = EdgeService(cell, guard)
    methods = {"Live": service.live} | ({"Trunk": service.trunk} if cell.plan.trunk else {})
    streams = len(cell.plan.users) * (2 if beside else 1)
    limits = Limits(cell.plan.largest_on_a_stream, streams, cell.plan.patience)
    listener = await listening({SERVICE: methods, **(beside or {})}, guard, host, port, limits)
    return EdgeServer(listener, asyncio.create_task(service.speakers.watch()), cell.tell)
