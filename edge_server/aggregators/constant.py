"""Constant weights: the baseline that never looks at utilities."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from edge_server.aggregators.base import State
from edge_server.fairness import AlphaFair


@dataclass(frozen=True)
class ConstantWeights:
    """w = -weights in every slot; `equal` is 1/K each. `fairness` only scores."""

    fairness: AlphaFair
    given: Literal["equal"] | tuple[float, ...] = "equal"

    def start(self, users: int) -> State:
        """Raises ValueError when the number of weights is not `users`."""
        given = (1 / users,) * users if self.given == "equal" else self.given
        if len(given) != users:
            raise ValueError(f"aggregator constant: {len(given)} weights for {users} users; give one per user")
        w = -torch.tensor(given, dtype=torch.float64)
        return State(w, torch.zeros_like(w), torch.zeros(users, dtype=torch.int64), slot=0, rounds=0)

    def begin_round(self, state: State) -> State:
        """Counts the round."""
        return replace(state, slot=0, rounds=state.rounds + 1)

    def weights(self, state: State, utilities: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's argument
        """-weights [K]."""
        return state.w

    def step(self, state: State, utilities: Tensor) -> State:  # noqa: ARG002 - the protocol's argument
        """Counts the slot."""
        return replace(state, slot=state.slot + 1)
