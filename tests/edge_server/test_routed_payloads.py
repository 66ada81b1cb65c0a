"""Payloads that differ: drawn, labelled, told to the network, folded, and asked for in the radio's units."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_server.radio.power import Downlink, MinMax, Optimal, PowerPolicy, Routed
from edge_server.routed_mtl.delay_optimum import mean_delay, minimise_delay
from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.min_max_optimum import longest_delay
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p3_min_max import P3MinMax
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.policy import Policy, PolicyError, load_policy
from edge_server.routed_mtl.publishing import publish, task_logits
from edge_server.routed_mtl.samples import draw_samples, inputs_of, skipped
from edge_server.routed_mtl.tasks import Tasks
from edge_server.routed_mtl.training import Trainer
from sim.power_scores import score

P3 = P3Delay(rho=10.0, payload_ratio=30.0)
TASKS = Tasks.of([(P3, 4), (P3MinMax.of(P3), 4), (P3MinMax.of(P3), 6), (P4Capacity(), 3)])
SAMPLES = draw_samples(TASKS, 3000, 0, places=6)
DESIGN = Design(
    places=6, inputs="log_gain", skip=True, straight_through=True, schedule="cosine", batch=16, stages=(1, 0)
)
DOWNLINK = Downlink(10.0, 1e6)


@cache
def trained(scheme: str = "routed", steps: int = 60) -> Trainer:
    trainer = Trainer(TASKS, replace(DESIGN, scheme=scheme, stages=(steps, steps)), SAMPLES)  # type: ignore[arg-type]
    trainer.train()
    return trainer


def drawn(users: int, count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([9, users])
    return P3.sample(rng, count, users), P3.payloads(rng, count, users)


def network_power(trainer: Trainer, task: int, gains: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """The network itself on padded inputs, then the problem's own output activation."""
    users = gains.shape[1]
    padded, loads = torch.ones(1, len(gains), 6), torch.zeros(1, len(gains), 6)
    padded[0, :, :users] = torch.from_numpy(gains)
    loads[0, :, :users] = torch.from_numpy(np.log(bits) - np.log(bits).mean(axis=1, keepdims=True))
    presence = (torch.arange(6) < users).view(1, 1, -1)
    told = inputs_of(padded, loads, presence, "log_gain"), skipped(padded, loads, presence)
    with torch.no_grad():
        logits = trainer.network(*told, presence, torch.tensor([task]))
    return trainer.tasks[task].problem.power(logits, presence)[0, :, :users].numpy()


def test_payloads_are_log_uniform_within_their_ratio() -> None:
    _, bits = drawn(4, 100_000)
    logs = np.log(bits / 1e6) / np.log(30.0)
    assert logs.min() >= -0.5
    assert logs.max() <= 0.5
    assert logs.mean() == pytest.approx(0, abs=3e-3)
    assert logs.var() == pytest.approx(1 / 12, rel=0.01)
    assert (P3Delay().payloads(np.random.default_rng(0), 5, 3) == 1e6).all()


def test_labels_are_the_optimum_of_the_payloads_that_the_network_sees() -> None:
    assert SAMPLES.loads is not None
    gains, loads = (part[0, :, :4].double().numpy() for part in (SAMPLES.gains, SAMPLES.loads))
    np.testing.assert_allclose(loads.mean(axis=1), 0, atol=1e-6)
    assert 0.5 * np.log(30) < np.ptp(loads, axis=1).max() <= np.log(30)
    best = minimise_delay(10 * gains, np.exp(loads), 1.0, 10.0).power / 10
    np.testing.assert_allclose(SAMPLES.labels[0, :, :4], best, atol=1e-5)
    assert (SAMPLES.loads[3] == 0).all()
    assert (SAMPLES.loads[0, :, 4:] == 0).all()


def test_gains_and_equal_payloads_are_drawn_as_before() -> None:
    equal = Tasks.of([(replace(P3, payload_ratio=1.0), 4), (P4Capacity(), 3)])
    before = draw_samples(equal, 3000, 0, places=6)
    assert before.loads is None
    assert torch.equal(before.gains, SAMPLES.gains[[0, 3]])


