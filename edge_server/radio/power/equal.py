"""The same power for every user."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edge_server.radio.power.base import Array, Downlink
from edge_server.routed_mtl.checks import positive_array


@dataclass(frozen=True)
class Equal:
    """P_n = p_tot / N."""

    downlink: Downlink

    def power(self, gain: ArrayLike, bits: ArrayLike) -> Array:  # noqa: ARG002 - the protocol's argument
        """P [..., N] in W."""
        a = positive_array("equal: gain", gain)
        return np.full_like(a, self.downlink.p_tot / a.shape[-1])
