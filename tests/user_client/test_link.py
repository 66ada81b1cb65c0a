"""A user on a real socket, against an edge that a test plays: goodbye, broken streams, no edge at all."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from protos import LIVE
from user_client.link import LinkBroken, StatusLost, live, open_channel
from user_client.together import Turn


class Echoing:
    """A session that answers `ping` with `pong`, `pair` with two, says nothing to `hush`, and is done at `bye`."""

    name = "a"
    done = False
    together = False

    def __init__(self) -> None:
        self.read: list[bytes] = []

    @property
    def heard(self) -> int:
        return len(self.read)

    def join(self) -> bytes:
        return b"join"

    def react(self, data: bytes) -> Iterator[bytes]:
        self.read.append(data)
        self.done = data == b"bye"
        if data == b"boom":
            raise ValueError("the user's own code")
        yield from {b"ping": [b"pong"], b"pair": [b"one", b"two"]}.get(data, [])


Play = Callable[[Any, grpc.aio.ServicerContext], Any]


def conversation(
    play: Callable[[Any, grpc.aio.ServicerContext], Any],
    session: Echoing,
    limit: int = 1 << 20,
    patience: float = 5,
    turn: Turn | None = None,
) -> None:
    async def go() -> None:
        service, _, method = LIVE[1:].partition("/")
        handler = grpc.stream_stream_rpc_method_handler(play)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = open_channel(f"127.0.0.1:{port}", limit)
        try:
            async with asyncio.timeout(10):
                await live(session, channel, turn or Turn(), patience)  # type: ignore[arg-type]
        finally:
            await channel.close()
            await server.stop(None)

    asyncio.run(go())


def test_it_joins_answers_and_leaves_at_goodbye() -> None:
    read: list[bytes] = []

    async def play(_: Any, context: grpc.aio.ServicerContext) -> None:
        read.append(await context.read())
        for message in (b"hush", b"ping", b"pair", b"bye"):
            await context.write(message)
        read.extend([await context.read() for _ in range(4)])

    session = Echoing()
    conversation(play, session)
    assert session.read == [b"hush", b"ping", b"pair", b"bye"]
    assert read == [b"join", b"pong", b"one", b"two", grpc.aio.EOF]


def test_a_refusal_is_named_with_its_status_and_reason() -> None:
    async def play(_: Any, context: grpc.aio.ServicerContext) -> None:
        await context.read()
        await context.abort(grpc.StatusCode.NOT_FOUND, "no user 'a' in this scenario")

    with pytest.raises(LinkBroken, match=r"^user 'a': the edge ended the stream with NOT_FOUND: no user 'a' in this"):
        conversation(play, Echoing())


def test_a_stream_that_ends_while_the_user_speaks_points_at_the_edge() -> None:
    """As a rule gRPC tells a writer that its write failed, not why the stream ended; now and then it tells why."""

    class Talking(Echoing):
        def react(self, data: bytes) -> Iterator[bytes]:
            yield from (bytes(1000) for _ in range(100_000))

    async def play(_: Any, context: grpc.aio.ServicerContext) -> None:
        await context.read()
        await context.write(b"talk")
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "enough")

    class Deaf(Talking):
        heard = 0

    with pytest.raises(LinkBroken, match=r"^user 'a': the edge ended the stream ") as caught:
        conversation(play, Deaf())
    if isinstance(caught.value, StatusLost):
        assert str(caught.value).endswith("while the user was speaking; the edge knows why")
    else:
        assert str(caught.value).endswith("with FAILED_PRECONDITION: enough")


def test_an_edge_that_hangs_up_for_ever_costs_patience() -> None:
    joins: list[bytes] = []

    async def play(_: Any, context: grpc.aio.ServicerContext) -> None:
        joins.append(await context.read())
        if len(joins) == 1:
            await context.write(b"hush")

    with pytest.raises(LinkBroken, match=r"^user 'a': the edge ended the stream with OK: no reason given$"):
        conversation(play, Echoing(), patience=0.5)
    assert len(joins) > 2


def test_a_stream_that_is_cut_is_opened_again() -> None:
    joins: list[bytes] = []

    async def play(_: Any, context: grpc.aio.ServicerContext) -> None:
        joins.append(await context.read())
        await context.write(b"hush" if len(joins) < 3 else b"bye")
        if len(joins) < 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone for a moment")
        await context.read()

    session = Echoing()
    conversation(play, session)
    assert session.read == [b"hush", b"hush", b"bye"]


def test_a_stream_that_ended_before_the_answer_was_ready_is_opened_again() -> None:
    """gRPC has a way of its own to say that it knew before the write."""
    joins: list[bytes] = []

    class Slow(Turn):
        async def answers(self, session: Any, data: bytes) -> list[bytes]:
            await asyncio.sleep(0.3)
            return [*session.react(data)]

    async def play(_: Any, context: grpc.aio.ServicerContext) -> None:
        joins.append(await context.read())
        await context.write(b"ping" if len(joins) == 1 else b"bye")
        if len(joins) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone for a moment")
        await context.read()

    session = Echoing()
    session.together = True
    conversation(play, session, turn=Slow())
    assert session.read == [b"ping", b"bye"]


def test_a_user_that_is_refused_does_not_come_back() -> None:
    joins: list[bytes] = []

    async def play(_: Any, context: grpc.aio.ServicerContext) -> None:
        joins.append(await context.read())
        await context.write(b"hush")
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "stale epoch")

    with pytest.raises(LinkBroken, match="FAILED_PRECONDITION: stale epoch"):
        conversation(play, Echoing())
    assert len(joins) == 1


def test_what_the_user_raises_goes_up_and_the_edge_sees_the_stream_end() -> None:
    ended = asyncio.Event()

    async def play(_: Any, context: grpc.aio.ServicerContext) -> None:
        await context.read()
        await context.write(b"boom")
        try:
            await context.read()
        finally:
            ended.set()

    with pytest.raises(ValueError, match="the user's own code"):
        conversation(play, Echoing())
    assert ended.is_set()


def test_a_message_over_the_limit_is_a_broken_link() -> None:
    async def play(_: Any, context: grpc.aio.ServicerContext) -> None:
        await context.read()
        await context.write(b"x" * 2000)
        await context.read()

    with pytest.raises(LinkBroken, match="RESOURCE_EXHAUSTED"):
        conversation(play, Echoing(), limit=1000)


def test_no_edge_there_is_a_broken_link() -> None:
    async def go() -> None:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            channel = open_channel(f"127.0.0.1:{unheard.getsockname()[1]}", 1 << 20)
            with pytest.raises(LinkBroken, match=r"^user 'a': the edge ended the stream with UNAVAILABLE: "):
                async with asyncio.timeout(20):
                    await live(Echoing(), channel, Turn(), 5)  # type: ignore[arg-type]
            await channel.close()

    asyncio.run(go())
