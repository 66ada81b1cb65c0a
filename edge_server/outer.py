"""The outer loop: where the next round starts, Eq. (7) and its rivals."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from edge_server.domains import Domain
from edge_server.primal_dual import move_towards, outer_step


class Hindsight(NamedTuple):
    """The round's best fixed model, Eq. (2)."""

    theta: Tensor
    """[d] float64: theta*_t."""
    utilities: Tensor
    """[m, K] float64: every slot's utilities at theta*_t."""


@dataclass(frozen=True)
class ServedMean:
    """The mean of the models served so far in a round; starts as ServedMean()."""

    total: Tensor | None = None
    count: int = 0

    def add(self, theta: Tensor) -> "ServedMean":
        """theta [d] as served in a slot."""
        served = theta.to(torch.float64, copy=True)
        return ServedMean(served if self.total is None else self.total + served, self.count + 1)

    def mean(self) -> Tensor:
        """AVG = mean(theta_1..theta_m) [d] float64. Raises ValueError before the first slot."""
        if self.total is None:
            raise ValueError("no model was served yet: the average of a round needs at least one slot")
        return self.total / self.count


@dataclass(frozen=True)
class OuterLoop:
    """The initialisation of the next round and the rule that moves it; state in, state out.

    rule: `running_mean` (Eq. (7), x_{t+1} = mean of theta*_1..t), `continue` (x_{t+1} = theta*_t), `scratch`
    (always x_1), or a number c in (0, 1]: x + c (theta* - x). domain: X. x [d] float64. t: rounds done.
    """

    rule: Literal["running_mean", "continue", "scratch"] | float
    domain: Domain
    x: Tensor
    t: int = 0

    def next(self, theta_star: Tensor) -> "OuterLoop":
        """The loop after a round whose target is theta_star [d], any floating type.

        Raises FloatingPointError if theta_star is not finite; nothing has changed then.
        """
        target = theta_star.to(torch.float64)
        if not bool(target.isfinite().all()):
            bad = int((~target.isfinite()).sum())
            raise FloatingPointError(
                f"outer step after round {self.t}: {bad} of {target.numel()} parameters of theta* are not finite; "
                "the inner step is too large: lower edge.primal.step or set edge.primal.cap"
            )
        return replace(self, x=self._moved(target), t=self.t + 1)

    def _moved(self, target: Tensor) -> Tensor:
        if self.rule == "scratch":
            return self.x
        if self.rule == "continue":
            return self.domain.project(target)
        if self.rule == "running_mean":
            return outer_step(self.x, target, self.t + 1, self.domain)
        return move_towards(self.x, target, self.rule, self.domain)
