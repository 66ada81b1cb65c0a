"""A channel: fast Rayleigh fading under log-normal shadowing that moves slowly, as for users who walk."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_server.radio.gains import Site
from edge_server.routed_mtl.channels import Rayleigh

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Walking:
    """|h|^2 = 10^(s / 10) times an Exp(1) draw per slot; s, in dB, is a stationary walk over the slots of a round.

    s_0 ~ N(0, sigma_db^2), s_{i+1} = r s_i + sqrt(1 - r^2) N(0, sigma_db^2): `sigma_db` in every slot, correlation r.
    """

    site: Site
    sigma_db: float = 6.0
    r: float = 0.9

    def round(self, t: int) -> Array:
        """|h|^2 [m, K] of round t, each user from a generator of its own seed and t."""
        return np.stack([self._user(np.random.default_rng([seed, t])) for seed in self.site.seeds], axis=1)

    def _user(self, rng: np.random.Generator) -> Array:
        steps = rng.normal(0, self.sigma_db, self.site.slots)
        shadow = steps.copy()
        for i in range(1, len(steps)):
            shadow[i] = self.r * shadow[i - 1] + math.sqrt(1 - self.r**2) * steps[i]
        fading = Rayleigh().gains(rng, self.site.slots, 1).ravel()
        return np.asarray(10 ** (shadow / 10) * fading)
