"""The edge as seen from a user, over a socket. With `credentials`, the only grpc file here."""

from collections.abc import Sequence
from typing import Any

import grpc

from protos import KEEPALIVE, LIVE, TRUNK
from protos.frames import Parcel, framed, opened
from user_client.credentials import NOTHING, Channel, Credentials
from user_client.session import Session
from user_client.together import Message, Turn, react_together

_OVERTAKEN = "Internal error from Core"
"""What gRPC says, in place of the edge's own status, of a stream that ends while the user writes onto it."""


class LinkBroken(Exception):
    """The stream to the edge ended before the run did."""


class StatusLost(LinkBroken):
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
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ],
    )


async def live(session: Session, channel: Channel, turn: Turn) -> None:
    """One user's life: join, answer the edge until it says goodbye. Raises LinkBroken, or what the user raises.

    turn: shared by the users of a host.
    """
    call: Any = channel.stream_stream(LIVE)()
    try:
        await call.write(session.join())
        while not session.done:
            data = await call.read()
            if not isinstance(data, bytes):
                raise await _broken(session.name, call)
            for answer in await turn.answers(session, data) if session.together else session.react(data):
                await call.write(answer)
        await call.done_writing()
        await call.read()
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
        raise await _broken(session.name, call) from error
    finally:
        call.cancel()


async def carry(sessions: Sequence[Session], channel: Channel, largest_message: int) -> None:
    """The lives of a host's users on one stream. Raises LinkBroken, or UserFailed from what a user raised."""
    call: Any = channel.stream_stream(TRUNK)()
    names = sessions[0].name if len(sessions) == 1 else f"{sessions[0].name} to {sessions[-1].name}"
    try:
        await _write(call, [Parcel(seat, session.join()) for seat, session in enumerate(sessions)])
        while not all(session.done for session in sessions):
            data = await call.read()
            if not isinstance(data, bytes):
                raise await _broken(names, call)
            await _write(call, _answered(sessions, opened(data, largest_message)))
        await call.done_writing()
        await call.read()
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
        raise await _broken(names, call) from error
    finally:
        call.cancel()


async def _write(call: Any, parcels: list[Parcel]) -> None:
    for frame in framed(parcels):
        await call.write(frame)


def _answered(sessions: Sequence[Session], parcels: Sequence[Parcel]) -> list[Parcel]:
    """What the users in the parcels' seats answer."""
    answers = react_together([Message(sessions[seat], data) for seat, data in parcels])
    return [Parcel(seat, answer) for (seat, _), given in zip(parcels, answers, strict=True) for answer in given]


async def _broken(name: str, call: Any) -> LinkBroken:
    """The error for the status that ended the stream, in one line."""
    code, details = await call.code(), await call.details()
    if details == _OVERTAKEN:
        return StatusLost(f"user {name!r}: the edge ended the stream while the user was speaking; the edge knows why")
    return LinkBroken(f"user {name!r}: the edge ended the stream with {code.name}: {details or 'no reason given'}")
