"""An aggregator: the worse a user has done of late, the more its loss counts."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from edge_server.aggregators import Cost, Slot, State
from edge_server.fairness import AlphaFair


@dataclass(frozen=True)
class Smoothed(State):
    """What checkpoints keep beside a plain state."""

    loss: Tensor
    """[K] float64: every user's loss, averaged over its last slots."""


@dataclass(frozen=True)
class WorstMore:
    """|w_k| = s_k^power / sum_j s_j^power, where s_k moves by `rate` towards the loss of each slot.

    power 0 is equal weights; the larger it is, the more the worst user has its way.
    """

    cost: ClassVar[Cost] = "scalars"
    fairness: AlphaFair
    power: float = 2.0
    rate: float = 0.2

    def start(self, users: int) -> Smoothed:
        """Equal weights, and equal losses of 1."""
        plain = State.of(torch.full((users,), -1 / users, dtype=torch.float64))
        return Smoothed(**vars(plain), loss=torch.ones(users, dtype=torch.float64))

    def begin_round(self, state: State) -> State:
        """What was learned of the users goes on from round to round."""
        return replace(state, rounds=state.rounds + 1)

    def weights(self, state: State, slot: Slot) -> Tensor:  # noqa: ARG002 - the protocol's argument
        """w [K] as the last step left it."""
        return state.w

    def step(self, state: State, slot: Slot) -> State:
        """An absent user's loss stays as it was."""
        assert isinstance(state, Smoothed)
        moved = torch.lerp(state.loss, slot.losses, self.rate)
        loss = torch.where(slot.present, moved, state.loss)
        share = loss**self.power
        return replace(state, w=-share / share.sum(), loss=loss, slot=state.slot + 1)
