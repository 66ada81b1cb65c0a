"""The radio's power policies, each against what it says of itself."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from edge_server.radio.power import Downlink, PowerPolicy, build_power
from edge_server.routed_mtl.channels import Cell, PathLoss, Rayleigh, Shadowing
from edge_server.routed_mtl.delay_optimum import mean_delay, minimise_delay
from edge_server.routed_mtl.min_max_optimum import longest_delay, minimise_longest

DOWNLINK = Downlink(p_tot=10.0, bandwidth=1e6)
RING = Cell(Rayleigh(), PathLoss(3.5, reference_m=50.0), Shadowing(0.0), 20.0, 100.0)
LAW = 10.0 * RING.gains(np.random.default_rng(1), 20_000, 12)

EXACT: list[PowerPolicy] = [build_power(kind, DOWNLINK) for kind in ("equal", "optimal", "min_max")]


def instances(users: int, count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([2, users])
    return 10.0 * RING.gains(rng, count, users), rng.uniform(1e4, 1e6, (count, users))


@pytest.mark.parametrize("policy", EXACT, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("users", [1, 2, 8, 20])
def test_the_budget_is_spent_and_a_stack_is_its_rows(policy: PowerPolicy, users: int) -> None:
    gain, bits = instances(users)
    power = policy.power(gain, bits)
    np.testing.assert_allclose(power.sum(axis=-1), 10.0, rtol=1e-12)
    assert power.min() > 0
    for i in (0, 77):
        np.testing.assert_allclose(policy.power(gain[i], bits[i]), power[i], rtol=1e-9)


def test_each_exact_policy_is_the_best_at_its_own_objective() -> None:
    gain, bits = instances(8)
    equal, optimal, min_max = (policy.power(gain, bits) for policy in EXACT)
    assert (equal == 1.25).all()
    np.testing.assert_array_equal(optimal, minimise_delay(gain, bits, 1e6, 10.0).power)
    np.testing.assert_array_equal(min_max, minimise_longest(gain, bits, 1e6, 10.0).power)
    for other in (equal, min_max):
        assert (mean_delay(gain, optimal, bits, 1e6) <= mean_delay(gain, other, bits, 1e6) * (1 + 1e-12)).all()
    for other in (equal, optimal):
        assert (longest_delay(gain, min_max, bits, 1e6) <= longest_delay(gain, other, bits, 1e6) * (1 + 1e-12)).all()


def test_counts_of_bits_are_taken_as_they_are() -> None:
    gain, _ = instances(3, 1)
    for policy in EXACT:
        whole = policy.power(gain[0], np.array([800, 1600, 2400], np.int64))
        np.testing.assert_array_equal(whole, policy.power(gain[0], [800.0, 1600.0, 2400.0]))


@pytest.mark.parametrize("users", [1, 2, 5, 8, 12])
def test_sum_capacity_spends_as_much_as_the_others_on_average(users: int) -> None:
    policy = build_power("sum_capacity", DOWNLINK, gains=LAW)
    gain = 10.0 * RING.gains(np.random.default_rng(3), 40_000, users)
    power = policy.power(gain, np.ones_like(gain))
    assert power.sum(axis=-1).mean() == pytest.approx(10.0, rel=0.02)
    assert power.min() == 0
    assert power.max() <= 2 * 10.0 / users
    assert users == 1 or 0.45 < (power > 0).mean() < 0.55


def test_sum_capacity_on_rayleigh_is_p4() -> None:
    """maths.md B2 at N = 5: lambda = .2221 bits per W and 2.254 bits, with 1 W each and .5 W on average."""
    law = np.random.default_rng(4).standard_exponential((200_000, 5))
    policy = build_power("sum_capacity", Downlink(2.5, 1e6), gains=law)
    power = policy.power(law, np.ones_like(law))
    assert policy.price(5) == pytest.approx(0.2221, abs=2e-3)  # type: ignore[attr-defined]
    assert np.log2(1 + (law * power).sum(axis=-1)).mean() == pytest.approx(2.254, rel=3e-3)
    assert power.mean() == pytest.approx(0.5, abs=1e-9)


def test_sum_capacity_with_fewer_users_takes_any_of_them() -> None:
    """Half of the places are 100 times as strong; two of four users are then strong ones half of the time."""
    law = np.random.default_rng(5).standard_exponential((50_000, 4)) * [100.0, 100.0, 1.0, 1.0]
    policy = build_power("sum_capacity", DOWNLINK, gains=law)
    pairs = np.random.default_rng(6).permuted(law, axis=1)[:, :2]
    assert policy.power(pairs, np.ones_like(pairs)).sum(axis=-1).mean() == pytest.approx(10.0, rel=0.01)


def test_more_users_than_samples_of_the_law_are_refused() -> None:
    policy = build_power("sum_capacity", DOWNLINK, gains=LAW)
    with pytest.raises(ValueError, match=r"^sum_capacity: 13 users, its samples of the channel have 12$"):
        policy.power(np.ones(13), np.ones(13))


@dataclass(frozen=True)
class Half:
    downlink: Downlink
    share: float

    def power(self, gain: np.ndarray, bits: np.ndarray) -> np.ndarray:
        return np.full_like(gain, self.share * self.downlink.p_tot / gain.shape[-1])


class Broken:
    def __init__(self, downlink: Downlink) -> None:
        raise ValueError("broken\nby design")


def test_a_policy_of_ones_own() -> None:
    policy = build_power(f"{__name__}:Half", DOWNLINK, share=0.5)
    assert policy.power(np.ones(4), np.ones(4)).tolist() == [1.25] * 4


@pytest.mark.parametrize(
    ("kind", "args", "match"),
    [
        (
            "optimum",
            {},
            "unknown kind 'optimum'; known here: equal, optimal, min_max, routed_mtl, sum_capacity, module",
        ),
        ("nowhere.at_all:Policy", {}, r"^power nowhere\.at_all:Policy: .*nowhere"),
        (f"{__name__}:Broken", {}, r"^power .*:Broken: .*broken"),
        ("equal", {"share": 1}, "power equal: .*share"),
        ("sum_capacity", {}, "power sum_capacity: .*gains"),
        ("sum_capacity", {"gains": [[1.0, 0.0]]}, r"gains of the law must be positive and finite, got 0.0 at \[0, 1\]"),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(kind: str, args: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        build_power(kind, DOWNLINK, **args)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_downlink_is_one_clear_line(number: float) -> None:
    with pytest.raises(ValueError, match=r"^downlink: p_tot must be positive and finite, got"):
        Downlink(number, 1e6)
    with pytest.raises(ValueError, match=r"^downlink: bandwidth must be positive and finite, got"):
        Downlink(1.0, number)


@pytest.mark.parametrize("kind", ["equal", "optimal", "min_max", "sum_capacity"])
def test_bad_gains_are_one_clear_line(kind: str) -> None:
    policy = build_power(kind, DOWNLINK, **({"gains": LAW} if kind == "sum_capacity" else {}))
    with pytest.raises(ValueError, match=r"gain.* must be positive and finite, got nan at \[1\]"):
        policy.power([1.0, math.nan], [1.0, 1.0])
