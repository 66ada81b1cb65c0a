import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_server.routed_mtl.capacity_optimum import (
    find_multiplier,
    optimal_power,
    sum_capacity,
    threshold_power,
)

P_TOT, P_AV = 1.0, 0.5
SAMPLES = 400_000

# maths.md B2: users, true optimum, P = 1 if g > ln 2, in bits.
TABLE = [
    (5, 2.254, 2.209),
    (8, 2.863, 2.830),
    (10, 3.163, 3.136),
    (12, 3.411, 3.389),
    (15, 3.719, 3.702),
    (18, 3.974, 3.958),
    (20, 4.121, 4.107),
]


def rayleigh(users: int, instances: int = SAMPLES) -> np.ndarray:
    return np.random.default_rng([4, users]).standard_exponential((instances, users))


def in_table() -> list[object]:
    return [pytest.param(*row, marks=() if row[0] in (5, 20) else pytest.mark.slow, id=f"N={row[0]}") for row in TABLE]


@pytest.mark.parametrize(("users", "optimum", "threshold"), in_table())
def test_the_optimum_and_the_threshold_policy_are_those_of_the_table(
    users: int, optimum: float, threshold: float
) -> None:
    gains = rayleigh(users)
    power = optimal_power(gains, find_multiplier(gains, P_TOT, P_AV), P_TOT)
    assert power.mean() == pytest.approx(P_AV, abs=1e-9)
    assert np.abs(power.mean(axis=0) - P_AV).max() < 0.004
    assert sum_capacity(gains, power).mean() == pytest.approx(optimum, rel=2e-3)
    on_off = threshold_power(gains, P_TOT, P_AV)
    assert on_off.mean() == pytest.approx(P_AV, abs=2e-3)
    assert sum_capacity(gains, on_off).mean() == pytest.approx(threshold, rel=2e-3)


def test_the_multiplier_at_five_users() -> None:
    assert find_multiplier(rayleigh(5), P_TOT, P_AV) == pytest.approx(0.2221, abs=2e-3)


def test_as_printed_the_constraint_caps_the_optimum_at_1_1_to_1_5_bits() -> None:
    for users in (5, 20):
        gains = rayleigh(users, 50_000)
        power = optimal_power(gains, find_multiplier(gains, P_TOT, P_AV / users), P_TOT)
        assert power.sum(axis=-1).mean() == pytest.approx(P_AV)
        assert 1.09 < sum_capacity(gains, power).mean() < 1.5


def test_one_user_by_hand() -> None:
    """level - 1/g, clipped: gains 1 and 2 share a mean of 1/2 at level 1.25, where they get .25 and .75."""
    gains = np.array([[1.0], [2.0]])
    multiplier = find_multiplier(gains, P_TOT, P_AV)
    assert multiplier == pytest.approx(1 / (1.25 * math.log(2)), rel=1e-11)
    np.testing.assert_allclose(optimal_power(gains, multiplier, P_TOT), [[0.25], [0.75]], rtol=1e-11)


def test_three_users_by_hand() -> None:
    """Level 1: the gain of 4 is filled, 1 + 4 P_tot = 5 stands in the way of the 3, so only the level decides."""
    gains = np.array([3.0, 0.5, 4.0])
    of_level = {0.2: [0, 0, 0], 0.75: [0, 0, 0.5], 1.5: [0, 0, 1], 2.0: [1 / 3, 0, 1], 30.0: [1, 1, 1]}
    for level, expected in of_level.items():
        found = optimal_power(gains, 1 / (level * math.log(2)), P_TOT)
        np.testing.assert_allclose(found, expected, atol=1e-12)


states = arrays(np.float64, st.integers(1, 12), elements=st.floats(1e-3, 1e3))


