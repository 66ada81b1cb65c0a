import math
import time

import cvxpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_server.routed_mtl import delay_optimum
from edge_server.routed_mtl.checks import NotConverged
from edge_server.routed_mtl.delay_optimum import mean_delay, minimise_delay

P_TOT, BITS, BANDWIDTH = 10.0, 1e6, 1e6
PAPER_USERS = (5, 8, 10, 12, 15, 18, 20)


def decibels(rng: np.random.Generator, shape: tuple[int, ...], low: float = -10, high: float = 144) -> np.ndarray:
    return np.asarray(10 ** (rng.uniform(low, high, shape) / 10))


def kkt_spread(gain: np.ndarray, power: np.ndarray, bits: np.ndarray | float) -> np.ndarray:
    """Largest over smallest -d delay/dP_n, less 1, by (P3)'s derivative in the powers."""
    snr = gain * power
    slope = bits * gain / (np.log1p(snr) ** 2 * (1 + snr))
    return np.asarray(slope.max(axis=-1) / slope.min(axis=-1) - 1)


def of_cvxpy(gain: np.ndarray, bits: np.ndarray) -> float:
    """The least mean delay by a conic solver, in shares x of P_tot: ln(1 + a P) = ln(a P_tot) + ln(x + 1/(a P_tot))."""
    share = cvxpy.Variable(gain.size)
    snr = gain * P_TOT
    nats = np.log(snr) + cvxpy.log(share + 1 / snr)
    scale = bits / bits.mean()
    problem = cvxpy.Problem(cvxpy.Minimize(scale @ cvxpy.inv_pos(nats)), [cvxpy.sum(share) <= 1, share >= 0])
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(problem.value) * bits.mean() * math.log(2) / (gain.size * BANDWIDTH)


def test_100_000_instances_of_2_to_64_users_meet_the_kkt_conditions() -> None:
    rng = np.random.default_rng(4)
    instances = 0
    for users in range(2, 65):
        gain = decibels(rng, (1600, users))
        found = minimise_delay(gain, BITS, BANDWIDTH, P_TOT)
        assert found.spread.max() <= 1e-9
        assert kkt_spread(gain, found.power, BITS).max() <= 1e-9
        np.testing.assert_allclose(found.power.sum(axis=-1), P_TOT, rtol=1e-12)
        assert found.power.min() > 0
        instances += len(gain)
    assert instances >= 100_000


@pytest.mark.parametrize("users", [2, 5, 8, 20, 64])
@pytest.mark.parametrize(("low", "high"), [(-10, 144), (20, 40), (-10, 10)])
def test_the_delay_is_that_of_a_conic_solver(users: int, low: float, high: float) -> None:
    rng = np.random.default_rng([4, users])
    gain = decibels(rng, (3, users), low, high)
    bits = rng.uniform(1e5, 1e7, (3, users))
    delays = mean_delay(gain, minimise_delay(gain, bits, BANDWIDTH, P_TOT).power, bits, BANDWIDTH)
    for i in range(3):
        assert delays[i] == pytest.approx(of_cvxpy(gain[i], bits[i]), rel=1e-6)


def test_one_user_gets_everything_and_equal_users_get_equal_shares() -> None:
    gain = np.array([[0.1], [2e14]])
    assert minimise_delay(gain, BITS, BANDWIDTH, P_TOT).power.tolist() == [[10.0], [10.0]]
    np.testing.assert_allclose(minimise_delay(np.full((2, 4), 30.0), BITS, BANDWIDTH, P_TOT).power, 2.5, rtol=1e-14)


def test_weak_signals_share_by_the_square_root_rule() -> None:
    """As a P goes to 0 the delay is L / (a P), least at P in proportion to sqrt(L / a)."""
    gain, bits = np.array([1e-9, 4e-9, 1e-9]), np.array([1e6, 1e6, 4e6])
    found = minimise_delay(gain, bits, BANDWIDTH, P_TOT)
    np.testing.assert_allclose(found.power, 10 * np.array([2.0, 1.0, 4.0]) / 7, rtol=1e-7)


def test_the_multiplier_is_what_one_more_watt_takes_off_the_delay() -> None:
    rng = np.random.default_rng(4)
    gain, bits = decibels(rng, (20, 6), 0, 60), rng.uniform(1e5, 1e7, (20, 6))

    def least(p_tot: float) -> np.ndarray:
        return mean_delay(gain, minimise_delay(gain, bits, BANDWIDTH, p_tot).power, bits, BANDWIDTH)

    slope = (least(P_TOT - 1e-3) - least(P_TOT + 1e-3)) / 2e-3
    np.testing.assert_allclose(minimise_delay(gain, bits, BANDWIDTH, P_TOT).multiplier, slope, rtol=1e-6)


