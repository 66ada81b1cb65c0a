"""The inner step where D* is unknown: guess it, and double the guess when a round disproves it (footnote 2)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edge_server.primal_dual import theory_step


@dataclass(frozen=True)
class Guess:
    """D_hat, the guessed D*: from D/m it doubles up to D, at most ceil(log2 m) times.

    D_hat = D/m costs O(G D / m^1.5) of regret where D* is smaller, less than Theorem 1's own terms; where D* is
    larger, D_hat ends below twice the largest ||x_t - theta*_t||.
    diameter: D of Theta. gradient_bound: G > 0. slots: m.
    """

    d_hat: float
    diameter: float
    gradient_bound: float
    slots: int

    @classmethod
    def first(cls, diameter: float, gradient_bound: float, slots: int) -> "Guess":
        """The guess before the first round, D/m."""
        return cls(diameter / slots, diameter, gradient_bound, slots)

    @property
    def eta(self) -> float:
        """Theorem 1's step for the guess, D_hat / (G sqrt m)."""
        return theory_step(self.d_hat, self.gradient_bound, self.slots)

    def after(self, x: Tensor, theta_star: Tensor) -> "Guess":
        """The guess after a round that began at x [d] and had the target theta_star [d]."""
        distance = float(torch.linalg.vector_norm(x - theta_star, dtype=torch.float64))
        d_hat = self.d_hat
        while d_hat < min(distance, self.diameter):
            d_hat *= 2
        return replace(self, d_hat=min(d_hat, self.diameter))
