"""The largest sum capacity: P4's rule, at the mean energy of the other policies."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from edge_server.radio.power.base import Array, Downlink
from edge_server.routed_mtl.capacity_optimum import find_multiplier, optimal_power
from edge_server.routed_mtl.checks import positive_array

CAP = 2.0
"""P_tot / P_av of P4: 1 W and .5 W (maths.md B2)."""


@dataclass(frozen=True, eq=False)
class SumCapacity:
    """max E[log2(1 + sum_n a_n P_n)], 0 <= P_n <= 2 p_tot / N, E[sum_n P_n] = p_tot.

    The cap is 2 P_av for P_av = p_tot / N, as in P4. So a phase spends up to 2 p_tot; only the mean over the channel's
    law is p_tot. One price of power holds for all users: the strong ones get most, about half of them nothing, and
    those never get their payload.

    gains [instances, K]: a_n of samples of that law, in 1/W, which set the price. With N < K users the law is that of
    any N of the K, drawn anew per instance. Raises ValueError for bad gains.
    """

    downlink: Downlink
    gains: Array
    _prices: dict[int, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        gains = np.atleast_2d(positive_array("sum_capacity: gains of the law", self.gains))
        object.__setattr__(self, "gains", np.random.default_rng(0).permuted(gains, axis=1))

    def power(self, gain: ArrayLike, bits: ArrayLike) -> Array:  # noqa: ARG002 - the protocol's argument
        """P [..., N] in W. Raises ValueError for more users than the samples have."""
        a = positive_array("sum_capacity: gain", gain)
        return optimal_power(a, self.price(a.shape[-1]), self._cap(a.shape[-1]))

    def price(self, users: int) -> float:
        """lambda in bits per W with `users` users. Raises ValueError for more than the samples have."""
        if users not in self._prices:
            if users > self.gains.shape[1]:
                raise ValueError(f"sum_capacity: {users} users, its samples of the channel have {self.gains.shape[1]}")
            mean_power = self.downlink.p_tot / users
            self._prices[users] = find_multiplier(self.gains[:, :users], self._cap(users), mean_power)
        return self._prices[users]

    def _cap(self, users: int) -> float:
        return CAP * self.downlink.p_tot / users
