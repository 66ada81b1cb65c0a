"""Late users take part with what they sent last in the round; uplinks differ in power."""

from pathlib import Path

import numpy as np
import pytest
from test_end_to_end_reference import data

import runs
from sim.caller import BadScenario
from sim.scenario import ScenarioErrors

ETA = 0.05
DEADLINE = 1.0


def late_tree(folder: Path, late: list[tuple[int, int]], **changes: object) -> runs.Tree:
    """Two rounds of four slots; user 1 has no gain to speak of in the (round, slot) pairs of `late`."""
    x, y = data(4, 2, 2)
    rounds, slots, users = x.shape[:3]
    gain = np.ones((rounds, slots, users))
    for t, i in late:
        gain[t, i, 1] = 1e-9
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "gains.npz", gain=gain)
    edge = {
        "encoder": {"kind": "linear"},
        "aggregator": {"kind": "owo_fmtl", "alpha": 1.0, "u_min": 1.0, "u_max": 9.0},
        "primal": {"step": ETA},
    }
    radio = {"kind": "trace", "path": str(folder / "gains.npz")}
    more = {"radio": radio, "deadline": DEADLINE, "on_user_failure": "stale", "record": {"parameters": True}}
    return runs.arrays(folder, x, y, edge=edge, **{**more, **changes})


def test_the_step_takes_the_gradient_of_the_last_slot_and_holds_the_dual(tmp_path: Path) -> None:
    """Closed form for a linear model: user 1's gradient of slot 2 is that of slot 1, X' 2 (X theta_1 - y) / B."""
    x, y = data(4, 2, 2)
    result = runs.run(tmp_path, late_tree(tmp_path, [(0, 2)]))
    with np.load(result.folder / "parameters.npz") as found:
        theta, w = found["theta"], found["w"]

    def gradient(user: int, of: int, at: int) -> np.ndarray:
        inputs, labels = x[0, of, user], y[0, of, user]
        slope: np.ndarray = inputs.T @ (2 * (inputs @ theta[0, at] - labels) / len(labels))
        return slope

    moved = theta[0, 2] + ETA * (w[0, 2, 0] * gradient(0, 2, 2) + w[0, 2, 1] * gradient(1, 1, 1))
    np.testing.assert_allclose(theta[0, 3], moved, rtol=1e-12)
    assert w[0, 3, 1] == w[0, 2, 1]
    assert w[0, 3, 0] != w[0, 2, 0]


def test_records_say_what_was_used(tmp_path: Path) -> None:
    result = runs.run(tmp_path, late_tree(tmp_path, [(0, 2)]))
    rows = runs.slots(result.folder)
    it = (rows["round"] == 0) & (rows["slot"] == 2) & (rows["user"] == "u1")
    assert [*rows["status"][it]] == ["late"]
    assert np.isnan(rows["loss"][it]).all()
    assert rows["weight"][it] > 0
    (event,) = runs.events(result.folder, "stale")
    assert {key: event[key] for key in ("user", "of_slot", "round", "slot")} == {
        "user": "u1", "of_slot": 1, "round": 0, "slot": 2,
    }  # fmt: skip
    assert result.summary["late"] == result.summary["deadline_misses"] == 1


def test_a_user_is_late_several_times_and_its_last_slot_stays_the_same(tmp_path: Path) -> None:
    result = runs.run(tmp_path, late_tree(tmp_path, [(0, 1), (0, 2), (0, 3)]))
    assert [event["of_slot"] for event in runs.events(result.folder, "stale")] == [0, 0, 0]


def test_a_round_knows_nothing_of_the_last_one(tmp_path: Path) -> None:
    """Late in the first slot of round 1, before it was heard there: as with drop."""
    stale, drop = (
        runs.run(tmp_path / name, late_tree(tmp_path / name, [(1, 0)], on_user_failure=name))
        for name in ("stale", "drop")
    )
    assert not runs.events(stale.folder, "stale")
    assert stale.digest == drop.digest


def test_without_a_late_user_nothing_differs_from_drop(tmp_path: Path) -> None:
    stale, drop = (
        runs.run(tmp_path / name, late_tree(tmp_path / name, [], on_user_failure=name)) for name in ("stale", "drop")
    )
    assert stale.digest == drop.digest


@pytest.mark.parametrize(
    "aggregator",
    [
        {"kind": "parameter_free"},
        {"kind": "mgda"},
        {"kind": "q_ffl"},
        {"kind": "owo_fmtl", "horizon": "slot"},
        {"kind": "owo_fmtl", "dual": "follow_the_leader"},
    ],
    ids=lambda rule: "-".join(rule.values()),
)
def test_every_rule_lives_with_it(tmp_path: Path, aggregator: runs.Tree) -> None:
    scoring = {"alpha": 1.0, "u_min": 1.0, "u_max": 9.0}
    tree = runs.changed(late_tree(tmp_path, [(0, 2), (1, 1)]), edge__aggregator={**aggregator, **scoring})
    if aggregator["kind"] == "parameter_free":
        tree = runs.changed(tree, edge__primal__step="free", edge__meta={"rule": "learned"})
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest
    assert len(runs.events(memory.folder, "stale")) == 2


def test_trainable_fronts_take_no_step_when_late(tmp_path: Path, run_on_ray) -> None:
    tree = runs.digits(many=3, rounds=2, slots=4)
    radio = {"kind": "rayleigh", "loss_db": [0.0, 0.0, 6.0], "user_power": [1.0, 1.0, 0.4]}
    tree |= {"radio": radio, "deadline": 0.35, "on_user_failure": "stale"}
    found = [run_on_ray(tmp_path / name, tree, name) for name in ("memory", "grpc", "ray")]
    assert len({result.digest for result in found}) == 1
    assert len(runs.events(found[0].folder, "stale")) > 0


def test_stale_needs_a_deadline(tmp_path: Path) -> None:
    tree = {**late_tree(tmp_path, []), "deadline": None}
    with pytest.raises(ScenarioErrors, match="stale is for users who miss a deadline"):
        runs.loaded(tmp_path, tree)


def test_every_user_has_its_own_uplink_power(tmp_path: Path) -> None:
    tree = late_tree(tmp_path, [], deadline=None, on_user_failure="wait")
    tree["radio"]["user_power"] = [1.0, 0.25]
    result = runs.run(tmp_path, tree)
    bill = result.summary["bill"]
    for user, watts in (("u0", 1.0), ("u1", 0.25)):
        assert bill[user]["up_joules"] == pytest.approx(watts * bill[user]["up_seconds"], rel=1e-12)
    slower = np.log2(1 + 10 * 1.0) / np.log2(1 + 10 * 0.25)
    assert bill["u1"]["up_seconds"] == pytest.approx(slower * bill["u0"]["up_seconds"], rel=0.02)


def test_uplink_powers_are_one_per_user(tmp_path: Path) -> None:
    tree = late_tree(tmp_path, [])
    tree["radio"]["user_power"] = [1.0, 0.25, 0.5]
    with pytest.raises(BadScenario, match=r"radio: user_power has 3 entries for 2 users"):
        runs.run(tmp_path, tree)
