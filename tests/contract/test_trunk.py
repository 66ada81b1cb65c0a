"""Many users on one stream: the same bits, each of them still itself, and a bad one named."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

import runs
import tampering
from edge_server.cell import Cell
from edge_server.service import serve
from protos import TRUNK
from protos import edge_pb2 as pb
from protos.frames import MOST_BYTES, MOST_PARCELS, BadFrame, Parcel, framed, opened
from sim.blueprint import Blueprint
from sim.build import build_session
from sim.caller import RunError
from sim.planning import blueprint
from user_client.link import OVERTAKEN, open_channel


def on_trunk(**changes: object) -> runs.Tree:
    tree = runs.digits(many=4, rounds=3, slots=3, trunk=True, **changes)
    tree["users"][3]["presence"] = {"churn": 0.5}
    tree["users"][2]["front"] = {**tree["users"][2]["front"], "trainable": False}
    return tree


def test_every_transport_and_any_number_of_hosts_give_the_same_bits(tmp_path: Path, run_on_ray) -> None:
    """Fronts that are trained and frozen, users that come and go: with streams of their own, on one, on three."""
    plain = run_on_ray(tmp_path / "plain", on_trunk() | {"trunk": False}, "grpc")
    found = [run_on_ray(tmp_path / name, on_trunk(), name) for name in ("memory", "grpc", "ray")]
    spread = run_on_ray(tmp_path / "three", on_trunk() | {"hosts": 3}, "ray")
    assert {result.digest for result in (*found, spread)} == {plain.digest}
    for result in (*found, spread):
        assert result.summary["bytes"] == plain.summary["bytes"]


def test_many_users_need_several_frames(tmp_path: Path) -> None:
    tree = runs.kernel(many=3 * MOST_PARCELS, rounds=1, slots=2, trunk=True)
    memory, grpc_ = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc_.digest


@pytest.mark.parametrize("kind", ["features", "feedback"])
def test_a_bad_field_costs_its_user_the_slot_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    tampering.let(monkeypatch, 1, tampering.at(kind, 1, 2), tampering.value(float("nan")))
    memory, grpc_ = (runs.run(tmp_path, on_trunk(), transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc_.digest
    (event,) = runs.events(grpc_.folder, "rejected")
    assert (event["user"], event["round"], event["slot"]) == ("u1", 1, 2)


def test_a_user_that_raises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from user_client.user import User

    real = User.feedback

    def failing(self: User, outputs):
        if self.batch == 7:
            raise ValueError("no such label")
        return real(self, outputs)

    monkeypatch.setattr(User, "feedback", failing)
    tree = on_trunk()
    tree["users"][1]["task"]["batch"] = 7
    with pytest.raises(RunError, match=r"user 'u1' failed: ValueError: no such label"):
        runs.run(tmp_path, tree, "grpc")


def design_of(folder: Path, *, trunk: bool) -> Blueprint:
    return blueprint(runs.loaded(folder, runs.kernel(many=2, trunk=trunk)).scenario, "run")


def refusal(
    design: Blueprint, *frames: bytes, on_event: Callable[[dict], None] = lambda _event: None
) -> tuple[str, str]:
    """The status and the reason with which the edge ends a trunk that says this; asked again where its end overtakes
    them, as a user does."""

    async def talk() -> tuple[str, str]:
        cell = Cell(design.plan, on_event, lambda: False)
        server = await serve(cell, "127.0.0.1")
        channel = open_channel(server.address, design.plan.largest_on_a_stream)
        try:
            call = channel.stream_stream(TRUNK)()  # type: ignore[call-arg]
            for frame in frames:
                await call.write(frame)
            while isinstance(await call.read(), bytes):
                pass
            return (await call.code()).name, str(await call.details())
        except grpc.aio.AioRpcError as error:
            return error.code().name, str(error.details())
        finally:
            await channel.close(None)
            await server.stop()

    for _ in range(20):
        told = asyncio.run(talk())
        if told[1] != OVERTAKEN:
            break
    return told


def test_users_of_a_trunk_that_is_refused_are_lost_at_once(tmp_path: Path) -> None:
    """Not after `patience`: the run has one line that names a user and why its host's stream ended."""
    design = design_of(tmp_path, trunk=True)
    join = build_session(design, 0).join()
    events: list[dict] = []
    refusal(design, frame((0, join), (1, join)), on_event=events.append)
    (lost,) = (event for event in events if event["event"] == "lost")
    assert lost["user"] == "user_00"
    assert lost["reason"] == "its host's stream ended: user 'user_00' has joined already"


def frame(*parcels: tuple[int, bytes]) -> bytes:
    return next(framed([Parcel(*parcel) for parcel in parcels]))


def test_what_the_edge_refuses(tmp_path: Path) -> None:
    design = design_of(tmp_path, trunk=True)
    join, other = (build_session(design, k).join() for k in range(2))
    leave = pb.UserMessage(leave=pb.Leave(parameters_sha256=bytes(32))).SerializeToString()
    assert refusal(design_of(tmp_path, trunk=False), frame((0, join)))[0] == "UNIMPLEMENTED"
    assert refusal(design, b"\xff" * 20) == ("INVALID_ARGUMENT", "20 bytes that are no Frame")
    assert refusal(design, frame((0, join), (1, join))) == ("ALREADY_EXISTS", "user 'user_00' has joined already")
    assert refusal(design, frame((0, leave)))[0] == "FAILED_PRECONDITION"
    code, reason = refusal(design, frame((0, join), (5, other), (5, leave)))
    assert code == "FAILED_PRECONDITION"
    assert reason == "user 'user_01' sent leave, but the edge asked for features of round 0, slot 0"
    code, reason = refusal(design, frame((0, join), (0, bytes(design.plan.largest_message + 1))))
    assert (code, reason.partition(":")[0]) == ("INVALID_ARGUMENT", "seat 0")


def test_frames_keep_order_and_limits() -> None:
    parcels = [Parcel(seat % 7, bytes([seat % 251]) * (seat * 37 % 5000)) for seat in range(1000)]
    parcels.append(Parcel(3, bytes(2 * MOST_BYTES)))
    frames = [*framed(parcels)]
    assert [parcel for one in frames for parcel in opened(one, 2 * MOST_BYTES)] == parcels
    assert max(len(pb.Frame.FromString(one).parcels) for one in frames) == MOST_PARCELS
    assert [*framed([])] == []
    with pytest.raises(BadFrame, match=r"seat 3: a message of 2097152 bytes, at most 4999 are allowed"):
        opened(frames[-1], 4999)
