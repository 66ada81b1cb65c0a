import math

import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import brentq

from edge_server.routed_mtl import min_max_optimum, p3_delay
from edge_server.routed_mtl.checks import NotConverged
from edge_server.routed_mtl.min_max_optimum import longest_delay, minimise_longest
from edge_server.routed_mtl.p3_min_max import P3MinMax

P_TOT, BITS, BANDWIDTH = 10.0, 1e6, 1e6


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Gains of -30 to 144 dB per W, payloads that differ up to 1e4 times."""
    return 10 ** (rng.uniform(-30, 144, shape) / 10), 1e3 * 10 ** rng.uniform(0, 4, shape)


def by_bisection(gain: np.ndarray, bits: np.ndarray) -> float:
    """The common time by scipy's root finder, user by user in plain Python: the sum of needed powers is P_tot."""

    def missing(log_time: float) -> float:
        nats = [size * math.log(2) / (BANDWIDTH * math.exp(log_time)) for size in bits.tolist()]
        if max(nats) > 700:
            return math.inf
        return math.fsum(math.expm1(u) / a for u, a in zip(nats, gain.tolist(), strict=True)) / P_TOT - 1

    def alone(power: float) -> list[float]:
        pairs = zip(gain.tolist(), bits.tolist(), strict=True)
        return [math.log(size * math.log(2) / (BANDWIDTH * math.log1p(a * power))) for a, size in pairs]

    low, high = max(alone(P_TOT)) - 1e-9, max(alone(P_TOT / gain.size)) + 1e-9
    return math.exp(brentq(missing, low, high, xtol=1e-13, rtol=1e-14))


@pytest.mark.parametrize("users", [1, 2, 5, 8, 20, 64])
def test_the_common_time_is_that_of_another_root_finder(users: int) -> None:
    gain, bits = drawn(np.random.default_rng([5, users]), (40, users))
    found = minimise_longest(gain, bits, BANDWIDTH, P_TOT)
    for i in range(40):
        assert found.delay[i] == pytest.approx(by_bisection(gain[i], bits[i]), rel=1e-9)


@pytest.mark.parametrize("users", [2, 8, 20])
def test_the_longest_delay_is_that_of_a_conic_solver(users: int) -> None:
    """The largest rate r, in nats per mean payload, with r L_n <= ln(1 + a_n P_n): a cone of exponentials."""
    rng = np.random.default_rng([5, users])
    gain, bits = 10 ** rng.uniform(-1, 4, users), rng.uniform(1e5, 1e6, users)
    share, rate = cvxpy.Variable(users), cvxpy.Variable()
    needs = [rate * (bits / bits.mean()) <= cvxpy.log1p(cvxpy.multiply(gain * P_TOT, share)), cvxpy.sum(share) <= 1]
    problem = cvxpy.Problem(cvxpy.Maximize(rate), [*needs, share >= 0])
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    delay = math.log(2) * bits.mean() / (BANDWIDTH * float(problem.value))
    assert minimise_longest(gain, bits, BANDWIDTH, P_TOT).delay == pytest.approx(delay, rel=1e-6)


def test_all_times_are_equal_and_the_budget_is_spent() -> None:
    rng = np.random.default_rng(5)
    for users in range(1, 65):
        gain, bits = drawn(rng, (300, users))
        found = minimise_longest(gain, bits, BANDWIDTH, P_TOT)
        times = bits / (BANDWIDTH * np.log1p(gain * found.power) / math.log(2))
        np.testing.assert_allclose(times, np.broadcast_to(found.delay[:, None], times.shape), rtol=1e-9)
        np.testing.assert_allclose(found.power.sum(axis=-1), P_TOT, rtol=1e-12)
        assert found.power.min() > 0


def test_extremes_of_float64_keep_their_digits() -> None:
    rng = np.random.default_rng(5)
    gain = 10 ** rng.uniform(-100, 100, (500, 9))
    bits = 10 ** rng.uniform(-20, 20, (500, 9))
    assert minimise_longest(gain, bits, BANDWIDTH, P_TOT).spread.max() <= 1e-9


