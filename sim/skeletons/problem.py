"""A power problem: share P_tot so that the weakest signal is strongest. Its optimum inverts the channel."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_server.routed_mtl.channels import Rayleigh

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WeakestSignal:
    """min max_n 1 / (|h_n|^2 P_n), sum_n P_n <= p_tot W: P_n = p_tot |h_n|^-2 / sum_j |h_j|^-2. Supervised.

    least: gains are Rayleigh fading on top of this.
    """

    p_tot: float = 1.0
    least: float = 0.1

    name: ClassVar[str] = "weakest_signal"
    kind: ClassVar[Literal["supervised"]] = "supervised"

    def power(self, logits: Tensor, mask: Tensor) -> Tensor:
        """p_tot softmax [..., N] in W over the users of mask [..., N]; 0 elsewhere."""
        return self.p_tot * logits.masked_fill(~mask, -math.inf).softmax(dim=-1)

    def objective(self, gains: Tensor, power: Tensor, mask: Tensor) -> Tensor:
        """The largest 1 / (|h_n|^2 P_n) in 1/W, [...], of gains and powers [..., N]; to minimise."""
        received = gains.masked_fill(~mask, 1.0) * power.masked_fill(~mask, math.inf)
        return (1 / received).amax(dim=-1)

    def optimum(self, gains: Array) -> Array:
        """Optimal powers [..., N] in W for gains [..., N]."""
        return np.asarray(self.p_tot / gains / (1 / gains).sum(axis=-1, keepdims=True))

    def sample(self, rng: np.random.Generator, instances: int, users: int) -> Array:
        """|h|^2 [instances, users], from this generator alone."""
        return self.least + Rayleigh().gains(rng, instances, users)
