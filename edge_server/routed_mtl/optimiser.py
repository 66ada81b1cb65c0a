"""Adam in one call per step, with its state as named tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
NEGLIGIBLE = 1e-30


def adam(parameters: Sequence[nn.Parameter], rate: float) -> torch.optim.Adam:
    """torch's Adam with its defaults, fused."""
    return torch.optim.Adam(parameters, lr=rate, fused=True)


def adam_state(optimiser: torch.optim.Adam, names: Sequence[str]) -> dict[str, Tensor]:
    """Copies of its moments, `MOMENT.NAME`; empty before the first step."""
    parameters = optimiser.param_groups[0]["params"]
    state: dict[str, Tensor] = {}
    for name, parameter in zip(names, parameters, strict=True):
        state |= {f"{moment}.{name}": value.clone() for moment, value in optimiser.state.get(parameter, {}).items()}
    return state


def load_adam_state(optimiser: torch.optim.Adam, names: Sequence[str], state: dict[str, Tensor]) -> None:
    """Puts such moments back."""
    for name, parameter in zip(names, optimiser.param_groups[0]["params"], strict=True):
        if f"step.{name}" in state:
            optimiser.state[parameter] = {moment: state[f"{moment}.{name}"].to(parameter.device) for moment in MOMENTS}


@torch.no_grad()
def drop_negligible(optimiser: torch.optim.Adam) -> None:
    """Sets moments below 1e-30 to 0. No float32 weight can notice them, but as denormal numbers they slow every step.

    Moments of cut weights shrink by 0.9 a step: called every 100 steps or oftener, none gets near 1e-38.
    """
    for state in optimiser.state.values():
        for moment in MOMENTS[1:]:
            state[moment].masked_fill_(state[moment].abs() < NEGLIGIBLE, 0.0)
