"""Nash-MTL and FairGrad: weights at which every user's gain is that user's weight to the power -1/alpha."""

from dataclasses import dataclass

import numpy as np

from edge_server.aggregators.base import State
from edge_server.aggregators.common_direction import SHORTEST
from edge_server.aggregators.simplex import Array, best_mixture

TOLERANCE = 1e-6
"""Largest relative error of an accepted solution, user by user."""
_GOAL = 1e-12
_STEPS = 200
_SHORTEST_STEP = 1e-9


@dataclass(frozen=True)
class Bargain:
    """a > 0 [P] with G a = a^(-1/alpha), elementwise.

    Ban and Ji, ICML 2024 (FairGrad), Eq. (4); alpha = 1 is Navon et al., ICML 2022 (Nash-MTL), Claim 3.1. alpha = 0 is
    the limit a = 1. Solved as min of a.G a/2 - sum_k P(a_k) with P' = a^(-1/alpha), convex, by Newton's method. There
    is no solution where some mixture of the gradients is zero, so that nobody can gain without another's loss: then
    a = 0, the disagreement point of the game.
    """

    alpha: float

    def __call__(self, gramian: Array, _: State) -> Array:
        """Weights [P]. Raises ValueError when Newton's method does not arrive."""
        if self.alpha == 0:
            return np.ones(len(gramian))
        norms = np.sqrt(gramian.diagonal())
        if norms.min() == 0:
            return np.zeros(len(gramian))
        cosines = gramian / np.outer(norms, norms)
        nearest = best_mixture(cosines, np.zeros(len(cosines)))
        if nearest @ cosines @ nearest <= SHORTEST**2:
            return np.zeros(len(gramian))
        scale: Array = norms ** (1 / self.alpha - 1)
        return self._solve(cosines, scale) / norms

    @np.errstate(divide="ignore", over="ignore", invalid="ignore")
    def _solve(self, cosines: Array, scale: Array) -> Array:
        """b [P] with C b = scale b^(-1/alpha). What leaves float64 on the way fails the last check."""
        b: Array = scale ** (self.alpha / (1 + self.alpha))
        for _ in range(_STEPS):
            wanted: Array = scale * b ** (-1 / self.alpha)
            slope = cosines @ b - wanted
            error = float(np.abs(slope / wanted).max())
            if not error > _GOAL:
                break
            step = np.linalg.solve(cosines + np.diag(wanted / (self.alpha * b)), -slope)
            b = self._shortened(cosines, scale, b, np.asarray(step, np.float64))
        if not error <= TOLERANCE:
            raise ValueError(
                f"no bargain after {_STEPS} Newton steps: G a and a^(-1/alpha) differ by {error:.1e} for alpha = "
                f"{self.alpha:g}, {len(b)} users; their gradients nearly cancel or differ too much in size"
            )
        return b

    def _shortened(self, cosines: Array, scale: Array, b: Array, step: Array) -> Array:
        """The next point: positive, and not so far that the objective rises half as fast as it fell at b."""

        def slope(point: Array) -> float:
            return float((cosines @ point - scale * point ** (-1 / self.alpha)) @ step)

        length = min(1.0, 0.99 / max(float((-step / b).max()), 0.5))
        steepest = abs(slope(b))
        while length > _SHORTEST_STEP and slope(b + length * step) > 0.5 * steepest:
            length /= 2
        return b + length * step
