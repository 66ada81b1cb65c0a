"""Faults of a scenario: what costs time leaves every bit, what is said wrongly is the same on every transport."""

from pathlib import Path

import numpy as np
import pytest

import runs
from sim import checkpoints
from sim.caller import Result, RunError, Watcher
from sim.local import At
from sim.resume import resume_run
from sim.runner import run as run_scenario

HARMLESS: list[runs.Tree] = [
    {"kind": "slow", "rate": 0.05, "seconds": 0.01},
    {"kind": "hang", "rate": 0.03, "for": 0.02},
    {"kind": "disconnect", "rate": 0.05},
    {"kind": "duplicate", "rate": 0.1},
    {"kind": "reorder", "rate": 0.1},
    {"kind": "disk_full", "rate": 0.1},
]
SPOILT: list[runs.Tree] = [
    {"kind": "nan", "rate": 0.05},
    {"kind": "corrupt", "rate": 0.05},
    {"kind": "huge", "rate": 0.02, "user": "user_02"},
    {"kind": "lie", "rate": 0.1, "factor": 2.0},
]
DROPS = {"nan", "corrupt"}


def crowd(*faults: runs.Tree, **changes) -> runs.Tree:
    """Small frozen users; what they say may be huge."""
    tree = runs.kernel(**{"many": 4, "rounds": 3, "slots": 10, "faults": [*faults], **changes})
    tree["edge"]["primal"]["cap"] = 5.0
    return tree


def fronts(*faults: runs.Tree, **changes) -> runs.Tree:
    return runs.digits(rounds=2, slots=8, faults=[*faults], **changes)


def large(*faults: runs.Tree) -> runs.Tree:
    """Frozen fronts and features too large to ride with feedback."""
    tree = runs.changed(runs.digits(rounds=2, slots=8, faults=[*faults]), users__1__adversary=[])
    return {**tree, "users": [{**user, "front": "none"} for user in tree["users"]]}


def exact(result: Result) -> dict[str, int]:
    """The run's accounting, which adds up."""
    counts: dict[str, int] = result.summary["contributions"]
    parts = ("applied", "rejected", "late", "duplicate")
    assert counts["received"] == sum(counts[name] for name in parts)
    assert counts["applied"] == result.summary["applied"]
    return counts


def strikes(result: Result, *kinds: str) -> list[tuple[str, int, int]]:
    found = [event for event in runs.events(result.folder, "fault") if event["kind"] in kinds]
    return [(event["user"], event["round"], event["slot"]) for event in found]


@pytest.mark.parametrize("transport", ["memory", "grpc"])
@pytest.mark.parametrize("make", [crowd, fronts, large], ids=["ahead", "trained fronts", "large"])
def test_what_costs_time_alone_changes_nothing(tmp_path: Path, make, transport: str) -> None:
    quiet = runs.run(tmp_path / "quiet", make(), transport)
    noisy = runs.run(tmp_path / "noisy", make(*HARMLESS), transport)
    assert noisy.digest == quiet.digest is not None
    counts, calm = exact(noisy), exact(quiet)
    assert calm["duplicate"] == 0 < counts["duplicate"]
    assert {**counts, "received": 0, "duplicate": 0} == {**calm, "received": 0}
    told = noisy.summary["events"]
    assert told["lost"] == told["returned"] == len(strikes(noisy, "disconnect")) > 0
    assert {kind for kind in ("slow", "hang", "duplicate", "reorder") if not strikes(noisy, kind)} == set()


def test_a_trunk_that_is_cut_changes_nothing(tmp_path: Path) -> None:
    quiet = runs.run(tmp_path / "quiet", crowd(trunk=True), "grpc")
    noisy = runs.run(tmp_path / "noisy", crowd(*HARMLESS, trunk=True), "grpc")
    assert noisy.digest == quiet.digest is not None
    assert noisy.summary["events"]["returned"] >= len(strikes(noisy, "disconnect")) > 0
    exact(noisy)


