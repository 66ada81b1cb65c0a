"""A head: predictions that stay within bounds, so that no squared loss runs away."""

from math import prod

import torch
from torch import Tensor, nn


class Bounded(nn.Module):
    """outputs [B, *shape] of the encoder to predictions [B, needed]: limit tanh(linear / limit)."""

    def __init__(self, output_shape: tuple[int, ...], needed: int, limit: float = 1.5) -> None:
        super().__init__()
        self.linear = nn.Linear(prod(output_shape), needed)
        self.limit = limit

    def forward(self, outputs: Tensor) -> Tensor:
        """[B, *shape] to [B, needed]."""
        return self.limit * torch.tanh(self.linear(outputs.flatten(1)) / self.limit)
