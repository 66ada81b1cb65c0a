"""P4: the largest mean sum capacity under a limit on mean power. Unsupervised: primal-dual steps, no labels."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_server.routed_mtl.capacity_optimum import check_limits
from edge_server.routed_mtl.channels import Channel, Rayleigh
from edge_server.routed_mtl.checks import at_least_one

Array = NDArray[np.float64]


@dataclass(frozen=True)
class P4Capacity:
    """max E[log2(1 + sum_n |h_n|^2 P_n)], 0 <= P_n <= P_tot, with a limit on mean power.

    p_tot, p_av in W. budget `each`: E[P_n] <= p_av for every n; `sum`: E[sum_n P_n] <= p_av, as (P4) is printed.
    channel: where |h_n|^2 comes from. Raises ValueError for an impossible value.
    """

    p_tot: float = 1.0
    p_av: float = 0.5
    budget: Literal["each", "sum"] = "each"
    channel: Channel = field(default_factory=Rayleigh)

    name: ClassVar[str] = "p4_capacity"
    kind: ClassVar[Literal["unsupervised"]] = "unsupervised"

    def __post_init__(self) -> None:
        check_limits(self.p_tot, self.p_av)

    def mean_power(self, users: int) -> float:
        """The limit on E[P_n] in W. Under `sum` it is p_av / users: with one law for all, some optimum is symmetric."""
        at_least_one("p4", users=users)
        return self.p_av if self.budget == "each" else self.p_av / users

    def power(self, logits: Tensor, mask: Tensor) -> Tensor:
        """P_tot sigmoid [..., N] in W for the users of mask [..., N]; 0 elsewhere."""
        return self.p_tot * logits.masked_fill(~mask, -math.inf).sigmoid()

    def objective(self, gains: Tensor, power: Tensor, mask: Tensor) -> Tensor:
        """log2(1 + sum_n |h_n|^2 P_n) in bits, [...], of gains [..., N] and powers [..., N] in W."""
        received = gains.masked_fill(~mask, 0.0) * power.masked_fill(~mask, 0.0)
        return torch.log1p(received.sum(dim=-1)) / math.log(2)

    def sample(self, rng: np.random.Generator, instances: int, users: int) -> Array:
        """|h|^2 [instances, users]. Raises ValueError unless both are at least 1."""
        return self.channel.gains(rng, instances, users)


PRESETS = {"default": P4Capacity(), "literal": P4Capacity(budget="sum")}
"""`literal`: (P4) as printed; its optimum is 1.1 to 1.5 bits, below every row of Table III."""
