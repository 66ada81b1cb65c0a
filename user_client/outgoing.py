"""What becomes of output gradients before they go up: clipped and blurred for privacy, or falsified by an attacker."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from user_client.config import GradientAttack, Privacy


class Moment(NamedTuple):
    """Where a run stands; with a user's seed it picks a stream of random numbers."""

    round: int
    slot: int


class Outgoing:
    """A user's last touch on its output gradients: privacy first, then its attacks in their order.

    seed: of the streams, one for each slot, and apart for noise and for each attack.
    """

    def __init__(self, privacy: Privacy | None, attacks: Sequence[GradientAttack], seed: int) -> None:
        self._privacy, self._attacks, self._seed = privacy, attacks, seed

    def __call__(self, gradient: Tensor, at: Moment) -> Tensor:
        """What is sent in place of `gradient` [B, *out]; the same tensor where there is nothing to do."""
        if self._privacy is not None:
            gradient = clipped(gradient, self._privacy.clip)
            if self._privacy.noise:
                gradient = gradient + self._privacy.noise * self._privacy.clip * self._gaussian(gradient, at, 0)
        for position, attack in enumerate(self._attacks, start=1):
            gradient = attack.factor * self._falsified(attack, gradient, at, position)
        return gradient

    def _falsified(self, attack: GradientAttack, gradient: Tensor, at: Moment, stream: int) -> Tensor:
        if attack.attack == "scale":
            return gradient
        if attack.attack == "sign_flip":
            return -gradient
        drawn = self._gaussian(gradient, at, stream)
        share: Tensor = torch.linalg.vector_norm(gradient) / torch.linalg.vector_norm(drawn)
        return drawn * share

    def _gaussian(self, like: Tensor, at: Moment, stream: int) -> Tensor:
        rng = np.random.default_rng([self._seed, stream, *at])
        return torch.from_numpy(rng.standard_normal(tuple(like.shape))).to(like.dtype)


def clipped(gradient: Tensor, norm: float) -> Tensor:
    """`gradient` [B, *out] with every sample's row scaled down to Euclidean norm `norm` where it is longer."""
    rows: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    scale = (norm / rows.clamp_min(norm)).view(-1, *(1,) * (gradient.ndim - 1))
    return gradient * scale