@pytest.mark.parametrize("scheme", ["routed", "single", "naive", "zero_padding", "equivariant"])
def test_the_folded_network_is_the_trained_one(scheme: str, tmp_path: Path) -> None:
    trainer = trained(scheme)
    policy = publish(trainer)
    policy.save(tmp_path / "power")
    loaded = load_policy(tmp_path / "power")
    assert policy.payloads
    assert [task.payload_ratio for task in loaded.tasks] == [30.0, 30.0, 30.0, 1.0]
    fewer = [] if policy.network.any_users else [(0, 3), (2, 5)]
    for row, users in [(0, 4), (1, 4), (2, 6), (3, 3), *fewer]:
        problem = TASKS[row].problem
        gains, bits = drawn(users, 1500)
        expected = network_power(trainer, row, gains, bits) / problem.p_tot
        found = policy(problem.name, gains, bits)
        np.testing.assert_allclose(found / problem.p_tot, expected, rtol=0, atol=2e-6)
        np.testing.assert_array_equal(loaded(problem.name, gains, bits), found)
        np.testing.assert_allclose(policy(problem.name, gains[1200], bits[1200]), found[1200], atol=1e-5)
        np.testing.assert_allclose(policy(problem.name, gains), policy(problem.name, gains, np.ones_like(gains)))


def test_logits_of_the_training_samples_are_told_their_payloads() -> None:
    trainer = trained()
    assert SAMPLES.loads is not None
    bits = np.exp(SAMPLES.loads[0, :, :4].double().numpy())
    power = P3.power(task_logits(trainer, 0), torch.ones(3000, 4, dtype=torch.bool))
    expected = network_power(trainer, 0, SAMPLES.gains[0, :, :4].double().numpy(), bits)
    np.testing.assert_allclose(power, expected, atol=1e-5)


@pytest.mark.parametrize(("problem", "scheme"), [("p3_delay", "routed"), ("p3_min_max", "equivariant")])
def test_told_the_payloads_it_beats_the_exact_policy_that_is_not(problem: str, scheme: str) -> None:
    gains, bits = drawn(4)
    objective = mean_delay if problem == "p3_delay" else longest_delay
    best: PowerPolicy = Optimal(DOWNLINK) if problem == "p3_delay" else MinMax(DOWNLINK)
    ours = Routed(DOWNLINK, publish(trained(scheme, 300)), problem)  # type: ignore[arg-type]
    powers = ours.power(10 * gains, bits), best.power(10 * gains, np.ones_like(bits)), best.power(10 * gains, bits)
    reached, untold, least = (objective(10 * gains, power, bits, 1e6).mean() for power in powers)
    assert least < reached < untold
    assert ours.beyond <= 20
    np.testing.assert_allclose(ours.power(gains[0], bits[0]), ours.power(gains[0], 1e-3 * bits[0]), rtol=1e-5)


def test_ratios_beyond_the_training_samples_are_counted() -> None:
    ours = Routed(DOWNLINK, publish(trained()))
    ours.power(np.full((3, 4), 10.0), [[1, 30.1, 2, 2], [1, 29.9, 2, 2], [1, 1, 1, 1]])
    assert ours.beyond == 1


def test_scores_are_of_payloads_that_differ() -> None:
    """The exact policy scores 0 where it is told the payloads, and misses where it is not."""

    def exact(name: str, gains: np.ndarray, bits: np.ndarray) -> np.ndarray:
        return P3.optimum(gains, bits)

    assert score(exact, P3, 4, 0, 500)["gap_p99"] == pytest.approx(0, abs=1e-12)
    assert score(lambda name, gains, bits: P3.optimum(gains), P3, 4, 0, 500)["gap_mean"] > 0.02


def test_what_does_not_fit_is_one_clear_line() -> None:
    policy: Policy = publish(trained())
    with pytest.raises(PolicyError, match=r"bits must be positive numbers of the gains' shape \[1, 4\]"):
        policy("p3_delay", np.ones(4), np.ones(3))
    with pytest.raises(PolicyError, match="bits must be positive numbers"):
        policy("p3_delay", np.ones(4), [1.0, 0.0, 1.0, 1.0])
    equal = Tasks.of([(P3Delay(), 4)])
    plain = publish(Trainer(equal, DESIGN, draw_samples(equal, 10, 0, places=6)))
    with pytest.raises(PolicyError, match="trained on equal payloads and takes no bits"):
        plain("p3_delay", np.ones(4), np.ones(4))
    with pytest.raises(ValueError, match=r"p3: payload_ratio must be finite and at least 1, got 0.5"):
        P3Delay(payload_ratio=0.5)
