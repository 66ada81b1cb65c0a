"""The parts of the parameter-free rule by themselves: prediction, learned prior, tangents, Newton, learner."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edge_server.aggregators import OwoFmtl, ParameterFree, Slot
from edge_server.aggregators.parameter_free import STRENGTHS, Memory
from edge_server.certificate import certify
from edge_server.domains import Box, Free
from edge_server.fairness import AlphaFair
from edge_server.parameter_free import Curvature, Descent, Learner
from edge_server.parameter_free.newton import Newton
from edge_server.parameter_free.tangents import Tangents

F64 = torch.float64
FAIR = AlphaFair(1.0, 1.0, 4.0)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def slot(*utilities: float) -> Slot:
    return Slot.of(4.0 - vector(*utilities), 4.0)


def played(rule: ParameterFree, *rounds: Sequence[tuple[float, ...]]) -> Memory:
    """The state at the start of the round after these, whose slots hold these utilities."""
    state = rule.start(len(rounds[0][0]))
    for utilities in rounds:
        state = rule.begin_round(state)
        for u in utilities:
            state = rule.step(state, slot(*u))
    return rule.begin_round(state)


def test_first_round_follows_its_own_mean() -> None:
    rule = ParameterFree(FAIR)
    state = rule.begin_round(rule.start(2))
    assert state.w.tolist() == [-1.0, -1.0]
    state = rule.step(rule.step(state, slot(2.0, 3.0)), slot(3.0, 3.5))
    torch.testing.assert_close(state.w, vector(-1 / 2.5, -1 / 3.25))


def test_second_round_begins_at_the_prior() -> None:
    state = played(ParameterFree(FAIR), [(2.0, 3.0), (3.0, 3.5)])
    torch.testing.assert_close(state.w, vector(-1 / 2.5, -1 / 3.25))
    assert state.strength == STRENGTHS[0]


def test_prior_becomes_strong_where_rounds_repeat() -> None:
    """Opposite halves with a stable mean: the locked dual pays least."""
    rounds = [[(1.2, 3.8)] * 8 + [(3.8, 1.2)] * 8] * 6
    assert played(ParameterFree(FAIR), *rounds).strength == 1e9


def test_prior_stays_weak_where_rounds_differ() -> None:
    rounds = [[(1.2, 3.8)] * 16, [(3.8, 1.2)] * 16] * 4
    assert played(ParameterFree(FAIR), *rounds).strength == STRENGTHS[0]


def test_absent_user_keeps_its_weight_and_its_prior() -> None:
    rule = ParameterFree(FAIR)
    state = played(rule, [(2.0, 3.0)], [(2.0, math.nan)], [(2.0, math.nan)])
    assert state.prior.tolist() == [2.0, 3.0]
    assert state.seen.tolist() == [3, 1]
    held = state.w[1]
    assert rule.step(state, slot(2.0, math.nan)).w[1] == held


def test_user_nobody_heard_of_is_taken_to_be_at_u_min() -> None:
    state = played(ParameterFree(FAIR), [(2.0, math.nan)], [(2.0, math.nan)])
    assert state.w.tolist() == [-0.5, -1.0]


def test_another_rules_state_is_refused() -> None:
    rule = ParameterFree(FAIR)
    with pytest.raises(TypeError, match="parameter_free needs its own state, got State"):
        rule.step(OwoFmtl(FAIR).start(2), slot(2.0, 3.0))


@given(st.lists(st.tuples(*[st.floats(-3, 6)] * 3), min_size=1, max_size=12), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_weights_stay_in_the_dual_box(utilities: list[tuple[float, ...]], alpha: float) -> None:
    fairness = AlphaFair(alpha, 1.0, 4.0)
    state = played(ParameterFree(fairness), utilities, utilities)
    assert torch.equal(fairness.project(state.w), state.w)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_certificate_covers_any_weights_and_any_model(seed: int, alpha: float) -> None:
    """Regret of random concave utilities against a random comparator, for random weights in the box."""
    rng = np.random.default_rng([seed])
    fairness = AlphaFair(alpha, 1.0, 4.0)
    w = torch.from_numpy(-(rng.uniform(1.0, 4.0, (5, 3)) ** -alpha))
    served, best = (torch.from_numpy(rng.uniform(-1, 5, (5, 3))) for _ in range(2))
    regret = fairness.extended(best.mean(0)) - fairness.extended(served.mean(0))
    found = certify(fairness, w, served, best)
    assert found is not None
    assert regret <= sum(found) + 1e-9
    assert found.dual_gap >= -1e-9


def descent(curvature: Curvature, x: Tensor, y: Tensor, w: Tensor, theta: Tensor) -> Descent:
    """Squared losses (x theta - y)^2 of K users, x [K, d]."""
    error = x @ theta - y
    per_user = 2 * error[:, None] * x
    return Descent.of(-w @ per_user, w, error**2, per_user if curvature == "exact" else None)


def unrolled(log_step: float, pull: float, x: Tensor, y: Tensor, mean: Tensor, last: Tensor) -> Tensor:
    """sum_i L_i of a round of gradient steps e^a from mean + s (last - mean), differentiable in (a, s)."""
    numbers = torch.tensor([log_step, pull], dtype=F64, requires_grad=True)
    theta, total = mean + numbers[1] * (last - mean), torch.zeros((), dtype=F64)
    for xi, yi in zip(x, y, strict=True):
        error = xi @ theta - yi
        total = total + (error**2).mean()
        theta = theta - numbers[0].exp() * (2 * error[:, None] * xi).mean(0)
    return torch.autograd.grad(total, numbers)[0]


@pytest.mark.parametrize("users", [1, 3])
def test_exact_tangents_are_the_rounds_derivative(users: int) -> None:
    rng = np.random.default_rng([7])
    x, y = torch.from_numpy(rng.normal(size=(6, users, 2))), torch.from_numpy(rng.normal(size=(6, users)))
    mean, last, w = vector(0.1, 0.2), vector(0.5, -0.3), -torch.ones(users, dtype=F64)
    theta, tangents = mean + 0.5 * (last - mean), Tangents.start(last - mean)
    for xi, yi in zip(x, y, strict=True):
        seen = descent("exact", xi, yi, w, theta)
        tangents = tangents.after(seen, 0.05, learned=True)
        theta = theta - 0.05 * seen.gradient
    expected = unrolled(math.log(0.05), 0.5, x, y, mean, last)
    np.testing.assert_allclose(tangents.slope, expected.numpy(), rtol=1e-9)


def test_joint_curvature_is_exact_for_one_user() -> None:
    x, y, w = torch.tensor([[0.3, -1.0]], dtype=F64), vector(0.7), vector(-2.0)
    found = [
        Tangents.start(vector(0.4, 0.1)).after(descent(c, x, y, w, vector(0.2, 0.5)), 0.1, learned=True)
        for c in ("joint", "exact")  # type: Curvature
    ]
    torch.testing.assert_close(found[0].directions, found[1].directions)
    np.testing.assert_allclose(found[0].bend, found[1].bend)


def test_weights_of_any_scale_give_the_same_descent() -> None:
    x, y = torch.tensor([[0.3, -1.0], [1.0, 0.2]], dtype=F64), vector(0.7, -0.4)
    one, other = (descent("joint", x, y, scale * vector(-2.0, -1.0), vector(0.2, 0.5)) for scale in (1.0, 50.0))
    torch.testing.assert_close(one.gradient, other.gradient)
    assert one.loss == pytest.approx(other.loss)


def test_absent_user_has_no_share() -> None:
    found = Descent.of(vector(1.0, 0.0), vector(-1.0, -1.0), vector(2.0, math.nan))
    assert found.shares.tolist() == [0.5, 0.0]
    assert found.loss == 1.0


def test_newton_moves_are_limited_and_dead_numbers_stay() -> None:
    move, newton = Newton.start().after(np.array([-5.0, 0.0]), np.zeros((2, 2)), rounds=2)
    assert move.tolist() == [0.25, 0.0]
    move, _ = newton.after(np.array([5.0, 0.0]), np.zeros((2, 2)), rounds=3)
    assert -1 <= move[0] < 0


def test_newton_step_where_curvature_dominates() -> None:
    bend = np.array([[1e6, 2e5], [2e5, 1e6]])
    slope = np.array([3e2, -1e2])
    move, _ = Newton.start().after(slope, bend, rounds=2)
    np.testing.assert_allclose(move, -np.linalg.solve(bend, slope), rtol=1e-3)


def test_first_move_is_small_and_a_zero_gradient_moves_nothing() -> None:
    start = Learner.start(vector(3.0, 4.0), F64, "joint", anchored=True)
    steep = Descent.of(vector(1e-9, 0.0), vector(-1.0), vector(5.0))
    theta, learner = start.step(vector(3.0, 4.0), steep, Free())
    assert float((theta - vector(3.0, 4.0)).norm()) == pytest.approx(0.06)
    flat = Descent.of(vector(0.0, 0.0), vector(-1.0), vector(5.0))
    still, after = learner.step(theta, flat, Free())
    assert torch.equal(still, theta)
    assert after.eta == learner.eta


def test_never_past_the_zero_of_the_linearised_residual() -> None:
    learner = Learner.start(vector(0.0), F64, "joint", anchored=True).after(vector(0.0))
    theta, after = learner.step(vector(0.0), Descent.of(vector(-8.0), vector(-1.0), vector(4.0)), Free())
    assert after.eta == 2 * 4.0 / 64.0
    assert theta.item() == 1.0


def test_outer_loop_starts_between_mean_and_last() -> None:
    learner = Learner.start(vector(0.0), F64, "joint", anchored=True).after(vector(1.0)).after(vector(4.0))
    assert learner.mean.item() == 2.5
    assert learner.x.item() == 4.0
    assert learner.tangents.directions[1].item() == 1.5


def test_what_a_round_made_of_x_is_where_the_next_begins() -> None:
    learner = Learner.start(vector(0.0), F64, "joint", anchored=False).after(vector(1.0)).after(vector(4.0))
    assert learner.x.item() == 4.0
    assert learner.tangents.directions[1].item() == 0.0
    assert learner.after(vector(5.0)).pull == 1.0


def test_average_weighs_late_slots() -> None:
    learner, theta, path = Learner.start(vector(0.0), F64, "joint", anchored=True), vector(0.0), []
    for _ in range(6):
        theta, learner = learner.step(theta, Descent.of(vector(-1.0), vector(-1.0), vector(9.0)), Box(1.0))
        path.append(theta.item())
    i = np.arange(1, 7)
    assert learner.average.item() == pytest.approx(np.average(path, weights=i * (i + 1) * (i + 2)))
