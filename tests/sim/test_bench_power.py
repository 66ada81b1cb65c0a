import json
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sim.bench.commands
import sim.bench.power_reference
from edge_server.routed_mtl.checks import NotConverged
from edge_server.routed_mtl.delay_optimum import minimise_delay
from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.tasks import Tasks
from edge_server.routed_mtl.training import Trainer
from sim.bench.commands import app
from sim.bench.power import PAPER, Measured, measure, report
from sim.bench.power_complexity import counted, memory, training_row
from sim.bench.power_loop import LoopTrainer
from sim.bench.power_reference import NO_CVXPY, Conic, conic, interior_point
from sim.bench.power_scaling import full_width, inference, policy_for, scaling, slope
from sim.bench.power_sparse import break_even, cut, trained_density
from sim.bench.power_turns import Effort, one_thread, ratio_quartiles, take_turns

QUICK = Effort(blocks=1, seconds=0, steps=3)
CONTRACT = {
    "train_step_ms",
    "loop_step_ms",
    "speedup",
    "solver_us_per_instance",
    "reference_solver_us",
    "infer_us_batch1",
    "infer_us_per_sample_10k",
}


def optimum(snr: np.ndarray) -> np.ndarray:
    """Shares of 10 W."""
    return minimise_delay(snr / 10, 1e6, 1e6, 10.0).power / 10


def ratios(users: int, instances: int = 4, mean: float = 1e4) -> np.ndarray:
    return mean * np.random.default_rng(users).exponential(size=(instances, users))


def without_cvxpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cvxpy", None)


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(QUICK)


def test_turns_alternate_and_the_first_of_each_does_not_count():
    order: list[str] = []
    times = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, Effort(2, 0))
    assert order == ["a", "b"] * 3
    assert [len(blocks) for blocks in times.values()] == [2, 2]


def test_a_turn_lasts_as_long_as_it_should():
    times = take_turns({"a": lambda: sum(range(1000))}, Effort(1, 0.02))
    assert 0.01 < sum(times["a"][0]) < 1
    assert len(times["a"][0]) > 10


