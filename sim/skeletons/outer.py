"""An outer rule: rounds start where momentum takes them."""

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class HeavyBall:
    """v_{t+1} = momentum v_t + step (theta*_t - x_t), x_{t+1} = x_t + v_{t+1}; the edge keeps x in its domain.

    x [d], velocity [d] float64. Everything here is saved with the run: it is all that the rule remembers.
    """

    x: Tensor
    step: float = 0.5
    momentum: float = 0.5
    velocity: Tensor | None = None

    def next(self, theta_star: Tensor) -> "HeavyBall":
        """The rule after a round that ended at theta_star [d]."""
        pull = self.step * (theta_star - self.x)
        velocity = pull if self.velocity is None else self.momentum * self.velocity + pull
        return replace(self, x=self.x + velocity, velocity=velocity)
