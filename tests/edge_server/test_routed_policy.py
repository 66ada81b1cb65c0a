import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.folded import FoldedTrunk
from edge_server.routed_mtl.networks import TaskNetwork
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.policy import Policy, PolicyError, load_policy
from edge_server.routed_mtl.publishing import head_of, publish
from edge_server.routed_mtl.samples import draw_samples, features_of
from edge_server.routed_mtl.tasks import Tasks
from edge_server.routed_mtl.training import Trainer

P3, P4 = P3Delay(), P4Capacity()
TASKS = Tasks.grid([P3, P4], [3, 6])
SAMPLES = draw_samples(TASKS, 300, 0)

ROUTED = Design(batch=8, stages=(30, 20), skip=True, inputs="log_gain")
DESIGNS = [
    ROUTED,
    Design(batch=8, stages=(60, 0), inputs="power"),
    Design(batch=8, stages=(60, 0), straight_through=True),
    Design(batch=8, stages=(60, 0), scheme="single"),
    Design(batch=8, stages=(60, 0), scheme="naive", index="one_hot", skip=True),
    Design(batch=8, stages=(60, 0), scheme="zero_padding"),
    Design(batch=8, stages=(60, 0), scheme="equivariant", skip=True),
]


def trained(design: Design = ROUTED) -> Trainer:
    trainer = Trainer(TASKS, design, SAMPLES)
    if isinstance(trainer.network, TaskNetwork) and trainer.network.router is not None:
        stream = torch.Generator().manual_seed(3)
        torch.nn.init.normal_(trainer.network.router.last, 0.05, 0.02, generator=stream)
    trainer.train()
    return trainer


def gains_of(users: int, instances: int = 50) -> np.ndarray:
    return np.random.default_rng(users).exponential(size=(instances, users))


def network_power(trainer: Trainer, task: int, gains: np.ndarray) -> np.ndarray:
    """The network itself on padded inputs, then the problem's own output activation."""
    users = gains.shape[1]
    padded = torch.ones(1, len(gains), trainer.design.places)
    padded[0, :, :users] = torch.from_numpy(gains)
    presence = (torch.arange(trainer.design.places) < users).view(1, 1, -1)
    features = features_of(padded, presence, trainer.design.inputs)
    log_gain = features_of(padded, presence, "log_gain")
    with torch.no_grad():
        logits = trainer.network(features, log_gain, presence, torch.tensor([task]))
    return trainer.tasks[task].problem.power(logits, presence)[0, :, :users].numpy()


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: f"{d.scheme}-{d.inputs}-{d.straight_through}")
def test_the_folded_network_is_the_trained_one(design: Design) -> None:
    trainer = trained(design)
    policy = publish(trainer)
    if isinstance(trainer.network, TaskNetwork) and trainer.network.masks is not None:
        assert 0.02 < float(trainer.network.masks.mean()) < 0.98
    for row, task in enumerate(TASKS):
        gains = gains_of(task.users)
        expected = network_power(trainer, row, gains) / task.problem.p_tot
        np.testing.assert_allclose(policy(task.problem.name, gains) / task.problem.p_tot, expected, rtol=0, atol=1e-6)


def test_a_smaller_n_takes_the_next_larger_task_with_users_left_out() -> None:
    trainer = trained()
    policy = publish(trainer)
    assert [policy.task_for("p4_capacity", n) for n in (1, 3, 4, 6)] == [2, 2, 3, 3]
    np.testing.assert_allclose(policy("p4_capacity", gains_of(4)), network_power(trainer, 3, gains_of(4)), atol=1e-6)
    shares = policy("p3_delay", gains_of(5))
    np.testing.assert_allclose(shares, network_power(trainer, 1, gains_of(5)), atol=1e-5)
    np.testing.assert_allclose(shares.sum(axis=1), 10.0, rtol=1e-6)


def test_the_deep_set_takes_any_n_in_any_order() -> None:
    policy = publish(trained(DESIGNS[-1]))
    gains = gains_of(9)
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_allclose(policy("p3_delay", gains)[:, order], policy("p3_delay", gains[:, order]), atol=1e-5)
    assert policy("p4_capacity", gains_of(40)).shape == (50, 40)


def test_one_instance_is_a_row_of_the_batch() -> None:
    policy, gains = publish(trained()), gains_of(6)
    np.testing.assert_allclose(policy("p3_delay", gains[4]), policy("p3_delay", gains)[4], atol=1e-5)
    assert policy("p3_delay", gains[4]).shape == (6,)
    many = gains_of(6, 2500)
    np.testing.assert_allclose(policy("p3_delay", many)[2000:], policy("p3_delay", many[2000:]), atol=1e-5)


@pytest.mark.parametrize("problem", [P3, P3Delay(floor=0.0), P4, P4Capacity(p_tot=2.0, p_av=1.0)], ids=repr)
def test_heads_are_the_problems_own(problem: P3Delay | P4Capacity) -> None:
    logits = np.random.default_rng(0).normal(0, 30, (40, 7)).astype(np.float32)
    expected = problem.power(torch.from_numpy(logits), torch.ones(40, 7, dtype=torch.bool)).numpy()
    np.testing.assert_allclose(head_of(problem)(logits.copy()), expected, rtol=1e-5, atol=1e-6)


