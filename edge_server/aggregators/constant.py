"""Constant weights: the baseline that never looks at utilities."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from edge_server.aggregators.base import Cost, Slot, State, equal_weights
from edge_server.aggregators.memoryless import Memoryless
from edge_server.fairness import AlphaFair


@dataclass(frozen=True)
class ConstantWeights(Memoryless):
    """w = -weights in every slot; `equal` is 1/K each. `fairness` only scores."""

    cost: ClassVar[Cost] = "scalars"
    fairness: AlphaFair
    given: Literal["equal"] | tuple[float, ...] = "equal"

    def start(self, users: int) -> State:
        """Raises ValueError when the number of weights is not `users`."""
        if self.given == "equal":
            return State.of(equal_weights(users))
        if len(self.given) != users:
            raise ValueError(f"aggregator constant: {len(self.given)} weights for {users} users; give one per user")
        return State.of(-torch.tensor(self.given, dtype=torch.float64))

    def weights(self, state: State, slot: Slot) -> Tensor:  # noqa: ARG002 - the protocol's argument
        """-weights [K]."""
        return state.w
