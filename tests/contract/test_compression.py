"""Compression: fewer bytes as stated, the same bits on every transport, and nothing that is not said."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

import runs
import sim.build
import sim.planning
from edge_server.attendance import Refused
from edge_server.cell import Cell
from protos import edge_pb2 as pb
from sim.caller import RunError
from sim.scenario import ScenarioErrors

TOP = {"kind": "top_k", "share": 0.25}
MIXED = {"features": "int8", "outputs": "float16", "feedback": TOP, "acknowledgement": {**TOP, "share": 0.1}}
EVERY = ["float16", "bfloat16", "int8", MIXED]


def digits(compression: object, **changes: object) -> runs.Tree:
    return runs.digits(many=3, rounds=2, slots=3, **changes) | {"compression": compression}


def used(result) -> tuple[int, int]:
    """Bytes of a run, up and down."""
    users = result.summary["bytes"].values()
    return sum(user["up"] for user in users), sum(user["down"] for user in users)


@pytest.mark.parametrize("compression", EVERY, ids=["float16", "bfloat16", "int8", "mixed"])
def test_memory_and_sockets_give_the_same_bits(tmp_path: Path, compression: object) -> None:
    memory, grpc = (runs.run(tmp_path, digits(compression), transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    assert memory.digest != runs.run(tmp_path / "whole", digits(None)).digest
    assert used(memory) == used(grpc)


def test_ray_gives_the_same_bits(tmp_path: Path, run_on_ray) -> None:
    memory, ray = (run_on_ray(tmp_path / name, digits(MIXED), name) for name in ("memory", "ray"))
    assert memory.digest == ray.digest


@pytest.mark.parametrize(("coding", "times"), [("float16", 2), ("bfloat16", 2), ("int8", 4)])
def test_bytes_fall_as_stated(tmp_path: Path, coding: str, times: int) -> None:
    whole, small = (runs.run(tmp_path / str(c), digits(c, batch=25)) for c in (None, coding))
    for before, after in zip(used(whole), used(small), strict=True):
        assert before / after == pytest.approx(times, rel=0.01)
    for tensor in small.summary["compression"].values():
        assert tensor["coding"] == coding
        assert tensor["whole_bytes_per_slot"] == times * tensor["bytes_per_slot"] > 0
    assert whole.summary["compression"] is None
    assert small.summary["fairness_mean"] == pytest.approx(whole.summary["fairness_mean"], rel=0.1)


def test_sizes_on_the_wire_are_those_of_the_summary(tmp_path: Path) -> None:
    """Per slot and user, messages have nothing beside their tensors but a few dozen bytes."""
    result = runs.run(tmp_path, digits(MIXED))
    said = result.summary["compression"]
    rows = runs.slots(result.folder)
    up = said["features"]["bytes_per_slot"] + said["feedback"]["bytes_per_slot"]
    down = said["outputs"]["bytes_per_slot"] + said["acknowledgement"]["bytes_per_slot"]
    for column, tensors in (("bytes_up", up), ("bytes_down", down)):
        total = rows[column][:3].sum()
        assert tensors < total < tensors + 3 * 100
        by_slot = rows[column].reshape(-1, 3).sum(axis=1)
        assert np.ptp(by_slot) <= 3 * 16, "keys count from 0, and a zero takes no bytes"


def test_a_float64_run_is_compressed_too(tmp_path: Path) -> None:
    tree = runs.kernel(many=2, compression="float16")
    whole, small = runs.run(tmp_path / "a", {**tree, "compression": None}), runs.run(tmp_path / "b", tree)
    assert used(small) < used(whole)
    assert small.summary["fairness_mean"] == pytest.approx(whole.summary["fairness_mean"], rel=0.01)


def test_a_frozen_front_sends_ahead_in_fewer_bytes(tmp_path: Path) -> None:
    tree = digits(MIXED)
    for user in tree["users"]:
        user["front"] = {**user["front"], "trainable": False}
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    assert memory.summary["compression"]["acknowledgement"]["whole_bytes_per_slot"] == 0


def test_the_radio_sees_the_fewer_bits(tmp_path: Path) -> None:
    radio = {"kind": "rayleigh", "power": "optimal", "compute": {"user": 0.01}}
    whole, small = (runs.run(tmp_path / str(c), digits(c, batch=25) | {"radio": radio}) for c in (None, "int8"))
    on_air = [run.summary["virtual_seconds"] - 6 * 0.01 for run in (whole, small)]
    assert on_air[0] / on_air[1] == pytest.approx(4, rel=0.01)


def test_outputs_beyond_float16_are_a_rejection(tmp_path: Path) -> None:
    """Features of 1e5 times theta grow past what half precision holds, while float64 holds them well."""
    x, y = np.full((1, 4, 2, 2, 3), 1e5), np.zeros((1, 4, 2, 2))
    x[:, :, 0], y[:, :, 1] = 1.0, 1e-3
    edge = {
        "encoder": {"kind": "linear"},
        "aggregator": {"kind": "constant", "weights": "equal", "u_min": 1.0, "u_max": 4.0},
        "primal": {"step": 1e-1},
    }
    tree = runs.arrays(tmp_path, x, y, edge=edge, compression={"outputs": "float16"})
    result = runs.run(tmp_path, tree)
    (first, *_) = runs.events(result.folder, "rejected")
    assert first["user"] == "u1"
    assert "beyond 65504, the most that float16 holds" in first["reason"]
    assert result.summary["rejected"] > 0


def test_a_user_that_agreed_on_something_else_is_refused(tmp_path: Path) -> None:
    design = sim.planning.blueprint(runs.loaded(tmp_path, digits(MIXED)).scenario, "run")
    join = pb.UserMessage.FromString(sim.build.build_session(design, 0).join()).join

    def refusal(**codings: pb.Coding) -> str:
        said = pb.Join.FromString(join.SerializeToString())
        for name, coding in codings.items():
            getattr(said.codings, name).CopyFrom(coding)

        async def joined() -> None:
            Cell(design.plan, lambda _event: None, lambda: False).join(
                pb.UserMessage(join=said).SerializeToString(), None
            )

        with pytest.raises(Refused) as caught:
            asyncio.run(joined())
        return str(caught.value)

    assert "'u0' has codings.features whole, but the scenario says INT8" in refusal(features=pb.Coding())
    assert "codings.outputs INT8, but the scenario says FLOAT16" in refusal(outputs=pb.Coding(dtype=pb.INT8))
    fewer = pb.Coding(dtype=pb.FLOAT32, kept=3)
    assert "codings.feedback FLOAT32, 3 kept, but the scenario says FLOAT32, 20 kept" in refusal(feedback=fewer)


@pytest.mark.parametrize(
    ("compression", "words"),
    [
        ("int4", "bfloat16 | int8 | {features: .., outputs: .., feedback: .., acknowledgement: ..} | null, got 'int4'"),
        ({"features": TOP}, "compression.features"),
        ({"outputs": TOP}, "compression.outputs"),
        ({"feedback": {"kind": "top_k", "share": 0.6}}, "compression.feedback.share"),
        ({"feedback": {"kind": "top_k", "share": 0}}, "compression.feedback.share"),
        ({"gradients": "int8"}, "compression.gradients"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(tmp_path: Path, compression: object, words: str) -> None:
    with pytest.raises(ScenarioErrors) as caught:
        runs.loaded(tmp_path, digits(compression))
    (line,) = caught.value.errors
    assert words in line


def test_the_theory_knows_no_rounded_messages(tmp_path: Path) -> None:
    tree = runs.changed(runs.kernel(compression="int8"), edge__primal__step="theory")
    with pytest.raises((ScenarioErrors, RunError), match="step: theory knows nothing of rounded messages"):
        runs.loaded(tmp_path, tree)
