"""What an encoder must be: one sample in, one sample out, no chance, no hidden state."""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from edge_server.custom import one_line

Shape = tuple[int, ...]


class Encoder(Protocol):
    """A shared model: a `torch.nn.Module` class. Yours is called with `args` alone, inside its own random stream.

    Each sample's outputs are a function of its own features and of the parameters, which are all its state: no mixing
    of samples, no random numbers, no buffer that changes. The edge checks this before the run, on fixed noise, and
    casts the parameters to the run's type; checkpoints keep them.
    """

    def forward(self, features: Tensor) -> Tensor:
        """features [N, *feature_shape] of all users' samples to outputs [N, ...], of the same type, finite."""
        ...


class EncoderError(ValueError):
    """An encoder that cannot be used; one line says why."""


def check_encoder(encoder: nn.Module, name: str, feature_shape: Shape, dtype: torch.dtype) -> None:
    """Refuses an encoder that mixes samples, draws random numbers, keeps state or does not fit.

    feature_shape: one sample, without the batch. Raises EncoderError.
    """
    _check_layers(encoder, name)
    buffers = [buffer.clone() for buffer in encoder.buffers()]
    features, outputs = probe(encoder, name, feature_shape, dtype, samples=3)
    _check_separate(encoder, name, features, outputs)
    _check_certain(encoder, name, features, outputs)
    if any(not torch.equal(a, b) for a, b in zip(buffers, encoder.buffers(), strict=True)):
        raise EncoderError(f"encoder {name}: its forward pass changes a buffer; all its state must be parameters")


def probe(
    encoder: nn.Module, name: str, feature_shape: Shape, dtype: torch.dtype, samples: int
) -> tuple[Tensor, Tensor]:
    """One forward pass on fixed noise: features [samples, *feature_shape], finite outputs [samples, ...].

    The outputs' graph reaches the features. Raises EncoderError if the pass fails or its result has no batch,
    another type, or NaN.
    """
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(samples, *feature_shape, generator=generator, dtype=dtype).requires_grad_()
    outputs = _forward(encoder, name, features)
    if not (outputs.ndim >= 2 and outputs.shape[0] == samples):
        raise EncoderError(
            f"encoder {name}: {samples} samples give an output of shape {list(outputs.shape)}; "
            f"expected [{samples}, ...], one row per sample"
        )
    if outputs.dtype != dtype:
        raise EncoderError(f"encoder {name}: {dtype} features give {outputs.dtype} outputs; expected {dtype}")
    if not bool(outputs.isfinite().all()):
        raise EncoderError(f"encoder {name}: its outputs are not finite on features in [0, 1]")
    return features, outputs


def _forward(encoder: nn.Module, name: str, features: Tensor) -> Tensor:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outputs: object = encoder(features)
    except Exception as error:
        raise EncoderError(
            f"encoder {name}: features of shape {list(features.shape[1:])} do not fit: {one_line(error)}"
        ) from error
    if not isinstance(outputs, Tensor):
        raise EncoderError(f"encoder {name}: its output is a {type(outputs).__name__}; expected one tensor")
    return outputs


def _check_layers(encoder: nn.Module, name: str) -> None:
    if not any(True for _ in encoder.parameters()):
        raise EncoderError(f"encoder {name}: it has no parameters, so there is nothing to learn")
    for path, layer in encoder.named_modules():
        what = f"layer {path or 'itself'} is a {type(layer).__name__}"
        if isinstance(layer, _BatchNorm):
            raise EncoderError(
                f"encoder {name}: {what}, which mixes samples of different users; use GroupNorm or LayerNorm"
            )
        if isinstance(layer, _DropoutNd) and layer.p > 0:
            raise EncoderError(f"encoder {name}: {what}, which is random; runs must repeat, so remove it")


def _check_separate(encoder: nn.Module, name: str, features: Tensor, outputs: Tensor) -> None:
    others = features.detach().clone()
    others[1:] = 1 - others[1:]
    changed = _forward(encoder, name, others)[0]
    alone = _forward(encoder, name, features.detach()[:1])[0]
    leak = _gradient(encoder, name, features, outputs)[1:]
    if not (_close(changed, outputs[0]) and _close(alone, outputs[0]) and bool((leak == 0).all())):
        raise EncoderError(
            f"encoder {name}: the output of one sample depends on the others in the batch; "
            "an encoder must not mix samples of different users"
        )


def _gradient(encoder: nn.Module, name: str, features: Tensor, outputs: Tensor) -> Tensor:
    if not outputs.requires_grad:
        raise EncoderError(f"encoder {name}: its outputs do not depend on its parameters; nothing can be learned")
    wanted = [*(p for p in encoder.parameters() if p.requires_grad), features]
    found = torch.autograd.grad(outputs[0].sum(), wanted, allow_unused=True)
    if all(gradient is None for gradient in found[:-1]):
        raise EncoderError(f"encoder {name}: its outputs do not depend on its parameters; nothing can be learned")
    return torch.zeros_like(features) if found[-1] is None else found[-1]


def _check_certain(encoder: nn.Module, name: str, features: Tensor, outputs: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        again: Tensor = encoder(features.detach())
    if not torch.equal(again, outputs):
        raise EncoderError(f"encoder {name}: equal features give different outputs; runs must repeat")


def _close(a: Tensor, b: Tensor) -> bool:
    return bool(torch.allclose(a, b, rtol=1e-4, atol=1e-5))
