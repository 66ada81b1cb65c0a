import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference as ref
from edge_server.domains import Ball, Box, Domain, Free
from edge_server.fairness import AlphaFair
from sim.oracle import NotConverged, Optimum, Oracle

Array = ref.Array


def stream(seed: int, users: int, slots: int, d: int = 4, batch: int = 1) -> tuple[Array, Array]:
    """Polynomial features of tau ~ U[0, 1] and opposed sinusoids: x [K, m, B, d], y [K, m, B]."""
    rng = np.random.default_rng([seed, users, slots])
    tau = rng.random((users, slots, batch))
    sign = np.where(np.arange(users) % 3 == 0, -1.5, 1.0)[:, None, None]
    y = sign * np.sin(3 * tau + 1) + rng.normal(0, 0.3, tau.shape)
    return np.stack([tau**j for j in range(d)], -1), y


def solve(x: Array, y: Array, fairness: AlphaFair, domain: Domain, l_max: float = 4.0) -> Optimum:
    return Oracle(fairness, np.full(len(x), l_max), domain).solve(0, list(x), list(y))


def objective(x: Array, y: Array, theta: Array, fairness: AlphaFair, l_max: float = 4.0) -> float:
    losses = ((x @ theta - y) ** 2).mean(axis=(1, 2))
    return fairness.extended(torch.from_numpy(l_max - losses))


def reference_value(x: Array, y: Array, fairness: AlphaFair, box: float) -> float:
    s = ref.Setting(fairness.alpha, fairness.u_min, fairness.u_max, l_max=4.0, eta=0.0, theta_box=box)
    xs, ys = x.swapaxes(0, 1), y.swapaxes(0, 1)
    return ref.objective(ref.oracle(xs, ys, s), xs, ys, s)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0]),
    st.sampled_from([2, 3, 8, 32]),
    st.sampled_from([4, 16, 128]),
    st.sampled_from([0.3, 1.0, 3.0]),
    st.sampled_from([1.0, 2.5, 3.5]),
)
def test_objective_agrees_with_an_independent_solver(
    seed: int, alpha: float, users: int, slots: int, box: float, u_min: float
) -> None:
    x, y = stream(seed, users, slots)
    fairness = AlphaFair(alpha, u_min, 4.0)
    found = solve(x, y, fairness, Box(box))
    theta = found.hindsight.theta.numpy()
    ours, theirs = objective(x, y, theta, fairness), reference_value(x, y, fairness, box)
    assert found.kkt <= 1e-8
    assert np.abs(theta).max() <= box
    assert ours >= theirs - 1e-9
    assert ours == pytest.approx(theirs, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0, 10),
    st.integers(2, 32),
    st.integers(4, 128),
    st.sampled_from([0.3, 1.0]),
    st.sampled_from([1.1, 4.0, 10.0]),
)
def test_kkt_holds_over_the_whole_range(
    seed: int, alpha: float, users: int, slots: int, u_min: float, ratio: float
) -> None:
    """Also with most utilities outside [u_min, u_max], where f_ext is linear."""
    x, y = stream(seed, users, slots)
    fairness = AlphaFair(alpha, u_min, u_min * ratio)
    found = solve(x, y, fairness, Box(1.0), l_max=u_min * ratio)
    theta = found.hindsight.theta.numpy()
    s = ref.Setting(alpha, fairness.u_min, fairness.u_max, fairness.u_max, 0.0, 1.0)
    slope = ref.objective_gradient(theta, x.swapaxes(0, 1), y.swapaxes(0, 1), s)
    assert np.abs(theta - np.clip(theta + slope, -1, 1)).max() <= 1.1e-8


def test_alpha_zero_inside_the_box_is_least_squares() -> None:
    x, y = stream(1, 3, 40)
    fairness = AlphaFair(0.0, 1.0, 4.0)
    expected = np.linalg.lstsq(x.reshape(-1, 4), y.reshape(-1), rcond=None)[0]
    for domain in (Free(), Box(100.0)):
        theta = solve(x, y, fairness, domain).hindsight.theta.numpy()
        np.testing.assert_allclose(theta, expected, atol=1e-8)


