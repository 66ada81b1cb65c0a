"""The edge on a real socket: who is let in, who is turned away with which status, health, reflection, limits."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edge_server.attendance import Refused
from edge_server.cell import Cell
from edge_server.credentials import OPEN
from edge_server.judge import RunFailed
from edge_server.listening import Context, Limits, PortTaken, listening
from edge_server.messages import require_hash
from edge_server.plan import RunPlan, UserPlan
from edge_server.service import EdgeServer, serve
from protos import LIVE, PROTOCOL, TRUNK
from protos import edge_pb2 as pb
from siege import raw

USER = {"l_max": 4.0, "dtype": torch.float64, "feature_shape": (3,), "output_shape": (1,), "batch": 2}
JOIN = {"protocol": PROTOCOL, "run": "r", "user": "a", "dtype": pb.FLOAT64, "feature_shape": [3], "batch": 2}
Body = Callable[[str, Cell], Coroutine[Any, Any, None]]


def plan(*names: str, **changes: Any) -> RunPlan:
    users = [UserPlan(name=name, validation_batch=0, trainable_front=False, **USER) for name in names]
    return RunPlan("r", rounds=1, slots=1, users=tuple(users), **{"patience": 5.0, **changes})


def served(body: Body, *names: str, **changes: Any) -> list[dict]:
    """Runs `body` against a listening edge; the events."""
    events: list[dict] = []

    async def go() -> None:
        cell = Cell(plan(*(names or ("a", "b")), **changes), events.append, lambda: False)
        server = await serve(cell, "127.0.0.1")
        try:
            async with asyncio.timeout(20):
                await body(server.address, cell)
        finally:
            await server.stop()

    asyncio.run(go())
    return events


def join(**changes: Any) -> bytes:
    return pb.UserMessage(join=pb.Join(**{**JOIN, **changes})).SerializeToString()


async def answer(address: str, *messages: bytes, options: Any = (), **call: Any) -> pb.EdgeMessage:
    """The last answer to `messages` on a stream of their own. Raises AioRpcError with the status that ended it."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1), *options]) as channel:
        stream: Any = channel.stream_stream(LIVE)(**call)
        data = b""
        for message in messages:
            await stream.write(message)
            data = await stream.read()
            if not isinstance(data, bytes):
                await stream.read()
        return pb.EdgeMessage.FromString(data)


def status(*messages: bytes, options: Any = (), **call: Any) -> tuple[str, str]:
    ended: list[tuple[str, str]] = []

    async def body(address: str, _cell: Cell) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(address, *messages, options=options, **call)
        ended.append((caught.value.code().name, caught.value.details() or ""))
        assert (await answer(address, join(user="b"))).HasField("welcome"), "a healthy user is served right after"

    served(body)
    return ended[0]


def test_a_user_is_welcomed_with_the_sizes_of_the_run() -> None:
    async def body(address: str, _cell: Cell) -> None:
        welcome = (await answer(address, join())).welcome
        assert (welcome.protocol, welcome.rounds, welcome.slots, [*welcome.output_shape]) == (PROTOCOL, 1, 1, [1])
        assert welcome.next == pb.Next(ask=pb.Next.FEATURES, key=pb.Key(round=0, slot=0))

    assert served(body)[0]["event"] == "join"


def test_nothing_rides_with_a_join() -> None:
    both = pb.UserMessage.FromString(join())
    both.ahead.key.slot = 1
    assert status(both.SerializeToString()) == ("INVALID_ARGUMENT", "user 'a' sent features beside its Join")


