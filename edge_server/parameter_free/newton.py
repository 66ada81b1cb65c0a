"""One Newton step a round on (a, s), shortened by the noise of the slopes that it follows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_GROWTH = 0.25
"""The step e^a grows by this much a round at most, in logarithms."""


@dataclass(frozen=True)
class Newton:
    """Both sums forget at the rate 1/t: after t rounds, round j counts j/t.

    bend [2, 2]: Gauss-Newton Hessian Q. squares [2]: S, of the slopes h. A move is -(Q + diag sqrt S)^-1 h: a Newton
    step where slopes are small beside the curvature, a step normalised by their size where they are noise.
    """

    bend: Array
    squares: Array

    @classmethod
    def start(cls) -> "Newton":
        """Nothing is known."""
        return cls(np.zeros((2, 2)), np.zeros(2))

    def after(self, slope: Array, bend: Array, rounds: int) -> tuple[Array, "Newton"]:
        """The move of (a, s) [2] after round t = `rounds`, where slope is h [2] and bend q [2, 2].

        a moves by -1 to 1/4, s by -1 to 1; a number that has no slope stays.
        """
        kept = 1 - 1 / rounds
        known = Newton(kept * self.bend + bend, kept * self.squares + slope**2)
        return np.clip(-known._solve(slope), -1, [_GROWTH, 1]), known

    def _solve(self, slope: Array) -> Array:
        damped = self.bend + np.diag(np.sqrt(self.squares))
        moves = np.zeros(2)
        live = np.flatnonzero(self.squares > 0)
        moves[live] = np.linalg.solve(damped[np.ix_(live, live)], slope[live])
        return moves
