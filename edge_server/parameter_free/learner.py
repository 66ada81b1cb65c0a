"""The parameter-free inner step and outer loop: one step e^a and one pull s, both learned from round to round."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edge_server.domains import Domain
from edge_server.parameter_free.descent import Descent
from edge_server.parameter_free.newton import Newton
from edge_server.parameter_free.tangents import Curvature, Tangents

_FIRST_MOVE = 0.01
"""The very first step moves theta by at most this share of 1 + |x|."""
_DECAY = 3
"""theta after slot i weighs about i^3 in the round's average (polynomial-decay averaging, Shamir and Zhang 2013)."""


@dataclass(frozen=True)
class Learner:
    """State between slots; state in, state out. Memory is O(d).

    Round 1: eta = r / sqrt(sum |G|^2) with r the largest distance from x so far. Later: eta = min(e^a, 2 L / |G|^2),
    never past the zero of the linearised residual. x_{t+1} = mean + s (theta* - mean), mean over theta*_1..t. (a, s)
    take one `Newton` step a round.

    anchored: theta*_t does not depend on where the round began (an oracle's), so s can be learned. What a round made
    of x itself is where the next begins: s stays 1, for a mean with earlier rounds would undo some of its work.

    x, mean, average [d] float64: where the round began; of theta*; of the round's theta, what stands after the last
    slot. rounds, slots: under way and done, from 1. radius, squares: of round 1. eta: the step last taken.
    """

    curvature: Curvature
    anchored: bool
    x: Tensor
    mean: Tensor
    average: Tensor
    tangents: Tangents
    newton: Newton
    rounds: int = 1
    slots: int = 0
    log_step: float = 0.0
    pull: float = 1.0
    radius: float = 0.0
    squares: float = 0.0
    eta: float = math.nan

    @classmethod
    def start(cls, x: Tensor, dtype: torch.dtype, curvature: Curvature, anchored: bool) -> "Learner":
        """Before the first round, at x [d] float64; dtype: that of theta."""
        return cls(curvature, anchored, x, x, x, Tangents.start(torch.zeros_like(x, dtype=dtype)), Newton.start())

    def step(self, theta: Tensor, descent: Descent, domain: Domain) -> tuple[Tensor, "Learner"]:
        """theta [d] after a slot, and the learner after it. A gradient of zero moves nothing."""
        moved, learner = theta, self
        if descent.squared > 0:
            go = self._explore if self.rounds == 1 else self._descend
            moved, learner = go(theta, descent, domain)
        return moved, learner._averaged(moved)

    def after(self, theta_star: Tensor) -> "Learner":
        """The learner at the next round's start; theta_star [d], any floating type."""
        learned = self._first_step() if self.rounds == 1 else self._learn()
        target = theta_star.to(torch.float64)
        mean = self.mean + (target - self.mean) / self.rounds
        apart = target - mean if self.anchored else torch.zeros_like(target)
        return replace(
            learned,
            x=mean + learned.pull * apart if self.anchored else target,
            mean=mean,
            tangents=Tangents.start(apart.to(self.tangents.directions.dtype)),
            rounds=self.rounds + 1,
            slots=0,
        )

    def _explore(self, theta: Tensor, descent: Descent, domain: Domain) -> tuple[Tensor, "Learner"]:
        """Distance over gradients; the first radius is that of a Polyak step, or a share of 1 + |x| if that is less."""
        if self.squares == 0:
            radius = min(descent.loss / math.sqrt(descent.squared), _FIRST_MOVE * (1 + _norm(self.x)))
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

    def _averaged(self, theta: Tensor) -> "Learner":
        slots = self.slots + 1
        average = torch.lerp(self.average, theta.to(torch.float64), (_DECAY + 1) / (slots + _DECAY))
        return replace(self, average=average, slots=slots)

    def _first_step(self) -> "Learner":
        return replace(self, log_step=math.log(self.eta)) if self.squares > 0 else self

    def _learn(self) -> "Learner":
        move, newton = self.newton.after(self.tangents.slope, self.tangents.bend, self.rounds)
        pull = min(max(self.pull + float(move[1]), 0.0), 1.0)
        return replace(self, log_step=self.log_step + float(move[0]), pull=pull, newton=newton)


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
