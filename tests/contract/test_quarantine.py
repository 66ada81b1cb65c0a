"""Finite but huge is refused like not finite at all; who does it again and again is not heard any more."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_end_to_end_reference import BASE, data, edge

import runs
import tampering
from protos import edge_pb2 as pb
from sim.caller import RunError, Watcher
from sim.resume import resume_run
from sim.runner import run as run_scenario

HUGE = {"kind": "gradient", "attack": "scale", "factor": 1e30}
ELSEWHERE = [{"name": "memory", "transport": "memory"}, {"name": "grpc", "transport": "grpc"}]


def guarded(strikes: int | None = 5, rounds: int = 4, many: int = 3, **changes) -> runs.Tree:
    """Users who send ahead (kernel) and slots of 4; the second user's gradients are 1e30 times too large."""
    people = [
        {"name": f"u{k}", "task": {"kind": "kernel_regression"}, "head": {"kind": "identity"}} for k in range(many)
    ]
    people[1]["adversary"] = HUGE
    tree = runs.kernel(rounds=rounds, users=people, **changes)
    tree["edge"] |= {"max_norm": 1e6, "quarantine": strikes and {"strikes": strikes}}
    return tree


def statuses(folder: Path, user: str) -> list[str]:
    rows = runs.slots(folder)
    return rows["status"][rows["user"] == user].tolist()


@pytest.mark.parametrize(("kind", "field"), [("features", "features"), ("feedback", "gradient")])
def test_a_norm_beyond_the_limit_is_named_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, field: str
) -> None:
    tampering.let(monkeypatch, 1, tampering.at(kind, 1, 2), tampering.value(1e38))
    x, y = data(5, 3, 2)
    tree = runs.changed(runs.arrays(tmp_path, x, y, edge=edge(BASE)), edge__max_norm=1e6)
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    (event,) = runs.events(memory.folder, "rejected")
    assert (event["user"], event["round"], event["slot"], event["field"]) == ("u1", 1, 2, field)
    assert event["reason"] == "its norm is 1e+38, edge.max_norm is 1e+06"
    assert memory.summary["rejected"] == 1


def test_a_limit_that_nobody_reaches_changes_nothing(tmp_path: Path) -> None:
    plain = runs.run(tmp_path / "plain", runs.digits())
    limited = runs.changed(runs.digits(), edge__max_norm=1e6, edge__quarantine={"strikes": 1})
    assert runs.run(tmp_path / "limited", limited).digest == plain.digest


def test_denormal_numbers_are_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tampering.let(monkeypatch, 1, lambda message: message.HasField("feedback"), tampering.value(5e-324))
    x, y = data(5, 3, 2)
    tree = runs.changed(runs.arrays(tmp_path, x, y, edge=edge(BASE)), edge__max_norm=1e6)
    assert runs.run(tmp_path, tree).summary["rejected"] == 0


def test_after_the_last_strike_a_user_is_rejected_to_the_rounds_end_and_then_absent(tmp_path: Path) -> None:
    result = runs.run(tmp_path, guarded(strikes=2))
    assert statuses(result.folder, "u1") == ["rejected"] * 4 + ["absent"] * 12
    assert {*statuses(result.folder, "u0")} == {"applied"}
    assert [(event["slot"], event["field"]) for event in runs.events(result.folder, "rejected")] == [
        (0, "gradient"), (1, "gradient"),
    ]  # fmt: skip
    (event,) = runs.events(result.folder, "quarantined")
    assert (event["user"], event["round"], event["slot"], event["strikes"]) == ("u1", 0, 1, 2)


def test_without_a_quarantine_it_stays_and_is_rejected(tmp_path: Path) -> None:
    result = runs.run(tmp_path, guarded(strikes=None))
    assert statuses(result.folder, "u1") == ["rejected"] * 16
    assert runs.events(result.folder, "quarantined") == []


def test_quarantine_moves_no_number_of_the_others(tmp_path: Path) -> None:
    """Nothing of it was ever used, and what quarantine spares them is its messages alone."""
    with_it = runs.slots(runs.run(tmp_path / "with", guarded(strikes=1)).folder)
    rejected = runs.slots(runs.run(tmp_path / "rejected", guarded(strikes=None)).folder)
    for name in ("loss", "weight", "utility"):
        np.testing.assert_array_equal(with_it[name], rejected[name])


def test_every_transport(tmp_path: Path, run_on_ray: Callable) -> None:
    tree = guarded(strikes=6)
    tree["users"].append({**runs.kernel()["users"]["template"], "name": "away", "presence": {"churn": 0.5}})
    result = run_on_ray(tmp_path, {**tree, "transport": "ray", "hosts": 2, "compare": ELSEWHERE})
    assert {one.digest for one in result.compared} == {result.digest}
    for one in (result, *result.compared):
        assert statuses(one.folder, "u1") == ["rejected"] * 8 + ["absent"] * 8
        assert len(runs.events(one.folder, "quarantined")) == 1


@pytest.mark.parametrize(("transport", "stop"), [("memory", 1), ("grpc", 2), ("memory", 3), ("ray", 2)])
def test_strikes_outlive_a_stop(tmp_path: Path, run_on_ray: Callable, transport: str, stop: int) -> None:
    """Stopped with 4 of 6 strikes, in quarantine, and a round later."""
    whole = runs.run(tmp_path / "whole", guarded(strikes=6))
    loaded = runs.loaded(tmp_path, guarded(strikes=6), transport)
    run_scenario(loaded, tmp_path / "out", None, Watcher(), stop)
    again = resume_run(tmp_path / "out", None, None, Watcher())
    assert again.digest == whole.digest
    assert statuses(again.folder, "u1") == statuses(whole.folder, "u1") == ["rejected"] * 8 + ["absent"] * 8
    assert len(runs.events(again.folder, "quarantined")) == 1


def test_a_user_with_a_trainable_front_and_a_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(message: pb.UserMessage) -> bool:
        return message.HasField("features")

    tampering.let(monkeypatch, 1, bad, tampering.value(float("nan")))
    tree = runs.changed(runs.digits(many=3, rounds=3), edge__quarantine={"strikes": 2})
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    assert statuses(memory.folder, "u1") == ["rejected"] * 4 + ["absent"] * 8
    assert np.isnan(runs.rounds(memory.folder)["val_loss"]).tolist() == [False, True, False] * 3


def test_a_run_without_anybody_left_ends_with_one_line(tmp_path: Path) -> None:
    tree = guarded(strikes=2, many=2)
    tree["users"] = tree["users"][1:]
    with pytest.raises(RunError, match=r"round 0, slot 1: every user is in quarantine, 'u1' was the last"):
        runs.run(tmp_path, tree)


def test_two_users_of_whom_one_is_out_may_both_be_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one's bad slot is not taken for a model that has diverged."""
    tampering.let(monkeypatch, 0, tampering.at("feedback", 0, 2), tampering.loss(float("nan")))
    result = runs.run(tmp_path, guarded(strikes=2, many=2))
    assert statuses(result.folder, "u0")[:4] == ["applied", "applied", "rejected", "applied"]
