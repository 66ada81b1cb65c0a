"""A few of many users a round or a slot: the same bits everywhere, and nothing of the others in any number."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.optimize import minimize
from test_resume import same, started, stopped, wait_for

import reference as ref
import runs
import tampering
from edge_server.attendance import Refused
from edge_server.cell import Cell
from edge_server.post import Post
from edge_server.record import PHASES
from protos import edge_pb2 as pb
from sim.build import build_session
from sim.caller import Watcher
from sim.planning import blueprint
from sim.resume import resume_run
from sim.scenario import ScenarioErrors

COLUMNS = ("loss", "utility", "weight", "t_user")
PER = ("round", "slot")


def drawn(folder: Path, tree: runs.Tree) -> np.ndarray:
    """[T, m, K]: who takes part in each slot."""
    plan = blueprint(runs.loaded(folder, tree).scenario, "run").plan
    return np.stack([plan.in_slots(t) for t in range(plan.rounds)])


def partly(tree: runs.Tree, users: int, per: str, churn: float = 0.0) -> runs.Tree:
    people = tree["users"]
    if isinstance(people, dict):
        people = [{**people["template"], "name": f"u{k}"} for k in range(people["count"])]
    users_ = [{**user, "presence": {"churn": churn}} for user in people]
    return {**tree, "users": users_, "participation": {"users": users, "per": per}}


TOP = {"kind": "top_k", "share": 0.2}
BESIDE: Any = {
    "radio": {"kind": "jakes", "doppler": 0.4, "user_power": [0.5, 0.5, 0.2, 0.2]},
    "deadline": 0.3,
    "on_user_failure": "stale",
    "compression": {"outputs": "int8", "feedback": TOP, "acknowledgement": TOP},
}
"""What remembers something of a user from slot to slot."""
TREES = {
    "round": partly(runs.kernel(many=6, rounds=5, slots=2), 3, "round", churn=0.4),
    "slot": partly(runs.digits(many=4, rounds=4, slots=3, **BESIDE), 2, "slot", churn=0.3),
}


@pytest.mark.parametrize("per", PER)
def test_every_transport_gives_the_same_bits(tmp_path: Path, per: str, run_on_ray) -> None:
    tree = TREES[per]
    found = [run_on_ray(tmp_path, tree, transport) for transport in ("memory", "grpc")]
    found.append(run_on_ray(tmp_path, {**tree, "hosts": 2, "trunk": per == "slot"}, "ray"))
    assert [result.status for result in found] == ["done"] * 3
    assert len({result.digest for result in found}) == 1
    assert len({tuple(runs.slots(result.folder)["bytes_down"]) for result in found}) == 1


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("tree", [runs.kernel(many=3), runs.digits(many=3, slots=2)], ids=["kernel", "digits"])
def test_all_of_all_is_everybody(tmp_path: Path, tree: runs.Tree, per: str) -> None:
    """Also where nobody sends ahead any more."""
    everybody = runs.run(tmp_path / "all", tree)
    assert runs.run(tmp_path, {**tree, "participation": {"users": 3, "per": per}}).digest == everybody.digest
    fewer = runs.run(tmp_path / "fewer", {**tree, "participation": {"users": 2, "per": per}})
    assert fewer.digest != everybody.digest


@pytest.mark.parametrize("per", PER)
def test_who_is_not_drawn_leaves_no_trace_but_its_status(tmp_path: Path, per: str) -> None:
    tree = partly(runs.digits(many=5, rounds=4, slots=3), 2, per)
    here = drawn(tmp_path, tree)
    assert (here.sum(axis=2) == 2).all()
    result = runs.run(tmp_path, tree)
    rows = {name: column.reshape(4, 3, 5) for name, column in runs.slots(result.folder).items()}
    np.testing.assert_array_equal(rows["status"], np.where(here, "applied", "absent"))
    for name in COLUMNS:
        np.testing.assert_array_equal(np.isfinite(rows[name]), here, err_msg=name)
    for name in ("bytes_up", "bytes_down"):
        np.testing.assert_array_equal(rows[name] > 0, here, err_msg=name)
    rounds = {name: column.reshape(4, 5) for name, column in runs.rounds(result.folder).items()}
    np.testing.assert_array_equal(np.isfinite(rounds["val_loss"]), here.any(axis=1))
    for name in ("fairness", "slot_fairness", "val_fairness"):
        assert np.isfinite(rounds[name]).all()
    assert result.summary["absent"] == (~here).sum()
    assert result.summary["took_part"] == here.any(axis=(0, 1)).sum()
    assert result.summary["jain"] is not None


def test_churn_goes_first(tmp_path: Path) -> None:
    """Nobody who is away is drawn; where fewer are there than are to be drawn, all of them take part."""
    for per in PER:
        tree = partly(runs.kernel(many=6, rounds=100, slots=2), 3, per, churn=0.6)
        there, here = (drawn(tmp_path, one) for one in ({**tree, "participation": "all"}, tree))
        assert not (here & ~there).any()
        np.testing.assert_array_equal(here.sum(axis=2), np.minimum(there.sum(axis=2), 3))
        assert (there.sum(axis=2) < 3).any()
        assert (here[:, 0] == here[:, 1]).all() == (per == "round")


def uneven_value(theta: np.ndarray, x: np.ndarray, y: np.ndarray, here: np.ndarray, s: ref.Setting) -> float:
    """F of a round whose mean utilities are over each user's own slots; here [m, K]."""
    losses = np.where(here, ref.losses(theta, x, y), np.nan)[:, here.any(axis=0)]
    return ref.extended(s.l_max - np.nanmean(losses, axis=0), s)


