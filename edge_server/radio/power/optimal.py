"""The least mean delay: the exact optimum of P3."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from edge_server.radio.power.base import Array, Downlink
from edge_server.routed_mtl.delay_optimum import minimise_delay


@dataclass(frozen=True)
class Optimal:
    """min (1/N) sum_n L_n / (W log2(1 + a_n P_n)), sum_n P_n <= p_tot."""

    downlink: Downlink

    def power(self, gain: ArrayLike, bits: ArrayLike) -> Array:
        """P [..., N] in W. Raises ValueError, or NotConverged where the solver misses its bar."""
        return minimise_delay(gain, bits, self.downlink.bandwidth, self.downlink.p_tot).power
