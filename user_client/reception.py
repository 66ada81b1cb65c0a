"""How users find an edge that stands alone: they introduce themselves until the run is open. A grpc file, as `link`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import SystemRandom
from time import monotonic
from typing import Any, Literal, NamedTuple

import grpc

from protos import LARGEST_INTRODUCTION, RECEPTION
from protos import reception_pb2 as pb
from protos.edge_pb2 import Key
from user_client.credentials import Channel, Credentials
from user_client.link import CUT, FAILURES, open_channel

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two tries to reach the edge, before jitter."""

_LEAST = 1.0
"""Seconds that the last try has at least."""
_HANDSHAKES = 3
"""How often, in a row, TLS may fail: an edge that ends may cut a handshake short."""
_HANDSHAKE = ("handshake", "certificate", "Peer name", "SSL", "TLS")


class TurnedAway(Exception):
    """The edge does not take these users, or not any more; one line."""


class NotThere(Exception):
    """Nobody could be reached; one line."""


@dataclass
class _Ended(Exception):
    """How a stream ended. heard: the edge had answered before."""

    code: grpc.StatusCode
    details: str
    heard: bool


class End(NamedTuple):
    """How a stream beside the run ended, and why, for people.

    over: there is nothing more to keep. again: everybody comes anew. cut: it may go on over another one. failed: the
    run did. refused: these users are not welcome any more.
    """

    kind: Literal["over", "again", "cut", "failed", "refused"]
    why: str = ""


class Beside:
    """The stream that stays open beside the run. terms: of the run."""

    def __init__(self, channel: Channel, call: Any, terms: pb.Terms):
        self._channel, self._call = channel, call
        self.terms = terms

    async def keep(self, keep: Callable[[Key], Awaitable[str]]) -> End:
        """Has `keep` keep the users' state before a slot whenever the edge asks, until the stream ends.

        keep: gives why it could not; empty if it could.
        """
        try:
            while isinstance(data := await self._call.read(), bytes):
                message = pb.FromEdge.FromString(data)
                if message.HasField("again"):
                    return End("again")
                at = message.keep.at
                kept = pb.Kept(at=at, failure=await keep(at))
                await self._call.write(pb.FromUsers(kept=kept).SerializeToString())
        except FAILURES:
            pass  # its status says why
        return await self._end()

    async def _end(self) -> End:
        code, details = await self._call.code(), str(await self._call.details() or "")
        if code is grpc.StatusCode.OK:
            return End("over")
        if code in CUT:
            return End("cut", details)
        if code is grpc.StatusCode.ABORTED:
            return End("failed", details)
        return End("refused", f"{code.name}: {details}")

    async def close(self) -> None:
        """Hangs up."""
        self._call.cancel()
        await self._channel.close(None)


async def introduce(
    address: str, credentials: Credentials, said: pb.Introduction, wait: float, on_wait: Callable[[str], None]
) -> Beside:
    """Returns once the run is open to these users. on_wait: told what the edge waits for.

    Who does not reach the edge, or loses it, tries again for `wait` seconds; then, as long as the edge says that others
    are still to come. Raises NotThere, TurnedAway.
    """
    until, tries = monotonic() + wait, 0
    while True:
        channel, heard, tries = open_channel(address, LARGEST_INTRODUCTION, credentials), True, tries + 1
        try:
            if found := await _once(channel, said, until - monotonic(), on_wait):
                return found
            await channel.close(None)
        except _Ended as ended:
            await channel.close(None)
            heard = ended.heard
            _require_hope(address, ended, wait, tries, late=not heard and monotonic() >= until)
        except BaseException:
            await channel.close(None)
            raise
        if heard:
            until, tries = monotonic() + wait, 1
        await asyncio.sleep(max(0.0, min(_pause(tries), until - monotonic())))


def _pause(tries: int) -> float:
    """Seconds before the next one."""
    most: float = min(_FIRST_PAUSE * 2.0 ** (tries - 1), _LONGEST_PAUSE)
    return most * SystemRandom().uniform(0.5, 1.5)


async def _once(channel: Channel, said: pb.Introduction, wait: float, on_wait: Callable[[str], None]) -> Beside | None:
    """None where the edge says to come again. wait: seconds for its first word. Raises _Ended."""
    call, heard = channel.stream_stream(RECEPTION)(), False
    try:
        async with asyncio.timeout(max(wait, _LEAST)) as patience:
            await call.write(pb.FromUsers(introduction=said).SerializeToString())
            while isinstance(data := await call.read(), bytes):
                heard = True
                patience.reschedule(None)
                message = pb.FromEdge.FromString(data)
                if message.HasField("again"):
                    return None
                if message.HasField("terms"):
                    return Beside(channel, call, message.terms)
                on_wait(message.waiting.whom)
    except TimeoutError:
        raise _Ended(grpc.StatusCode.UNAVAILABLE, "no answer", heard) from None
    except FAILURES:
        pass  # its status says why
    raise _Ended(await call.code(), await call.details() or "no reason given", heard)


def _require_hope(address: str, ended: _Ended, wait: float, tries: int, *, late: bool) -> None:
    """Raises TurnedAway or NotThere, unless it is worth another try. tries: in a row without a word."""
    if ended.code is grpc.StatusCode.UNIMPLEMENTED:
        raise TurnedAway(f"{address} is no edge of `equiran serve`, or one of another version")
    if ended.code not in CUT:
        raise TurnedAway(f"the edge at {address} says {ended.code.name}: {ended.details}")
    if (late or tries >= _HANDSHAKES) and any(word in ended.details for word in _HANDSHAKE):
        told = "is `security` the same on both sides, and are the certificates of one authority?"
        raise NotThere(f"no TLS with {address}: {ended.details}; {told}")
    if late:
        told = "is `equiran serve` running there, with the same `security`?"
        raise NotThere(f"no edge at {address} within {wait:g} s: {ended.details}; {told}")