@pytest.mark.parametrize("per", PER)
def test_theta_moves_as_if_the_others_were_not_in_the_scenario(tmp_path: Path, per: str) -> None:
    """Steps, duals, best models and regret by hand, of each slot's users alone; i counts the round's slots."""
    rng = np.random.default_rng(5)
    x = rng.normal(0, 0.8, (4, 6, 5, 2, 3))
    y = np.einsum("tikbd,td->tikb", x, rng.uniform(-0.8, 0.8, (4, 3))) + rng.normal(0, 0.3, x.shape[:-1])
    tree = partly(runs.arrays(tmp_path, x, y, record={"parameters": True}), 2, per)
    tree["edge"]["meta"]["target"] = "oracle"
    here = drawn(tmp_path, tree)
    result = runs.run(tmp_path, tree)
    with np.load(result.folder / "parameters.npz") as found:
        arrays = {name: found[name] for name in found.files}
    regret = runs.rounds(result.folder)["regret"].reshape(4, 5)[:, 0]
    s = ref.Setting(alpha=1.0, u_min=1.0, u_max=4.0, l_max=4.0, eta=0.05, theta_box=1.0, x_box=1.0, target="oracle")
    start = np.zeros(3)
    for t in range(4):
        theta, w, u = arrays["theta"][t], np.full(5, -1.0), np.full((6, 5), np.nan)
        np.testing.assert_allclose(theta[0], start, atol=1e-12)
        for i in range(6):
            k = here[t, i]
            np.testing.assert_allclose(arrays["w"][t, i], w, atol=1e-12)
            step = w[k] @ ref.loss_gradients(theta[i], x[t, i, k], y[t, i, k])
            np.testing.assert_allclose(theta[i + 1], np.clip(theta[i] + 0.05 * step, -1, 1), atol=1e-10)
            u[i, k] = 4.0 - ref.losses(theta[i], x[t, i, k], y[t, i, k])
            w[k] = dual(w[k], u[i, k], i + 1, s)
        star = arrays["theta_star"][t]
        worth = uneven_value(star, x[t], y[t], here[t], s)
        own = minimize(lambda v, t=t: -uneven_value(v, x[t], y[t], here[t], s), star * 0.9, bounds=[(-1, 1)] * 3)
        assert worth >= -own.fun - 1e-9
        assert worth == pytest.approx(-own.fun, abs=1e-6)
        served = np.nanmean(u[:, here[t].any(axis=0)], axis=0)
        assert regret[t] == pytest.approx(worth - ref.extended(served, s), abs=1e-9)
        start = start + (star - start) / (t + 1)


