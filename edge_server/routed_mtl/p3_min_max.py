"""P3 for the slowest user: share P_tot over FDMA bands so that the longest delay is least. Supervised."""

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_server.routed_mtl.min_max_optimum import minimise_longest
from edge_server.routed_mtl.p3_delay import P3Delay

Array = NDArray[np.float64]


@dataclass(frozen=True)
class P3MinMax(P3Delay):
    """min max_n L_n / (W log2(1 + rho |h_n|^2 P_n)), sum_n P_n <= P_tot; its values are those of `P3Delay`."""

    name: ClassVar[str] = "p3_min_max"

    @classmethod
    def of(cls, problem: P3Delay) -> "P3MinMax":
        """With another P3's values."""
        return cls(**{field.name: getattr(problem, field.name) for field in fields(problem)})

    def objective(self, gains: Tensor, power: Tensor, mask: Tensor, bits: Tensor | None = None) -> Tensor:
        """The longest delay in s, [...], of gains |h|^2 and powers in W [..., N]; payloads are bits or `bits`."""
        return self.delays(gains, power, mask, bits).amax(dim=-1)

    def optimum(self, gains: Array, bits: Array | None = None) -> Array:
        """Optimal powers [..., N] in W for gains |h|^2 [..., N] and payloads bits [..., N] or `bits`.

        Raises ValueError for bad gains or payloads, NotConverged where the solver misses its bar.
        """
        payload = self.bits if bits is None else bits
        return minimise_longest(self.rho * gains, payload, self.bandwidth, self.p_tot).power