def test_more_users_than_grpc_lets_wait_by_default_come_at_once() -> None:
    """Left to itself gRPC cancels streams beyond the thousandth that nobody has taken up."""
    names = [f"u{k}" for k in range(2000)]

    async def body(address: str, _cell: Cell) -> None:
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            streams: list[Any] = [channel.stream_stream(LIVE)() for _ in names]
            await asyncio.gather(*(s.write(join(user=name)) for s, name in zip(streams, names, strict=True)))
            welcomes = await asyncio.gather(*(s.read() for s in streams))
            assert all(pb.EdgeMessage.FromString(data).HasField("welcome") for data in welcomes)

    assert len(served(body, *names)) >= len(names)


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"protocol": 1}, "FAILED_PRECONDITION", "protocol 1, but this edge speaks 3"),
        ({"run": "other"}, "NOT_FOUND", "run 'other' is not served here"),
        ({"user": "mallory"}, "NOT_FOUND", "no user 'mallory' in this scenario"),
        ({"batch": 3}, "INVALID_ARGUMENT", "user 'a' has batch 3, but the scenario says 2"),
        (
            {"feature_shape": [2, 3]},
            "INVALID_ARGUMENT",
            "user 'a' has feature_shape (2, 3), but the scenario says (3,)",
        ),
        ({"dtype": pb.FLOAT32}, "INVALID_ARGUMENT", "user 'a' has dtype 1, but the scenario says 2"),
        ({"validation_batch": 9}, "INVALID_ARGUMENT", "user 'a' has validation_batch 9, but the scenario says 0"),
        (
            {"wants_feature_gradient": True},
            "INVALID_ARGUMENT",
            "wants_feature_gradient True, but the scenario says False",
        ),
    ],
)
def test_who_may_not_join_is_told_why(changes: dict, code: str, said: str) -> None:
    got, reason = status(join(**changes))
    assert got == code
    assert said in reason


def test_a_second_user_of_the_same_name_is_refused_and_the_first_lives_on() -> None:
    async def body(address: str, cell: Cell) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            first: Any = channel.stream_stream(LIVE)()
            await first.write(join())
            assert isinstance(await first.read(), bytes)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answer(address, join())
            assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
            assert cell.waiting.failure is None

    served(body)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\xff\xff\xff", "INVALID_ARGUMENT"),
        (pb.UserMessage().SerializeToString(), "FAILED_PRECONDITION"),
        (pb.UserMessage(leave=pb.Leave()).SerializeToString(), "FAILED_PRECONDITION"),
    ],
    ids=["no protobuf", "empty", "no join"],
)
def test_a_stream_that_does_not_start_with_join_ends(message: bytes, code: str) -> None:
    assert status(message)[0] == code


@pytest.mark.parametrize(
    "second",
    [b"\xff\xff", join(), pb.UserMessage(feedback=pb.Feedback()).SerializeToString()],
    ids=["noise", "join", "early"],
)
def test_nonsense_after_join_ends_the_stream_and_the_run(second: bytes) -> None:
    async def body(address: str, cell: Cell) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await answer(address, join(), second)
        with pytest.raises(RunFailed, match="user 'a' was lost in round 0, slot 0: "):
            await cell.features(0, 0)

    events = served(body)
    assert [event["event"] for event in events] == ["join", "lost"]


@pytest.mark.parametrize("size", [0, 31, 33, 4000])
def test_only_a_hash_fits_into_leave(size: int) -> None:
    require_hash(pb.Leave(parameters_sha256=bytes(32)))
    with pytest.raises(Refused, match=f"has {size} bytes, a SHA-256 has 32"):
        require_hash(pb.Leave(parameters_sha256=bytes(size)))


def test_a_message_over_the_cap_is_refused_and_one_at_the_cap_is_not() -> None:
    cap = plan("a").largest_message
    assert status(join() + b"\0" * (cap + 1))[0] == "RESOURCE_EXHAUSTED"
    unknown = cap - len(join())
    header = 4  # an unknown field, 1000, of bytes: two bytes of tag, two of length
    padded = join() + b"\xc2\x3e" + bytes([(unknown - header) & 0x7F | 0x80, (unknown - header) >> 7])
    padded += b"\0" * (cap - len(padded))
    assert len(padded) == cap

    async def body(address: str, _cell: Cell) -> None:
        assert (await answer(address, padded)).HasField("welcome")

    served(body)


