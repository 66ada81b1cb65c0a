"""Labels never leave their user: a rare byte pattern in them is nowhere in a run's messages, nor on its socket."""

import asyncio
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
import sim.local
from protos import edge_pb2 as pb
from sim.build import build_session
from sim.caller import Result

LABEL = struct.unpack("<d", bytes.fromhex("efbeadde1dc0e03f"))[0]
"""A real label, about 0.52, with bytes of its own."""
CLASS = 48_879
"""A class, 0xBEEF."""
INPUT = struct.unpack("<d", bytes.fromhex("0ddeedfea5c0d13f"))[0]
"""A feature that does go up: it shows that the tap would see a label."""


def forms(number: float) -> set[bytes]:
    """How a number may be written: floats and integers of either order, and a varint."""
    found = {struct.pack(order + kind, number) for order in "<>" for kind in "df"}
    if number == int(number):
        found |= {struct.pack(order + kind, int(number)) for order in "<>" for kind in "qi"}
        whole, varint = int(number), bytearray()
        while whole:
            varint.append((whole & 0x7F) | (0x80 if whole > 0x7F else 0))
            whole >>= 7
        found.add(bytes(varint))
    return found


class Tap:
    """A session, and every byte that it hears or says."""

    together = False

    def __init__(self, session: Any, heard: bytearray):
        self._session, self._heard = session, heard
        self.name = session.name

    @property
    def done(self) -> bool:
        return self._session.done

    @property
    def heard(self) -> int:
        return self._session.heard

    def join(self) -> bytes:
        return self._kept(self._session.join())

    def react(self, data: bytes) -> Iterator[bytes]:
        self._heard += data
        for answer in self._session.react(data):
            yield self._kept(answer)

    def _kept(self, data: bytes) -> bytes:
        self._heard += data
        return data