def test_closed_forms() -> None:
    assert minimise_longest([[0.3], [2e14]], BITS, BANDWIDTH, P_TOT).power.tolist() == [[10.0], [10.0]]
    np.testing.assert_allclose(minimise_longest(np.full(4, 30.0), BITS, BANDWIDTH, P_TOT).power, 2.5, rtol=1e-14)
    weak = minimise_longest([1e-9, 4e-9, 1e-9], [1e6, 1e6, 4e6], BANDWIDTH, P_TOT)
    np.testing.assert_allclose(weak.power, 10 * np.array([4.0, 1.0, 16.0]) / 21, rtol=1e-7)
    twice = minimise_longest([1.0, 1.0], [1e6, 2e6], BANDWIDTH, 6.0 + 2 * 3.0)
    np.testing.assert_allclose(twice.power, [twice.power[0], (1 + twice.power[0]) ** 2 - 1], rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(gain_db=arrays(np.float64, st.integers(2, 12), elements=st.floats(-30, 144)), data=st.data())
def test_no_other_split_has_a_shorter_longest_delay(gain_db: np.ndarray, data: st.DataObject) -> None:
    gain = 10 ** (gain_db / 10)
    bits = 10 ** data.draw(arrays(np.float64, gain.shape, elements=st.floats(3, 7)))
    best = minimise_longest(gain, bits, BANDWIDTH, P_TOT)
    change = data.draw(arrays(np.float64, gain.shape, elements=st.floats(0.5, 2)))
    other = best.power * change
    other *= P_TOT / other.sum()
    assert best.delay <= longest_delay(gain, other, bits, BANDWIDTH) * (1 + 1e-12)


def test_stacks_and_the_order_of_users_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    gain, bits = drawn(rng, (4, 5, 9))
    order = rng.permutation(9)
    power = minimise_longest(gain, bits, BANDWIDTH, P_TOT).power
    np.testing.assert_allclose(
        minimise_longest(gain[..., order], bits[..., order], 2e7, P_TOT).power, power[..., order], rtol=1e-9
    )
    np.testing.assert_allclose(minimise_longest(gain[2, 3], bits[2, 3], BANDWIDTH, P_TOT).power, power[2, 3], rtol=1e-9)


def test_an_answer_short_of_the_bar_is_raised_with_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(min_max_optimum, "LARGEST_SPREAD", 0.0)
    gain = 10 ** np.random.default_rng(5).uniform(0, 9, (3, 7))
    with pytest.raises(NotConverged, match=r"^min_max: \d of 3 instances .* in 50 steps: .* differ by up to \d"):
        minimise_longest(gain, BITS, BANDWIDTH, P_TOT)


def test_what_float64_cannot_hold_is_raised_too() -> None:
    with pytest.raises(NotConverged, match="1 of 1 instances"):
        minimise_longest([5e-324, 1.0], BITS, BANDWIDTH, P_TOT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 0.0], 1e6, 1e6, 10.0), "min_max: gain must be positive and finite, got 0.0 at [1]"),
        (([1.0, 2.0], [1e6, -1.0], 1e6, 10.0), "min_max: bits must be positive and finite, got -1.0 at [1]"),
        (([1.0], 1e6, math.nan, 10.0), "min_max: bandwidth must be positive and finite, got nan"),
        (([1.0], 1e6, 1e6, 0.0), "min_max: p_tot must be positive and finite, got 0.0"),
    ],
)
def test_bad_numbers_are_one_clear_line(arguments: tuple[float, float, float, float], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole line is compared
        minimise_longest(*arguments)
    assert str(error.value) == message


def test_the_problem_is_the_solvers() -> None:
    """Its objective and its labels against the solver's delay, with padded places."""
    problem = P3MinMax.of(p3_delay.PRESETS["default"])
    gains = problem.sample(np.random.default_rng(5), 30, 6)
    bits = np.random.default_rng(6).uniform(1e5, 1e7, (30, 6))
    for payload in (None, bits):
        power = problem.optimum(gains, payload)
        best = minimise_longest(1e3 * gains, 1e6 if payload is None else payload, 1e6, 10.0).delay
        padded = [torch.full((30, 9), math.nan, dtype=torch.float64) for _ in range(3)]
        for tensor, values in zip(padded, (gains, power, bits), strict=True):
            tensor[:, :6] = torch.from_numpy(values)
        mask = torch.arange(9).expand(30, 9) < 6
        objective = problem.objective(padded[0], padded[1], mask, None if payload is None else padded[2])
        np.testing.assert_allclose(objective, best, rtol=1e-9)
    assert (problem.name, problem.rho, problem.floor) == ("p3_min_max", 1e3, 0.01)
    assert problem != p3_delay.PRESETS["default"]
