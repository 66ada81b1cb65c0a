"""MGDA and CAGrad: directions that serve the worst-off user, found exactly from the Gramian."""

import math
from dataclasses import dataclass

import numpy as np

from edge_server.aggregators.base import State
from edge_server.aggregators.simplex import TOLERANCE, Array, best_mixture, duality_gap

SHORTEST = 1e-4
"""Norms below this, relative to the root mean squared gradient norm, count as zero."""


def mgda(gramian: Array, _: State) -> Array:
    """The mixture [P] whose gradient is shortest: Desideri, C. R. Acad. Sci. 2012."""
    return best_mixture(gramian, np.zeros(len(gramian)))


@dataclass(frozen=True)
class Cagrad:
    """d = g_0 + c |g_0| g_w/|g_w|, which maximises min_k g_k.d within c |g_0| of the mean gradient g_0.

    Liu et al., NeurIPS 2021, Algorithm 1: w minimises g_w.g_0 + c |g_0| |g_w| over the simplex. With |g_w|/2 =
    min over s of (|g_w|^2/s + s)/4, this is a quadratic program in w and a root in the one number s = |g_w|. Where the
    gradients cancel, s is held at `SHORTEST`, as the authors' code holds |g_w|.
    """

    c: float

    def __call__(self, gramian: Array, _: State) -> Array:
        """Weights [P]: 1/P + c |g_0|/|g_w| w. Raises ValueError when w is not the minimiser."""
        users = len(gramian)
        towards_mean = gramian.mean(axis=1)
        radius = self.c * math.sqrt(max(float(towards_mean.mean()), 0.0))
        equal = np.full(users, 1 / users)
        if radius == 0:
            return equal
        length = self._length(gramian, towards_mean, radius)
        mixture = best_mixture(gramian, towards_mean * (length / radius))
        slope = towards_mean + gramian @ mixture * (radius / length)
        if (gap := duality_gap(slope, mixture)) > TOLERANCE * max(1.0, radius / length):
            raise ValueError(f"cagrad did not converge: the duality gap is {gap:.1e}")
        return equal + mixture * (radius / length)

    def _length(self, gramian: Array, towards_mean: Array, radius: float) -> float:
        """The s at which the mixture that is best for s has length s."""

        from scipy.optimize import brentq

        def excess(length: float) -> float:
            mixture = best_mixture(gramian, towards_mean * (length / radius))
            return math.sqrt(max(float(mixture @ gramian @ mixture), 0.0)) / length - 1

        longest = math.sqrt(float(np.trace(gramian)))
        if excess(SHORTEST) <= 0:
            return SHORTEST
        return longest if excess(longest) >= 0 else float(brentq(excess, SHORTEST, longest, rtol=1e-10))
