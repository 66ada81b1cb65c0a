"""An encoder: a linear model, and a small network that corrects it."""

import torch
from torch import Tensor, nn


class Corrected(nn.Module):
    """features [N, inputs] to outputs [N, outputs]: A x + C tanh(B x). C starts at 0, and so does the correction."""

    def __init__(self, inputs: int, hidden: int = 8, outputs: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.inner = nn.Linear(inputs, hidden)
        self.outer = nn.Linear(hidden, outputs, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, features: Tensor) -> Tensor:
        """[N, inputs] to [N, outputs]."""
        outputs: Tensor = self.linear(features) + self.outer(torch.tanh(self.inner(features)))
        return outputs
