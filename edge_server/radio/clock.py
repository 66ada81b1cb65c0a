"""The virtual clock: what a slot costs in time, from gains, payloads and powers. numpy, float64; times in s.

Every user has a band of W Hz of its own (FDMA), so N users take N W. A message of L bits at power P takes
L / (W log2(1 + a P)), a = |h|^2 / (N0 W) (maths.md C).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def airtime(bits: Floats, snr: Floats, bandwidth: float) -> Floats:
    """Seconds [...] that `bits` take at a signal-to-noise ratio snr = a P; 0 for no bits, infinite without power."""
    rate = bandwidth / math.log(2) * np.log1p(snr)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bits > 0, bits / rate, 0.0)


class Computing(NamedTuple):
    """Seconds: of each user between outputs and feedback [K], of the edge's forward and its backward pass."""

    user: Floats
    forward: float
    backward: float
