"""Channel gains of a run: where users stand, and how their channels fade. numpy, float64.

A gain is |h|^2, dimensionless and positive: 1 is what a user at the reference distance has on average. Up and down see
the same gain (time division). Every random number is dealt by (user, round, slot).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_server.routed_mtl.channels import Channel, Jakes, PathLoss, Rayleigh, Shadowing

Floats = NDArray[np.float64]

_FADING, _SHADOW, _LAW, _PLACE = range(4)


class Site(NamedTuple):
    """What a source of gains is told of its run. seeds [K]: each user's own; users stand in scenario order."""

    seeds: Sequence[int]
    rounds: int
    slots: int


class Gains(Protocol):
    """A source of gains, the radio's channel. Yours is called with its `Site`, then `args`.

    Equal arguments give equal bits, in any order of calls: a source keeps no state, makes its generators anew from the
    seeds, as in `default_rng([seed, t])`, and what goes on through rounds is a function of the time.
    """

    def round(self, t: int) -> Floats:
        """|h|^2 [m, K] of round t's slots, float64, positive and finite; 1 is what `rho_db` refers to.

        The edge checks every round of yours; what it raises, and gains that are none, end the run in one line.
        """
        ...


@dataclass(frozen=True)
class Faded:
    """Block fading around what distance and shadowing leave: one block per slot.

    loss [K]: mean gain of each user's place. shadowing: a new factor per user and round. seeds [K]: each user's own.
    """

    fading: Channel
    shadowing: Shadowing
    loss: Floats
    seeds: Sequence[int]
    slots: int

    def round(self, t: int) -> Floats:
        """|h|^2 [m, K]: loss times shadowing times fading."""
        each = [self._user(k, t) for k in range(len(self.seeds))]
        return np.stack(each, axis=1)

    def sample(self, instances: int) -> Floats:
        """|h|^2 [instances, K] of the same law, each slot by itself, also where those of a run follow each other."""
        law = Rayleigh(self.fading.mean) if isinstance(self.fading, Jakes) else self.fading
        rngs = [np.random.default_rng([seed, _LAW]) for seed in self.seeds]
        shadow = np.stack([self.shadowing.gain(rng, (instances,)) for rng in rngs], axis=1)
        fading = np.concatenate([law.gains(rng, instances, 1) for rng in rngs], axis=1)
        return np.asarray(self.loss * shadow * fading)

    def _user(self, k: int, t: int) -> Floats:
        shadow = self.shadowing.gain(np.random.default_rng([self.seeds[k], _SHADOW, t]), ())
        return np.asarray(self.loss[k] * shadow * self._fades(self.seeds[k], t))

    def _fades(self, seed: int, t: int) -> Floats:
        if isinstance(self.fading, Jakes):
            waves = self.fading.waves(np.random.default_rng([seed, _FADING]), 1)
            blocks = np.arange(t * self.slots, (t + 1) * self.slots, dtype=np.float64)
            return waves.gains(blocks).ravel()
        return self.fading.gains(np.random.default_rng([seed, _FADING, t]), self.slots, 1).ravel()


@dataclass(frozen=True)
class Ring:
    """Users anywhere in a ring around the edge; the path loss is 1 at `reference_m`."""

    exponent: float
    reference_m: float
    nearest_m: float
    farthest_m: float

    def loss(self, seeds: Sequence[int]) -> Floats:
        """Mean gain [K] of each user's place, which its seed picks for the whole run."""
        near, far = self.nearest_m**2, self.farthest_m**2
        share = np.array([np.random.default_rng([seed, _PLACE]).uniform() for seed in seeds])
        distance = np.sqrt(near + (far - near) * share)
        return PathLoss(self.exponent, reference_m=self.reference_m).gain(distance)


@dataclass(frozen=True, eq=False)
class Trace:
    """Recorded gains [T, m, K]."""

    gain: Floats

    def round(self, t: int) -> Floats:
        """|h|^2 [m, K]."""
        found: Floats = self.gain[t]
        return found
