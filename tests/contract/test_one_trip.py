"""Features that travel behind the feedback change when things are said, and nothing of what is learned or written."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import runs
import sim.build
import sim.local
import sim.planning
import tampering
import user_client.session
from edge_server.attendance import Refused
from edge_server.cell import Cell
from edge_server.judge import RunFailed
from edge_server.shared_model import SharedModel
from protos import edge_pb2 as pb
from sim.blueprint import Blueprint
from sim.caller import RunError, Watcher
from user_client.session import Session
from user_client.user import User

ROUND, SLOT = 1, 2
COLUMNS = ("round", "slot", "user", "loss", "utility", "out_of_range", "weight", "bytes_up", "status")
TRANSPORTS = ("memory", "grpc")
FRONTS = {
    "none": "none",
    "frozen": {"kind": "conv_pool", "channels": 3, "trainable": False},
    "trainable": {"kind": "conv_pool", "channels": 3, "trainable": True},
}


class WhenAsked(Session):
    """Speaks only when it is asked, whatever its front."""

    together = False

    def join(self) -> bytes:
        message = pb.UserMessage.FromString(super().join())
        message.join.sends_ahead = False
        return message.SerializeToString()

    def react(self, data: bytes) -> Iterator[bytes]:
        answers = super().react(data)
        yield from [alone(next(answers))] if pb.EdgeMessage.FromString(data).HasField("outputs") else answers


def alone(answer: bytes) -> bytes:
    """The answer without the features that ride with it."""
    message = pb.UserMessage.FromString(answer)
    message.ClearField("ahead")
    return message.SerializeToString()


class Eager(Session):
    """Claims to send ahead, whatever its front."""

    def join(self) -> bytes:
        message = pb.UserMessage.FromString(super().join())
        message.join.sends_ahead = True
        return message.SerializeToString()


def fronted(*names: str, rounds: int = 2, slots: int = 4) -> runs.Tree:
    """One digits user per named front."""
    tree = runs.digits(many=len(names), rounds=rounds, slots=slots)
    for user, name in zip(tree["users"], names, strict=True):
        user["front"] = FRONTS[name]
    return tree


def same_records(a: Path, b: Path) -> None:
    first, second = runs.slots(a), runs.slots(b)
    for name in COLUMNS:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    rounds, others = runs.rounds(a), runs.rounds(b)
    for name in rounds:
        np.testing.assert_array_equal(rounds[name], others[name], err_msg=name)


def key_in_next(rows: dict[str, np.ndarray], slots: int) -> np.ndarray:
    """Bytes that asking for the next slot's features costs more than WAIT, per row of a run."""

    def cost(t: int, i: int) -> int:
        asked = pb.Next(ask=pb.Next.FEATURES, key=pb.Key(round=t, slot=i + 1))
        return asked.ByteSize() - pb.Next(ask=pb.Next.WAIT).ByteSize() if i + 1 < slots else 0

    return np.array([cost(int(t), int(i)) for t, i in zip(rows["round"], rows["slot"], strict=True)])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "tree",
    [runs.kernel(many=3), fronted("none", "none"), fronted("frozen", "frozen")],
    ids=["kernel", "none", "frozen"],
)
def test_sending_ahead_changes_nothing_but_the_key_in_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: runs.Tree, transport: str
) -> None:
    ahead = runs.run(tmp_path / "ahead", tree, transport)
    monkeypatch.setattr(sim.build, "Session", WhenAsked)
    asked = runs.run(tmp_path / "asked", tree, transport)
    assert ahead.digest == asked.digest is not None
    same_records(ahead.folder, asked.folder)
    few, many = runs.slots(ahead.folder), runs.slots(asked.folder)
    np.testing.assert_array_equal(few["bytes_down"] + key_in_next(few, tree["slots"]), many["bytes_down"])


def test_users_that_send_ahead_and_users_that_do_not_share_a_run(tmp_path: Path) -> None:
    tree = fronted("frozen", "trainable", "frozen")
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in TRANSPORTS)
    assert memory.digest == grpc.digest is not None
    same_records(memory.folder, grpc.folder)


