"""Fronts and heads of somebody's own: what they must be, and a trial on fixed noise before anything is sent."""

from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from user_client import config as settings
from user_client.custom import build_custom

Shape = tuple[int, ...]

_SAMPLES = 3


class Front(Protocol):
    """A model before the edge's encoder: a `torch.nn.Module` class, called with the shape of one input, then `args`.

    It is built inside the user's own random stream, and cast to the run's type. Each sample's outputs are a function of
    its own input and of the parameters, which are all its state: no mixing of samples, no random numbers, no buffer
    that changes. Checkpoints keep the parameters. One that is `trainable` has parameters, and all of them matter. The
    user tries yours out first, on fixed noise.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [B, *input_shape] to features [B, ...], finite: what goes up to the edge."""
        ...


class Head(Protocol):
    """A model behind the edge's encoder: a `torch.nn.Module` class, called with the shape of one sample's outputs of
    the encoder and the numbers that the task needs, then args. All else is as for a `Front` that is trainable.
    """

    def forward(self, outputs: Tensor) -> Tensor:
        """outputs [B, *output_shape] of the encoder to predictions [B, needed], finite, or more classes than needed."""
        ...


def build_own(
    config: settings.CustomFront | settings.CustomHead, role: str, input_shape: Shape, dtype: torch.dtype, *given: int
) -> nn.Module:
    """The module for samples of `input_shape`, drawn from torch's generator as it stands.

    Raises ValueError, one line, where it cannot be built or does not keep to its protocol.
    """
    trained = isinstance(config, settings.CustomHead) or config.trainable
    check = partial(_check, input_shape=input_shape, dtype=dtype, trained=trained)
    module: nn.Module = build_custom(config, role, input_shape, *given, check=check)
    return module


def shape_behind(module: nn.Module, input_shape: Shape, dtype: torch.dtype) -> Shape:
    """Of one sample of what a module that was built gives."""
    with torch.no_grad():
        outputs: Tensor = module(_noise(input_shape, dtype))
    return tuple(outputs.shape[1:])


def _check(module: nn.Module, input_shape: Shape, dtype: torch.dtype, trained: bool) -> None:
    if not isinstance(module, nn.Module):
        raise ValueError(f"a {type(module).__name__}; it must be a torch.nn.Module")
    module.to(dtype)
    buffers = [buffer.clone() for buffer in module.buffers()]
    inputs = _noise(input_shape, dtype)
    outputs = _passed(module, inputs, seed=0)
    _check_outputs(outputs, dtype)
    again, alone = _passed(module, inputs, seed=1), _passed(module, inputs[:1], seed=0)
    if any(not torch.equal(a, b) for a, b in zip(buffers, module.buffers(), strict=True)):
        raise ValueError("its forward pass changes a buffer; all its state must be parameters")
    if not torch.equal(again, outputs):
        raise ValueError("equal inputs give different outputs; runs must repeat, so it may draw nothing")
    if not torch.allclose(alone, outputs[:1], rtol=1e-4, atol=1e-5):
        raise ValueError("the outputs of one sample depend on the others of its batch; each sample is by itself")
    if trained:
        _check_parameters(module, outputs)


def _check_outputs(outputs: object, dtype: torch.dtype) -> None:
    if not isinstance(outputs, Tensor) or outputs.ndim < 2 or outputs.shape[0] != _SAMPLES or outputs.dtype != dtype:
        got = f"{list(outputs.shape)} {outputs.dtype}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"{_SAMPLES} samples give {got}; expected [{_SAMPLES}, ..] {dtype}")
    if not bool(outputs.isfinite().all()):
        raise ValueError("its outputs are not finite on inputs in [0, 1]")


def _check_parameters(module: nn.Module, outputs: Tensor) -> None:
    named = dict(module.named_parameters())
    if not named:
        raise ValueError("it has no parameters, so there is nothing to learn; of a front, say trainable: false")
    frozen = [name for name, parameter in named.items() if not parameter.requires_grad]
    if frozen:
        raise ValueError(f"parameter {frozen[0]} asks for no gradient; make it a buffer, or let it learn")
    found = torch.autograd.grad(outputs.sum(), [*named.values()], allow_unused=True)
    unused = [name for name, gradient in zip(named, found, strict=True) if gradient is None]
    if unused:
        raise ValueError(f"parameter {unused[0]} has no part in the outputs; take it out")


def _passed(module: nn.Module, inputs: Tensor, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        outputs: Tensor = module(inputs)
    return outputs


def _noise(shape: Shape, dtype: torch.dtype) -> Tensor:
    return torch.rand(_SAMPLES, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
