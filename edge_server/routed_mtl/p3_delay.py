"""P3: share P_tot over FDMA bands so that the mean delay is least. Supervised: an exact solver labels the samples."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_server.routed_mtl.channels import Channel, Rayleigh
from edge_server.routed_mtl.checks import positive
from edge_server.routed_mtl.delay_optimum import minimise_delay

Array = NDArray[np.float64]


@dataclass(frozen=True)
class P3Delay:
    """min (1/N) sum_n L_n / (W log2(1 + rho |h_n|^2 P_n)), sum_n P_n <= P_tot.

    p_tot in W. bits: L_n of every user. bandwidth: W in Hz, of each band. rho: 1 / (N0 W) in 1/W.
    floor: every user gets at least floor P_tot / N; 0 is the paper's softmax. channel: where |h_n|^2 comes from.
    payload_ratio: 1 trains on equal payloads; above, ln L_n is uniform around ln `bits`, the largest L_n over the
    smallest at most this, and the network is told them.
    Raises ValueError for an impossible value.
    """

    p_tot: float = 10.0
    bits: float = 1e6
    bandwidth: float = 1e6
    rho: float = 1e3
    floor: float = 0.01
    channel: Channel = field(default_factory=Rayleigh)
    payload_ratio: float = 1.0

    name: ClassVar[str] = "p3_delay"
    kind: ClassVar[Literal["supervised"]] = "supervised"

    def __post_init__(self) -> None:
        positive("p3", p_tot=self.p_tot, bits=self.bits, bandwidth=self.bandwidth, rho=self.rho)
        if not 0 <= self.floor <= 1:
            raise ValueError(f"p3: floor must lie in [0, 1], got {self.floor}")
        if not 1 <= self.payload_ratio < math.inf:
            raise ValueError(f"p3: payload_ratio must be finite and at least 1, got {self.payload_ratio}")

    def power(self, logits: Tensor, mask: Tensor) -> Tensor:
        """P_tot (floor / N + (1 - floor) softmax) [..., N] in W, over the users of mask [..., N]; 0 elsewhere."""
        share = logits.masked_fill(~mask, -math.inf).softmax(dim=-1)
        if self.floor > 0:
            present = mask.to(share.dtype)
            share = (1 - self.floor) * share + self.floor * present / present.sum(dim=-1, keepdim=True)
        return self.p_tot * share

    def objective(self, gains: Tensor, power: Tensor, mask: Tensor, bits: Tensor | None = None) -> Tensor:
        """Mean delay in s, [...], of gains |h|^2 and powers in W [..., N]; payloads are bits [..., N] or `bits`."""
        return self.delays(gains, power, mask, bits).sum(dim=-1) / mask.sum(dim=-1)

    def delays(self, gains: Tensor, power: Tensor, mask: Tensor, bits: Tensor | None = None) -> Tensor:
        """Every user's delay in s, [..., N], 0 where there is no user; arguments as above."""
        snr = self.rho * gains.masked_fill(~mask, 1.0) * power.masked_fill(~mask, 1.0)
        payload = self.bits if bits is None else bits.masked_fill(~mask, 0.0)
        return (payload / torch.log1p(snr)).masked_fill(~mask, 0.0) * (math.log(2) / self.bandwidth)

    def optimum(self, gains: Array, bits: Array | None = None) -> Array:
        """Optimal powers [..., N] in W for gains |h|^2 [..., N] and payloads bits [..., N] or `bits`.

        Raises ValueError for bad gains or payloads, NotConverged where the solver misses its bar.
        """
        payload = self.bits if bits is None else bits
        return minimise_delay(self.rho * gains, payload, self.bandwidth, self.p_tot).power

    def sample(self, rng: np.random.Generator, instances: int, users: int) -> Array:
        """|h|^2 [instances, users]. Raises ValueError unless both are at least 1."""
        return self.channel.gains(rng, instances, users)

    def payloads(self, rng: np.random.Generator, instances: int, users: int) -> Array:
        """L_n [instances, users] in bits; `bits` for all where payload_ratio is 1."""
        return np.asarray(self.bits * self.payload_ratio ** rng.uniform(-0.5, 0.5, (instances, users)))


NOISE_DENSITY = 10 ** ((-174 - 30) / 10)
"""N0 of Table I, -174 dBm/Hz, in W/Hz."""

PRESETS = {"default": P3Delay(), "literal": P3Delay(rho=1 / (NOISE_DENSITY * 1e6), floor=0.0)}
"""`literal`: Table I as printed, 144 dB per W, where equal power is optimal to .01 %."""
