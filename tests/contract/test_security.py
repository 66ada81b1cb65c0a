"""Who may speak on the edge's streams: real sockets, right and wrong secrets, and where secrets must never be found."""

import asyncio
import os
import stat
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from typer.testing import CliRunner

import runs
from edge_server.cell import Cell
from edge_server.credentials import ByCertificate, ByToken, Guard, fingerprint
from edge_server.plan import RunPlan, UserPlan
from edge_server.service import serve
from protos import LIVE, PROTOCOL, TRUNK
from protos import edge_pb2 as pb
from protos.frames import Parcel, framed
from sim.caller import BadScenario, RunError
from sim.certificate_folder import issue
from sim.certificates import Authority, Pair
from sim.certs import certs
from sim.litter import short_tmp
from sim.scenario import ScenarioErrors
from user_client.credentials import NOTHING, Certificate, Credentials, Token
from user_client.link import OVERTAKEN

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
    """How the edge answers a Join: ("OK", "") for a Welcome, else the status that ends the stream, and its details.

    Where the end of the stream overtakes them it asks again, as a user does.
    """
    for _ in range(20):
        told = await _joined(address, credentials, user, method)
        if told[1] != OVERTAKEN:
            break
    return told


async def _joined(address: str, credentials: Credentials, user: str, method: str) -> tuple[str, str]:
    channel = credentials.channel(address, [("grpc.use_local_subchannel_pool", 1)])
    call = channel.stream_stream(method)()
    try:
        await call.write(join(user) if method == LIVE else next(iter(framed([Parcel(0, join(user))]))))
        data = await call.read()
        return ("OK", "") if isinstance(data, bytes) else (await ended(call))
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, grpc.aio.InternalError):
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
    tree = {**TREE, "security": {"kind": "token", "file": str(token)}, "hosts": 1}
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

    monkeypatch.setattr(sim.local, "keys_of", lambda _security: Two(ByToken("another-" + SECRET), Token(SECRET)))
    with pytest.raises(RunError) as caught:
        runs.run(tmp_path, TREE, "grpc")
    assert "UNAUTHENTICATED" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not holds(tmp_path / "grpc", SECRET)


@pytest.mark.parametrize("word", ["", "short", "two words that are long enough", "ünïcödé-" * 4, "x" * 1025])
def test_a_token_that_is_none_is_refused_without_being_shown(tmp_path: Path, token: Path, word: str) -> None:
    token.write_text(word, encoding="utf-8")
    with pytest.raises(ScenarioErrors, match="holds no token: 16 to 1024 visible ASCII characters") as caught:
        runs.loaded(tmp_path, {**TREE, "security": {"kind": "token", "file": str(token)}})
    assert not word or word not in str(caught.value)


# ---------------------------------------------------------------- certificates

OURS, THEIRS = Authority.create(), Authority.create()
LONG_AGO = datetime.now(UTC) - timedelta(days=366)


def by_certificate(pair: Pair | None = None, revoked: Path | None = None) -> ByCertificate:
    return ByCertificate(OURS.pair.chain, *(pair or OURS.edge(["127.0.0.1"])), revoked and str(revoked))


def shows(pair: Pair, authority: Authority = OURS) -> Certificate:
    return Certificate(authority.pair.chain, *pair)


class NoCertificate:
    """TLS, and nothing to say who one is."""

    def channel(self, address: str, options: Any) -> Any:
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(OURS.pair.chain.encode()), options=options)


ALICE = OURS.speaker("a", ["a"])
STRANGERS: dict[str, Credentials] = {
    "plain text": NOTHING,
    "a token": Token(SECRET),
    "no certificate": NoCertificate(),
    "another authority": Certificate(OURS.pair.chain, *THEIRS.speaker("a", ["a"])),
    "expired": shows(OURS.speaker("a", ["a"], since=LONG_AGO)),
    "not yet good": shows(OURS.speaker("a", ["a"], since=datetime.now(UTC) + timedelta(days=1))),
    "an edge's": shows(OURS.edge(["127.0.0.1"])),
}


@pytest.mark.parametrize("shown", STRANGERS.values(), ids=STRANGERS)
def test_without_a_good_certificate_nothing_is_heard(shown: Credentials) -> None:
    async def body(address: str, _cell: Cell) -> None:
        for user in "ab":
            assert (await joined(address, shown, user))[0] == "UNAVAILABLE"
            assert (await joined(address, shown, user, TRUNK))[0] == "UNAVAILABLE"
        assert await joined(address, shows(ALICE)) == ("OK", "")

    assert [event["user"] for event in served(by_certificate(), body) if event["event"] == "join"] == ["a"]


@pytest.mark.parametrize(
    "pair",
    [THEIRS.edge(["127.0.0.1"]), OURS.edge(["10.1.2.3", "localhost"]), ALICE],
    ids=["another authority", "another address", "a user's"],
)
def test_a_user_does_not_speak_to_an_edge_that_is_not_the_one(pair: Pair) -> None:
    async def body(address: str, _cell: Cell) -> None:
        assert (await joined(address, shows(ALICE)))[0] == "UNAVAILABLE"

    assert served(by_certificate(pair), body) == []


