"""A user that dies, leaves, breaks the protocol or falls silent ends the run with one line that names it."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import runs
import sim.local
import tampering
from edge_server.record import RoundRecord
from protos import edge_pb2 as pb
from sim.build import build_session
from sim.caller import RunError, Watcher
from user_client.link import live

TREE = runs.kernel(many=3, rounds=2, slots=5)


class Dies(Exception):
    """What the user's own code raises."""


def fails(folder: Path, tree: runs.Tree, transport: str) -> str:
    """The one line a failing run ends with; its directory says the same, and is whole."""
    with pytest.raises(RunError) as caught:
        runs.run(folder, tree, transport)
    line = str(caught.value)
    assert "\n" not in line
    manifest = runs.read_json(folder / transport / "manifest.json")
    assert (manifest["status"], manifest["digest"]) == ("failed", None)
    assert line == f"kernel: {manifest['error']}"
    assert runs.events(folder / transport)[-1]["event"] == "failed"
    assert not [*(folder / transport).glob("*.arrows")]
    return line


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_user_whose_code_raises_is_named_with_its_reason(tmp_path: Path, monkeypatch, transport: str) -> None:
    def die(_message: pb.UserMessage) -> None:
        raise Dies("out of data")

    tampering.let(monkeypatch, 1, tampering.at("feedback", 1, 2), die)
    assert fails(tmp_path, TREE, transport) == "kernel: user 'user_01' failed: Dies: out of data"
    rows = runs.rounds(tmp_path / transport)
    assert {*rows["round"]} == {0}


def wrong_key(message: pb.UserMessage) -> None:
    message.feedback.key.slot += 1


def second_join(message: pb.UserMessage) -> None:
    message.join.user = "user_01"


def empty(message: pb.UserMessage) -> None:
    message.Clear()


def early_leave(message: pb.UserMessage) -> None:
    message.leave.parameters_sha256 = b"0" * 32


@pytest.mark.parametrize("transport", ["memory", "grpc"])
@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (wrong_key, "sent feedback of round 1, slot 3, but the edge asked for feedback of round 1, slot 2"),
        (second_join, "a message of kind join where an answer was due"),
        (empty, "a message of kind none where an answer was due"),
        (early_leave, "sent leave, but the edge asked for feedback of round 1, slot 2"),
    ],
    ids=["wrong key", "second join", "empty", "early leave"],
)
def test_a_message_that_answers_nothing_ends_the_run(
    tmp_path: Path, monkeypatch, transport: str, tamper: tampering.Tamper, said: str
) -> None:
    tampering.let(monkeypatch, 1, tampering.at("feedback", 1, 2), tamper)
    line = fails(tmp_path, TREE, transport)
    assert "'user_01'" in line
    assert said in line


class Silent(tampering.Tampering):
    """Keeps its answer to itself."""

    def react(self, data: bytes) -> Iterator[bytes]:
        for answer in super().react(data):
            if self._when(pb.UserMessage.FromString(answer)):
                return
            yield answer


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_silent_user_costs_patience_and_no_more(tmp_path: Path, monkeypatch, transport: str) -> None:
    def build(design, k: int) -> Any:
        session = build_session(design, k)
        return Silent(session, tampering.at("feedback", 1, 2), tampering.missing) if k == 1 else session

    monkeypatch.setattr(sim.local, "build_session", build)
    started = time.monotonic()
    line = fails(tmp_path, {**TREE, "patience": 0.5}, transport)
    assert time.monotonic() - started < 10  # the patience that is the default would be 60
    assert line == (
        "kernel: no answer from 'user_01' in round 1, slot 2 within patience (0.5 s); "
        "raise `patience` if users are just slow"
    )


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"on_user_failure": "fail"}, "user 'user_01' was lost in round 0, slot 2: it closed its stream"),
        (
            {"patience": 0.5},
            "no answer from 'user_01' in round 0, slot 2 within patience (0.5 s); "
            "'user_01' was lost and did not come back: it closed its stream",
        ),
    ],
    ids=["fail", "wait"],
)
def test_a_user_that_closes_its_stream_is_lost(tmp_path: Path, monkeypatch, policy: runs.Tree, said: str) -> None:
    async def live_a_while(session, *rest) -> None:
        if session.name == "user_01":
            await asyncio.wait_for(live(Deaf(session), *rest), 5)
        else:
            await live(session, *rest)

    monkeypatch.setattr(sim.local, "live", live_a_while)
    assert fails(tmp_path, {**TREE, **policy}, "grpc") == f"kernel: {said}"


class Deaf:
    """Hangs up on the outputs of slot 2, its fourth message, and leaves them without an answer."""

    together = False

    def __init__(self, session: Any):
        self._session, self.heard = session, 0
        self.name = session.name

    @property
    def done(self) -> bool:
        return self.heard == 4

    def join(self) -> bytes:
        return self._session.join()

    def react(self, data: bytes) -> Iterator[bytes]:
        self.heard += 1
        if not self.done:
            yield from self._session.react(data)


def host_processes() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "HostActor" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_a_killed_host_process_ends_the_run_on_ray(tmp_path: Path, run_on_ray, cluster) -> None:
    tree = runs.kernel(many=4, rounds=100_000, slots=20, hosts=2, on_user_failure="fail")
    killed: list[int] = []

    def kill(_record: RoundRecord) -> None:
        if not killed:
            victim = host_processes()[0]
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)

    begun = threading.Event()
    watcher = Watcher(on_start=lambda _name, _rounds: begun.set(), on_round=kill)
    started = time.monotonic()
    with pytest.raises(RunError) as caught:
        runs.run(tmp_path, tree, "ray", watcher)
    line = str(caught.value)
    assert begun.is_set()
    assert killed
    hosts = ("'user_00' to 'user_01'", "'user_02' to 'user_03'")
    assert line.startswith(tuple(f"kernel: the host of users {names} died: " for names in hosts))
    assert "\n" not in line
    assert time.monotonic() - started < 60
    assert runs.read_json(tmp_path / "ray" / "manifest.json")["status"] == "failed"
    deadline = time.monotonic() + 5
    while host_processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not host_processes()
    after = runs.kernel(many=2)
    assert run_on_ray(tmp_path / "after", after, "ray").digest == run_on_ray(tmp_path / "after", after, "memory").digest
