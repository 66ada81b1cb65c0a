import numpy as np

from edge_server.radio.power import Downlink
from sim.skeletons.policy import Fractional

DOWNLINK, GAIN, BITS = Downlink(p_tot=10.0, bandwidth=1e6), np.array([1.0, 4.0, 16.0]), np.full(3, 1e4)


def test_all_power_is_given_and_the_weak_get_more() -> None:
    power = Fractional(DOWNLINK, share=0.5).power(GAIN, BITS)
    np.testing.assert_allclose(power, np.array([4.0, 2.0, 1.0]) * 10 / 7)


def test_its_ends_are_equal_power_and_equal_signals() -> None:
    np.testing.assert_allclose(Fractional(DOWNLINK, share=0.0).power(GAIN, BITS), 10 / 3)
    signals = GAIN * Fractional(DOWNLINK, share=1.0).power(GAIN, BITS)
    np.testing.assert_allclose(signals, signals[0])
