"""Fronts (before the edge's encoder) and heads (after it); PyTorch's default initialisation, seeded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import prod

import torch
from torch import nn

from user_client import config as settings
from user_client.own_models import build_own, shape_behind

_KERNEL = 5


def front_shape(
    config: settings.Front, input_shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> tuple[int, ...]:
    """Shape of one sample behind the front. Raises ValueError when the inputs do not fit it."""
    match config:
        case settings.CustomFront():
            with _seeded(0):
                return shape_behind(build_own(config, "front", input_shape, dtype), input_shape, dtype)
        case "none":
            return input_shape
        case settings.MlpFront():
            return (config.width,)
        case settings.ConvPool():
            return _conv_pool_shape(config, input_shape)


def build_front(
    config: settings.Front, input_shape: tuple[int, ...], dtype: torch.dtype, seed: int
) -> nn.Module | None:
    """The front for samples of `input_shape`: [B, *input_shape] to [B, *front_shape]; None for `none`.

    Raises ValueError when the inputs do not fit it.
    """
    if config == "none":
        return None
    if isinstance(config, settings.CustomFront):
        with _seeded(seed):
            return build_own(config, "front", input_shape, dtype)
    front_shape(config, input_shape, dtype)
    with _seeded(seed):
        if isinstance(config, settings.ConvPool):
            convolution = nn.Conv2d(input_shape[0], config.channels, _KERNEL, dtype=dtype)
            return nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2))
        layers = _dense(input_shape, [*config.hidden, config.width], dtype)
        return nn.Sequential(*layers, nn.ReLU())


def build_head(
    config: settings.Head, input_shape: tuple[int, ...], outputs: int, dtype: torch.dtype, seed: int
) -> nn.Module | None:
    """The head from the encoder's outputs [B, *input_shape] to [B, outputs]; None for `identity`.

    outputs: what the task needs. What is not flat is flattened first.
    Raises ValueError when the encoder's output or `config.outputs` does not fit.
    """
    if isinstance(config, settings.IdentityHead):
        _check_identity(input_shape, outputs)
        return None
    if isinstance(config, settings.CustomHead):
        return _own_head(config, input_shape, outputs, dtype, seed)
    if config.outputs is not None:
        _check_outputs(config.outputs, outputs)
    hidden = config.hidden if isinstance(config, settings.MlpHead) else ()
    with _seeded(seed):
        return nn.Sequential(*_dense(input_shape, [*hidden, config.outputs or outputs], dtype))


def _own_head(
    config: settings.CustomHead, input_shape: tuple[int, ...], needed: int, dtype: torch.dtype, seed: int
) -> nn.Module:
    with _seeded(seed):
        head = build_own(config, "head", input_shape, dtype, needed)
    shape = shape_behind(head, input_shape, dtype)
    if not _serves(shape, needed):
        raise ValueError(f"head {config.kind}: gives {[*shape]} per sample, this task needs {_wanted(needed)}")
    return head


def _serves(shape: tuple[int, ...], needed: int) -> bool:
    """Predictions of this shape per sample do for a task: numbers must be as many, classes at least."""
    return len(shape) == 1 and (shape[0] == needed or shape[0] > needed > 1)


def _wanted(needed: int) -> str:
    return f"[{'' if needed == 1 else 'at least '}{needed}]"


def _check_identity(input_shape: tuple[int, ...], needed: int) -> None:
    if not _serves(input_shape, needed):
        raise ValueError(f"head identity needs {_wanted(needed)} from the encoder, it gives {list(input_shape)}")


def _check_outputs(asked: int, needed: int) -> None:
    if (needed == 1 and asked != 1) or asked < needed:
        raise ValueError(f"head outputs is {asked}, this task needs {'' if needed == 1 else 'at least '}{needed}")


def _conv_pool_shape(config: settings.ConvPool, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    smallest = _KERNEL + 1
    if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
        raise ValueError(
            f"front conv_pool needs images [channels, >= {smallest}, >= {smallest}], the task gives {list(input_shape)}"
        )
    height, width = ((side - _KERNEL + 1) // 2 for side in input_shape[1:])
    return (config.channels, height, width)


def _dense(input_shape: tuple[int, ...], widths: Sequence[int], dtype: torch.dtype) -> list[nn.Module]:
    """Fully connected layers with ReLU between them, on the flattened input."""
    layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) != 1 else []
    for fan_in, fan_out in pairwise([prod(input_shape), *widths]):
        layers += [nn.Linear(fan_in, fan_out, dtype=dtype), nn.ReLU()]
    return layers[:-1]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Module construction from its own seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
