"""What an aggregator is: a rule from a slot's feedback to the users' training weights, with its whole state outside."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from edge_server.fairness import AlphaFair

Cost = Literal["scalars", "gramian"]
"""What a rule needs per slot: one number per user, or the inner products of all users' encoder gradients."""


@dataclass(frozen=True)
class State:
    """All that an aggregator remembers; K users in scenario order."""

    w: Tensor
    """[K] float64: the dual weights, before any scaling."""
    utility_sum: Tensor
    """[K] float64: sum of the utilities applied within the horizon."""
    applied: Tensor
    """[K] int64: slots in which the user was present, within the horizon."""
    slot: int
    """Slots stepped within the horizon."""
    rounds: int
    """Rounds begun."""

    @classmethod
    def of(cls, w: Tensor) -> "State":
        """w [K] float64, and nothing seen yet."""
        return cls(w, torch.zeros_like(w), torch.zeros(len(w), dtype=torch.int64), slot=0, rounds=0)


@dataclass(frozen=True)
class Slot:
    """What the edge learns in one slot; K users in scenario order, NaN for an absent one."""

    losses: Tensor
    """[K] float64."""
    utilities: Tensor
    """[K] float64: l_max - loss."""
    gramian: Callable[[], Tensor]
    """[K, K] float64: inner products of the users' unweighted encoder gradients, zeros for an absent user. Computed
    when called; call it before the weights are applied."""

    @classmethod
    def of(cls, losses: Tensor, l_max: Tensor | float) -> "Slot":
        """A slot of which only the losses [K] are known; every gradient is zero."""
        return cls(losses, l_max - losses, lambda: losses.new_zeros(len(losses), len(losses)))

    @property
    def present(self) -> Tensor:
        """Bool [K]."""
        return ~self.utilities.isnan()


class Aggregator(Protocol):
    """Immutable state in, state out. Yours is called with the alpha-fair family, then `args`.

    All memory is in the `State`, or in a frozen dataclass made from it: numbers, tensors, None, and dataclasses, tuples
    or mappings of those, which checkpoints save and give back. A rule that draws takes a `seed`, the run's own, and
    makes generators anew from it and the state's counts. The edge tries yours out before the run.

    A user's loss is weighted by -w: w < 0, or 0 where a rule leaves a user out, or above 0 where one steps against it.
    """

    cost: ClassVar[Cost]

    @property
    def fairness(self) -> AlphaFair:
        """What scores the run."""
        ...

    def start(self, users: int) -> State:
        """The state before the first round. Raises ValueError when the rule cannot serve so many users."""
        ...

    def begin_round(self, state: State) -> State:
        """The state in a round's first slot."""
        ...

    def weights(self, state: State, slot: Slot) -> Tensor:
        """w [K] float64 applied in this slot; an absent user's is the one held.

        With everybody absent: what the last step left. Raises ValueError where the rule has no answer.
        """
        ...

    def step(self, state: State, slot: Slot) -> State:
        """The state after this slot."""
        ...


def equal_weights(users: int) -> Tensor:
    """w = -1/K [K] float64."""
    return torch.full((users,), -1 / users, dtype=torch.float64)
