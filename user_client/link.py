"""The edge as seen from a user, over a socket. With `credentials`, the only grpc file here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from protos import KEEPALIVE, LIVE, TRUNK
from protos.frames import Parcel, framed, opened
from user_client.credentials import NOTHING, Channel, Credentials
from user_client.session import Session
from user_client.together import Message, Turn, react_together

OVERTAKEN = "Internal error from Core"
"""What gRPC says, in place of the edge's own status, of a stream that ends while the user writes onto it."""
CUT = frozenset(
    (
        grpc.StatusCode.OK,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    )
)
"""What a stream ends with that was cut, or whose edge went away, before goodbye."""
_BACKOFF, _LONGEST = 0.05, 20.0
"""Seconds, at most, before the first attempt to come back, and before any."""
_FIRST = 3.0
"""Seconds to try to reach an edge that has not said a word yet."""
_RECONNECTING = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 5_000))
FAILURES = (grpc.aio.AioRpcError, grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)
"""What gRPC raises on a stream that has ended."""


class LinkBroken(Exception):
    """The stream to the edge ended before the run did."""


class StreamCut(LinkBroken):
    """The conversation may go on over another stream."""


class StatusLost(StreamCut):
    """The edge ended the stream while the user was speaking: gRPC keeps the write's failure, not the edge's reason."""


def open_channel(address: str, largest_message: int, credentials: Credentials = NOTHING) -> Channel:
    """A channel to the edge at host:port; users with the same credentials may share it.

    largest_message: in bytes, either way.
    """
    return credentials.channel(
        address,
        [
            ("grpc.max_receive_message_length", largest_message),
            ("grpc.max_send_message_length", largest_message),
            *KEEPALIVE,
            *_RECONNECTING,
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ],
    )


async def live(session: Session, channel: Channel, turn: Turn, patience: float) -> None:
    """One user's life: join, answer the edge until it says goodbye; where a stream is cut, go on over another one.

    turn: shared by the users of a host. patience: seconds to try to come back. Raises LinkBroken, or what the user
    raises.
    """

    def heard() -> int:
        return session.heard

    while not session.done:
        await _again(lambda: _converse(session, channel, turn), heard, patience)


async def carry(sessions: Sequence[Session], channel: Channel, largest_message: int, patience: float) -> None:
    """The lives of a host's users on one stream, as `live`. Raises LinkBroken, or UserFailed."""

    def heard() -> int:
        return sum(session.heard for session in sessions)

    while not all(session.done for session in sessions):
        await _again(lambda: _converse_all(sessions, channel, largest_message), heard, patience)


async def _again(converse: Callable[[], Awaitable[None]], heard: Callable[[], int], patience: float) -> None:
    """A conversation, tried again after a while until something was `heard` in it. Raises LinkBroken, and what it does.

    Before the very first word it is not tried for long: there may be no edge.
    """
    before = heard()
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(StreamCut),
        stop=stop_after_delay(patience if before else min(patience, _FIRST)),
        wait=wait_random_exponential(multiplier=_BACKOFF, max=_LONGEST),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            try:
                await converse()
            except StreamCut:
                if heard() == before:
                    raise


async def _converse(session: Session, channel: Channel, turn: Turn) -> None:
    async with _stream(channel, LIVE, session.name) as call:
        await call.write(session.join())
        while not session.done:
            data = await call.read()
            if not isinstance(data, bytes):
                raise await _broken(session.name, call)
            answers = await turn.answers(session, data) if session.together else session.react(data)
            await _write(call, answers)
        await call.done_writing()
        await call.read()


async def _converse_all(sessions: Sequence[Session], channel: Channel, largest_message: int) -> None:
    names = sessions[0].name if len(sessions) == 1 else f"{sessions[0].name} to {sessions[-1].name}"
    async with _stream(channel, TRUNK, names) as call:
        joins = [Parcel(seat, session.join()) for seat, session in enumerate(sessions) if not session.done]
        await _write(call, framed(joins))
        while not all(session.done for session in sessions):
            data = await call.read()
            if not isinstance(data, bytes):
                raise await _broken(names, call)
            await _write(call, framed(_answered(sessions, opened(data, largest_message))))
        await call.done_writing()
        await call.read()


@asynccontextmanager
async def _stream(channel: Channel, method: str, names: str) -> AsyncIterator[Any]:
    """A stream of `method`, ended on leaving. Raises LinkBroken for what gRPC raises inside."""
    call: Any = channel.stream_stream(method)()
    try:
        yield call
    except FAILURES as error:
        raise await _broken(names, call) from error
    finally:
        call.cancel()


async def _write(call: Any, messages: Iterable[bytes]) -> None:
    """Messages as they are made; where the stream is cut, the rest is made all the same, to be said on the next one."""
    waiting = iter(messages)
    for message in waiting:
        try:
            await call.write(message)
        except FAILURES:
            for _ in waiting:
                pass
            raise


def _answered(sessions: Sequence[Session], parcels: Sequence[Parcel]) -> list[Parcel]:
    """What the users in the parcels' seats answer."""
    answers = react_together([Message(sessions[seat], data) for seat, data in parcels])
    return [Parcel(seat, answer) for (seat, _), given in zip(parcels, answers, strict=True) for answer in given]


async def _broken(name: str, call: Any) -> LinkBroken:
    """The error for the status that ended the stream, in one line."""
    code, details = await call.code(), await call.details()
    if details == OVERTAKEN:
        return StatusLost(f"user {name!r}: the edge ended the stream while the user was speaking; the edge knows why")
    kind = StreamCut if code in CUT else LinkBroken
    return kind(f"user {name!r}: the edge ended the stream with {code.name}: {details or 'no reason given'}")
