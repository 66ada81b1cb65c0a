"""Faults as a scenario says them: one clear line for each that cannot be, and chances that are the seed's."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import runs
from sim.blueprint import Blueprint
from sim.build import build_session
from sim.fault_schedule import Strike, Victim, spent
from sim.faulty_edge import Disk, build_cell
from sim.faulty_user import FaultySession
from sim.planning import blueprint
from sim.recipe import from_recipe, to_recipe
from sim.scenario import Scenario, ScenarioErrors
from sim.step import Step
from user_client.session import Session

AT = {"at": {"round": 1, "slot": 2}}
KINDS = "crash | disconnect | duplicate | reorder | corrupt | nan | huge | hang | slow | lie | edge_crash | disk_full"
ONE_OF_TWO = "give a place (`at: {round: 3, slot: 5}`) or a chance (`rate: 0.01`), one of the two"


def scenario(*faults: runs.Tree, folder: Path, **changes) -> Scenario:
    return runs.loaded(folder, runs.kernel(many=3, rounds=4, slots=50, faults=[*faults], **changes)).scenario


ROWS = [
    ({"kind": "crush", **AT}, {}, "faults.0.kind: unknown kind 'crush'; did you mean \"crash\"?"),
    ({"kind": "x", **AT}, {}, f"faults.0.kind: unknown kind 'x'; one of {KINDS}"),
    ({**AT}, {}, f"faults.0.kind: is missing; one of {KINDS}"),
    ({"kind": "nan"}, {}, f"faults.0: {ONE_OF_TWO}"),
    ({"kind": "nan", "rate": 0.1, **AT}, {}, f"faults.0: {ONE_OF_TWO}"),
    ({"kind": "nan", "rate": 0}, {}, "faults.0.rate: must be above 0, got 0"),
    ({"kind": "nan", "rate": 1.5}, {}, "faults.0.rate: must be at most 1, got 1.5"),
    ({"kind": "slow", "rate": 0.1}, {}, "faults.0.seconds: is missing"),
    ({"kind": "hang", "rate": 0.1, "for": -1}, {}, "faults.0.for: must be above 0, got -1"),
    ({"kind": "hang", "rate": 0.1, "for": 1, "seconds": 1}, {}, "faults.0.seconds: unknown key"),
    ({"kind": "lie", "rate": 0.1, "factor": 0}, {}, "faults.0.factor: must be above 0, got 0"),
    ({"kind": "disk_full", "rate": 0.1, "user": "user_00"}, {}, "faults.0.user: unknown key"),
    ({"kind": "nan", "user": "user_3", **AT}, {}, "faults.0.user: no user 'user_3' in this scenario; did you mean"),
    (
        {"kind": "nan", "at": {"round": 4, "slot": 2}}, {},
        "faults.0.at.round: rounds are counted from 0, and there are 4: at most 3, got 4",
    ),
    (
        {"kind": "nan", "at": {"round": 0, "slot": 50}}, {},
        "faults.0.at.slot: slots are counted from 0, and there are 50: at most 49, got 50",
    ),
    ({"kind": "nan", "at": {"round": 0}}, {}, "faults.0.at.slot: is missing"),
    ({"kind": "crash", **AT}, {}, "faults.0.kind: in memory a user has neither a process nor a stream to lose"),
    ({"kind": "crash", **AT}, {"transport": "grpc", "trunk": True}, "faults.0.kind: on a trunk over grpc a user"),
    ({"kind": "edge_crash", **AT}, {"transport": "grpc"}, "faults.0.kind: with grpc the edge has no process"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "changes", "said"), ROWS, ids=[said for _, _, said in ROWS])
def test_a_fault_that_cannot_be_is_one_line(tmp_path: Path, fault: runs.Tree, changes: runs.Tree, said: str) -> None:
    with pytest.raises(ScenarioErrors) as caught:
        scenario(fault, folder=tmp_path, **changes)
    (line,) = caught.value.errors
    where, _, rest = line.partition(": ")
    assert rest.startswith(said)
    lines = (tmp_path / "in" / "scenario.yaml").read_text().splitlines()
    inside = lines.index("faults:") + 1
    assert inside < int(where.rpartition(":")[2]) <= inside + 7


def test_every_kind_has_a_transport_on_which_it_can_be(tmp_path: Path) -> None:
    whole = {"slow": {"seconds": 1.0}, "hang": {"for": 1.0}, "lie": {"factor": 2.0}}
    faults = [{"kind": kind, "rate": 0.1, **whole.get(kind, {})} for kind in KINDS.split(" | ")]
    assert len(scenario(*faults, folder=tmp_path, transport="ray").faults) == 12


def struck(victim: Victim, rounds: int = 200, slots: int = 50) -> list[Strike]:
    return [strike for t in range(rounds) for i in range(slots) for strike in victim.strikes(t, i)]


def test_chances_are_those_of_seed_user_and_fault_alone(tmp_path: Path) -> None:
    nan, slow = {"kind": "nan", "rate": 0.02}, {"kind": "slow", "rate": 0.02, "seconds": 1.0}
    many = scenario(nan, slow, folder=tmp_path)
    first = struck(Victim(many, "user_00", frozenset()))
    assert first == struck(Victim(many, "user_00", frozenset()))
    by_kind = {kind: {(s.round, s.slot) for s in first if s.kind == kind} for kind in ("nan", "slow")}
    for places in by_kind.values():
        assert 140 < len(places) < 260  # 10,000 coins of 0.02: 200 +- 4 standard deviations
    assert len(by_kind["nan"] & by_kind["slow"]) < 20
    other = {(s.round, s.slot) for s in struck(Victim(many, "user_01", frozenset())) if s.kind == "nan"}
    assert len(by_kind["nan"] & other) < 20
    alone = scenario(nan, folder=tmp_path / "alone", seed=3)
    assert struck(Victim(alone, "user_00", frozenset())) == [s for s in first if s.kind == "nan"]
    assert struck(Victim(alone, None, frozenset())) == []
    reseeded = scenario(nan, folder=tmp_path / "reseeded", seed=4)
    assert struck(Victim(reseeded, "user_00", frozenset())) != struck(Victim(alone, "user_00", frozenset()))


def test_a_place_strikes_whom_it_names(tmp_path: Path) -> None:
    found = scenario({"kind": "nan", "user": "user_01", **AT}, {"kind": "lie", **AT}, folder=tmp_path)
    assert struck(Victim(found, "user_00", frozenset())) == [Strike("lie", 1, 2, "user_00")]
    everything = [Strike("nan", 1, 2, "user_01"), Strike("lie", 1, 2, "user_01")]
    assert struck(Victim(found, "user_01", frozenset())) == everything


def test_what_is_said_strikes_again_and_the_rest_once(tmp_path: Path) -> None:
    lie, slow = {"kind": "lie", **AT}, {"kind": "slow", "seconds": 1.0, **AT}
    found = scenario(lie, slow, folder=tmp_path)
    before = frozenset(struck(Victim(found, "user_00", frozenset())))
    assert {strike.kind for strike in before} == {"lie", "slow"}
    assert [strike.kind for strike in struck(Victim(found, "user_00", before))] == ["lie"]
    assert len(struck(Victim(found, "user_01", before))) == 2


def test_events_tell_what_is_spent_from_a_round_on(tmp_path: Path) -> None:
    strikes = [Strike("crash", 1, 2, "a"), Strike("lie", 2, 0, "a"), Strike("edge_crash", 2, 3, None)]
    lines = [json.dumps(strike.event) for strike in strikes]
    (tmp_path / "events.jsonl").write_text("\n".join(['{"event": "join"}', *lines, '{"event": "fau']))
    assert spent(tmp_path, 0) == {strikes[0], strikes[2]}
    assert spent(tmp_path, 2) == {strikes[2]}
    assert spent(tmp_path / "nothing", 0) == frozenset()


def design(folder: Path, *faults: runs.Tree, **changes) -> Blueprint:
    return blueprint(scenario(*faults, folder=folder, **changes), "r")


def test_who_has_no_fault_has_the_plain_session(tmp_path: Path) -> None:
    one = design(tmp_path, {"kind": "nan", "user": "user_01", **AT}, {"kind": "disk_full", "rate": 0.5})
    assert [type(build_session(one, k)) for k in range(3)] == [Session, FaultySession, Session]
    none = design(tmp_path / "none")
    cells = [type(build_cell(one, lambda _: None, lambda: False)).__name__ for one in (none, one)]
    assert cells == ["Cell", "_FaultyCell"]


def test_other_processes_are_told_what_is_spent(tmp_path: Path) -> None:
    crash = Strike("edge_crash", 1, 2, None)
    one = design(tmp_path, {"kind": "edge_crash", **AT}, transport="ray")
    told, _ = from_recipe(to_recipe(replace(one, spent=frozenset((crash,))), Step(0.1)))
    assert told.spent == {crash}
    assert struck(Victim(told.scenario, None, told.spent)) == []


def test_the_disk_is_full_for_the_first_checkpoint_behind_the_place(tmp_path: Path) -> None:
    full = [{"kind": "disk_full", "at": {"round": t, "slot": 2}} for t in (1, 3)]
    disk = Disk(design(tmp_path, *full))
    found = [disk.full(t, i) for t, i in ((1, 0), (1, 2), (1, 3), (2, 0), (4, 0))]
    assert found == [None, None, Strike("disk_full", 1, 2, None), None, Strike("disk_full", 3, 2, None)]


def test_rates_hold_over_users_too(tmp_path: Path) -> None:
    found = scenario({"kind": "duplicate", "rate": 0.1}, folder=tmp_path)
    counts = [len(struck(Victim(found, f"user_0{k}", frozenset()))) for k in range(3)]
    np.testing.assert_allclose(counts, 1000, atol=120)
    assert len({*counts}) == 3