@settings(max_examples=200, deadline=None)
@given(gains=states, multiplier=st.floats(1e-3, 10), p_tot=st.floats(0.1, 10))
def test_every_state_meets_the_kkt_conditions(gains: np.ndarray, multiplier: float, p_tot: float) -> None:
    """The Lagrangian of one state is concave, so these conditions on its gradient are enough."""
    power = optimal_power(gains, multiplier, p_tot)
    gradient = gains / (math.log(2) * (1 + gains @ power)) - multiplier
    slack = 1e-9 * (multiplier + np.abs(gradient))
    assert bool(((power >= 0) & (power <= p_tot)).all())
    assert bool((gradient[power > 0] >= -slack[power > 0]).all())
    assert bool((gradient[power < p_tot] <= slack[power < p_tot]).all())


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0.02, 0.98), users=st.integers(1, 8))
def test_the_multiplier_spends_the_mean_power_and_no_other_policy_earns_more(
    seed: int, share: float, users: int
) -> None:
    rng = np.random.default_rng([4, seed])
    gains, p_tot = rng.standard_exponential((200, users)), 2.0
    power = optimal_power(gains, find_multiplier(gains, p_tot, share * p_tot), p_tot)
    assert power.mean() == pytest.approx(share * p_tot, rel=1e-8)
    other = rng.uniform(0, p_tot, power.shape)
    other *= min(1.0, share * p_tot / other.mean())
    assert sum_capacity(gains, power).mean() >= sum_capacity(gains, other).mean()


def test_the_order_of_users_and_the_batch_do_not_matter() -> None:
    gains = rayleigh(7, 60)
    order = np.random.default_rng(4).permutation(7)
    power = optimal_power(gains, 0.2, P_TOT)
    np.testing.assert_allclose(optimal_power(gains[:, order], 0.2, P_TOT), power[:, order], atol=1e-12)
    assert np.array_equal(optimal_power(gains.reshape(3, 20, 7), 0.2, P_TOT).reshape(60, 7), power)
    assert np.array_equal(optimal_power(gains[5], 0.2, P_TOT), power[5])


def test_the_threshold_moves_with_the_mean_gain_and_the_limits() -> None:
    gains = np.array([[0.69, 0.70]])
    assert threshold_power(gains, P_TOT, P_AV).tolist() == [[0.0, 1.0]]
    assert threshold_power(gains * 3, P_TOT, P_AV, mean_gain=3.0).tolist() == [[0.0, 1.0]]
    assert threshold_power(gains, 2.0, 0.5).tolist() == [[0.0, 0.0]]


def test_rates_by_hand() -> None:
    assert sum_capacity([[1.0, 2.0], [3.0, 9.0]], [[1.0, 1.0], [1.0, 0.0]]).tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("p_tot", "mean_power", "message"),
    [
        (1.0, 1.5, "p4: the mean power P_av = 1.5 W must be at most P_tot = 1 W"),
        (1.0, 0.0, "p4: mean_power must be positive and finite, got 0.0"),
        (math.nan, 0.5, "p4: p_tot must be positive and finite, got nan"),
        (1.0, 1.0, "p4: the mean power 1 W equals P_tot, so no multiplier is needed"),
    ],
)
def test_impossible_limits_are_one_clear_line(p_tot: float, mean_power: float, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole line is compared
        find_multiplier(np.ones((3, 2)), p_tot, mean_power)
    assert str(error.value) == message


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_bad_gains_are_refused_by_every_policy(bad: float) -> None:
    gains = np.array([[1.0, 2.0], [3.0, bad]])
    message = rf"^p4: gains must be positive and finite, got {bad} at \[1, 1\]$"
    for policy in (optimal_power, find_multiplier, threshold_power):
        with pytest.raises(ValueError, match=message):
            policy(gains, 1.0, 0.5)
    with pytest.raises(ValueError, match=r"^p4: gains: at least one user is needed, got shape \[2, 0\]$"):
        optimal_power(gains[:, :0], 1.0, P_TOT)
    with pytest.raises(ValueError, match=r"^p4: multiplier must be positive and finite, got 0.0$"):
        optimal_power([1.0], 0.0, P_TOT)
