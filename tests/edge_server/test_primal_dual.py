import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_server.domains import Ball, Box, Free
from edge_server.fairness import AlphaFair
from edge_server.primal_dual import (
    cap_gradient,
    dual_modulus,
    dual_step,
    outer_step,
    primal_step,
    regret_bound,
    residual,
    theory_step,
)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_primal_step_descends_and_projects() -> None:
    theta = primal_step(tensor(0.0, 0.5), tensor(2.0, -8.0), 0.1, Box(1.0))
    assert theta.tolist() == pytest.approx([-0.2, 1.0])
    assert primal_step(torch.zeros(2), torch.ones(2), 0.1, Free()).dtype == torch.float32


def test_primal_step_leaves_its_arguments_alone() -> None:
    theta, gradient = tensor(1.0), tensor(1.0)
    primal_step(theta, gradient, 0.5, Ball(9.0))
    assert (theta.item(), gradient.item()) == (1.0, 1.0)


def test_cap_scales_to_the_norm_and_says_so() -> None:
    capped, hit = cap_gradient(tensor(3.0, 4.0), 1.0)
    assert hit
    assert capped.tolist() == pytest.approx([0.6, 0.8])
    assert cap_gradient(tensor(3.0, 4.0), 5.0)[1] is False


def test_dual_step_of_the_golden_trace() -> None:
    """Round 1 of maths.md A3: (-1, -1) -> (-.0625, -.0625) -> (-1, -.1025)."""
    fair = AlphaFair(2.0, 1.0, 4.0)
    first = dual_step(tensor(-1.0, -1.0), tensor(3.75, 3.0), 1, fair)
    assert first.tolist() == [-0.0625, -0.0625]
    theta = tensor(-0.05, 0.075)
    losses = tensor(
        float((tensor(1.0, 0.2) @ theta - 1) ** 2),
        float((tensor(0.5, 1.0) @ theta - 0.25) ** 2),
    )
    assert dual_step(first, 4 - losses, 2, fair).tolist() == pytest.approx([-1.0, -0.1025], abs=5e-7)


@given(st.floats(0.1, 5), st.lists(st.floats(1, 3), min_size=1, max_size=4), st.integers(1, 200))
def test_the_dual_optimum_is_a_fixed_point(alpha: float, u: list[float], i: int) -> None:
    fair = AlphaFair(alpha, 1.0, 3.0)
    w = fair.weights_at(tensor(*u))
    assert torch.allclose(dual_step(w, tensor(*u), i, fair), w, rtol=1e-9)


@given(st.floats(0.1, 8), st.floats(0.3, 2), st.floats(1.1, 4), st.floats(0, 1), st.floats(0, 1))
def test_modulus_bounds_the_curvature_of_the_conjugate(
    alpha: float, u_min: float, ratio: float, a: float, b: float
) -> None:
    fair = AlphaFair(alpha, u_min, u_min * ratio)
    low, high = fair.strongest, fair.weakest
    v, w = tensor(low + a * (high - low)), tensor(low + b * (high - low))
    zero = tensor(0.0)
    growth = float((fair.dual_gradient(w, zero) - fair.dual_gradient(v, zero)) * (w - v))
    assert growth >= dual_modulus(fair) * float((w - v) ** 2) * (1 - 1e-6) - 1e-12


def test_modulus_is_attained_at_the_strongest_weight_and_is_not_the_papers() -> None:
    fair, h = AlphaFair(5.0, 0.3, 1.0), 1e-4
    w = tensor(fair.strongest)
    slope = (fair.dual_gradient(w * (1 - h), tensor(0.0)) - fair.dual_gradient(w, tensor(0.0))) / (-w * h)
    assert float(slope) == pytest.approx(dual_modulus(fair), rel=1e-3)
    paper = 0.3 ** (1 + 1 / 5) / 5
    assert paper > 100 * dual_modulus(fair)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_outer_step_is_the_running_mean(stars: list[float]) -> None:
    x = tensor(0.7)
    for t, star in enumerate(stars, start=1):
        x = outer_step(x, tensor(star), t, Box(1.0))
    assert x.item() == pytest.approx(sum(stars) / len(stars), abs=1e-12)


def test_theory_step() -> None:
    assert theory_step(2.0, 4.0, 25) == pytest.approx(0.1)


def test_regret_bound_against_a_hand_computation() -> None:
    """D* = 1, D = 4, G = 2, T = 1, m = 4, K = 2, a = 2, u in [1, 4]: mu = 1/2, G_W^2 = 18."""
    by_hand = (2 * 1 + 2 * 16 / 2) / 2 + 18 * (1 + math.log(4)) / (2 * 0.5 * 4)
    assert regret_bound(1.0, 4.0, 2.0, 1, 4, 2, AlphaFair(2.0, 1.0, 4.0)) == pytest.approx(by_hand)
    assert regret_bound(1.0, 4.0, 2.0, 1, 4, 2, AlphaFair(0.0, 1.0, 4.0)) == pytest.approx(9.0)


def test_residual_is_the_covariance_of_weights_and_utilities() -> None:
    w = torch.tensor([[-1.0, -1.0], [-0.5, -0.2]], dtype=torch.float64)
    u = torch.tensor([[1.0, 2.0], [3.0, 2.0]], dtype=torch.float64)
    assert residual(w, u) == pytest.approx(((-0.25) * 1 + 0.25 * 3 + (-0.4 + 0.4) * 2) / 2)
    assert residual(w[:1].expand(2, 2), u) == 0.0
