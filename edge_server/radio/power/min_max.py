"""The least slot time: all users get their payload at the same moment."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from edge_server.radio.power.base import Array, Downlink
from edge_server.routed_mtl.min_max_optimum import minimise_longest


@dataclass(frozen=True)
class MinMax:
    """min max_n L_n / (W log2(1 + a_n P_n)), sum_n P_n <= p_tot."""

    downlink: Downlink

    def power(self, gain: ArrayLike, bits: ArrayLike) -> Array:
        """P [..., N] in W. Raises ValueError, or NotConverged where the solver misses its bar."""
        return minimise_longest(gain, bits, self.downlink.bandwidth, self.downlink.p_tot).power
