"""The shared models: ours by name, yours as `module:Class`; and the checks that any of them must pass."""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from edge_server import config
from edge_server.custom import class_of, one_line
from edge_server.encoder_checks import EncoderError, check_encoder, probe

__all__ = ["EncoderError", "build_encoder", "output_shape"]

Shape = tuple[int, ...]


def build_encoder(encoder: config.Encoder, feature_shape: Shape, dtype: torch.dtype, seed: int) -> nn.Module:
    """The encoder of a scenario, initialised from `seed` alone (torch's default initialisation).

    feature_shape: one sample, without the batch. dtype: float32 or float64.
    Raises EncoderError, one line, when it cannot be built, does not fit the features, or mixes samples.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _make(encoder, feature_shape).to(dtype)
    check_encoder(module, encoder.kind, feature_shape, dtype)
    return module


def output_shape(encoder: nn.Module, feature_shape: Shape, dtype: torch.dtype) -> Shape:
    """Shape of one sample's output, without the batch. Raises EncoderError if the features do not fit."""
    return tuple(probe(encoder, type(encoder).__name__, feature_shape, dtype, samples=2)[1].shape[1:])


def _make(encoder: config.Encoder, feature_shape: Shape) -> nn.Module:
    if isinstance(encoder, config.Linear):
        return _linear(encoder, feature_shape)
    if isinstance(encoder, config.Mlp):
        return _mlp(encoder, feature_shape)
    if isinstance(encoder, config.Lenet):
        return _lenet(encoder, feature_shape)
    return _custom(encoder)


def _linear(encoder: config.Linear, feature_shape: Shape) -> nn.Module:
    layer = nn.Linear(prod(feature_shape), encoder.outputs, bias=encoder.bias)
    if encoder.initial == "zeros":
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    return layer if len(feature_shape) == 1 else nn.Sequential(nn.Flatten(), layer)


def _mlp(encoder: config.Mlp, feature_shape: Shape) -> nn.Module:
    widths = (prod(feature_shape), *encoder.hidden, encoder.width)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers)


def _lenet(encoder: config.Lenet, feature_shape: Shape) -> nn.Module:
    channels, size = feature_shape[0] if feature_shape else 0, feature_shape[1:]
    if size not in ((28, 28), (12, 12)):
        raise EncoderError(
            f"encoder lenet: features have shape {list(feature_shape)}; it takes [C, 28, 28] images, "
            "or [C, 12, 12] behind a conv_pool front"
        )
    first = _convolution(channels, 10) if size == (28, 28) else []
    second = _convolution(10 if first else channels, 20)
    return nn.Sequential(_ChannelsLast(), *first, *second, nn.Flatten(), nn.Linear(320, encoder.width), nn.ReLU())


class _ChannelsLast(nn.Module):
    """A sample's channels side by side in memory, where torch's max-pooling takes a third of the time."""

    def forward(self, images: Tensor) -> Tensor:
        return images.clone(memory_format=torch.channels_last)


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel_size=5), nn.ReLU(), nn.MaxPool2d(2)]


def _custom(encoder: config.Custom) -> nn.Module:
    try:
        found = class_of(encoder.kind, "encoder")
    except ValueError as error:
        raise EncoderError(str(error)) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise EncoderError(f"encoder {encoder.kind}: {encoder.kind.partition(':')[2]} is not a torch.nn.Module class")
    return _construct(encoder, found)


def _construct(encoder: config.Custom, found: type[nn.Module]) -> nn.Module:
    try:
        return found(**encoder.args)
    except Exception as error:
        raise EncoderError(
            f"encoder {encoder.kind}: its constructor failed with {dict(encoder.args)}: {one_line(error)}"
        ) from error
