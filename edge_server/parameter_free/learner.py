"""The parameter-free inner step and outer loop: one step e^a and one pull s, both learned from round to round."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_server.domains import Domain
from edge_server.parameter_free.descent import Descent
from edge_server.parameter_free.tangents import Curvature, Tangents

Array = NDArray[np.float64]

_DAMPING = 0.01
"""Added to the Hessian's diagonal, relative to it."""
_NOTHING = 1e-30
"""Curvature along s below this says that s moves nothing."""


@dataclass(frozen=True)
class Learner:
    """State between slots; state in, state out. Rounds are counted from 1 in `rounds`.

    Round 1: eta = r / sqrt(sum |G|^2) with r the largest distance from x so far. Later: eta = min(e^a, 2 L / |G|^2),
    never past the zero of the linearised residual. x_{t+1} = mean + s (last - mean) over theta*_1..t. (a, s) take one
    damped Gauss-Newton step a round, on a Hessian that forgets at the rate t^-1/2.

    x, mean [d] float64. radius, squares: of round 1. eta: the step last taken.
    """

    curvature: Curvature
    x: Tensor
    mean: Tensor
    tangents: Tangents
    rounds: int = 1
    log_step: float = 0.0
    pull: float = 0.0
    bend: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    radius: float = 0.0
    squares: float = 0.0
    eta: float = math.nan

    @classmethod
    def start(cls, x: Tensor, dtype: torch.dtype, curvature: Curvature) -> "Learner":
        """Before the first round, at x [d] float64; dtype: that of theta."""
        return cls(curvature, x, x, Tangents.start(torch.zeros_like(x, dtype=dtype)))

    def step(self, theta: Tensor, descent: Descent, domain: Domain) -> tuple[Tensor, "Learner"]:
        """theta [d] after a slot, and the learner after it. A gradient of zero moves nothing."""
        if descent.squared == 0:
            return theta, self
        return self._explore(theta, descent, domain) if self.rounds == 1 else self._descend(theta, descent, domain)

    def after(self, theta_star: Tensor) -> "Learner":
        """The learner at the next round's start; theta_star [d], any floating type."""
        learned = self._first_step() if self.rounds == 1 else self._learn()
        target = theta_star.to(torch.float64)
        mean = self.mean + (target - self.mean) / self.rounds
        apart = target - mean
        return replace(
            learned,
            x=mean + learned.pull * apart,
            mean=mean,
            tangents=Tangents.start(apart.to(self.tangents.directions.dtype)),
            rounds=self.rounds + 1,
        )

    def _explore(self, theta: Tensor, descent: Descent, domain: Domain) -> tuple[Tensor, "Learner"]:
        """Distance over gradients; the first radius is a Polyak step, or a tenth of 1 + |x| if that is less."""
        if self.squares == 0:
            radius = min(descent.loss / math.sqrt(descent.squared), 0.1 * (1 + _norm(self.x)))
        else:
            radius = max(self.radius, _norm(theta - self.x))
        squares = self.squares + descent.squared
        eta = radius / math.sqrt(squares)
        moved = domain.project(theta.sub(descent.gradient, alpha=eta))
        return moved, replace(self, radius=radius, squares=squares, eta=eta)

    def _descend(self, theta: Tensor, descent: Descent, domain: Domain) -> tuple[Tensor, "Learner"]:
        learned, most = math.exp(self.log_step), 2 * descent.loss / descent.squared
        eta = min(learned, most)
        free = theta.sub(descent.gradient, alpha=eta)
        moved = domain.project(free)
        tangents = self.tangents.after(descent, eta, learned <= most).cut(moved != free)
        return moved, replace(self, tangents=tangents, eta=eta)

    def _first_step(self) -> "Learner":
        return replace(self, log_step=math.log(self.eta)) if self.squares > 0 else self

    def _learn(self) -> "Learner":
        kept = 1 - self.rounds**-0.5
        bend = kept * np.array(self.bend) + self.tangents.bend
        move = np.clip(_newton(bend, self.tangents.slope), -1, 1)
        pull = min(max(self.pull - float(move[1]), 0.0), 1.0)
        rows = (float(bend[0, 0]), float(bend[0, 1])), (float(bend[1, 0]), float(bend[1, 1]))
        return replace(self, log_step=self.log_step - float(move[0]), pull=pull, bend=rows)


def _newton(bend: Array, slope: Array) -> Array:
    """(Q + .01 diag Q)^-1 h [2]; a parameter without curvature stays."""
    damped = bend + _DAMPING * np.diag(np.diag(bend))
    if damped[0, 0] <= 0:
        return np.zeros(2)
    if damped[1, 1] <= _NOTHING:
        return np.array([slope[0] / damped[0, 0], 0.0])
    return np.asarray(np.linalg.solve(damped, slope), dtype=np.float64)


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
