"""Scale-invariant weights: descent on the users' mean log-loss."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_server.aggregators.base import Cost, Slot, State
from edge_server.aggregators.memoryless import Memoryless
from edge_server.fairness import AlphaFair


@dataclass(frozen=True)
class ScaleInvariant(Memoryless):
    """|w_k| = 1/(K l_k), the gradient of mean_k log l_k: the SI baseline of Navon et al., ICML 2022."""

    cost: ClassVar[Cost] = "scalars"
    fairness: AlphaFair

    def weights(self, state: State, slot: Slot) -> Tensor:
        """w [K]. Raises ValueError at a loss that is not above 0, where the log-loss has no gradient."""
        if bool((slot.losses <= 0).any()):
            k = int(slot.losses.nan_to_num(torch.inf).argmin())
            raise ValueError(f"scale_invariant needs losses above 0, and user {k}'s is {float(slot.losses[k]):g}")
        return torch.where(slot.present, -1 / (slot.losses * len(slot.losses)), state.w)
