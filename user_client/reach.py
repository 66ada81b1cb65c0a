"""Whether there is anybody at the edge's address, said before a stream is opened: gRPC waits long and says much."""

import asyncio
import contextlib
import socket

_WAIT = 4.0
"""Seconds for the name, and for the connection, together."""


class Unreachable(Exception):
    """Nobody can be reached at the address of the edge; one line."""


async def require_reachable(address: str) -> None:
    """Connects to host:port once. Raises Unreachable, within 5 seconds."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise Unreachable(f"no edge at {address!r}: an address is host:port, for example 192.168.1.5:50051")
    try:
        async with asyncio.timeout(_WAIT):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except socket.gaierror as error:
        raise Unreachable(
            f"no edge at {address}: there is no host {host!r} ({error.strerror}); check its name"
        ) from error
    except TimeoutError as error:
        hint = "check the address, and what filters packets on the way"
        raise Unreachable(f"no edge at {address}: no answer within {_WAIT:g} s; {hint}") from error
    except OSError as error:
        hint = "check host and port, and that the edge is running"
        raise Unreachable(f"no edge at {address}: {error.strerror or error}; {hint}") from error
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
