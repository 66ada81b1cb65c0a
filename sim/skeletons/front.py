"""A front: a sensor's own calibration, before anything goes up to the edge."""

import torch
from torch import Tensor, nn


class Calibration(nn.Module):
    """inputs [B, *shape] to features [B, *shape]: limit tanh((gain x + offset) / limit), a gain and offset per input.

    So the user learns its own scale, and no feature that goes up is larger than `limit`.
    """

    def __init__(self, input_shape: tuple[int, ...], limit: float = 2.0) -> None:
        super().__init__()
        self.gain, self.offset = nn.Parameter(torch.ones(input_shape)), nn.Parameter(torch.zeros(input_shape))
        self.limit = limit

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, *shape] to [B, *shape]."""
        return self.limit * torch.tanh((self.gain * inputs + self.offset) / self.limit)
