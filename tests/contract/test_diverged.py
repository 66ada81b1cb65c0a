"""Several users do not go bad in the same slot: when all are rejected at once, the run ends and says why."""

import math
from pathlib import Path

import numpy as np
import pytest
from test_churn import absent, churning

import runs
import sim.local
import tampering
from protos import edge_pb2 as pb
from sim.build import build_session
from sim.caller import RunError

TRANSPORTS = ("memory", "grpc")
ADVICE = "the model has diverged; lower edge.primal.step or set edge.primal.cap"
STEP = {"step": 1e30}
WIDE = {"step": 1e200}
FREE = {"rule": "continue"}


def lenet() -> runs.Tree:
    """float32: the outputs overflow in the slot after the step."""
    return runs.digits(many=3, slots=6, edge={**runs.digits()["edge"], "primal": STEP, "meta": FREE})


def kernel() -> runs.Tree:
    """float64: the outputs are finite, their squares are not."""
    return runs.changed(runs.kernel(many=3, slots=6), edge__primal=WIDE, edge__meta=FREE)


def everybody(monkeypatch: pytest.MonkeyPatch, when: tampering.When, tamper: tampering.Tamper) -> None:
    def build(design, k: int) -> tampering.Tampering:
        return tampering.Tampering(build_session(design, k), when, tamper)

    monkeypatch.setattr(sim.local, "build_session", build)


def failure(folder: Path, tree: runs.Tree, transport: str) -> str:
    with pytest.raises(RunError) as caught:
        runs.run(folder, tree, transport)
    manifest = runs.read_json(folder / transport / "manifest.json")
    assert manifest["status"] == "failed"
    assert str(caught.value) == f"{tree['name']}: {manifest['error']}"
    return manifest["error"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lenet, "every user was rejected in round 0, slot 1 (features: they are finite, but the model's outputs on "),
        (kernel, "every user was rejected in round 0, slot 1 (loss: it is inf): "),
    ],
    ids=["float32 lenet", "float64 kernel"],
)
def test_a_step_that_is_far_too_large_ends_the_run_with_one_line(tmp_path: Path, make, said: str) -> None:
    lines = [failure(tmp_path, make(), transport) for transport in TRANSPORTS]
    assert lines[0] == lines[1]
    assert lines[0].startswith(said)
    assert lines[0].endswith(f": {ADVICE}")
    assert "\n" not in lines[0]
    for transport in TRANSPORTS:
        rejected = runs.events(tmp_path / transport, "rejected")
        assert [(event["round"], event["slot"]) for event in rejected] == [(0, 1)] * 3


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("kind", "tamper", "field"),
    [
        ("features", tampering.value(math.nan), "features: nan at index"),
        ("feedback", tampering.loss(math.nan), "loss: it is nan"),
    ],
    ids=["features", "loss"],
)
def test_it_ends_whatever_it_was_that_all_of_them_sent(
    tmp_path: Path, monkeypatch, kind: str, tamper: tampering.Tamper, field: str, transport: str
) -> None:
    everybody(monkeypatch, tampering.at(kind, 1, 2), tamper)
    line = failure(tmp_path, runs.kernel(), transport)
    assert line.startswith(f"every user was rejected in round 1, slot 2 ({field}")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_users_that_go_bad_in_turn_do_not_end_it(tmp_path: Path, monkeypatch, transport: str) -> None:
    def build(design, k: int) -> tampering.Tampering:
        return tampering.Tampering(build_session(design, k), tampering.at("feedback", 1, k), tampering.loss(math.nan))

    monkeypatch.setattr(sim.local, "build_session", build)
    result = runs.run(tmp_path, runs.kernel(many=3), transport)
    assert result.status == "done"
    assert result.summary["rejected"] == 3


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_one_user_alone_in_a_round_is_one_that_went_bad(tmp_path: Path, monkeypatch, transport: str) -> None:
    tree = churning(runs.kernel(many=2, rounds=8), steady=0)
    alone = int(np.flatnonzero(absent(tmp_path, tree)[:, 1])[0])
    tampering.let(monkeypatch, 0, tampering.at("feedback", alone, 1), tampering.loss(math.nan))
    result = runs.run(tmp_path, tree, transport)
    assert result.status == "done"
    assert result.summary["rejected"] == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_those_who_are_away_do_not_count(tmp_path: Path, monkeypatch, transport: str) -> None:
    tree = churning(runs.kernel(many=4, rounds=8))
    gone = absent(tmp_path, tree).sum(axis=1)
    t = int(np.flatnonzero((gone > 0) & (gone < 3))[0])
    everybody(monkeypatch, tampering.at("feedback", t, 1), tampering.loss(math.nan))
    assert failure(tmp_path, tree, transport).startswith(f"every user was rejected in round {t}, slot 1 (loss: ")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_validation_that_nobody_can_report_ends_nothing(tmp_path: Path, monkeypatch, transport: str) -> None:
    def is_report(message: pb.UserMessage) -> bool:
        return message.HasField("report")

    everybody(monkeypatch, is_report, tampering.loss(math.nan))
    result = runs.run(tmp_path, runs.digits(many=2), transport)
    assert result.status == "done"
    assert np.isnan(runs.rounds(result.folder)["val_loss"]).all()
