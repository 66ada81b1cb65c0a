"""The rDNN: which weights of the bDNN each task may use; its hardening, and how much the tasks' masks overlap."""

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 5.0
MEAN, DEVIATION = 0.1, 0.001
HIDDEN = 20


class Router(nn.Module):
    """One-hot task -> `HIDDEN` (ReLU) -> bits, output ReLU(tanh(5 x)), Eq. (13) of routed MTL.

    Weights N(0.1, 0.001^2), biases 0: every mask starts near tanh(1) = 0.76, where the slope is not yet 0.
    The one-hot product is read off as a column, so a step costs T x HIDDEN x bits for T tasks.
    """

    def __init__(self, tasks: int, bits: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(tasks, HIDDEN).normal_(MEAN, DEVIATION, generator=generator))
        self.first_bias = nn.Parameter(torch.zeros(HIDDEN))
        self.last = nn.Parameter(torch.empty(bits, HIDDEN).normal_(MEAN, DEVIATION, generator=generator))
        self.last_bias = nn.Parameter(torch.zeros(bits))

    def forward(self, tasks: Tensor | None = None) -> Tensor:
        """Soft masks [T, bits] in [0, 1) of `tasks` [T]; None is all tasks, in order."""
        columns = self.first if tasks is None else self.first[tasks]
        hidden = torch.relu(columns + self.first_bias)
        return torch.relu(torch.tanh(functional.linear(SLOPE * hidden, self.last, SLOPE * self.last_bias)))


def harden(soft: Tensor) -> Tensor:
    """Eq. (15): 1 above one half, else 0; any shape, same type."""
    return (soft > 0.5).to(soft.dtype)


def straight_through(soft: Tensor) -> Tensor:
    """The hard mask's value with the soft mask's gradient."""
    return harden(soft) + (soft - soft.detach())


def overlap(masks: Tensor) -> Tensor:
    """Jaccard index [K, K] of hard masks [K, bits]: bits both tasks use over bits either uses; 1 for two empty ones."""
    used = masks.bool()
    both = (used.unsqueeze(0) & used.unsqueeze(1)).sum(-1)
    either = (used.unsqueeze(0) | used.unsqueeze(1)).sum(-1)
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones(()))