def test_another_output_activation_is_refused() -> None:
    class Clipped(P4Capacity):
        def power(self, logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return logits.clamp(0, 1) * mask

    with pytest.raises(ValueError, match="knows softmax and sigmoid outputs"):
        head_of(Clipped())


@pytest.mark.parametrize("design", [replace(ROUTED, calibrate=True), replace(DESIGNS[-1], calibrate=True)])
def test_calibration_meets_the_mean_power_on_the_training_samples(design: Design) -> None:
    trainer = trained(design)
    calibrated, plain = publish(trainer), None
    for row, task in enumerate(TASKS):
        gains = SAMPLES.gains[row, :, : task.users].numpy()
        if task.problem.kind == "unsupervised":
            assert float(calibrated(task.problem.name, gains).mean()) == pytest.approx(0.5, abs=1e-4)
    trainer.design = replace(design, calibrate=False)
    plain = publish(trainer)
    assert abs(float(plain("p4_capacity", SAMPLES.gains[2, :, :3].numpy()).mean()) - 0.5) > 1e-3
    np.testing.assert_array_equal(plain("p3_delay", gains_of(3)), calibrated("p3_delay", gains_of(3)))


@pytest.mark.parametrize("design", [replace(ROUTED, calibrate=True), DESIGNS[-1]])
def test_a_saved_policy_gives_the_same_bits(design: Design, tmp_path: Path) -> None:
    policy = publish(trained(design))
    policy.save(tmp_path / "power")
    loaded = load_policy(tmp_path / "power")
    assert loaded.tasks == policy.tasks
    for problem, users in (("p3_delay", 3), ("p4_capacity", 6), ("p4_capacity", 2)):
        np.testing.assert_array_equal(loaded(problem, gains_of(users)), policy(problem, gains_of(users)))


def test_loading_needs_neither_the_trainer_nor_torch(tmp_path: Path) -> None:
    publish(trained()).save(tmp_path / "power")
    code = (
        "import sys; from pathlib import Path; from edge_server.routed_mtl.policy import load_policy; "
        f"print(load_policy(Path({str(tmp_path / 'power')!r}))('p4_capacity', [0.5, 1.0, 2.0]).shape); "
        "print([m for m in sys.modules if m == 'torch' or m.endswith('.training')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split("\n")[:2] == ["(3,)", "[]"]


@pytest.mark.parametrize(
    ("problem", "gains", "match"),
    [
        ("p5", [1.0, 2.0], "no policy for problem 'p5'; it has p3_delay, p4_capacity"),
        ("p4_capacity", [1.0] * 7, "no policy for p4_capacity with N = 7; trained for N = 3, 6"),
        ("p4_capacity", [1.0, 0.0], r"must be positive numbers, got 0.0 at \[1\]"),
        ("p4_capacity", [[1.0, 1.0], [1.0, np.nan]], r"got nan at \[1, 1\]"),
        ("p4_capacity", [1.0, np.inf], r"got inf at \[1\]"),
        ("p4_capacity", [], "not empty"),
        ("p4_capacity", 3.0, "must be"),
        ("p4_capacity", np.ones((2, 2, 2)), r"got shape \[2, 2, 2\]"),
    ],
)
def test_bad_calls_are_one_clear_line(problem: str, gains: object, match: str) -> None:
    policy = publish(Trainer(TASKS, ROUTED, SAMPLES))
    with pytest.raises(PolicyError, match=match) as caught:
        policy(problem, cast("list[float]", gains))
    assert "\n" not in str(caught.value)


def change_json(path: Path, **changes: object) -> None:
    about = json.loads(path.with_name("power.json").read_text())
    path.with_name("power.json").write_text(json.dumps(about | changes))


def test_files_of_another_kind_are_one_clear_line(tmp_path: Path) -> None:
    policy = publish(Trainer(TASKS, ROUTED, SAMPLES))
    path = tmp_path / "power"
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(path)
    for changes, match in [
        ({"version": 9}, "format equiran.power_policy 9, this program reads equiran.power_policy 1"),
        ({"architecture": "transformer"}, r"not of an architecture known here \(trunk, deep_set\)"),
        ({"architecture": "deep_set"}, "not of an architecture known here"),
        ({"inputs": "phase"}, "phase"),
        ({"tasks": []}, "its weights are not those of its 0 tasks"),
    ]:
        policy.save(path)
        change_json(path, **changes)
        with pytest.raises(PolicyError, match=match) as caught:
            load_policy(path)
        assert "\n" not in str(caught.value)


def test_arrays_of_another_shape_or_cut_short_are_one_clear_line(tmp_path: Path) -> None:
    policy, path = publish(Trainer(TASKS, ROUTED, SAMPLES)), tmp_path / "power"
    policy.save(path)
    file = path.with_name("power.safetensors")
    arrays = load_file(file)
    save_file(arrays | {"weights.3": np.zeros((4, 32, 31), np.float32)}, file)
    with pytest.raises(PolicyError, match=r"not of an architecture known here.*do not fit"):
        load_policy(path)
    save_file({name: array for name, array in arrays.items() if name != "biases.6"}, file)
    with pytest.raises(PolicyError, match=r"biases\.6"):
        load_policy(path)
    policy.save(path)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(PolicyError, match="not of an architecture known here"):
        load_policy(path)


def test_two_tasks_of_one_name_cannot_share_a_policy() -> None:
    policy = publish(Trainer(TASKS, ROUTED, SAMPLES))
    network = policy.network
    assert isinstance(network, FoldedTrunk)
    with pytest.raises(PolicyError, match="two tasks share"):
        Policy(network, [policy.tasks[0], policy.tasks[0]], "amplitude")