@pytest.mark.parametrize("method", [LIVE, TRUNK])
def test_a_certificate_speaks_for_whom_it_names_alone(method: str) -> None:
    async def body(address: str, _cell: Cell) -> None:
        for _ in range(5):
            code, details = await joined(address, shows(ALICE), "b", method)
            assert (code, details) == ("PERMISSION_DENIED", "the certificate of 'a' does not speak for user 'b'")
        both = shows(OURS.speaker("rack", ["b", "a", "c", "d"]))
        code, details = await joined(address, both, "e", method)
        assert (code, details) == (
            "PERMISSION_DENIED",
            "the certificate of 'a', 'b', 'c' and 1 more does not speak for user 'e'",
        )
        assert await joined(address, both, "b", method) == ("OK", "")

    assert [event["user"] for event in served(by_certificate(), body) if event["event"] == "join"] == ["b"]


def test_a_revoked_user_is_put_out_and_not_let_in_again(tmp_path: Path) -> None:
    revoked = tmp_path / "revoked.txt"
    revoked.write_text("# nobody yet\n")
    bob, again = OURS.speaker("b", ["b"]), OURS.speaker("a", ["a"])

    async def body(address: str, _cell: Cell) -> None:
        calls = {}
        for user, pair in (("a", ALICE), ("b", bob)):
            channel = shows(pair).channel(address, [])
            calls[user] = channel.stream_stream(LIVE)()
            await calls[user].write(join(user))
            assert isinstance(await calls[user].read(), bytes)
        colons = ":".join(fingerprint(ALICE.chain).upper()[n : n + 2] for n in range(0, 64, 2))
        revoked.write_text(f"sha256 Fingerprint={colons}  # lost its key\n")
        code, details = await joined(address, shows(ALICE))
        assert (code, details) == ("PERMISSION_DENIED", "the certificate of 'a' was revoked")
        assert await ended(calls["a"]) == ("PERMISSION_DENIED", "the certificate of 'a' was revoked")
        assert await joined(address, shows(again)) == (
            "FAILED_PRECONDITION",
            "user 'a' may not come back: the certificate of 'a' was revoked",
        )
        assert not calls["b"].done()
        revoked.write_text("no fingerprint\n")
        code, details = await joined(address, shows(bob))
        assert (code, details) == ("UNAVAILABLE", "the list of revoked certificates cannot be read")
        assert not calls["b"].done()

    lost = [event for event in served(by_certificate(revoked=revoked), body) if event["event"] == "lost"]
    assert (lost[0]["user"], lost[0]["reason"]) == ("a", "the certificate of 'a' was revoked")


def test_a_list_of_revoked_certificates_that_cannot_be_read_stops_the_edge(tmp_path: Path) -> None:
    async def body(_address: str, _cell: Cell) -> None:
        raise AssertionError("it listens")

    with pytest.raises(FileNotFoundError):
        served(by_certificate(revoked=tmp_path / "none"), body)
    (tmp_path / "bad").write_text("\nxyz\n")
    with pytest.raises(ValueError, match=r"bad:2: not a SHA-256 fingerprint of 64 hexadecimal digits"):
        served(by_certificate(revoked=tmp_path / "bad"), body)


NAMES = [f"user_{k:02}" for k in range(3)]


def bodies(folder: Path) -> list[str]:
    """The first line of each private key below `folder`."""
    return [file.read_text().splitlines()[1] for file in folder.rglob("*.key")]


def test_certificates_change_no_bit_and_keys_are_found_nowhere(tmp_path: Path, run_on_ray, capfd, caplog) -> None:
    plain = runs.run(tmp_path / "plain", TREE).digest
    made_up, filed = {"kind": "mtls"}, {"kind": "mtls", "folder": str(tmp_path / "certs")}
    issue(tmp_path / "certs", ["127.0.0.1"], NAMES, {})
    places = [("memory", False, filed), ("grpc", False, made_up), ("grpc", False, filed), ("grpc", True, filed)]
    for n, (transport, trunk, security) in enumerate([*places, ("grpc", True, made_up), ("ray", False, filed)]):
        tree = {**TREE, "trunk": trunk, "security": security, "hosts": 2}
        assert run_on_ray(tmp_path / "runs" / f"{n}", tree, transport).digest == plain
    issue(tmp_path / "certs", ["127.0.0.1"], [], {"rack": NAMES})
    assert run_on_ray(tmp_path / "runs" / "rack", {**TREE, "trunk": True, "security": filed}, "grpc").digest == plain
    secrets = ["PRIVATE KEY", *bodies(tmp_path / "certs")]
    assert len(secrets) == 1 + 1 + 1 + 3 + 1
    told = capfd.readouterr()
    for secret in secrets:
        for folder in (tmp_path / "runs", *short_tmp_of_ray()):
            assert not holds(folder, secret)
        assert secret not in told.out + told.err + caplog.text