def test_payloads_and_bandwidth_scale_the_delay_and_not_the_powers() -> None:
    gain = decibels(np.random.default_rng(4), (50, 8))
    one, other = (minimise_delay(gain, bits, width, P_TOT) for bits, width in ((1e6, 1e6), (3e3, 2e7)))
    np.testing.assert_allclose(one.power, other.power, rtol=1e-10)
    np.testing.assert_allclose(other.multiplier, one.multiplier * 3e-3 / 20, rtol=1e-10)


def test_of_two_equal_channels_the_larger_payload_gets_more_power() -> None:
    power = minimise_delay(np.full(3, 10.0), [1e6, 2e6, 1e6], BANDWIDTH, P_TOT).power
    assert power[1] > power[0] == power[2]


def test_delays_by_hand() -> None:
    assert mean_delay([[3.0, 15.0]], [[1.0, 1.0]], [1e6, 8e6], 1e6).tolist() == [(1 / 2 + 8 / 4) / 2]
    assert mean_delay([3.0, 1.0], [1.0, 0.0], 1e6, 1e6) == math.inf


gains = arrays(np.float64, st.integers(2, 12), elements=st.floats(-100, 200))


@settings(max_examples=60, deadline=None)
@given(gain_db=gains, data=st.data())
def test_no_other_split_of_the_power_is_faster(gain_db: np.ndarray, data: st.DataObject) -> None:
    gain = 10 ** (gain_db / 10)
    best = minimise_delay(gain, BITS, BANDWIDTH, P_TOT)
    split = data.draw(arrays(np.float64, gain.shape, elements=st.floats(0.01, 1)))
    other = P_TOT * split / split.sum()
    least = mean_delay(gain, best.power, BITS, BANDWIDTH)
    assert least <= mean_delay(gain, other, BITS, BANDWIDTH) * (1 + 1e-12)
    assert best.spread <= 1e-9


def test_the_order_of_users_and_the_batch_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    gain = decibels(rng, (4, 5, 9))
    order = rng.permutation(9)
    power = minimise_delay(gain, BITS, BANDWIDTH, P_TOT).power
    assert power.shape == (4, 5, 9)
    np.testing.assert_allclose(minimise_delay(gain[..., order], BITS, BANDWIDTH, P_TOT).power, power[..., order], 1e-9)
    np.testing.assert_allclose(minimise_delay(gain[2, 3], BITS, BANDWIDTH, P_TOT).power, power[2, 3], rtol=1e-9)


@pytest.mark.slow
def test_280_000_instances_take_at_most_five_seconds_of_one_core() -> None:
    rng = np.random.default_rng(4)
    gains = [1e3 * rng.standard_exponential((40_000, users)) for users in PAPER_USERS]
    started = time.process_time()
    for gain in gains:
        minimise_delay(gain, BITS, BANDWIDTH, P_TOT)
    assert time.process_time() - started <= 5


def test_an_answer_short_of_the_bar_is_raised_with_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delay_optimum, "NEWTON_STEPS", 1)
    gain = np.concatenate([np.full((3, 8), 5.0), decibels(np.random.default_rng(4), (7, 8))])
    with pytest.raises(NotConverged, match=r"^p3: 7 of 10 instances .* in 1 steps: .* up to \d.*, the limit 1e-09$"):
        minimise_delay(gain, BITS, BANDWIDTH, P_TOT)


def test_gains_outside_float64s_reach_are_raised_too() -> None:
    with pytest.raises(NotConverged, match="1 of 1 instances"):
        minimise_delay([5e-324, 1.0], BITS, BANDWIDTH, P_TOT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 2.0], [3.0, 0.0]], 1e6, 1e6, 10.0), "p3: gain must be positive and finite, got 0.0 at [1, 1]"),
        (([1.0, math.nan], 1e6, 1e6, 10.0), "p3: gain must be positive and finite, got nan at [1]"),
        (([-1.0, 2.0], 1e6, 1e6, 10.0), "p3: gain must be positive and finite, got -1.0 at [0]"),
        (([math.inf, 2.0], 1e6, 1e6, 10.0), "p3: gain must be positive and finite, got inf at [0]"),
        ((np.ones((3, 0)), 1e6, 1e6, 10.0), "p3: gain: at least one user is needed, got shape [3, 0]"),
        ((1.0, 1e6, 1e6, 10.0), "p3: gain: at least one user is needed, got shape []"),
        (([1.0, 2.0], [1e6, 0.0], 1e6, 10.0), "p3: bits must be positive and finite, got 0.0 at [1]"),
        (([1.0, 2.0], 1e6, 0.0, 10.0), "p3: bandwidth must be positive and finite, got 0.0"),
        (([1.0, 2.0], 1e6, 1e6, -10.0), "p3: p_tot must be positive and finite, got -10.0"),
    ],
)
def test_bad_numbers_are_one_clear_line(arguments: tuple[float, float, float, float], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole line is compared
        minimise_delay(*arguments)
    assert str(error.value) == message
