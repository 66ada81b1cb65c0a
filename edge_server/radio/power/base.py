"""What a power policy is: powers of the users that the edge sends to, from their channels and payloads."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_server.routed_mtl.checks import positive

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Downlink:
    """What a policy shares out. p_tot: the edge's power in W. bandwidth: W in Hz, of one user's band.

    Raises ValueError unless both are positive and finite.
    """

    p_tot: float
    bandwidth: float

    def __post_init__(self) -> None:
        positive("downlink", p_tot=self.p_tot, bandwidth=self.bandwidth)


class PowerPolicy(Protocol):
    """A policy of one run. Yours is called with its `Downlink`, then `args`.

    A pure function of what it is asked: it keeps no state and draws nothing. The edge tries yours out before the run,
    and holds every answer to the limit: powers that are none end the run in one line.
    """

    def power(self, gain: ArrayLike, bits: ArrayLike) -> Array:
        """P [N] >= 0 in W of the N users served at once; their sum is at most p_tot.

        gain [N]: a_n = |h_n|^2 / (N0 W) in 1/W. bits [N]: payloads L_n. Both may be stacks [S, N] of instances.
        Raises ValueError for a number that is not positive and finite, and where a policy cannot serve such users.
        """
        ...
