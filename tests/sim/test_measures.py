"""How equal utilities are: closed forms, what no rescaling or reordering may change, and what a run says of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import runs
from edge_server.domains import Box
from edge_server.fairness import AlphaFair
from edge_server.record import APPLIED, REJECTED, RoundRecord
from sim.fairness_measures import entropy, jain, last_known, price_of_fairness, worst_tenth
from sim.oracle import Oracle
from sim.summary import Summary

utilities = st.lists(st.floats(0.01, 100), min_size=1, max_size=30).map(np.array)


def test_equal_utilities_are_as_equal_as_can_be() -> None:
    u = np.full(7, 2.5)
    assert (jain(u), entropy(u), worst_tenth(u)) == pytest.approx((1, 1, 2.5))


def test_one_user_with_everything() -> None:
    u = np.array([0, 0, 3.0, 0])
    assert (jain(u), entropy(u), worst_tenth(u)) == pytest.approx((1 / 4, 0, 0))


def test_two_users_one_with_three_times_as_much() -> None:
    u = np.array([1.0, 3.0])
    assert jain(u) == pytest.approx(16 / 20)
    assert entropy(u) == pytest.approx(-(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)))


@pytest.mark.parametrize(("users", "worst"), [(1, 1.0), (9, 1.0), (19, 1.0), (20, 1.5), (30, 2.0)])
def test_the_worst_tenth_is_one_user_at_least(users: int, worst: float) -> None:
    assert worst_tenth(np.arange(users, 0, -1.0)) == worst


def test_unknown_utilities_make_unknown_measures() -> None:
    u = np.array([1.0, np.nan])
    assert np.isnan([jain(u), entropy(u), worst_tenth(u)]).all()
    assert np.isnan([jain(np.zeros(2)), entropy(np.zeros(2)), entropy(np.array([3.0, -1.0]))]).all()


def test_price_of_fairness() -> None:
    assert price_of_fairness(np.array([1.0, 2.0]), np.array([0.0, 4.0])) == pytest.approx(1 / 4)


def test_the_last_known_value_of_each_column() -> None:
    nan = np.nan
    values = np.array([[1, 2, nan], [nan, 3, nan], [nan, 4, nan]])
    assert_allclose(last_known(values), [1, 4, nan])


@given(utilities, st.floats(0.1, 10))
def test_measures_know_neither_units_nor_names(u: np.ndarray, unit: float) -> None:
    for measure in (jain, entropy):
        assert measure(u) == pytest.approx(measure(unit * u[::-1]), rel=1e-9, abs=1e-9)
    assert worst_tenth(unit * u[::-1]) == pytest.approx(unit * worst_tenth(u), rel=1e-9)
    assert 1 / len(u) - 1e-9 <= jain(u) <= 1 + 1e-9
    assert -1e-9 <= entropy(u) <= 1 + 1e-9
    assert u.min() <= worst_tenth(u) <= u.mean() + 1e-9


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_no_constant_weights_have_a_fairer_best_model_than_theta_star(alpha: float) -> None:
    """docs/scenario.md: regret is the regret against the best constant weights in hindsight."""
    rng = np.random.default_rng([3, 1])
    fairness, l_max = AlphaFair(alpha, 1.0, 4.0), np.array([4.0, 4.0])
    x = [rng.uniform(size=(20, 1, 3)) for _ in range(2)]
    y = [sign * xk.sum(-1) + 0.1 * rng.normal(size=(20, 1)) for sign, xk in zip((1.0, -0.6), x, strict=True)]
    best = Oracle(fairness, l_max, Box(1.0)).solve(0, x, y).hindsight.utilities.mean(0)
    weights = fairness.extended_gradient(best).numpy()

    def fairness_under(w: np.ndarray) -> float:
        """F of the model that minimises sum_k w_k loss_k: alpha 0 on data scaled by sqrt(w_k)."""
        roots = np.sqrt(w)
        scaled = [[r * array for r, array in zip(roots, arrays, strict=True)] for arrays in (x, y)]
        theta = Oracle(AlphaFair(0.0, 1.0, 4.0), l_max, Box(1.0)).solve(0, *scaled).hindsight.theta.numpy()
        losses = [((xk @ theta - yk) ** 2).mean() for xk, yk in zip(x, y, strict=True)]
        return fairness.extended(torch.from_numpy(l_max - np.array(losses)))

    assert fairness_under(weights) == pytest.approx(fairness.extended(best), abs=1e-9)
    for share in np.linspace(0.05, 0.95, 19):
        assert fairness_under(np.array([share, 1 - share])) <= fairness.extended(best) + 1e-9


def test_a_run_says_how_equal_its_users_are(tmp_path: Path) -> None:
    result = runs.run(tmp_path, runs.kernel(many=12, rounds=3, slots=5))
    summary, slots, rounds = result.summary, runs.slots(result.folder), runs.rounds(result.folder)
    grid = {name: slots[name].reshape(3, 5, 12) for name in ("utility", "weight", "out_of_range")}
    u, outside = grid["utility"].mean((0, 1)), grid["out_of_range"]
    fairness = AlphaFair(1.0, 1.0, 4.0)
    assert summary["fairness_of_mean"] == pytest.approx(np.log(u).sum(), rel=1e-12)
    assert summary["extended_fairness_of_mean"] == pytest.approx(fairness.extended(torch.from_numpy(u)), rel=1e-12)
    assert summary["entropy"] == pytest.approx(entropy(u), rel=1e-12)
    assert summary["worst_tenth"] == summary["worst_utility"] == pytest.approx(u.min(), rel=1e-12)
    assert summary["worst_user"] == f"user_{u.argmin():02}"
    assert summary["out_of_range_share"] == pytest.approx(outside.mean())
    assert [*summary["w_last"].values()] == pytest.approx(grid["weight"][-1, -1])
    assert rounds["w_last"].reshape(3, 12) == pytest.approx(grid["weight"][:, -1])
    assert rounds["out_of_range_share"].reshape(3, 12) == pytest.approx(outside.mean(1))


def test_measures_of_a_user_that_was_never_heard_are_unknown() -> None:
    record = RoundRecord.empty(0, slots=2, users=2)
    record.utility[0, 0], record.weight[0, 0], record.status[0, 0] = 0.0, 0.7, APPLIED
    record.status[:, 1] = REJECTED
    summary = Summary(["a", "b"], AlphaFair(1.0, 1.0, 4.0))
    summary.add(record)
    told = summary.table(1.0, None)
    names = ("fairness_of_mean", "extended_fairness_of_mean", "jain", "entropy", "worst_user", "worst_tenth")
    assert {told[name] for name in names} == {None}
    assert told["w_last"] == {"a": 0.7, "b": None}


def test_f_alpha_is_unknown_where_it_is_undefined_and_its_extension_is_not() -> None:
    record = RoundRecord.empty(0, slots=1, users=1)
    record.utility[0, 0], record.weight[0, 0], record.status[0, 0] = -1.0, 1.0, APPLIED
    summary = Summary(["a"], AlphaFair(1.0, 1.0, 4.0))
    summary.add(record)
    told = summary.table(1.0, None)
    assert (told["fairness_of_mean"], told["extended_fairness_of_mean"]) == (None, pytest.approx(-2.0))
