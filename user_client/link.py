"""The edge as seen from a user, over a socket. The only grpc file here."""

from typing import Any

import grpc

from protos import LIVE
from user_client.session import Session


class LinkBroken(Exception):
    """The stream to the edge ended before the run did."""


def open_channel(address: str, largest_message: int) -> grpc.aio.Channel:
    """A channel to the edge at host:port; many users may share it. largest_message: in bytes, either way."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", largest_message),
            ("grpc.max_send_message_length", largest_message),
            ("grpc.use_local_subchannel_pool", 1),
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
                raise LinkBroken(f"user {session.name!r}: {await _reason(call)}")
            for answer in session.react(data):
                await call.write(answer)
        await call.done_writing()
        await call.read()
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
        raise LinkBroken(f"user {session.name!r}: {await _reason(call)}") from error
    finally:
        call.cancel()


async def _reason(call: Any) -> str:
    """The status that ended the stream, in one line."""
    code = await call.code()
    return f"the edge ended the stream with {code.name}: {await call.details() or 'no reason given'}"