class Wire:
    """A TCP proxy before the edge that keeps what passes, each way of each connection by itself."""

    def __init__(self) -> None:
        self.heard: list[bytearray] = []

    async def listen(self, edge: str) -> str:
        self._host, _, port = edge.rpartition(":")
        self._port = int(port)
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection(self._host, self._port)
        await asyncio.gather(self._pass(reader, onward_writer), self._pass(onward_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = bytearray()
        self.heard.append(heard)
        try:
            while data := await reader.read(1 << 16):
                heard += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


def regression(folder: Path) -> runs.Tree:
    """Linear heads, batches of 4, labels that are all the canary; the first user's inputs hold a canary that may go."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4, 2, 4, 3)), np.full((2, 4, 2, 4), LABEL)
    x[:, :, 0, 0, 0] = INPUT
    tree = runs.changed(runs.arrays(folder, x, y), edge__encoder={"kind": "mlp", "hidden": [], "width": 5})
    for user in tree["users"]:
        user["head"] = {"kind": "linear"}
    return tree


def classes(folder: Path) -> runs.Tree:
    """48,880 classes, of which only the last occurs."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(1, 2, 2, 2, 3)), np.full((1, 2, 2, 2), CLASS)
    x[:, :, 0, 0, 0] = INPUT
    tree = runs.changed(runs.arrays(folder, x, y, "cross_entropy"), edge__encoder={"kind": "mlp", "width": 3})
    for user in tree["users"]:
        user["head"] = {"kind": "linear"}
        user["l_max"] = 20.0
    return tree


@pytest.mark.parametrize(("make", "canary"), [(regression, LABEL), (classes, float(CLASS))], ids=["real", "class"])
@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_no_message_holds_a_label(tmp_path: Path, monkeypatch, transport: str, make, canary: float) -> None:
    heard = bytearray()
    monkeypatch.setattr(sim.local, "build_session", lambda design, k: Tap(build_session(design, k), heard))
    result = runs.run(tmp_path, make(tmp_path), transport)
    assert result.status == "done"
    sent = sum(sum(ways.values()) for ways in result.summary["bytes"].values())
    assert len(heard) > sent > 0
    assert struct.pack("<d", INPUT) in heard
    assert [form for form in forms(canary) if form in heard] == []


def tapped(folder: Path, monkeypatch: pytest.MonkeyPatch, tree: runs.Tree) -> tuple[Result, bytes]:
    """A run over a socket, and every byte that passed, either way."""
    wire = Wire()
    serve = sim.local.serve

    async def behind_the_proxy(cell, host: str, **security):
        server = await serve(cell, host, **security)
        server.address = await wire.listen(server.address)
        return server

    monkeypatch.setattr(sim.local, "serve", behind_the_proxy)
    result = runs.run(folder, tree, "grpc")
    assert result.status == "done"
    assert len(wire.heard) >= 2
    return result, b"|".join(wire.heard)


def test_certificates_hide_what_passes(tmp_path: Path, monkeypatch) -> None:
    tree, name, feature = regression(tmp_path), b"arrays", struct.pack("<d", INPUT)
    _, open_ = tapped(tmp_path / "open", monkeypatch, tree)
    monkeypatch.undo()
    _, hidden = tapped(tmp_path / "hidden", monkeypatch, {**tree, "security": {"kind": "mtls"}})
    assert len(hidden) > len(open_)
    assert [(secret in open_, secret in hidden) for secret in (name, feature)] == [(True, False)] * 2


@pytest.mark.parametrize(("make", "canary"), [(regression, LABEL), (classes, float(CLASS))], ids=["real", "class"])
def test_nothing_on_the_socket_is_a_label(tmp_path: Path, monkeypatch, make, canary: float) -> None:
    result, passed = tapped(tmp_path, monkeypatch, make(tmp_path))
    sent = sum(sum(ways.values()) for ways in result.summary["bytes"].values())
    assert len(passed) > sent
    assert struct.pack("<d", INPUT) in passed
    assert [form for form in forms(canary) if form in passed] == []


ALLOWED = {
    "Tensor": {"dtype", "shape", "data", "scale", "indices"},
    "Key": {"round", "slot"},
    "UserMessage": {"join", "features", "feedback", "report", "leave", "ahead"},
    "Join": {
        "protocol", "run", "user", "incarnation", "dtype", "feature_shape", "batch", "validation_batch",
        "wants_feature_gradient", "sends_ahead", "codings", "heard", "process", "begins",
    },
    "Features": {"key", "features"},
    "Feedback": {"key", "loss", "gradient"},
    "Report": {"key", "loss", "accuracy"},
    "Leave": {"parameters_sha256"},
    "Codings": {"features", "outputs", "feedback", "acknowledgement"},
    "Coding": {"dtype", "kept"},
    "Frame": {"parcels"},
    "Parcel": {"seat", "message"},
}  # fmt: skip
"""All that a user can say. A field that is added must be added here, and its reason given in review."""


def test_a_user_has_no_field_for_a_label() -> None:
    seen: dict[str, set[str]] = {}

    def walk(message: Any) -> None:
        if message.name not in seen:
            seen[message.name] = {field.name for field in message.fields}
            for field in message.fields:
                if field.message_type is not None:
                    walk(field.message_type)

    walk(pb.UserMessage.DESCRIPTOR)
    walk(pb.Frame.DESCRIPTOR)
    assert seen == ALLOWED
    everything = [f.full_name.lower() for m in pb.DESCRIPTOR.message_types_by_name.values() for f in m.fields]
    words = ("label", "target", "class", "truth", "any", "extra", "map", "struct")
    assert [name for name in everything if any(name.rpartition(".")[2].startswith(word) for word in words)] == []


def test_the_only_free_bytes_of_a_user_are_tensors_and_a_hash_of_32() -> None:
    """A parcel's message is a UserMessage, or the edge refuses it."""
    free = [
        (message.name, field.name)
        for message in (pb.DESCRIPTOR.message_types_by_name[name] for name in ALLOWED)
        for field in message.fields
        if field.type == field.TYPE_BYTES
    ]
    assert free == [("Tensor", "data"), ("Tensor", "indices"), ("Leave", "parameters_sha256"), ("Parcel", "message")]
