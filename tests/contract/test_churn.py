"""Users that come and go between rounds: the same bits everywhere, and nothing of the absent in any number."""

from pathlib import Path

import numpy as np
import pytest

import reference as ref
import runs
from sim.caller import Watcher
from sim.local import run_in_memory
from sim.planning import blueprint
from sim.presence import away
from sim.step import Step


def churning(tree: runs.Tree, p: float = 0.5, steady: int | None = None) -> runs.Tree:
    people = tree["users"]
    if isinstance(people, dict):
        people = [{**people["template"], "name": f"u{k}"} for k in range(people["count"])]
    users = [{**user, "presence": "always" if k == steady else {"churn": p}} for k, user in enumerate(people)]
    return {**tree, "users": users}


def absent(tmp_path: Path, tree: runs.Tree) -> np.ndarray:
    """[T, K]: who is away when."""
    scenario = runs.loaded(tmp_path, tree).scenario
    return np.array([[t in rounds for rounds in away(scenario)] for t in range(scenario.rounds)])


@pytest.mark.parametrize(
    "tree", [runs.kernel(many=4, rounds=5, slots=3), runs.digits(many=3, rounds=4, slots=2)], ids=["kernel", "digits"]
)
def test_every_transport_gives_the_same_bits(tmp_path: Path, tree: runs.Tree, run_on_ray) -> None:
    tree = churning(tree)
    gone = absent(tmp_path, tree)
    assert gone.any()
    assert not gone.all(axis=1).any()
    found = [run_on_ray(tmp_path, tree, transport) for transport in ("memory", "grpc", "ray")]
    assert [result.status for result in found] == ["done"] * 3
    assert len({result.digest for result in found}) == 1
    assert found[0].digest != run_on_ray(tmp_path / "steady", churning(tree, p=0.0), "memory").digest


def test_the_absent_leave_no_trace_but_their_status(tmp_path: Path) -> None:
    tree = churning(runs.digits(many=3, rounds=5, slots=3))
    gone = absent(tmp_path, tree)
    result = runs.run(tmp_path, tree)
    rows = {name: column.reshape(5, 3, 3) for name, column in runs.slots(result.folder).items()}
    away_rows = np.repeat(gone[:, None, :], 3, axis=1)
    assert (rows["status"][away_rows] == "absent").all()
    assert (rows["status"][~away_rows] == "applied").all()
    for name in ("loss", "utility", "weight", "t_user"):
        assert np.isnan(rows[name][away_rows]).all(), name
        assert np.isfinite(rows[name][~away_rows]).all(), name
    for name in ("bytes_up", "bytes_down"):
        assert not rows[name][away_rows].any()
        assert (rows[name][~away_rows] > 0).all()
    rounds = {name: column.reshape(5, 3) for name, column in runs.rounds(result.folder).items()}
    assert (np.isnan(rounds["val_loss"]) == gone).all()
    assert result.summary["absent"] == 3 * gone.sum()
    assert result.summary["rejected"] == 0


def test_fairness_is_over_those_present_and_weights_are_not_renormalised(tmp_path: Path) -> None:
    tree = churning(runs.kernel(many=4, rounds=6, slots=5))
    tree["edge"]["aggregator"]["alpha"] = 2.0
    gone = absent(tmp_path, tree)
    rounds = runs.rounds(runs.run(tmp_path, tree).folder)
    table = {name: column.reshape(6, 4) for name, column in rounds.items()}
    for t in range(6):
        here = ~gone[t]
        u = table["mean_utility"][t, here]
        inside = u.clip(1.0, 4.0)
        by_hand = ((inside**-1 - 1) / -1 + inside**-2 * (u - inside)).sum()
        assert table["fairness"][t, 0] == pytest.approx(by_hand, rel=1e-12)
        assert table["sum_w"][t, 0] == pytest.approx(np.nansum(table["w_mean"][t]), rel=1e-12)
    first_w = runs.slots(tmp_path / "out")["weight"].reshape(6, 5, 4)[:, 0]
    assert (first_w[~gone] == 1).all()


def test_theta_moves_as_if_the_absent_were_not_in_the_scenario(tmp_path: Path) -> None:
    """The reference, given each round with its present users alone, finds the same models and best models."""
    rng = np.random.default_rng(5)
    x = rng.normal(0, 0.8, (4, 6, 3, 2, 3))
    y = np.einsum("tikbd,td->tikb", x, rng.uniform(-0.8, 0.8, (4, 3))) + rng.normal(0, 0.3, x.shape[:-1])
    tree = churning(runs.arrays(tmp_path, x, y, record={"parameters": True}), steady=1)
    tree["edge"]["meta"]["target"] = "oracle"
    gone = absent(tmp_path, tree)
    assert gone.any()
    with np.load(runs.run(tmp_path, tree).folder / "parameters.npz") as found:
        arrays = {name: found[name] for name in found.files}
    s = ref.Setting(alpha=1.0, u_min=1.0, u_max=4.0, l_max=4.0, eta=0.05, theta_box=1.0, x_box=1.0, target="oracle")
    start = np.zeros(3)
    for t in range(4):
        here = ~gone[t]
        theta, w = arrays["theta"][t], arrays["w"][t][:, here]
        np.testing.assert_allclose(theta[0], start, atol=1e-12)
        for i in range(6):
            step = w[i] @ ref.loss_gradients(theta[i], x[t, i][here], y[t, i][here])
            np.testing.assert_allclose(theta[i + 1], np.clip(theta[i] + 0.05 * step, -1, 1), atol=1e-10)
        star = arrays["theta_star"][t]
        best = ref.oracle(x[t][:, here], y[t][:, here], s)
        worth = [ref.objective(v, x[t][:, here], y[t][:, here], s) for v in (star, best)]
        assert worth[0] == pytest.approx(worth[1], abs=1e-9)
        start = start + (star - start) / (t + 1)


def test_heads_wait_for_their_users(tmp_path: Path) -> None:
    """A user away in every round after the first has, in the end, the head of a run of one round."""
    tree = runs.digits(many=2, rounds=1, slots=3)
    longer = churning({**tree, "rounds": 4}, p=0.999, steady=0)
    assert absent(tmp_path, longer)[1:, 1].all()
    once, often = (leave_hashes(tmp_path / name, scenario) for name, scenario in (("once", tree), ("often", longer)))
    assert once[1] == often[1]
    assert once[0] != often[0]


def leave_hashes(folder: Path, tree: runs.Tree) -> list[bytes]:
    return run_in_memory(blueprint(runs.loaded(folder, tree).scenario, "run"), Step(0.1), runs.HOOKS).users


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_stopped_run_calls_the_absent_back(tmp_path: Path, transport: str) -> None:
    tree = churning(runs.kernel(many=3, rounds=50, slots=2), p=0.6)
    gone = absent(tmp_path, tree)
    at = int(np.flatnonzero(gone.any(axis=1))[0])
    done: list[int] = []
    watcher = Watcher(on_round=lambda record: done.append(record.round), stop=lambda: len(done) == at)
    result = runs.run(tmp_path, tree, transport, watcher)
    assert result.status == "stopped"
    assert len(done) == at
