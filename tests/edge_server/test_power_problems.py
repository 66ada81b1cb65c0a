import math

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_server.routed_mtl import p3_delay, p4_capacity
from edge_server.routed_mtl.capacity_optimum import sum_capacity
from edge_server.routed_mtl.channels import Rician
from edge_server.routed_mtl.delay_optimum import mean_delay
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.problems import Problem

PROBLEMS = [P3Delay(), P3Delay(floor=0.0), P4Capacity()]


def drawn(problem: Problem, users: int, places: int, padding: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and gains [6, places], mask [6, places]; places from `users` on hold `padding`."""
    gains = torch.full((6, places), padding, dtype=torch.float64)
    gains[:, :users] = torch.from_numpy(problem.sample(np.random.default_rng(4), 6, users))
    logits = torch.full((6, places), padding, dtype=torch.float64)
    logits[:, :users] = torch.randn(6, users, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return logits.requires_grad_(), gains, torch.arange(places).expand(6, places) < users


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
@pytest.mark.parametrize("padding", [0.0, -5.0, 1e6, math.nan, math.inf])
def test_padding_is_a_mask_and_never_a_number(problem: Problem, padding: float) -> None:
    results = []
    for places in (4, 9):
        logits, gains, mask = drawn(problem, 4, places, padding)
        power = problem.power(logits, mask)
        objective = problem.objective(gains, power, mask)
        (gradient,) = torch.autograd.grad(objective.sum(), logits)
        assert bool((power[:, 4:] == 0).all())
        assert bool((gradient[:, 4:] == 0).all())
        results.append((power[:, :4], objective, gradient[:, :4]))
    for alone, padded in zip(*results, strict=True):
        torch.testing.assert_close(alone, padded)


def test_p3_spends_its_power_and_the_floor_holds() -> None:
    logits, _, mask = drawn(P3Delay(), 5, 8, 0.0)
    for floor in (0.0, 0.01, 1.0):
        power = P3Delay(floor=floor).power(40 * logits, mask)[:, :5]
        torch.testing.assert_close(power.sum(dim=-1), torch.full((6,), 10.0, dtype=torch.float64))
        assert float(power.min().detach()) >= floor * 10 / 5 * (1 - 1e-12)
    torch.testing.assert_close(
        P3Delay(floor=0.0).power(logits, mask)[:, :5], 10 * logits[:, :5].softmax(dim=-1), rtol=1e-12, atol=0
    )


def test_p4_powers_are_sigmoids_of_its_own_p_tot() -> None:
    logits, _, mask = drawn(P4Capacity(), 5, 8, 0.0)
    power = P4Capacity(p_tot=3.0).power(logits, mask)[:, :5]
    torch.testing.assert_close(power, 3 * logits[:, :5].sigmoid())


def test_objectives_are_those_of_the_exact_solvers() -> None:
    _, gains, mask = drawn(P3Delay(), 5, 5, 0.0)
    bits = torch.linspace(1e5, 9e6, 30, dtype=torch.float64).reshape(6, 5)
    power = torch.linspace(0.1, 4, 30, dtype=torch.float64).reshape(6, 5)
    p3 = P3Delay(bandwidth=2e6, rho=50.0)
    of_each = mean_delay(50.0 * gains.numpy(), power.numpy(), bits.numpy(), 2e6)
    np.testing.assert_allclose(p3.objective(gains, power, mask, bits), of_each, rtol=1e-12)
    of_all = mean_delay(50.0 * gains.numpy(), power.numpy(), 1e6, 2e6)
    np.testing.assert_allclose(p3.objective(gains, power, mask), of_all, rtol=1e-12)
    rates = P4Capacity().objective(gains, power, mask)
    np.testing.assert_allclose(rates, sum_capacity(gains.numpy(), power.numpy()), rtol=1e-12)


def test_the_label_is_where_the_delays_gradient_has_one_value() -> None:
    problem = P3Delay()
    gains = problem.sample(np.random.default_rng(4), 20, 8)
    for bits in (None, np.linspace(1e5, 1e7, 8)):
        power = torch.from_numpy(problem.optimum(gains, bits)).requires_grad_()
        payload = None if bits is None else torch.from_numpy(bits).expand(20, 8)
        objective = problem.objective(torch.from_numpy(gains), power, torch.ones(20, 8, dtype=torch.bool), payload)
        (gradient,) = torch.autograd.grad(objective.sum(), power)
        torch.testing.assert_close(gradient, gradient[:, :1].expand_as(gradient), rtol=1e-9, atol=0)


def test_a_problem_draws_from_its_channel() -> None:
    channel = Rician(100.0)
    for problem in (P3Delay(channel=channel), P4Capacity(channel=channel)):
        drawn_gains = problem.sample(np.random.default_rng(4), 30, 3)
        assert np.array_equal(drawn_gains, channel.gains(np.random.default_rng(4), 30, 3))


def test_as_printed_p3_is_trivial_and_the_default_is_not() -> None:
    """maths.md B1: at 144 dB per W equal power is within .012 % of optimal."""
    for preset, largest in (("literal", 1.2e-4), ("default", math.inf)):
        problem = p3_delay.PRESETS[preset]
        gains = problem.sample(np.random.default_rng(4), 5000, 20)
        best = mean_delay(problem.rho * gains, problem.optimum(gains), problem.bits, problem.bandwidth)
        equal = mean_delay(problem.rho * gains, np.full_like(gains, 0.5), problem.bits, problem.bandwidth)
        assert np.median(equal / best - 1) < largest
    assert np.median(equal / best - 1) > 0.01


def test_presets_hold_the_numbers_of_table_i() -> None:
    assert 10 * math.log10(p3_delay.PRESETS["literal"].rho) == pytest.approx(144.0)
    assert p3_delay.PRESETS["literal"].floor == 0
    assert 10 * math.log10(p3_delay.PRESETS["default"].rho) == pytest.approx(30.0)
    assert p4_capacity.PRESETS["default"].mean_power(20) == 0.5
    assert p4_capacity.PRESETS["literal"].mean_power(20) == 0.5 / 20


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: P4Capacity(p_av=2.0), "p4: the mean power P_av = 2 W must be at most P_tot = 1 W"),
        (lambda: P4Capacity(p_av=math.nan), "p4: mean_power must be positive and finite, got nan"),
        (lambda: P4Capacity().mean_power(0), "p4: users must be at least 1, got 0"),
        (lambda: P3Delay(p_tot=0.0), "p3: p_tot must be positive and finite, got 0.0"),
        (lambda: P3Delay(bits=-1.0), "p3: bits must be positive and finite, got -1.0"),
        (lambda: P3Delay(floor=1.5), "p3: floor must lie in [0, 1], got 1.5"),
        (lambda: P3Delay().optimum(np.array([1.0, 0.0])), "p3: gain must be positive and finite, got 0.0 at [1]"),
        (
            lambda: P3Delay().sample(np.random.default_rng(4), 10, 0),
            "channel: users must be at least 1, got 0",
        ),
    ],
)
def test_impossible_problems_are_one_clear_line(build: object, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole line is compared
        build()  # type: ignore[operator]
    assert str(error.value) == message