@pytest.mark.parametrize("make", [crowd, fronts], ids=["ahead", "trained fronts"])
def test_what_is_said_wrongly_is_the_same_over_a_socket(tmp_path: Path, make) -> None:
    spoilt = [fault for fault in SPOILT if make is crowd or fault["kind"] != "huge"]
    memory, grpc = (runs.run(tmp_path, make(*spoilt, *HARMLESS), transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest != runs.run(tmp_path / "quiet", make()).digest
    first = strikes(memory, *DROPS)
    assert first
    for one in (memory, grpc):
        assert strikes(one, *DROPS) == first
        rejected = runs.events(one.folder, "rejected")
        assert sorted({(e["user"], e["round"], e["slot"]) for e in rejected}) == sorted({*first})
        assert exact(one)["rejected"] == len({*first})
        assert {event["field"] for event in rejected} == {"gradient"}


@pytest.mark.parametrize("coding", ["float16", "bfloat16", "int8", {"kind": "top_k", "share": 0.2}])
def test_coded_gradients_can_be_spoilt_too(tmp_path: Path, coding) -> None:
    bad = [{"kind": kind, "user": "u0", "at": {"round": 0, "slot": i}} for i, kind in enumerate(("nan", "corrupt"))]
    tree = fronts(*bad, compression={"feedback": coding})
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    status = runs.slots(memory.folder)["status"].reshape(2, 8, 3)
    assert [*status[0, :3, 0]] == ["rejected", "rejected", "applied"]
    assert (status == "rejected").sum() == 2


def test_a_lie_multiplies_what_is_reported_in_its_slot(tmp_path: Path) -> None:
    at = {"round": 0, "slot": 0}
    honest = runs.slots(runs.run(tmp_path / "honest", crowd()).folder)
    lied = runs.slots(runs.run(tmp_path / "lied", crowd({"kind": "lie", "at": at, "user": "user_01"})).folder)
    ratio = (lied["loss"] / honest["loss"])[:4]
    np.testing.assert_allclose(ratio, [1, 3, 1, 1], rtol=1e-12)


def test_a_cut_stream_ends_a_run_that_does_not_wait(tmp_path: Path) -> None:
    fault = {"kind": "disconnect", "user": "user_01", "at": {"round": 1, "slot": 2}}
    for transport in ("memory", "grpc"):
        with pytest.raises(RunError) as caught:
            runs.run(tmp_path, crowd(fault, on_user_failure="fail"), transport)
        assert "user 'user_01' was lost in round 1, slot 2: " in str(caught.value)


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_silence_beyond_patience_ends_the_run_and_a_resumed_one_has_it_behind(tmp_path: Path, transport: str) -> None:
    fault = {"kind": "hang", "for": 60.0, "user": "user_01", "at": {"round": 1, "slot": 2}}
    quiet = runs.run(tmp_path / "quiet", crowd(patience=1.2))
    with pytest.raises(RunError) as caught:
        runs.run(tmp_path, crowd(fault, patience=1.2), transport)
    assert "no answer from 'user_01' in round 1, slot 2 within patience (1.2 s)" in str(caught.value)
    result = resume_run(tmp_path / transport, None, None, Watcher())
    assert (result.status, result.digest) == ("done", quiet.digest)
    assert len(strikes(result, "hang")) == 1


@pytest.mark.parametrize(("pace", "place"), [(1000, "round 2"), (2, "round 1, slot 4")])
def test_a_full_disk_leaves_the_checkpoints_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pace: int, place: str
) -> None:
    monkeypatch.setattr(checkpoints, "LEAST", 0)
    fault = {"kind": "disk_full", "at": {"round": 1, "slot": 3}}
    tree = runs.kernel(rounds=5, slots=6, faults=[fault], checkpoints={"seconds": 0, "slots": pace})
    quiet = runs.run(tmp_path / "quiet", {**tree, "faults": []})
    full = runs.run(tmp_path, tree)
    assert full.digest == quiet.digest
    (event,) = runs.events(full.folder, "not_saved")
    assert str(At(event["round"], event["slot"])) == place
    assert f"the checkpoint of {place} could not be saved: the disk is full" in event["reason"]
    there, wanted = (
        [At(e["round"], e["slot"]) for e in runs.events(one.folder, "checkpoint")] for one in (full, quiet)
    )
    assert there == [at for at in wanted if str(at) != place]
    assert len(there) == len(wanted) - 1


def once(counts: dict[str, int]) -> dict[str, int]:
    """Without copies: over a socket one may come when its slot, or the run, is over."""
    return {**counts, "received": counts["received"] - counts["duplicate"], "duplicate": 0}


@pytest.mark.parametrize("transport", ["memory", "grpc"])
@pytest.mark.parametrize("looks", [17, None])
def test_stopped_and_resumed_its_numbers_and_its_accounting_are_those_of_one_run(
    tmp_path: Path, looks: int | None, transport: str
) -> None:
    """In the midst of a round, where the run is asked to stop so many slots on, or behind the second one."""
    tree = crowd(*SPOILT, *HARMLESS)
    whole = runs.run(tmp_path / "whole", tree)
    asked = iter(range(1000))
    watcher = Watcher(stop=lambda: looks is not None and next(asked) >= looks)
    last = 2 if looks is None else None
    assert run_scenario(runs.loaded(tmp_path, tree), tmp_path / "out", None, watcher, last).status == "stopped"
    result = resume_run(tmp_path / "out", transport, None, Watcher())
    assert result.digest == whole.digest is not None
    ours, theirs = exact(result), exact(whole)
    assert ours == theirs if transport == "memory" else once(ours) == once(theirs)


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_who_answers_when_its_slot_has_gone_on_is_late_once(tmp_path: Path, transport: str) -> None:
    at = {"user": "user_01", "at": {"round": 0, "slot": 3}}
    faults = [{"kind": "slow", "seconds": 1.3, **at}, {"kind": "duplicate", **at}]
    tree = runs.kernel(many=3, rounds=80, slots=5, faults=faults, deadline=1.0, on_user_failure="drop")
    result = runs.run(tmp_path, tree, transport)
    late = [event for event in runs.events(result.folder, "late") if event["user"] == "user_01"]
    assert (late[0]["round"], late[0]["slot"], late[0]["of"]) == (0, 3, "feedback")
    assert runs.events(result.folder, "came_late")[0]["user"] == "user_01"
    counts = exact(result)
    assert (counts["late"], counts["duplicate"], counts["rejected"]) == (1, 1, 0)
    assert result.digest is not None


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_cut_stream_costs_a_run_that_drops_the_slot(tmp_path: Path, transport: str) -> None:
    """Over a socket only if the others have answered before it is back, as they nearly always have."""
    fault = {"kind": "disconnect", "user": "user_01", "at": {"round": 1, "slot": 2}}
    result = runs.run(tmp_path, crowd(fault, on_user_failure="drop", rounds=20), transport)
    (returned,) = runs.events(result.folder, "returned")
    went_on = returned["missed"] > 0
    assert went_on or transport == "grpc"
    late = [(event["user"], event["round"], event["slot"]) for event in runs.events(result.folder, "late")]
    assert late == [("user_01", 1, 2)] * went_on
    assert exact(result)["late"] == len(runs.events(result.folder, "came_late")) == went_on
    assert result.digest is not None


@pytest.mark.parametrize("policy", ["drop", "stale"])
def test_late_feedback_is_counted_as_late(tmp_path: Path, policy: str) -> None:
    radio = {"kind": "rayleigh", "compute": {"user": [0.0, 0.1, 0.0, 0.0]}}
    copies = [{"kind": "duplicate", "rate": 0.2}, {"kind": "nan", "rate": 0.2, "user": "user_00"}]
    tree = crowd(*copies, radio=radio, deadline=0.1008, on_user_failure=policy)
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    counts = exact(memory)
    assert counts["late"] == len(runs.events(memory.folder, "late")) > 0 < counts["rejected"]
    assert counts["duplicate"] == len(strikes(memory, "duplicate")) > 0


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_three_kinds_in_flight_at_25_50_and_10_percent_leave_every_bit(tmp_path: Path, transport: str) -> None:
    wild = [{"kind": "disconnect", "rate": 0.25}, {"kind": "duplicate", "rate": 0.5}]
    wild.append({"kind": "slow", "rate": 0.1, "seconds": 0.005})
    quiet = runs.run(tmp_path / "quiet", crowd())
    first, second = (runs.run(tmp_path / str(n), crowd(*wild), transport) for n in range(2))
    assert first.digest == second.digest == quiet.digest is not None
    assert len(strikes(first, "disconnect")) > 20 < len(strikes(first, "duplicate"))
    assert exact(first)["applied"] == 4 * 3 * 10