def test_ratios_are_taken_block_by_block():
    blocks = [np.array([2.0, 4.0, 90.0]), np.array([40.0])]
    assert ratio_quartiles(blocks, [np.array([1.0]), np.array([10.0])]) == [4.0, 4.0]


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_the_loop_is_the_same_maths_as_the_joint_step():
    tasks = Tasks.grid([P3Delay(), P4Capacity(p_av=0.3)], (2, 5, 20))
    samples = draw_samples(tasks, 200, 0)
    batched, looped = Trainer(tasks, Design(dual_rate=0.1), samples), LoopTrainer(tasks, Design(dual_rate=0.1), samples)
    for _ in range(5):
        assert looped.step() == pytest.approx(batched.step(), rel=1e-5, abs=1e-5)
    for ours, theirs in zip(looped.network.parameters(), batched.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-5)
    assert batched.dual[3:].max() > 0
    for row, dual in enumerate(looped.dual):
        torch.testing.assert_close(dual, batched.dual[row, : len(dual)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("users", [1, 2, 5, 20, 64])
@pytest.mark.parametrize("mean", [10.0, 1e4])
def test_the_interior_point_finds_the_optimum(users, mean):
    snr = ratios(users, mean=mean)
    found = interior_point(snr)
    np.testing.assert_allclose(found.share, optimum(snr), rtol=0, atol=1e-6)
    assert found.iterations < 40


def test_an_interior_point_that_does_not_arrive_says_so(monkeypatch):
    monkeypatch.setattr(sim.bench.power_reference, "ITERATIONS", 3)
    with pytest.raises(NotConverged, match="N = 5"):
        interior_point(ratios(5))


def test_cvxpy_solves_the_same_problem_one_instance_after_the_other():
    snr, solver = ratios(8), Conic(8)
    following = solver.next_of(snr[:2])
    for row in (0, 1, 0):
        np.testing.assert_allclose(following(), optimum(snr[row]), rtol=0, atol=2e-4)
    assert 0 < solver.own_seconds < 1


def test_without_cvxpy_the_reference_is_null_and_one_line_says_why(monkeypatch):
    without_cvxpy(monkeypatch)
    assert conic(3) is None
    found = report(measure(QUICK))
    assert found["reference_solver_us"] is None
    assert found["note"] == NO_CVXPY
    policy = policy_for((5, 20, 64))
    assert {row["p3_cvxpy_us"] for row in inference(policy, QUICK, (1,))} == {None}
    growth = scaling(policy, QUICK, (5,))
    assert (growth["rows"][0]["cvxpy_us"], growth["rows"][0]["conic_us"]) == (None, None)
    assert "cvxpy" not in growth["slopes"]


def test_the_report_holds_what_the_contract_promises(measured):
    found = json.loads(json.dumps(report(measured), allow_nan=False))
    assert set(found) >= CONTRACT | {"machine"}
    assert all(found[key] > 0 for key in CONTRACT)
    assert found["speedup"] == pytest.approx(found["loop_step_ms"] / found["train_step_ms"])
    assert found["note"] is None


def test_the_report_turns_seconds_into_its_units():
    times = {
        name: [np.array([seconds])] for name, seconds in zip(Measured._fields, (2, 8, 1, 3, 4, 5, 6), strict=False)
    }
    found = report(Measured(**times))
    assert (found["train_step_ms"], found["loop_step_ms"], found["speedup"]) == (2e3, 8e3, 4)
    assert found["train_10k_steps_s"] == 15_000
    assert (found["solver_us_per_instance"], found["infer_us_per_sample_10k"]) == (300, 600)
    assert (found["solver_us_batch1"], found["infer_us_batch1"]) == (4e6, 5e6)


def test_a_slope_is_the_exponent():
    rows = [{"users": n, "time_us": 3.0 * n**3.5} for n in (5, 20, 64)]
    assert slope(rows, "time_us") == pytest.approx(3.5)
    assert slope(rows[:1], "time_us") is None


def test_scaling_and_inference_have_a_row_for_every_size():
    policy = policy_for((5, 20, 64))
    growth = scaling(policy, QUICK, (5, 20, 64))
    assert [row["users"] for row in growth["rows"]] == [5, 20, 64]
    assert set(growth["slopes"]) == {"interior_point", "cvxpy", "conic", "exact", "full_width", "network"}
    rows = inference(policy, QUICK, (1, 10))
    assert [(row["users"], row["batch"]) for row in rows] == [(n, b) for n in (5, 20, 64) for b in (1, 10)]
    assert all(value > 0 for row in rows for value in row.values())


def test_the_full_width_network_has_seven_square_layers():
    assert [weight.shape for weight in full_width(12).weights] == [(12, 12)] * 7


@pytest.mark.parametrize("density", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("batch", [1, 7])
def test_sparse_layers_compute_what_dense_ones_do(density, batch):
    layers, x = cut(density, 0), np.random.default_rng(1).random((batch, 20), dtype=np.float32)
    dense = layers.dense(x)
    np.testing.assert_allclose(layers.scipy(x), dense, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layers.torch(x), dense, rtol=1e-5, atol=1e-5)


def test_the_break_even_is_the_highest_density_that_wins():
    rows = [
        {"density": density, "batch": batch, "dense_us": 10.0, "scipy_us": 100 * density, "torch_us": 11.0}
        for batch in (1, 1000)
        for density in (0.5, 0.09, 0.05)
    ]
    assert break_even(rows) == {"scipy": {"1": 0.09, "1000": 0.09}, "torch": {"1": None, "1000": None}}


def test_masks_start_with_every_bit_in_use():
    tasks = Tasks.grid([P3Delay(), P4Capacity()], (2, 3))
    assert trained_density(tasks, 1, 10) == {"p3_delay": 1.0, "p4_capacity": 1.0}


def test_the_router_costs_as_much_as_17_samples_of_the_network():
    assert counted(PAPER) == (5152, 20 * 4352)


def test_training_is_compared_for_every_number_of_tasks():
    row = training_row(Tasks.grid([P3Delay(), P4Capacity()], (2, 3)), QUICK)
    assert row["tasks"] == 4
    assert row["to_one_by_one"] == pytest.approx(row["routed_ms"] / row["one_by_one_ms"])
    assert row["counted"] == pytest.approx(1 + 87_040 / (32 * 5152))


def test_memory_counts_parameters_and_masks():
    soft, hard, singles = memory(PAPER)
    router = 14 * 20 + 20 + 4352 * 20 + 4352
    assert (soft["trained"], hard["trained"], singles["trained"]) == (5340 + router, 5340, 14 * 5340)
    assert soft["folded_bytes"] == singles["folded_bytes"] == 4 * 14 * 5340
    assert hard["packed_bytes"] == 4 * 5340 + 14 * 4352 // 8
    assert soft["saved_bytes"] > hard["saved_bytes"] > 4 * 5340


def test_commands_print_tables_and_one_json_object(monkeypatch):
    monkeypatch.setattr(sim.bench.commands, "_POWER", QUICK)
    monkeypatch.setattr(sim.bench.commands, "_COMPLEXITY", QUICK)
    for options, keys in (([], CONTRACT), (["--complexity"], {"training", "scaling", "inference", "sparse", "memory"})):
        result = CliRunner().invoke(app, ["power", *options, "--json", "--quiet"])
        assert result.exit_code == 0, result.output
        assert set(json.loads(result.stdout)) >= keys
        told = CliRunner().invoke(app, ["power", *options, "--quiet"])
        assert told.exit_code == 0, told.output
        assert "machine: cores" in told.stdout