BAD = {
    "features": ("features", tampering.value(math.nan)),
    "gradient": ("feedback", tampering.value(math.nan)),
    "loss": ("feedback", tampering.loss(math.inf)),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("front", ["none", "frozen"])
def test_a_rejected_user_that_sends_ahead_goes_on_as_one_that_waits_to_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, front: str, bad: str, transport: str
) -> None:
    kind, tamper = BAD[bad]
    sessions = tampering.let(monkeypatch, 1, tampering.at(kind, ROUND, SLOT), tamper)
    tree = fronted(front, front, "none" if front == "none" else "trainable", slots=5)
    ahead = runs.run(tmp_path / "ahead", tree, transport)
    with monkeypatch.context() as patch:
        patch.setattr(sim.build, "Session", WhenAsked)
        asked = runs.run(tmp_path / "asked", tree, transport)
    assert ahead.digest == asked.digest is not None
    same_records(ahead.folder, asked.folder)
    (event,) = runs.events(ahead.folder, "rejected")
    assert (event["user"], event["round"], event["slot"], event["field"]) == ("u1", ROUND, SLOT, bad)
    rows = runs.slots(ahead.folder)
    assert [*rows["slot"][rows["status"] == "rejected"]] == [SLOT]
    waits = sessions[1].digests
    assert waits["features", ROUND, SLOT] == waits["features", ROUND, SLOT + 1], "no step in the rejected slot"
    assert waits["features", ROUND, SLOT + 1] != waits["features", ROUND, SLOT + 2], "and one in the next"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_rejected_in_a_rounds_last_slot_and_in_slots_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    def when(message: pb.UserMessage) -> bool:
        kind = message.WhichOneof("kind")
        i = getattr(message, kind).key.slot if kind in ("features", "feedback") else None
        return (kind, i) in {("feedback", 0), ("features", 1), ("features", 2), ("feedback", 3)}

    def spoil(message: pb.UserMessage) -> None:
        (tampering.loss if message.HasField("feedback") else tampering.value)(math.nan)(message)

    tampering.let(monkeypatch, 1, when, spoil)
    tree = runs.kernel(many=3, rounds=3, slots=4)
    result = runs.run(tmp_path, tree, transport)
    assert result.status == "done"
    rows = runs.slots(result.folder)
    np.testing.assert_array_equal(rows["status"] == "rejected", rows["user"] == "user_01")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_user_that_trains_its_front_may_not_send_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.setattr(sim.build, "Session", Eager)
    with pytest.raises(
        (RunError, Refused), match="user 'u1' trains its front, so it cannot send features ahead"
    ) as caught:
        runs.run(tmp_path, fronted("frozen", "trainable"), transport)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("at", range(5))
def test_a_stop_anywhere_in_a_round_ends_cleanly_with_users_ahead(tmp_path: Path, transport: str, at: int) -> None:
    """Asked at the end of every slot: stops in round 1, in the first slot, in between, in the last."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5 + at

    tree = fronted("frozen", "trainable", "frozen", rounds=3, slots=5)
    result = runs.run(tmp_path, tree, transport, Watcher(stop=stop))
    assert (result.status, result.digest) == ("stopped", None)
    assert {*runs.slots(result.folder)["round"]} == {0}
    assert not runs.events(result.folder, "lost")


class Kept:
    """A line that keeps what is sent."""

    def __init__(self) -> None:
        self.heard: list[pb.EdgeMessage] = []

    def send(self, data: bytes) -> None:
        self.heard.append(pb.EdgeMessage.FromString(data))


def test_a_user_that_hangs_up_between_its_features_and_its_leave_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features that were on their way when all were told to leave are no Leave."""
    monkeypatch.setattr(user_client.session, "RIDING", 0)
    tree = runs.kernel(many=1, on_user_failure="fail")
    asyncio.run(hang_up(sim.planning.blueprint(runs.loaded(tmp_path, tree).scenario, "run")))


async def hang_up(design: Blueprint) -> None:
    events: list[dict] = []
    cell, session, line = Cell(design.plan, events.append, lambda: True), sim.build.build_session(design, 0), Kept()
    k = cell.join(session.join(), line)
    cell.receive(k, *session.react(line.heard[-1].SerializeToString()))
    (features,) = await cell.features(0, 0)
    telling = asyncio.create_task(cell.feedback(0, 0, [torch.zeros(len(features), 1, dtype=features.dtype)]))
    await asyncio.sleep(0)
    feedback, following = session.react(line.heard[-1].SerializeToString())
    cell.receive(k, feedback)
    await telling
    cell.acknowledge(0, 0, [None])
    assert line.heard[-1].acknowledgement.next.ask == pb.Next.LEAVE
    cell.receive(k, following)
    cell.hang_up(k, line)
    assert [event["event"] for event in events] == ["join", "lost"]
    with pytest.raises(RunFailed, match=r"user 'user_00' was lost in round 0, slot 0: it closed its stream"):
        await cell.farewell()


@pytest.mark.parametrize(("front", "place"), [("none", 2), ("frozen", 2), ("trainable", 0)])
def test_users_step_beside_the_edge_unless_they_wait_for_a_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, front: str, place: int
) -> None:
    order: list[str] = []

    def noted(owner: type, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args: order.append(name) or real(*args))

    noted(User, "apply")
    noted(SharedModel, "backward")
    runs.run(tmp_path, fronted(front, front, rounds=1, slots=3), "memory")
    slot = ["apply", "apply"]
    slot.insert(place, "backward")
    assert order == slot * 3


@pytest.mark.parametrize("trunk", [False, True], ids=["stream", "trunk"])
def test_the_largest_features_that_ride_fit_beside_the_largest_feedback(tmp_path: Path, trunk: bool) -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 2, 32, 32)).astype(np.float32)
    tree = runs.arrays(tmp_path, x, np.zeros((1, 3, 2, 32), np.float32), "squared", trunk=trunk)
    tree["edge"]["encoder"] = {"kind": "linear", "outputs": 32, "initial": "default"}
    for user in tree["users"]:
        user["head"] = {"kind": "linear"}
    memory, grpc = (runs.run(tmp_path / transport, tree, transport) for transport in TRANSPORTS)
    assert memory.digest == grpc.digest is not None
