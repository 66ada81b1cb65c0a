import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.fairness import AlphaFair

ALPHAS = [0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0]
alphas = st.one_of(st.sampled_from(ALPHAS), st.floats(0.05, 10))
inside = st.lists(st.floats(1.0, 4.0), min_size=1, max_size=6)
anywhere = st.lists(st.floats(-20.0, 20.0), min_size=1, max_size=6)


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(0.0, 3.0), (0.5, 2 * (math.sqrt(2) - 1) + 2), (1.0, math.log(8)), (2.0, 0.5 + 0.75)],
)
def test_value_in_closed_form(alpha: float, expected: float) -> None:
    assert AlphaFair(alpha, 1.0, 4.0).value(tensor([2.0, 4.0])) == pytest.approx(expected + (alpha == 0), abs=1e-12)


@pytest.mark.parametrize(("alpha", "bad"), [(0.5, -0.1), (1.0, 0.0), (2.0, 0.0), (2.0, -1.0), (1.0, math.nan)])
def test_value_refuses_utilities_where_it_is_undefined(alpha: float, bad: float) -> None:
    with pytest.raises(ValueError, match="undefined"):
        AlphaFair(alpha, 1.0, 4.0).value(tensor([2.0, bad]))


def test_value_is_continuous_in_alpha_at_one() -> None:
    u = tensor([1.3, 3.1])
    near = AlphaFair(1 + 1e-9, 1.0, 4.0)
    assert near.value(u) == pytest.approx(AlphaFair(1.0, 1.0, 4.0).value(u), abs=1e-8)
    w = near.weights_at(u)
    assert near.conjugate(w) == pytest.approx(AlphaFair(1.0, 1.0, 4.0).conjugate(w), abs=1e-8)


@given(alphas, inside)
def test_the_minimum_of_the_proxy_is_the_fairness(alpha: float, u: list[float]) -> None:
    fair, utilities = AlphaFair(alpha, 1.0, 4.0), tensor(u)
    best = fair.weights_at(utilities)
    assert fair.proxy(best, utilities) == pytest.approx(fair.value(utilities), abs=1e-9)
    assert fair.extended(utilities) == pytest.approx(fair.value(utilities), abs=1e-12)
    assert torch.equal(fair.project(best), best) or torch.allclose(fair.project(best), best, rtol=1e-14)


@given(st.floats(0.05, 10), anywhere)
@settings(max_examples=50)
def test_extension_is_the_minimum_of_the_proxy_over_a_grid_of_the_dual_box(alpha: float, u: list[float]) -> None:
    fair = AlphaFair(alpha, 1.0, 4.0)
    grid = -torch.logspace(0, -alpha * math.log10(4), 4001, dtype=torch.float64)
    for v in u:
        lowest = min(fair.proxy(w, tensor([v])) for w in grid[::40].split(1))
        assert fair.extended(tensor([v])) <= lowest + 1e-9
        assert fair.extended(tensor([v])) == pytest.approx(lowest, abs=2e-3 * (1 + abs(v)) * (1 + alpha))


@given(alphas, anywhere)
def test_extended_gradient_matches_differences(alpha: float, u: list[float]) -> None:
    fair, utilities, h = AlphaFair(alpha, 1.0, 4.0), tensor(u), 1e-6
    gradient = fair.extended_gradient(utilities)
    for k in range(len(u)):
        e = torch.zeros_like(utilities)
        e[k] = h
        slope = (fair.extended(utilities + e) - fair.extended(utilities - e)) / (2 * h)
        assert slope == pytest.approx(float(gradient[k]), abs=2e-5)


@given(st.floats(0.05, 10), inside, anywhere)
def test_dual_gradient_matches_differences_of_the_proxy(alpha: float, at: list[float], u: list[float]) -> None:
    fair = AlphaFair(alpha, 1.0, 4.0)
    w, utilities = fair.weights_at(tensor(at[:1])), tensor(u[:1])
    h = float(-w) * 1e-5
    slope = (fair.proxy(w + h, utilities) - fair.proxy(w - h, utilities)) / (2 * h)
    assert slope == pytest.approx(float(fair.dual_gradient(w, utilities)), rel=1e-4, abs=1e-4)


def test_conjugate_conventions() -> None:
    minus_one = tensor([-1.0, -1.0, -1.0])
    assert AlphaFair(1.0, 1.0, 4.0).conjugate(minus_one) == -3.0
    assert AlphaFair(0.0, 1.0, 4.0).conjugate(minus_one) == -3.0
    assert AlphaFair(2.0, 1.0, 4.0).conjugate(tensor([-0.25])) == pytest.approx(1 - 2 * 0.5)


def test_alpha_zero_has_one_weight_and_no_dual_gradient() -> None:
    fair = AlphaFair(0.0, 1.0, 4.0)
    assert fair.weights_at(tensor([0.1, 9.0])).tolist() == [-1.0, -1.0]
    assert fair.project(tensor([-7.0, -0.1])).tolist() == [-1.0, -1.0]
    with pytest.raises(ValueError, match="alpha = 0"):
        fair.dual_gradient(tensor([-1.0]), tensor([2.0]))


def test_out_of_range_counts_neither_the_ends_nor_the_absent() -> None:
    fair = AlphaFair(1.0, 1.0, 4.0)
    assert fair.out_of_range(tensor([0.99, 1.0, 4.0, 4.01, math.nan])).tolist() == [True, False, False, True, False]


@given(st.floats(0.0, 10), st.lists(inside, min_size=2, max_size=5))
def test_fairness_of_the_mean_is_at_least_the_mean_fairness(alpha: float, slots: list[list[float]]) -> None:
    fair, users = AlphaFair(alpha, 1.0, 4.0), min(map(len, slots))
    u = torch.stack([tensor(s[:users]) for s in slots])
    assert fair.value(u.mean(0)) >= sum(map(fair.value, u)) / len(u) - 1e-9


@pytest.mark.parametrize(
    ("alpha", "u_min", "u_max"),
    [(-0.1, 1, 4), (math.nan, 1, 4), (math.inf, 1, 4), (1, 4, 4), (1, 0, 4), (1, 1, math.inf), (10, 1e-40, 1)],
)
def test_impossible_families_are_refused(alpha: float, u_min: float, u_max: float) -> None:
    with pytest.raises(ValueError, match=r"alpha|u_min"):
        AlphaFair(alpha, u_min, u_max)