def dual(w: np.ndarray, u: np.ndarray, slot: int, s: ref.Setting) -> np.ndarray:
    """One step of Eq. (9) for alpha = 1: the gradient is -1/w - u, the modulus u_min^2."""
    moved = w - (-1 / w - u) / (slot * s.u_min**2)
    return np.clip(moved, -1 / s.u_min, -1 / s.u_max)


def test_slots_ask_only_those_who_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five messages of each of S users in a slot at most, of whoever else none; K at a round's end."""
    said: list[pb.EdgeMessage] = []
    send = Post.send

    def counted(post: Post, k: int, message: pb.EdgeMessage) -> int:
        said.append(message)
        return send(post, k, message)

    monkeypatch.setattr(Post, "send", counted)
    tree = runs.kernel(many=300, rounds=3, slots=20, participation={"users": 4, "per": "slot"})
    here = drawn(tmp_path, tree)
    runs.run(tmp_path, tree)
    kinds = [message.WhichOneof("kind") for message in said]
    assert kinds.count("outputs") == kinds.count("acknowledgement") == 3 * 20 * 4
    assert kinds.count("asked") == (here[:, 1:] & ~here[:, :-1]).sum()
    assert kinds.count("welcome") == kinds.count("goodbye") == 300
    assert kinds.count("round_end") == 3 * 300
    assert len(kinds) == sum(map(kinds.count, {*kinds}))
    assert {*kinds} == {"outputs", "acknowledgement", "asked", "welcome", "goodbye", "round_end"}


@pytest.mark.parametrize("step", ["theory", "guess"])
def test_the_theory_s_step_is_that_of_the_users_drawn(tmp_path: Path, step: str) -> None:
    """G is measured on the rounds as they are drawn; slot by slot there is no theorem."""
    tree = partly(runs.kernel(many=5, rounds=4, slots=6), 2, "round")
    tree["edge"]["meta"]["target"] = "oracle"
    tree["edge"]["primal"]["step"] = step
    result = runs.run(tmp_path, tree)
    table = runs.rounds(result.folder)
    assert result.summary["gradient_bound"] == pytest.approx(table["gradient_norm"].max(), rel=0.5)
    assert step == "guess" or (table["regret"] <= table["bound"]).all()
    with pytest.raises(ScenarioErrors) as error:
        runs.loaded(tmp_path, {**tree, "participation": {"users": 2, "per": "slot"}})
    (line,) = error.value.errors
    said = "is for users who take part in all slots of a round; draw per round, or give a number"
    assert line.endswith(f": participation.per: step: {step} {said}")


@pytest.mark.parametrize("transport", ["memory", "grpc"])
@pytest.mark.parametrize("per", PER)
def test_stopped_again_and_again_it_ends_at_the_same_bits(tmp_path: Path, per: str, transport: str) -> None:
    """In the first slot of all, after a round, and within rounds: who waits has the state of the last boundary."""
    tree = TREES[per]
    whole = runs.run(tmp_path / "whole", tree)
    first = runs.run(tmp_path / "first", tree, transport, Watcher(stop=lambda: True))
    assert first.status == "stopped"
    stopped(tmp_path, tree, 1, transport)
    for after in (1, 2):
        asked = 0

        def stop(after: int = after) -> bool:
            nonlocal asked
            asked += 1
            return asked > after

        assert resume_run(tmp_path / "out", transport, None, Watcher(stop=stop)).status == "stopped"
    for folder in (tmp_path / "out", first.folder):
        result = resume_run(folder, None, None, Watcher())
        assert result.digest == whole.digest
        same(result.folder, whole.folder)


