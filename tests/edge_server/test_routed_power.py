"""The routed network in the radio's units: whatever the downlink, it is asked what it was trained on."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edge_server.radio.power import Downlink, Equal, MinMax, Optimal, PowerPolicy, Routed, build_power
from edge_server.routed_mtl.channels import Cell, PathLoss, Rayleigh, Shadowing
from edge_server.routed_mtl.delay_optimum import mean_delay
from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.min_max_optimum import longest_delay
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p3_min_max import P3MinMax
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.policy import Policy, PolicyError, load_policy
from edge_server.routed_mtl.publishing import publish
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.tasks import Tasks
from edge_server.routed_mtl.training import Trainer

RING = Cell(Rayleigh(), PathLoss(3.5, reference_m=50.0), Shadowing(0.0), 20.0, 100.0)
P3 = P3Delay(rho=10.0, channel=RING)
TASKS = Tasks.of([(P3, 4), (P3, 8), (P3MinMax.of(P3), 4), (P3MinMax.of(P3), 8), (P4Capacity(), 4)])
SAMPLES = draw_samples(TASKS, 4000, 0, places=8)
DOWNLINK = Downlink(p_tot=10.0, bandwidth=1e6)
PROBLEMS = ("p3_delay", "p3_min_max")


@cache
def published(steps: int = 800) -> Policy:
    design = Design(
        places=8, inputs="log_gain", skip=True, straight_through=True, schedule="cosine", stages=(steps, steps)
    )
    trainer = Trainer(TASKS, design, SAMPLES)
    trainer.train()
    return publish(trainer)


def routed(downlink: Downlink = DOWNLINK, problem: str = "p3_delay") -> Routed:
    return Routed(downlink, published(), problem)  # type: ignore[arg-type]


def instances(users: int, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    gain = 10.0 * RING.gains(np.random.default_rng([7, users]), count, users)
    return gain, np.full_like(gain, 3e5)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_most_of_the_gap_between_equal_and_best_is_closed(problem: str) -> None:
    gain, bits = instances(8)
    objective = mean_delay if problem == "p3_delay" else longest_delay
    best: PowerPolicy = Optimal(DOWNLINK) if problem == "p3_delay" else MinMax(DOWNLINK)
    equal, ours, least = (
        objective(gain, policy.power(gain, bits), bits, 1e6).mean()
        for policy in (Equal(DOWNLINK), routed(problem=problem), best)
    )
    assert least < equal / 1.3
    assert (equal - ours) / (equal - least) > 0.9


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("users", [1, 2, 3, 4, 5, 8])
def test_the_budget_is_spent_whatever_the_number_of_users(problem: str, users: int) -> None:
    gain, bits = instances(users, 300)
    policy = routed(Downlink(0.3, 1e5), problem)
    power = policy.power(gain * 10 / 0.3, bits)
    np.testing.assert_allclose(power.sum(axis=-1), 0.3, rtol=1e-12)
    assert power.min() >= 0.01 * 0.3 / users * (1 - 1e-5)
    np.testing.assert_allclose(policy.power(gain[3] * 10 / 0.3, bits[3]), power[3], rtol=1e-4)
    assert policy.beyond <= 3


@pytest.mark.parametrize("problem", PROBLEMS)
def test_only_gain_times_p_tot_matters_as_for_the_optimum(problem: str) -> None:
    gain, bits = instances(8, 200)
    exact = {"p3_delay": Optimal, "p3_min_max": MinMax}[problem]
    for policy in (lambda d: routed(d, problem), exact):
        here = policy(DOWNLINK).power(gain, bits) / 10.0
        there = policy(Downlink(0.2, 3e7)).power(gain * 50, bits / 7) / 0.2
        np.testing.assert_allclose(there, here, rtol=1e-4)


def test_at_its_own_scale_it_is_the_network_itself() -> None:
    channel = RING.gains(np.random.default_rng(8), 100, 8)
    expected = published()("p3_delay", channel)
    np.testing.assert_allclose(routed().power(10.0 * channel, np.ones((100, 8))), expected, rtol=1e-4)


def test_gains_unlike_the_training_samples_are_counted() -> None:
    policy = routed()
    gain, bits = instances(8, 50)
    gain[4, 2], gain[9, 0], gain[9, 1] = 1e-9, 1e9, 1e9
    policy.power(gain, bits)
    assert policy.beyond == 2
    policy.power(gain[4], bits[4])
    policy.power(gain[5], bits[5])
    assert policy.beyond == 3


def test_a_newer_policy_takes_over_between_two_calls() -> None:
    gain, bits = instances(8, 20)
    policy = routed()
    before = policy.power(gain, bits)
    policy.policy = published(20)
    np.testing.assert_array_equal(policy.power(gain, bits), Routed(DOWNLINK, published(20)).power(gain, bits))
    assert not np.allclose(policy.power(gain, bits), before, rtol=1e-3)


def test_the_scale_travels_with_the_files(tmp_path: Path) -> None:
    published().save(tmp_path / "power")
    loaded = load_policy(tmp_path / "power")
    assert loaded.tasks == published().tasks
    assert [task.rho for task in loaded.tasks] == [10.0] * 4 + [None]
    row = SAMPLES.gains[0, :, :4]
    assert loaded.tasks[0].seen == (float(row.min()), float(row.max()))
    gain, bits = instances(5, 10)
    built = build_power("routed_mtl", DOWNLINK, policy=loaded, problem="p3_min_max")
    np.testing.assert_array_equal(built.power(gain, bits), routed(problem="p3_min_max").power(gain, bits))


def test_files_of_before_are_read_and_refused_where_the_scale_is_needed(tmp_path: Path) -> None:
    published().save(tmp_path / "power")
    file = tmp_path / "power.json"
    about = json.loads(file.read_text())
    for task in about["tasks"]:
        del task["rho"], task["seen"]
    file.write_text(json.dumps(about))
    old = load_policy(tmp_path / "power")
    channel = RING.gains(np.random.default_rng(8), 100, 8)
    np.testing.assert_array_equal(old("p3_delay", channel), published()("p3_delay", channel))
    with pytest.raises(PolicyError, match="does not say rho of p3_delay; train and publish it again"):
        Routed(DOWNLINK, old).power(np.ones(8), np.ones(8))


def test_more_users_than_trained_are_refused_and_named() -> None:
    with pytest.raises(PolicyError, match="no policy for p3_delay with N = 9; trained for N = 4, 8"):
        routed().power(np.ones(9), np.ones(9))


def test_a_problem_it_was_not_trained_for_is_named() -> None:
    policy = Policy(published().network, [replace(task, problem="p4") for task in published().tasks[:1]], "log_gain")
    with pytest.raises(PolicyError, match="no policy for problem 'p3_delay'; it has p4"):
        Routed(DOWNLINK, policy).power(np.ones(4), np.ones(4))


def test_payloads_that_differ_are_refused_and_nearly_equal_ones_are_not() -> None:
    gain, _ = instances(4, 1)
    policy = routed()
    np.testing.assert_array_equal(policy.power(gain[0], [1000, 1009, 1000, 1001]), policy.power(gain[0], [7, 7, 7, 7]))
    with pytest.raises(ValueError, match="equal payloads, these are 1000 to 1011 bits; train it with payload_ratio"):
        policy.power(gain[0], [1000, 1011, 1000, 1001])
