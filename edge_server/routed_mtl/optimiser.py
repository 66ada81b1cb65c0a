"""Adam in one call per step, with its state as named tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam as apply_adam

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
NEGLIGIBLE = 1e-30


def adam(parameters: Sequence[nn.Parameter], rate: float) -> torch.optim.Adam:
    """torch's Adam with its defaults, fused."""
    return torch.optim.Adam(parameters, lr=rate, fused=True)


def descend(optimiser: torch.optim.Adam, loss: Tensor) -> None:
    """One step down the gradient of loss: the bits of `zero_grad`, `backward` and `step`, without their hooks.

    On networks of this size torch's profiler hooks around `zero_grad` and `step` take longer than Adam itself.
    The fused Adam reads memory in a row, so a transposed gradient, as `baddbmm` returns, has to be copied.
    """
    (group,) = optimiser.param_groups
    gradients = torch.autograd.grad(loss, group["params"], allow_unused=True)
    used = [(p, g) for p, g in zip(group["params"], gradients, strict=True) if g is not None]
    moments = [_moments(optimiser, parameter) for parameter, _ in used]
    with torch.no_grad():
        apply_adam(
            [parameter for parameter, _ in used],
            [gradient.contiguous() for _, gradient in used],
            [moment["exp_avg"] for moment in moments],
            [moment["exp_avg_sq"] for moment in moments],
            [],
            [moment["step"] for moment in moments],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


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


def _moments(optimiser: torch.optim.Adam, parameter: nn.Parameter) -> dict[str, Tensor]:
    state: dict[str, Tensor] = optimiser.state[parameter]
    if not state:
        state["step"] = torch.zeros((), device=parameter.device)
        state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter.detach()) for _ in range(2))
    return state
