"""The virtual clock: airtimes by hand, the three waits of a slot, deadlines, and who shares which power."""

import math
from math import log2

import numpy as np
import pytest

from edge_server.radio.clock import Computing, airtime
from edge_server.radio.gains import Trace
from edge_server.radio.power import Downlink, build_power
from edge_server.radio.radio import Late, Link, Radio

GAIN = np.array([[[1.0, 0.25, 4.0]]])
SIZES = np.array([[1000, 1000, 1000], [200, 200, 200], [300, 300, 300], [8, 8, 500]])
"""Bytes by phase: features, outputs, feedback, acknowledgement."""
GRADIENTS = np.array([False, False, True])
LINK = Link(rho=10.0, bandwidth=1e5, p_tot=6.0, user_power=np.array(0.5))
COMPUTING = Computing(np.array([0.01, 0.02, 0.03]), 0.05, 0.07)


def radio(deadline: float | None = None, late: Late = "drop", power: str = "equal", **more: object) -> Radio:
    policy = build_power(power, Downlink(LINK.p_tot, LINK.bandwidth))
    made = Radio(Trace(GAIN), LINK, policy, policy, COMPUTING, deadline=deadline, late=late)
    made.bits = dict(more.get("bits", {}))  # type: ignore[call-overload]
    return made


def seconds(size: int, gain: float, watts: float) -> float:
    return 8 * size / (LINK.bandwidth * log2(1 + LINK.rho * gain * watts))


def test_airtime_of_nothing_is_zero_and_without_power_infinite() -> None:
    np.testing.assert_array_equal(airtime(np.array([0.0, 8.0, 8.0]), np.array([0.0, 0.0, 1.0]), 4.0), [0, np.inf, 2])


def test_a_slot_by_hand() -> None:
    air = radio()
    record = air.begin_round(0)
    assert not air.features(0, SIZES).late.any()
    assert not air.feedback(0, SIZES, np.zeros(3)).late.any()
    air.end(0, SIZES, GRADIENTS, Computing(np.zeros(3), 9.0, 9.0))
    up = [seconds(1000, g, 0.5) for g in GAIN[0, 0]]
    turn = [seconds(200, g, 2.0) + c + seconds(300, g, 0.5) for g, c in zip(GAIN[0, 0], COMPUTING.user, strict=True)]
    back = [seconds(8, 1.0, 2.0), seconds(8, 0.25, 2.0), seconds(500, 4.0, 2.0)]
    np.testing.assert_allclose(record.waits[0], [max(up), max(turn), max(back)], rtol=1e-12)
    first, second, third = record.waits[0]
    assert record.slot[0] == first + 0.05 + second + 0.07 + third
    assert (air.clock, record.clock[0]) == (record.slot[0], record.slot[0])
    np.testing.assert_array_equal(record.bits[0], 8 * SIZES)


def test_the_clock_is_the_sum_of_its_slots() -> None:
    gain = np.random.default_rng(0).exponential(size=(3, 4, 3))
    policy = build_power("optimal", Downlink(LINK.p_tot, LINK.bandwidth))
    air = Radio(Trace(gain), LINK, policy, policy, COMPUTING)
    total = 0.0
    for t in range(3):
        record = air.begin_round(t)
        for i in range(4):
            air.features(i, SIZES)
            air.feedback(i, SIZES, np.zeros(3))
            air.end(i, SIZES, GRADIENTS, COMPUTING)
            total += float(record.slot[i])
            assert record.clock[i] == total


def test_messages_without_a_tensor_get_an_equal_share_and_the_policy_the_rest() -> None:
    air = radio(power="optimal")
    record = air.begin_round(0)
    air.features(0, SIZES)
    air.feedback(0, SIZES, np.zeros(3))
    air.end(0, SIZES, np.array([True, False, True]), COMPUTING)
    assert record.watts[0, 1, 1] == 2.0
    assert record.watts[0, 1].sum() == pytest.approx(6.0, rel=1e-12)
    alone = build_power("optimal", Downlink(4.0, LINK.bandwidth)).power(10 * GAIN[0, 0, [0, 2]], 8 * SIZES[3, [0, 2]])
    np.testing.assert_allclose(record.watts[0, 1, [0, 2]], alone, rtol=1e-9)


def test_late_features_close_the_first_wait_at_half_of_what_is_left() -> None:
    deadline = 0.05 + 2 * 0.04
    assert seconds(1000, 1.0, 0.5) < 0.04 < seconds(1000, 0.25, 0.5)
    air = radio(deadline)
    record = air.begin_round(0)
    said = air.features(0, SIZES)
    np.testing.assert_array_equal(said.late, [False, True, False])
    np.testing.assert_allclose(said.seconds[1], seconds(1000, 0.25, 0.5), rtol=1e-12)
    assert record.waits[0, 0] == pytest.approx(0.04, rel=1e-12)
    np.testing.assert_array_equal(record.late[0], [False, True, False])


