"""A message that cannot be used is refused at once: its user misses the slot, nobody else notices, the run ends."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_end_to_end_reference import BASE, data, edge

import runs
import tampering
from edge_server.conversation import Conversation
from protos import edge_pb2 as pb
from sim.caller import Result

ROUND, SLOT = 1, 2
NAN, INF = math.nan, math.inf
WRONG = {
    "features NaN": ("features", tampering.value(NAN), "features", "nan at index [0, 1]"),
    "features shape": ("features", tampering.one_row_more, "features", "shape is [3, 3], expected [2, 3]"),
    "features rank": ("features", tampering.flat, "features", "shape is [6], expected [2, 3]"),
    "features bomb": ("features", tampering.shape_bomb, "features", "shape is [1048576, 1048576], expected [2, 3]"),
    "gradient bomb": ("feedback", tampering.shape_bomb, "gradient", "shape is [1048576, 1048576], expected [2, 1]"),
    "features dtype": ("features", tampering.other_dtype, "features", "dtype is float32, expected float64"),
    "features no dtype": ("features", tampering.no_dtype, "features", "dtype number 0 is unknown"),
    "features short": ("features", tampering.short, "features", "47 bytes of data, expected 48"),
    "features missing": ("features", tampering.missing, "features", "dtype number 0 is unknown"),
    "gradient Inf": ("feedback", tampering.value(INF), "gradient", "inf at index [1, 0]"),
    "gradient -Inf": ("feedback", tampering.value(-INF), "gradient", "-inf at index [1, 0]"),
    "gradient shape": ("feedback", tampering.one_row_more, "gradient", "shape is [3, 1], expected [2, 1]"),
    "gradient dtype": ("feedback", tampering.other_dtype, "gradient", "dtype is float32"),
    "gradient short": ("feedback", tampering.short, "gradient", "15 bytes of data, expected 16"),
    "gradient missing": ("feedback", tampering.missing, "gradient", "dtype number 0 is unknown"),
    "loss NaN": ("feedback", tampering.loss(NAN), "loss", "it is nan"),
    "loss Inf": ("feedback", tampering.loss(INF), "loss", "it is inf"),
}


def where(rows: dict, user: str) -> np.ndarray:
    return (rows["round"] == ROUND) & (rows["slot"] == SLOT) & (rows["user"] == user)


def same_rows(a: Path, b: Path) -> None:
    first, second = runs.slots(a), runs.slots(b)
    for name in ("loss", "utility", "weight", "bytes_up", "bytes_down", "status"):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize("name", WRONG)
def test_a_bad_field_costs_its_user_the_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind, tamper, field, reason = WRONG[name]
    x, y = data(5, 3, 2)
    tree = runs.arrays(tmp_path, x, y, edge=edge(BASE), record={"parameters": True})
    clean = runs.slots(runs.run(tmp_path / "clean", tree).folder)
    tampering.let(monkeypatch, 1, tampering.at(kind, ROUND, SLOT), tamper)
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.status == grpc.status == "done"
    assert memory.digest == grpc.digest
    same_rows(memory.folder, grpc.folder)
    for result in (memory, grpc):
        (event,) = runs.events(result.folder, "rejected")
        assert {key: event[key] for key in ("user", "round", "slot", "field")} == {
            "user": "u1", "round": ROUND, "slot": SLOT, "field": field,
        }  # fmt: skip
        assert reason in event["reason"]
        rows, it = runs.slots(result.folder), where(clean, "u1")
        assert [*rows["status"][it]] == ["rejected"]
        assert np.isnan([rows[column][it] for column in ("loss", "utility", "weight")]).all()
        assert {*rows["status"][~it]} == {"applied"}
        others = (rows["round"] == ROUND) & (rows["slot"] == SLOT) & ~it
        np.testing.assert_array_equal(rows["loss"][others], clean["loss"][others])
        np.testing.assert_array_equal(rows["weight"][others], clean["weight"][others])
        assert result.summary["rejected"] == 1


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_of_features_that_are_never_good_the_edge_does_not_remember_every_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """A user that sends the next features behind its feedback has none to send them behind: it answers the refusal."""
    kept: list[int] = []
    send = Conversation.send

    def counted(conversation: Conversation, message: pb.EdgeMessage) -> int:
        size = send(conversation, message)
        kept.append(len(conversation._unproven))
        return size

    monkeypatch.setattr(Conversation, "send", counted)
    tampering.let(monkeypatch, 1, lambda message: message.HasField("features"), tampering.value(NAN))
    assert runs.run(tmp_path, runs.kernel(slots=40), transport).summary["rejected"] == 2 * 40
    assert max(kept) <= 3


@pytest.mark.parametrize("kind", ["features", "feedback"])
def test_the_step_is_that_of_the_others_alone_and_the_dual_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    x, y = data(6, 3, 2)
    tampering.let(monkeypatch, 1, tampering.at(kind, ROUND, SLOT), tampering.value(NAN))
    tree = runs.arrays(tmp_path, x, y, edge=edge(BASE), record={"parameters": True})
    with np.load(runs.run(tmp_path, tree).folder / "parameters.npz") as found:
        theta, w = found["theta"][ROUND], found["w"][ROUND]
    residual = np.einsum("kbd,d->kb", x[ROUND, SLOT], theta[SLOT]) - y[ROUND, SLOT]
    gradients = 2 / 2 * np.einsum("kb,kbd->kd", residual, x[ROUND, SLOT])
    moved = theta[SLOT] + BASE.eta * (w[SLOT, 0] * gradients[0] + w[SLOT, 2] * gradients[2])
    np.testing.assert_allclose(theta[SLOT + 1], np.clip(moved, -1, 1), rtol=0, atol=1e-12)
    assert w[SLOT + 1, 1] == w[SLOT, 1]
    assert (w[SLOT + 1, [0, 2]] != w[SLOT, [0, 2]]).all()


@pytest.mark.parametrize("kind", ["features", "feedback"])
@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_head_and_front_of_a_rejected_user_stay_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, transport: str
) -> None:
    sessions = tampering.let(monkeypatch, 1, tampering.at(kind, ROUND, SLOT), tampering.value(NAN))
    assert runs.run(tmp_path, runs.digits(many=2), transport).status == "done"
    digests = sessions[-1].digests
    before, after = digests["features", ROUND, SLOT], digests["features", ROUND, SLOT + 1]
    assert before == after
    assert digests["features", ROUND, SLOT - 1] != before != digests["report", ROUND, 4]


@pytest.mark.parametrize(
    ("tamper", "field"),
    [(tampering.loss(NAN), "loss"), (tampering.accuracy(1.5), "accuracy"), (tampering.accuracy(NAN), "accuracy")],
)
def test_a_bad_report_leaves_a_hole_in_the_validation_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tamper: tampering.Tamper, field: str
) -> None:
    clean = runs.run(tmp_path / "clean", runs.digits(many=2))
    tampering.let(monkeypatch, 1, tampering.at("report", 0, 4), tamper)
    memory, grpc = (runs.run(tmp_path, runs.digits(many=2), transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest == clean.digest
    for result in (memory, grpc):
        (event,) = runs.events(result.folder, "rejected")
        assert (event["user"], event["round"], event["field"]) == ("u1", 0, field)
        rows = runs.rounds(result.folder)
        assert [*np.isnan(rows["val_loss"])] == [False, True, False, False]
        assert [*np.isnan(rows["val_fairness"])] == [True, True, False, False]
        assert {*runs.slots(result.folder)["status"]} == {"applied"}


def test_bad_validation_features_leave_a_hole_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tampering.let(monkeypatch, 0, tampering.at("features", 0, 4), tampering.value(INF))
    memory, grpc = (runs.run(tmp_path, runs.digits(many=2), transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    assert [*np.isnan(runs.rounds(memory.folder)["val_loss"])] == [True, False, False, False]


@pytest.mark.parametrize("slot", [SLOT, 4], ids=["slot", "validation"])
def test_finite_features_that_overflow_the_model_are_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slot: int
) -> None:
    tampering.let(monkeypatch, 1, tampering.at("features", ROUND, slot), tampering.huge)
    memory, grpc = (runs.run(tmp_path, runs.digits(many=3), transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    for result in (memory, grpc):
        (event,) = runs.events(result.folder, "rejected")
        assert (event["user"], event["round"], event["slot"], event["field"]) == ("u1", ROUND, slot, "features")
        assert "they are finite, but the model's outputs on them are not" in event["reason"]
        assert (runs.slots(result.folder)["status"] == "rejected").sum() == (slot == SLOT)


def test_everybody_rejected_in_a_slot_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data(7, 1, 2)
    tree = runs.arrays(tmp_path, x, y, edge=edge(BASE), record={"parameters": True})
    tampering.let(monkeypatch, 0, tampering.at("features", ROUND, SLOT), tampering.value(NAN))
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    with np.load(memory.folder / "parameters.npz") as found:
        theta, w = found["theta"][ROUND], found["w"][ROUND]
    np.testing.assert_array_equal(theta[SLOT], theta[SLOT + 1])
    np.testing.assert_array_equal(w[SLOT], w[SLOT + 1])


def test_a_user_that_is_rejected_throughout_leaves_the_run_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tampering.let(monkeypatch, 1, lambda message: message.HasField("feedback"), tampering.loss(NAN))
    memory, grpc = (runs.run(tmp_path, runs.kernel(many=3), transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    summary = runs.read_json(memory.folder / "summary.json")
    assert summary["utility_mean"]["user_01"] is None
    assert summary["rejected"] == 8


def overflowing(folder: Path) -> runs.Tree:
    """User u1's data are finite, but its loss in round 1, slot 2 is not."""
    x, y = data(8, 3, 2)
    x[ROUND, SLOT, 1] = 1e200
    return runs.arrays(folder, x, y, edge=edge(BASE))


def test_an_infinite_loss_is_refused_on_every_transport(tmp_path: Path, run_on_ray: Callable[..., Result]) -> None:
    others = [{"name": "grpc", "transport": "grpc"}, {"name": "memory", "transport": "memory"}]
    result = run_on_ray(tmp_path, {**overflowing(tmp_path), "transport": "ray", "compare": others})
    assert {r.digest for r in result.compared} == {result.digest}
    for one in (result, *result.compared):
        (event,) = runs.events(one.folder, "rejected")
        assert (event["user"], event["round"], event["slot"], event["field"]) == ("u1", ROUND, SLOT, "loss")
        same_rows(one.folder, result.folder)
