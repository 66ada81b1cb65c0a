"""A power policy: the weaker a user's channel, the more of the downlink's power it gets."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_server.radio.power import Downlink
from edge_server.routed_mtl.checks import positive_array


@dataclass(frozen=True)
class Fractional:
    """P_n = p_tot a_n^-share / sum_j a_j^-share: share 0 is equal power, 1 makes all received signals equal."""

    downlink: Downlink
    share: float = 0.5

    def power(self, gain: ArrayLike, bits: ArrayLike) -> NDArray[np.float64]:  # noqa: ARG002 - the protocol's argument
        """P [..., N] in W of users with gain a_n [..., N] in 1/W."""
        wanted = positive_array("gain", gain) ** -self.share
        return np.asarray(self.downlink.p_tot * wanted / wanted.sum(axis=-1, keepdims=True))
