"""A few of many users a round or a slot: the same bits everywhere, and nothing of the others in any number."""

from pathlib import Path

import numpy as np
import pytest

import reference as ref
import runs
from sim.build import blueprint
from sim.runner import Watcher

COLUMNS = ("loss", "utility", "weight", "t_user")


def drawn(folder: Path, tree: runs.Tree) -> np.ndarray:
    """[T, K]: who takes part in each round."""
    plan = blueprint(runs.loaded(folder, tree).scenario, "run").plan
    return np.array([plan.present(t) for t in range(plan.rounds)])


def partly(tree: runs.Tree, users: int, churn: float = 0.0) -> runs.Tree:
    people = tree["users"]
    if isinstance(people, dict):
        people = [{**people["template"], "name": f"u{k}"} for k in range(people["count"])]
    users_ = [{**user, "presence": {"churn": churn}} for user in people]
    return {**tree, "users": users_, "participation": {"users": users}}


TREES = {
    "kernel": partly(runs.kernel(many=7, rounds=5, slots=3), 3),
    "digits": partly(runs.digits(many=4, rounds=3, slots=2), 2),
    "churn": partly(runs.kernel(many=6, rounds=6, slots=2), 3, churn=0.5),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=[*TREES])
def test_every_transport_gives_the_same_bits(tmp_path: Path, tree: runs.Tree, run_on_ray) -> None:
    found = [run_on_ray(tmp_path, tree, transport) for transport in ("memory", "grpc", "ray")]
    trunk = [run_on_ray(tmp_path / "trunk", {**tree, "trunk": True, "hosts": 2}, "ray")]
    assert [result.status for result in found + trunk] == ["done"] * 4
    assert len({result.digest for result in found + trunk}) == 1
    everybody = run_on_ray(tmp_path / "all", {**tree, "participation": "all"}, "memory")
    assert everybody.digest != found[0].digest


def test_all_of_all_is_everybody(tmp_path: Path) -> None:
    tree = runs.digits(many=3, rounds=2, slots=2)
    everybody = runs.run(tmp_path / "all", tree)
    assert runs.run(tmp_path, {**tree, "participation": {"users": 3}}).digest == everybody.digest


def test_who_is_not_drawn_leaves_no_trace_but_its_status(tmp_path: Path) -> None:
    tree = partly(runs.digits(many=4, rounds=5, slots=3), 2)
    here = drawn(tmp_path, tree)
    assert (here.sum(axis=1) == 2).all()
    result = runs.run(tmp_path, tree)
    rows = {name: column.reshape(5, 3, 4) for name, column in runs.slots(result.folder).items()}
    took_part = np.repeat(here[:, None, :], 3, axis=1)
    np.testing.assert_array_equal(rows["status"], np.where(took_part, "applied", "absent"))
    for name in COLUMNS:
        np.testing.assert_array_equal(np.isfinite(rows[name]), took_part, err_msg=name)
    for name in ("bytes_up", "bytes_down"):
        np.testing.assert_array_equal(rows[name] > 0, took_part, err_msg=name)
    rounds = {name: column.reshape(5, 4) for name, column in runs.rounds(result.folder).items()}
    np.testing.assert_array_equal(np.isfinite(rounds["val_loss"]), here)
    assert np.isfinite(rounds["fairness"]).all()
    assert np.isfinite(rounds["val_fairness"]).all()
    assert result.summary["absent"] == 3 * (~here).sum()
    assert result.summary["took_part"] == here.any(axis=0).sum()


def test_churn_goes_first(tmp_path: Path) -> None:
    """Nobody who is away is drawn; where fewer are there than are to be drawn, all of them take part."""
    tree = partly(runs.kernel(many=6, rounds=200, slots=1), 3, churn=0.6)
    there, here = (drawn(tmp_path, one) for one in ({**tree, "participation": "all"}, tree))
    assert not (here & ~there).any()
    np.testing.assert_array_equal(here.sum(axis=1), np.minimum(there.sum(axis=1), 3))
    assert (there.sum(axis=1) < 3).any()


def test_theta_moves_as_if_the_others_were_not_in_the_scenario(tmp_path: Path) -> None:
    """The reference, given each round with those drawn alone, finds the same models and best models."""
    rng = np.random.default_rng(5)
    x = rng.normal(0, 0.8, (4, 6, 5, 2, 3))
    y = np.einsum("tikbd,td->tikb", x, rng.uniform(-0.8, 0.8, (4, 3))) + rng.normal(0, 0.3, x.shape[:-1])
    tree = partly(runs.arrays(tmp_path, x, y, record={"parameters": True}), 2)
    tree["edge"]["meta"]["target"] = "oracle"
    here = drawn(tmp_path, tree)
    with np.load(runs.run(tmp_path, tree).folder / "parameters.npz") as found:
        arrays = {name: found[name] for name in found.files}
    s = ref.Setting(alpha=1.0, u_min=1.0, u_max=4.0, l_max=4.0, eta=0.05, theta_box=1.0, x_box=1.0, target="oracle")
    start = np.zeros(3)
    for t in range(4):
        theta, w = arrays["theta"][t], arrays["w"][t][:, here[t]]
        np.testing.assert_allclose(theta[0], start, atol=1e-12)
        for i in range(6):
            step = w[i] @ ref.loss_gradients(theta[i], x[t, i][here[t]], y[t, i][here[t]])
            np.testing.assert_allclose(theta[i + 1], np.clip(theta[i] + 0.05 * step, -1, 1), atol=1e-10)
        star = arrays["theta_star"][t]
        best = ref.oracle(x[t][:, here[t]], y[t][:, here[t]], s)
        worth = [ref.objective(v, x[t][:, here[t]], y[t][:, here[t]], s) for v in (star, best)]
        assert worth[0] == pytest.approx(worth[1], abs=1e-9)
        start = start + (star - start) / (t + 1)


@pytest.mark.parametrize("step", ["theory", "guess"])
def test_the_theory_s_step_is_that_of_the_users_drawn(tmp_path: Path, step: str) -> None:
    """G is measured on the rounds as they are drawn: no gradient of the run itself is longer."""
    tree = partly(runs.kernel(many=5, rounds=4, slots=6), 2)
    tree["edge"]["meta"]["target"] = "oracle"
    tree["edge"]["primal"]["step"] = step
    result = runs.run(tmp_path, tree)
    largest = runs.rounds(result.folder)["gradient_norm"].max()
    assert result.summary["step"] > 0
    assert largest <= 1.5 * result.summary["gradient_bound"]
    assert result.summary["gradient_bound"] <= 1.5 * largest
    bound = runs.rounds(result.folder)
    assert step == "guess" or (bound["regret"] <= bound["bound"]).all()


@pytest.mark.parametrize("transport", ["memory", "grpc"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_stopped_run_calls_the_others_back(tmp_path: Path, transport: str, at: int) -> None:
    done: list[int] = []
    watcher = Watcher(on_round=lambda record: done.append(record.round), stop=lambda: len(done) >= at)
    result = runs.run(tmp_path, partly(runs.kernel(many=5, rounds=50, slots=3), 2), transport, watcher)
    assert result.status == "stopped"
    assert len(done) == at
