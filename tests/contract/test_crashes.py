"""Users and edges that a scenario lets die: the run goes on from its checkpoint, and they do not die again."""

from pathlib import Path

import pytest
from test_faults import HARMLESS, SPOILT, crowd, exact, once

import runs
from sim import checkpoints
from sim.caller import Result, RunError, Watcher
from sim.resume import resume_run

PLACE = {"at": {"round": 3, "slot": 5}}
ROUNDS = {"seconds": 0, "slots": 1000}
LIE = {"kind": "lie", "rate": 0.1, "factor": 2.0}


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many checkpoints as a tree asks for."""
    monkeypatch.setattr(checkpoints, "LEAST", 0)


def tree(*faults: runs.Tree, **changes) -> runs.Tree:
    return runs.kernel(many=4, rounds=5, slots=8, faults=[LIE, *faults], checkpoints=ROUNDS, **changes)


def deaths(result: Result) -> list[tuple[str, str | None, int, int]]:
    found = [event for event in runs.events(result.folder, "fault") if "crash" in event["kind"]]
    return [(event["kind"], event.get("user"), event["round"], event["slot"]) for event in found]


def spoilt(*faults: runs.Tree, **changes) -> runs.Tree:
    """With everything else that may go wrong, too."""
    return crowd(*SPOILT, *HARMLESS, *faults, rounds=5, slots=8, checkpoints=ROUNDS, **changes)


@pytest.mark.parametrize(
    ("pace", "hosts"), [(4, 1), pytest.param(1000, 2, marks=pytest.mark.slow)], ids=["in a round", "between rounds"]
)
def test_who_dies_on_ray_dies_once(tmp_path: Path, run_on_ray, pace: int, hosts: int) -> None:
    """A user takes the users of its host with it; then the edge dies, in a slot that is replayed."""
    quiet = run_on_ray(tmp_path / "quiet", spoilt(), "memory")
    deadly = {"kind": "edge_crash", "at": {"round": 3, "slot": 6}}
    dying = spoilt({"kind": "crash", "user": "user_01", **PLACE}, deadly, hosts=hosts)
    result = run_on_ray(tmp_path, runs.changed(dying, checkpoints__slots=pace), "ray")
    assert (result.status, result.digest) == ("done", quiet.digest)
    assert deaths(result) == [("crash", "user_01", 3, 5), ("edge_crash", None, 3, 6)]
    assert once(exact(result)) == once(exact(quiet))
    who = f"the host of users 'user_00' to 'user_0{4 // hosts - 1}'"
    recovered = runs.events(result.folder, "recovered")
    assert [event["reason"].partition(" died: ")[0] for event in recovered] == [who, "the edge"]
    assert [(event["round"], event["slot"] > 0) for event in recovered] == [(3, pace == 4)] * 2


def test_a_user_that_dies_over_grpc_is_missed_for_as_long_as_patience_lasts(tmp_path: Path) -> None:
    quiet = runs.run(tmp_path / "quiet", tree())
    dying = tree({"kind": "crash", "user": "user_01", **PLACE}, patience=1.0)
    with pytest.raises(RunError) as caught:
        runs.run(tmp_path, dying, "grpc")
    assert str(caught.value).startswith(
        "kernel: no answer from 'user_01' in round 3, slot 5 within patience (1 s); 'user_01' was lost"
    )
    result = resume_run(tmp_path / "grpc", None, None, Watcher())
    assert (result.status, result.digest) == ("done", quiet.digest)
    assert deaths(result) == [("crash", "user_01", 3, 5)]


def test_a_user_that_dies_over_grpc_is_left_out_of_a_run_that_drops(tmp_path: Path) -> None:
    dying = tree({"kind": "crash", "user": "user_01", **PLACE}, on_user_failure="drop", patience=1.0)
    result = runs.run(tmp_path, dying, "grpc")
    assert (result.status, result.digest) == ("done", None)
    counts = result.summary["contributions"]
    assert counts["received"] == counts["applied"] == 4 * 5 * 8 - (3 + 8)
    assert (result.summary["late"], result.summary["absent"]) == (1, 2 + 8)
    assert runs.events(result.folder, "checkpoint")[-1]["round"] == 4


def test_a_user_that_dies_over_grpc_ends_a_run_that_does_not_wait(tmp_path: Path) -> None:
    dying = tree({"kind": "crash", "user": "user_01", **PLACE}, on_user_failure="fail")
    with pytest.raises(RunError) as caught:
        runs.run(tmp_path, dying, "grpc")
    assert "user 'user_01' was lost in round 3, slot 5: " in str(caught.value)
