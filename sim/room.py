"""Memory that an encoder takes at the edge, and whether a machine has it."""

import psutil
from torch import nn

_COPIES = 16
"""Of all parameters, at the peak of a run that saves itself: measured with an mlp of 30 and 60 million (float32)."""


def parameters_of(encoder: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(parameter.numel() for parameter in encoder.parameters())


def edge_bytes(encoder: nn.Module) -> int:
    """What model, gradient, outer step and checkpoints take; an estimate."""
    return _COPIES * sum(parameter.nbytes for parameter in encoder.parameters())


def require_room(encoder: nn.Module) -> None:
    """Raises ValueError where this machine has less memory in all than the edge needs for the encoder."""
    needed, there = edge_bytes(encoder), psutil.virtual_memory().total
    if needed > there:
        raise ValueError(
            f"its {parameters_of(encoder):,} parameters need about {needed / 1e9:.0f} GB at the edge, "
            f"this machine has {there / 1e9:.0f} GB: take fewer, or a larger machine"
        )