def test_a_compressed_message_is_refused() -> None:
    """UNIMPLEMENTED, unless the end of the connection overtakes it; the cell never sees the message."""
    codes: list[str] = []

    async def body(address: str, _cell: Cell) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(address, join(), compression=grpc.Compression.Gzip)
        codes.append(caught.value.code().name)

    while "UNIMPLEMENTED" not in codes and len(codes) < 20:
        assert served(body) == [], "nobody joined"
    assert codes[-1] == "UNIMPLEMENTED"
    assert set(codes[:-1]) <= {"INTERNAL"}


def test_health_and_reflection_answer() -> None:
    async def body(address: str, _cell: Cell) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for name in ("", "equiran.v1.Edge"):
                reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
                assert reply.status == health_pb2.HealthCheckResponse.SERVING
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            async for reply in stub.ServerReflectionInfo(iter([request])):
                names = {service.name for service in reply.list_services_response.service}
                assert {"equiran.v1.Edge", "grpc.health.v1.Health"} <= names
                break

    served(body)


def test_a_method_that_is_not_there_is_unimplemented_and_counted() -> None:
    async def body(address: str, _cell: Cell) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/equiran.v1.Edge/Steal")(b"")  # type: ignore[call-arg]
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            health = health_pb2_grpc.HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == 1, "what is served is not counted"

    assert served(body) == [{"event": "unknown_calls", "calls": 1}]


@pytest.mark.parametrize("method", [LIVE, TRUNK])
def test_a_stream_that_joins_nothing_ends_after_patience(method: str) -> None:
    async def body(address: str, cell: Cell) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            stream: Any = channel.stream_stream(method)()
            assert await stream.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await stream.details() == "no Join within patience (0.5 s)"
        assert (await answer(address, join())).HasField("welcome")

    served(body, patience=0.5, trunk=True)


def test_a_connection_without_a_stream_is_closed_after_patience() -> None:
    async def body(address: str, _cell: Cell) -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(raw.HELLO)
        async with asyncio.timeout(10):
            while await reader.read(1000):
                pass
        writer.close()

    served(body, patience=1.0)


def test_a_taken_port_is_one_line() -> None:
    async def body(address: str, cell: Cell) -> None:
        host, _, port = address.rpartition(":")
        with pytest.raises(PortTaken, match=rf"^cannot listen on {address}: the port is taken or the address is not"):
            await serve(cell, host, int(port))
        with pytest.raises(PortTaken, match=r"cannot listen on 203\.0\.113\.7:0"):
            await serve(cell, "203.0.113.7")

    served(body)


def test_the_port_is_free_again_after_stop() -> None:
    async def go() -> None:
        cell = Cell(plan("a"), lambda _event: None, lambda: False)
        first = await serve(cell, "127.0.0.1")
        host, _, port = first.address.rpartition(":")
        await first.stop()
        second: EdgeServer = await serve(cell, host, int(port))
        await second.stop()

    asyncio.run(go())


def test_no_call_outlives_the_server(capfd: pytest.CaptureFixture[str]) -> None:
    """Else gRPC prints where the event loop's end has met it."""
    begun, ended = asyncio.Event(), list[bool]()

    async def lingers(_: object, __: Context) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            ended.append(True)

    async def go() -> None:
        listener = await listening({"s": {"Live": lingers}}, OPEN, "127.0.0.1", 0, Limits(1000, 1, 5.0))
        async with grpc.aio.insecure_channel(listener.address) as channel:
            call: Any = channel.stream_stream("/s/Live")()
            await call.write(b"")
            await asyncio.wait_for(begun.wait(), 10)
            await listener.stop()

    asyncio.run(go())
    assert ended == [True]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("count", [129, 300])
def test_every_user_of_the_scenario_has_a_stream_at_once_on_one_channel(count: int) -> None:
    names = [f"u{k}" for k in range(count)]

    async def body(address: str, _cell: Cell) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            streams: list[Any] = [channel.stream_stream(LIVE)() for _ in names]
            for name, stream in zip(names, streams, strict=True):
                await stream.write(join(user=name))
            replies = await asyncio.gather(*(stream.read() for stream in streams))
            assert all(pb.EdgeMessage.FromString(reply).HasField("welcome") for reply in replies)

    events = served(body, *names)
    assert sorted(event["user"] for event in events if event["event"] == "join") == sorted(names)