def test_more_users_than_a_certificate_can_name_run(tmp_path: Path) -> None:
    tree = runs.kernel(many=150, rounds=1, slots=1, trunk=True)
    tree["users"]["template"]["name"] = "x" * 56
    plain = runs.run(tmp_path / "plain", tree, "grpc").digest
    assert runs.run(tmp_path / "mtls", {**tree, "security": {"kind": "mtls"}}, "grpc").digest == plain
    with pytest.raises(ValueError, match="rack speaks for 65 users; a certificate names at most 64"):
        issue(tmp_path / "certs", ["127.0.0.1"], [], {"rack": [f"u{k}" for k in range(65)]})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: issue(f, ["10.1.2.3"], [], {}), "edge.pem is for 10.1.2.3, and the edge is at 127.0.0.1"),
        (lambda f: (f / "users/user_01.pem").unlink(), "user_01.pem: No such file or directory; make it with: equiran"),
        (lambda f: (f / "users/user_01.key").write_text(ALICE.key), "user_01.pem: the key is not that of the certif"),
        (
            lambda f: (f / "ca.pem").write_text(THEIRS.pair.chain),
            "edge.pem: it is not of the authority in ca.pem",
        ),
        (lambda f: (f / "edge.pem").write_text("nothing"), "edge.pem: "),
    ],
    ids=["address", "missing", "key", "authority", "no certificate"],
)
def test_certificates_that_cannot_be_used_are_named(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    issue(tmp_path / "certs", ["127.0.0.1"], NAMES, {})
    spoil(tmp_path / "certs")
    with pytest.raises((RunError, BadScenario), match=r"^(kernel|.*/scenario\.yaml:\d+): security: ") as caught:
        runs.run(tmp_path, {**TREE, "security": {"kind": "mtls", "folder": str(tmp_path / "certs")}}, "grpc")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_expired_certificate_is_named_before_anybody_joins(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    issue(folder, ["127.0.0.1"], NAMES, {})
    authority = Authority(Pair((folder / "ca.pem").read_text(), (folder / "ca.key").read_text()))
    for ending, text in zip(("pem", "key"), authority.speaker("user_01", ["user_01"], LONG_AGO), strict=True):
        (folder / f"users/user_01.{ending}").write_text(text)
    tree = {**TREE, "security": {"kind": "mtls", "folder": str(folder)}}
    with pytest.raises(BadScenario, match=r"user_01\.pem: it is good from .* to .*, not today"):
        runs.run(tmp_path, tree, "ray")
    assert not (tmp_path / "ray").exists(), "it is said before Ray starts"
    issue(folder, ["127.0.0.1"], [], {"rack": NAMES})
    assert runs.run(tmp_path, tree, "grpc").status == "done", "nobody needs it where the host speaks for all"


def command(*words: str) -> Any:
    app = typer.Typer()
    app.command()(certs)
    return CliRunner().invoke(app, [*words])


def test_the_command_makes_what_a_run_can_use(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    os.umask(os.umask(0o022))
    result = command(str(folder), "--users", ",".join(NAMES), "--host", f"rack={NAMES[0]},{NAMES[1]}")
    assert result.exit_code == 0, result.output
    for path in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    for name in ("edge", "users/user_00", "hosts/rack"):
        assert f"{fingerprint((folder / f'{name}.pem').read_text())}  {folder / name}.pem, until " in result.output
    tree = {**TREE, "security": {"kind": "mtls", "folder": str(folder)}}
    assert runs.run(tmp_path / "first", tree, "grpc").status == "done"
    authority, old = (folder / "ca.pem").read_text(), (folder / "users/user_00.pem").read_text()
    assert command(str(folder), "--users", NAMES[0], "--json").exit_code == 0
    assert (folder / "ca.pem").read_text() == authority
    assert (folder / "users/user_00.pem").read_text() != old
    assert runs.run(tmp_path / "second", tree, "grpc").status == "done"
    (folder / "revoked.txt").write_text(fingerprint((folder / "users/user_02.pem").read_text()))
    with pytest.raises(RunError, match=r"PERMISSION_DENIED: the certificate of 'user_02' was revoked"):
        runs.run(tmp_path / "third", tree, "grpc")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--users", "a,../b"], "--users: '../b' is no name"),
        (["--users", "a,"], "--users: '' is no name"),
        (["--host", "rack"], "--host rack: give the users that it carries, such as rack=a,b"),
        (["--host", "a/b=c"], "--host: 'a/b' is no name"),
        (["--edge", "localhost,"], "--edge localhost,: give host names or IP addresses"),
    ],
)
def test_the_command_refuses_nonsense(tmp_path: Path, words: list[str], said: str) -> None:
    result = command(str(tmp_path / "certs"), *words)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_folder_without_certificates_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(
        ScenarioErrors, match=r"security.folder: .* has no ca.pem, edge.pem, edge.key, revoked.txt; mak"
    ):
        runs.loaded(tmp_path, {**TREE, "security": {"kind": "mtls", "folder": "none"}})