def test_late_feedback_ends_the_second_wait_at_the_deadline() -> None:
    gone = SIZES.copy()
    gone[2, 0] = 100_000
    air = radio(0.5)
    record = air.begin_round(0)
    assert not air.features(0, gone).late.any()
    said = air.feedback(0, gone, np.zeros(3))
    np.testing.assert_array_equal(said.late, [True, False, False])
    assert record.waits[0, 0] + 0.05 + record.waits[0, 1] == pytest.approx(0.5, rel=1e-12)
    assert said.seconds[0] > 0.5


def test_who_is_waited_for_is_late_but_not_out() -> None:
    air = radio(0.05 + 2 * 0.04, "wait")
    record = air.begin_round(0)
    assert not air.features(0, SIZES).late.any()
    np.testing.assert_array_equal(record.late[0], [False, True, False])
    assert record.waits[0, 0] == pytest.approx(seconds(1000, 0.25, 0.5), rel=1e-12)


def test_who_is_not_there_is_not_late_however_long_the_others_take() -> None:
    absent = SIZES.copy()
    absent[:, 0] = 0
    air = radio(0.06, "wait")
    record = air.begin_round(0)
    air.features(0, absent)
    assert record.waits[0, 0] > 0.06
    air.feedback(0, absent, np.zeros(3))
    np.testing.assert_array_equal(record.late[0], [False, True, True])


class Given:
    """A policy that gives always the same."""

    def __init__(self, watts: list[float]) -> None:
        self.watts = watts

    def power(self, gain: object, bits: object) -> np.ndarray:
        del gain, bits
        return np.array(self.watts)


@pytest.mark.parametrize(
    ("watts", "said"),
    [
        ([1.0, math.nan, 1.0], r"^power Given: gave nan W; powers are finite and at least 0$"),
        ([1.0, 1.0, -0.5], r"^power Given: gave -0.5 W"),
        ([math.inf, 1.0, 1.0], r"^power Given: gave inf W"),
        ([2.0], r"^power Given: gave powers \[1\] for 3 users$"),
        ([2.0, 0.0, 2.0], r"^user 1 has no power, and would be waited for without end$"),
    ],
)
def test_what_is_no_power_is_refused(watts: list[float], said: str) -> None:
    air = radio()
    air.policy = Given(watts)
    air.begin_round(0)
    air.features(0, SIZES)
    with pytest.raises(ValueError, match=said):
        air.feedback(0, SIZES, np.zeros(3))


def test_stated_payloads_take_the_place_of_measured_ones() -> None:
    air = radio(bits={1: 5000})
    record = air.begin_round(0)
    some = SIZES.copy()
    some[1, 2] = 0
    air.feedback(0, some, np.zeros(3))
    np.testing.assert_array_equal(record.bits[0, 1], [5000, 5000, 0])
    assert record.watts[0, 0].tolist() == [3.0, 3.0, 0.0]


def test_measured_times_enter_where_nothing_is_stated() -> None:
    air = radio()
    air.computing = None
    record = air.begin_round(0)
    air.features(0, SIZES)
    air.feedback(0, SIZES, np.array([1.0, 2.0, 3.0]))
    air.end(0, SIZES, GRADIENTS, Computing(np.zeros(3), 0.5, 0.25))
    np.testing.assert_array_equal(record.compute[0], [1, 2, 3])
    np.testing.assert_array_equal(record.edge[0], [0.5, 0.25])
    assert record.slot[0] == record.waits[0, 0] + 0.5 + record.waits[0, 1] + 0.25 + record.waits[0, 2]


class Greedy:
    """Gives twice what there is."""

    def power(self, gain: np.ndarray, bits: np.ndarray) -> np.ndarray:
        return np.full(gain.shape, 2 * LINK.p_tot / len(gain))


def test_a_policy_that_spends_more_than_there_is_ends_the_run() -> None:
    air = Radio(Trace(GAIN), LINK, Greedy(), Greedy(), COMPUTING)
    air.begin_round(0)
    with pytest.raises(ValueError, match="power Greedy: gave 12 W in all; the limit is 6 W"):
        air.feedback(0, SIZES, np.zeros(3))
    allowed = Radio(Trace(GAIN), LINK, Greedy(), Greedy(), COMPUTING, most=2 * LINK.p_tot)
    record = allowed.begin_round(0)
    allowed.feedback(0, SIZES, np.zeros(3))
    assert record.watts[0, 0].sum() == pytest.approx(12.0)
