"""The outer loop: where the next round starts, Eq. (7) and its rivals."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

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
        return ServedMean(served if self.total is None else self.total.to(served.device) + served, self.count + 1)

    def mean(self) -> Tensor:
        """AVG = mean(theta_1..theta_m) [d] float64. Raises ValueError before the first slot."""
        if self.total is None:
            raise ValueError("no model was served yet: the average of a round needs at least one slot")
        return self.total / self.count


class OuterRule(Protocol):
    """Where rounds start, and the rule that moves it: a frozen dataclass that is its own state.

    Yours is called with x_1 [d], as `x`, then `args`, before the first round; also with `seed` if it takes one. Its
    fields are all that it remembers: numbers, tensors, None, and dataclasses, tuples or mappings of those, which
    checkpoints save and give back. A rule that draws makes a generator anew from its seed and a count of its own.
    """

    @property
    def x(self) -> Tensor:
        """[d] float64: where the next round starts, a field of the dataclass. The edge puts it into the domain X."""
        ...

    def next(self, theta_star: Tensor) -> "OuterRule":
        """The rule after a round whose target is theta_star [d], finite, on the CPU; pure: this one is left as it is.

        What it raises, and an x that is not finite or not [d] float64, end the run in one line.
        """
        ...


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
        return replace(self, x=self._moved(_finite(theta_star, self.t)), t=self.t + 1)

    def _moved(self, target: Tensor) -> Tensor:
        if self.rule == "scratch":
            return self.x
        if self.rule == "continue":
            return self.domain.project(target)
        if self.rule == "running_mean":
            return outer_step(self.x, target, self.t + 1, self.domain)
        return move_towards(self.x, target, self.rule, self.domain)


@dataclass(frozen=True)
class OwnOuter:
    """A rule of somebody's own, kept in the domain X. t: rounds done."""

    rule: OuterRule
    domain: Domain
    t: int = 0

    @property
    def x(self) -> Tensor:
        """[d] float64, in X."""
        return self.rule.x

    def next(self, theta_star: Tensor) -> "OwnOuter":
        """As `OuterLoop.next`. Raises FloatingPointError, too, for what the rule raised, or an x that is none."""
        target = _finite(theta_star, self.t)
        try:
            moved = self.rule.next(target.cpu())
        except Exception as error:
            told = f"edge.meta.rule failed after round {self.t}: {type(error).__name__}: {error}"
            raise FloatingPointError(told) from error
        x = moved.x
        if (x.shape, x.dtype) != (target.shape, torch.float64) or not bool(x.isfinite().all()):
            told = f"x {list(x.shape)} {x.dtype}; expected [{target.numel()}] finite numbers of torch.float64"
            raise FloatingPointError(f"edge.meta.rule gave, after round {self.t}, {told}")
        return OwnOuter(_with_x(moved, self.domain.project(x)), self.domain, self.t + 1)


def _with_x(rule: OuterRule, x: Tensor) -> OuterRule:
    moved: OuterRule = replace(rule, x=x)  # type: ignore[type-var]
    return moved


def _finite(theta_star: Tensor, t: int) -> Tensor:
    """theta_star [d] as float64. Raises FloatingPointError if it is not finite."""
    target = theta_star.to(torch.float64)
    if not bool(target.isfinite().all()):
        bad = int((~target.isfinite()).sum())
        raise FloatingPointError(
            f"outer step after round {t}: {bad} of {target.numel()} parameters of theta* are not finite; "
            "the inner step is too large: lower edge.primal.step or set edge.primal.cap"
        )
    return target
