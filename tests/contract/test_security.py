"""Who may speak on the edge's streams: real sockets, right and wrong secrets, and where secrets must never be found."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import runs
from edge_server.cell import Cell
from edge_server.credentials import ByToken, Guard
from edge_server.plan import RunPlan, UserPlan
from edge_server.service import serve
from protos import LIVE, PROTOCOL, TRUNK
from protos import edge_pb2 as pb
from protos.frames import Parcel, framed
from sim.ray_environment import short_tmp
from sim.runner import RunError
from user_client.credentials import NOTHING, Credentials, Token

SECRET = "a-token-that-nobody-guesses-0123456789"
TREE = runs.kernel(many=3, slots=3)
STEAL = "/equiran.v1.Edge/Steal"
Body = Callable[[str, Cell], Coroutine[Any, Any, None]]


def planned() -> RunPlan:
    sizes: Any = {"l_max": 4.0, "dtype": torch.float64, "feature_shape": (3,), "output_shape": (1,), "batch": 2}
    users = tuple(UserPlan(name=name, validation_batch=0, trainable_front=False, **sizes) for name in "ab")
    return RunPlan("r", rounds=1, slots=1, users=users, patience=5.0, trunk=True)


def served(guard: Guard, body: Body) -> list[dict[str, Any]]:
    """Runs `body` against an edge behind this guard; the events."""
    events: list[dict[str, Any]] = []

    async def go() -> None:
        cell = Cell(planned(), events.append, lambda: False)
        server = await serve(cell, "127.0.0.1", guard=guard)
        try:
            async with asyncio.timeout(20):
                await body(server.address, cell)
        finally:
            await server.stop()

    asyncio.run(go())
    return events


def join(user: str = "a") -> bytes:
    said = pb.Join(protocol=PROTOCOL, run="r", user=user, dtype=pb.FLOAT64, feature_shape=[3], batch=2)
    return pb.UserMessage(join=said).SerializeToString()


async def joined(address: str, credentials: Credentials, user: str = "a", method: str = LIVE) -> tuple[str, str]:
    """How the edge answers a Join: ("OK", "") for a Welcome, else the status that ends the stream, and its details."""
    channel = credentials.channel(address, [("grpc.use_local_subchannel_pool", 1)])
    call = channel.stream_stream(method)()
    try:
        await call.write(join(user) if method == LIVE else next(iter(framed([Parcel(0, join(user))]))))
        data = await call.read()
        return ("OK", "") if isinstance(data, bytes) else (await ended(call))
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return await ended(call)
    finally:
        await channel.close(None)


async def ended(call: Any) -> tuple[str, str]:
    return (await call.code()).name, await call.details() or ""


async def healthy(channel: Any) -> bool:
    """Health checks and reflection answer."""
    reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    listed = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    async for answer in listed:
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING and answer.list_services_response.service)
    return False


def holds(folder: Path, secret: str) -> list[Path]:
    """The files below `folder` in which the secret stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("method", [LIVE, TRUNK, STEAL])
@pytest.mark.parametrize(
    "shown", [NOTHING, Token("wrong-" + SECRET), Token(SECRET[:-1]), Token("")], ids=["none", "wrong", "part", "empty"]
)
def test_without_the_token_nothing_is_read(shown: Credentials, method: str, caplog) -> None:
    async def body(address: str, _cell: Cell) -> None:
        for _ in range(5):
            code, details = await joined(address, shown, method=method)
            assert code == "UNAUTHENTICATED", details
            assert details == "no token, or not the right one"
        async with grpc.aio.insecure_channel(address) as channel:
            assert await healthy(channel)
        if method != STEAL:
            assert await joined(address, Token(SECRET), method=method) == ("OK", "")

    joins = [event for event in served(ByToken(SECRET), body) if event["event"] == "join"]
    assert len(joins) == (method != STEAL), "nobody else came as far as the cell"
    assert SECRET not in caplog.text


def test_two_tokens_are_none() -> None:
    async def body(address: str, _cell: Cell) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            said = (("authorization", f"Bearer {SECRET}"), ("authorization", "Bearer guess"))
            call = channel.stream_stream(LIVE)(metadata=said)  # type: ignore[call-arg]
            assert (await ended(call))[0] == "UNAUTHENTICATED"

    assert served(ByToken(SECRET), body) == []


def test_secrets_are_not_shown_by_what_holds_them() -> None:
    for holder in (ByToken(SECRET), Token(SECRET)):
        assert SECRET not in f"{holder!r} {holder}"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A file that holds SECRET, outside of what runs write."""
    file = tmp_path / "secrets" / "token"
    file.parent.mkdir()
    file.write_text(SECRET + "\n", encoding="ascii")
    return file


def test_a_token_changes_no_bit_and_is_found_nowhere(tmp_path: Path, token: Path, run_on_ray, capfd, caplog) -> None:
    plain = runs.run(tmp_path / "plain", TREE).digest
    tree = {**TREE, "security": {"kind": "token", "file": str(token)}}
    for transport in ("memory", "grpc", "ray"):
        assert run_on_ray(tmp_path / "runs", tree, transport).digest == plain
    assert runs.run(tmp_path / "runs" / "trunk", {**tree, "trunk": True}, "grpc").digest == plain
    assert holds(tmp_path / "runs", str(token)), "the search does find what is there"
    assert not holds(tmp_path / "runs", SECRET)
    for folder in short_tmp_of_ray():
        assert not holds(folder, SECRET)
    told = capfd.readouterr()
    assert SECRET not in told.out + told.err + caplog.text


def short_tmp_of_ray() -> list[Path]:
    """Ray's own folders: logs, sessions."""
    folders = [*Path(short_tmp()).glob("equiran-ray-*")]
    assert folders
    return folders


@pytest.mark.parametrize("where", ["file", "env", None])
def test_every_place_of_a_token_is_a_run(tmp_path: Path, token: Path, monkeypatch, where: str | None) -> None:
    monkeypatch.setenv("EDGE_TOKEN", SECRET)
    places = {"file": {"file": str(token)}, "env": {"env": "EDGE_TOKEN"}, None: {}}
    tree = {**TREE, "security": {"kind": "token", **places[where]}}
    assert runs.run(tmp_path, tree, "grpc").status == "done"
    assert not holds(tmp_path / "grpc", SECRET)


def test_a_failing_run_does_not_tell_its_token(tmp_path: Path, token: Path, monkeypatch) -> None:
    """The token changes between the edge's reading it and the users'."""
    import sim.keys

    class Two:
        def __init__(self, guard: Guard, shown: Credentials):
            self.guard = lambda _address: guard
            self.connections = lambda users: [sim.keys.Connection(range(len(users)), shown)]

    monkeypatch.setattr(sim.local, "keys_of", lambda _scenario: Two(ByToken("another-" + SECRET), Token(SECRET)))
    with pytest.raises(RunError) as caught:
        runs.run(tmp_path, TREE, "grpc")
    assert "UNAUTHENTICATED" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not holds(tmp_path / "grpc", SECRET)


@pytest.mark.parametrize("word", ["", "short", "two words that are long enough", "ünïcödé-" * 4, "x" * 1025])
def test_a_token_that_is_none_is_refused_without_being_shown(tmp_path: Path, token: Path, word: str) -> None:
    token.write_text(word, encoding="utf-8")
    with pytest.raises(Exception, match="holds no token: 16 to 1024 visible ASCII characters") as caught:
        runs.loaded(tmp_path, {**TREE, "security": {"kind": "token", "file": str(token)}})
    assert not word or word not in str(caught.value)
