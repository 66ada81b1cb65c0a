"""The edge as seen from a user, over a socket. The only grpc file here."""

from typing import Any

import grpc

from protos import LIVE
from user_client.session import Session

_OVERTAKEN = "Internal error from Core"
"""What gRPC says, in place of the edge's own status, of a stream that ends while the user writes onto it."""


class LinkBroken(Exception):
    """The stream to the edge ended before the run did."""


class StatusLost(LinkBroken):
    """The edge ended the stream while the user was speaking: gRPC keeps the write's failure, not the edge's reason."""


def open_channel(address: str, largest_message: int) -> grpc.aio.Channel:
    """A channel to the edge at host:port; many users may share it. largest_message: in bytes, either way."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", largest_message),
            ("grpc.max_send_message_length", largest_message),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ],
    )


async def live(session: Session, channel: grpc.aio.Channel) -> None:
    """One user's life: join, answer the edge until it says goodbye. Raises LinkBroken, or what the user raises."""
    call: Any = channel.stream_stream(LIVE)()  # type: ignore[call-arg]  # stubs know no raw bytes
    try:
        await call.write(session.join())
        while not session.done:
            data = await call.read()
            if not isinstance(data, bytes):
                raise await _broken(session.name, call)
            for answer in session.react(data):
                await call.write(answer)
        await call.done_writing()
        await call.read()
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
        raise await _broken(session.name, call) from error
    finally:
        call.cancel()


async def _broken(name: str, call: Any) -> LinkBroken:
    """The error for the status that ended the stream, in one line."""
    code, details = await call.code(), await call.details()
    if details == _OVERTAKEN:
        return StatusLost(f"user {name!r}: the edge ended the stream while the user was speaking; the edge knows why")
    return LinkBroken(f"user {name!r}: the edge ended the stream with {code.name}: {details or 'no reason given'}")