def test_killed_it_ends_at_the_same_bits(tmp_path: Path) -> None:
    tree = {**TREES["slot"], "rounds": 30, "checkpoints": {"seconds": 0}}
    whole = runs.run(tmp_path / "whole", tree)
    with started(runs.write(tmp_path, tree), tmp_path / "out", "grpc") as process:
        wait_for(tmp_path / "out", 3)
        process.kill()
    result = resume_run(tmp_path / "out", None, None, Watcher())
    (event,) = runs.events(result.folder, "resumed")
    assert 3 <= event["round"] < 30
    assert result.digest == whole.digest
    same(result.folder, whole.folder)


def test_only_those_who_are_drawn_are_on_the_air(tmp_path: Path) -> None:
    """They share the power, and the slot waits for them alone; without a deadline no number changes."""
    tree = partly(runs.digits(many=5, rounds=2, slots=4), 2, "slot")
    radio = {"kind": "rayleigh", "p_tot": 8.0, "power": "optimal", "compute": {"user": 0.01}}
    here = drawn(tmp_path, tree).reshape(8, 5)
    plain, result = runs.run(tmp_path / "plain", tree), runs.run(tmp_path, {**tree, "radio": radio})
    assert result.digest == plain.digest
    table = pq.read_table(result.folder / "radio.parquet")
    rows = {name: table[name].to_numpy(zero_copy_only=False).reshape(8, 5) for name in table.column_names}
    for name in ("features_bits", "outputs_w", "acknowledgement_w", "feedback_s", "compute_s"):
        np.testing.assert_array_equal(rows[name] > 0, here, err_msg=name)
    np.testing.assert_allclose(rows["outputs_w"].sum(axis=1), 8.0, rtol=1e-6)
    turn = np.where(here, rows["outputs_s"] + rows["compute_s"] + rows["feedback_s"], 0.0).max(axis=1)
    waits = rows["features_s"].max(axis=1) + turn + rows["acknowledgement_s"].max(axis=1)
    np.testing.assert_allclose(rows["slot_s"][:, 0], waits, rtol=1e-12)
    found = runs.rounds(result.folder)
    took_part = here.reshape(2, 4, 5)
    seconds = sum(rows[f"{phase}_s"] for phase in PHASES).reshape(2, 4, 5).sum(axis=1)
    per_slot = np.divide(seconds, took_part.sum(axis=1), out=np.full((2, 5), np.nan), where=took_part.any(axis=1))
    np.testing.assert_allclose(found["air_mean"].reshape(2, 5), per_slot, rtol=1e-12)


@pytest.mark.parametrize("kind", ["features", "feedback"])
@pytest.mark.parametrize("following", [False, True], ids=["then waits", "then again"])
@pytest.mark.parametrize("users", [1, 2])
def test_a_bad_field_costs_its_user_that_slot_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, following: bool, users: int
) -> None:
    """Also where it is the only one drawn, and whether or not its next slot is its own, too."""
    tree = partly(runs.digits(many=3, rounds=3, slots=5), users, "slot")
    here = drawn(tmp_path, tree)
    t, i, k = np.argwhere(here[:, :-1] & (here[:, 1:] == following))[0].tolist()
    tampering.let(monkeypatch, k, tampering.at(kind, t, i), tampering.value(np.nan))
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.status == "done"
    assert memory.digest == grpc.digest
    expected = np.where(here, "applied", "absent").astype(object)
    expected[t, i, k] = "rejected"
    np.testing.assert_array_equal(runs.slots(memory.folder)["status"].reshape(here.shape), expected)


def test_who_is_drawn_slot_by_slot_cannot_send_ahead(tmp_path: Path) -> None:
    design = blueprint(runs.loaded(tmp_path, partly(runs.kernel(many=3), 2, "slot")).scenario, "run")
    message = pb.UserMessage.FromString(build_session(design, 0).join())
    assert not message.join.sends_ahead
    message.join.sends_ahead = True
    cell = Cell(design.plan, lambda _event: None, lambda: False)
    with pytest.raises(Refused, match="users are drawn slot by slot, so 'u0' cannot send features ahead"):
        cell.join(message.SerializeToString(), _Nowhere())


class _Nowhere:
    def send(self, data: bytes) -> None:
        raise AssertionError(data)