def test_one_dimension_in_closed_form() -> None:
    """Users pull to +1 and -1 with equal force: by symmetry theta* = 0; a box away from 1 binds a lone user."""
    x, y = np.ones((2, 4, 1, 1)), np.stack([np.ones((4, 1)), -np.ones((4, 1))])
    both = solve(x, y, AlphaFair(2.0, 1.0, 4.0), Box(3.0))
    assert both.hindsight.theta.item() == pytest.approx(0.0, abs=1e-12)
    assert solve(x[:1], y[:1], AlphaFair(2.0, 1.0, 4.0), Box(0.25)).hindsight.theta.item() == 0.25


def test_singular_hessian() -> None:
    """Twice the same feature, and a feature that is always zero."""
    x, y = stream(2, 2, 6, d=1)
    wide = np.concatenate([x, x, 0 * x], axis=-1)
    narrow = solve(x, y, AlphaFair(1.5, 1.0, 4.0), Box(2.0)).hindsight.theta.numpy()
    found = solve(wide, y, AlphaFair(1.5, 1.0, 4.0), Box(2.0))
    assert found.kkt <= 1e-8
    assert found.hindsight.theta[:2].sum().item() == pytest.approx(narrow.item(), abs=1e-8)


def test_golden_targets_and_utilities() -> None:
    s = ref.GOLDEN
    for t, star in enumerate(ref.GOLDEN_STARS):
        x, y = ref.GOLDEN_X[t].swapaxes(0, 1), ref.GOLDEN_Y[t].swapaxes(0, 1)
        found = solve(x, y, AlphaFair(s.alpha, s.u_min, s.u_max), Box(1.0)).hindsight
        np.testing.assert_allclose(found.theta.numpy(), star, atol=5.1e-7)
        expected = 4.0 - ref.losses(found.theta.numpy(), ref.GOLDEN_X[t], ref.GOLDEN_Y[t])
        np.testing.assert_allclose(found.utilities.numpy(), expected, atol=1e-12)
        assert found.theta.dtype == found.utilities.dtype == torch.float64


def test_users_may_differ_in_batch() -> None:
    """One sample weighs as much as the same sample three times."""
    x, y = stream(4, 2, 8, batch=3)
    once = [x[0], x[1][:, :1]], [y[0], y[1][:, :1]]
    thrice = [x[0], x[1][:, :1].repeat(3, 1)], [y[0], y[1][:, :1].repeat(3, 1)]
    oracle = Oracle(AlphaFair(1.0, 1.0, 4.0), np.full(2, 4.0), Box(1.0))
    values = [oracle.solve(0, *given).hindsight.utilities.numpy() for given in (once, thrice)]
    np.testing.assert_allclose(*values, atol=1e-7)


def test_balls_are_refused() -> None:
    with pytest.raises(ValueError, match="boxes only"):
        Oracle(AlphaFair(1.0, 1.0, 4.0), np.full(2, 4.0), Ball(1.0))


def test_failure_names_round_and_residual() -> None:
    x, y = stream(3, 2, 4)
    with pytest.raises(NotConverged, match=r"round 7: KKT residual nan"):
        Oracle(AlphaFair(1.0, 1.0, 4.0), np.full(2, 4.0), Box(1.0)).solve(7, list(x), list(y * np.nan))


def test_a_round_of_the_kernel_stream_takes_about_a_millisecond() -> None:
    """Guards against an accidental blow-up only; the machine may be shared."""
    x, y = stream(5, 2, 32)
    took = []
    for _ in range(20):
        start = time.perf_counter()
        solve(x, y, AlphaFair(2.0, 1.0, 4.0), Box(1.0))
        took.append(time.perf_counter() - start)
    assert min(took) < 0.01
