"""q-FFL: losses weigh by their own q-th power."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_server.aggregators.base import Cost, Slot, State
from edge_server.aggregators.memoryless import Memoryless
from edge_server.fairness import AlphaFair


@dataclass(frozen=True)
class QFfl(Memoryless):
    """|w_k| = l_k^q / K, the gradient of mean_k l_k^(q+1)/(q+1): Li et al., ICLR 2020. q = 0 is `equal`."""

    cost: ClassVar[Cost] = "scalars"
    fairness: AlphaFair
    q: float = 1.0

    def weights(self, state: State, slot: Slot) -> Tensor:
        """w [K]. Raises ValueError at a negative loss."""
        if bool((slot.losses < 0).any()):
            k = int(slot.losses.nan_to_num(torch.inf).argmin())
            raise ValueError(f"q_ffl needs losses of at least 0, and user {k}'s is {float(slot.losses[k]):g}")
        return torch.where(slot.present, -slot.losses.pow(self.q) / len(slot.losses), state.w)
