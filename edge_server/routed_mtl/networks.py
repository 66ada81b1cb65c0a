"""The bDNN and what runs on it: dense layers shared by all tasks, with masks or a task code per task.

T tasks of a step are one batch: x [T, B, d] meets weights [out, in] (shared) or [T, out, in] (a task's own), never in
a loop over tasks.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_server.routed_mtl.masks import Router, harden, straight_through

HIDDEN = (20, 32, 32, 32, 32, 20)

Layer = tuple[Tensor, Tensor]


class ArchitectureError(ValueError):
    """Weights that belong to another architecture."""


class Trunk(nn.Module):
    """The bDNN's 7 weight layers, inputs - 20 - 32 - 32 - 32 - 32 - 20 - outputs; Xavier weights, biases 0.

    Weight l is [out, in]; with `copies`, K separate networks, [K, out, in]. 20 inputs and outputs: 5,340 parameters.
    """

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, copies: int | None = None) -> None:
        super().__init__()
        lead = () if copies is None else (copies,)
        pairs = list(pairwise((inputs, *HIDDEN, outputs)))
        self.weights = nn.ParameterList([_xavier(lead, out, into, generator) for into, out in pairs])
        self.biases = nn.ParameterList([torch.zeros(*lead, out) for _, out in pairs])

    def layers(self, copies: Tensor | None = None) -> list[Layer]:
        """(weight, bias) per layer, input first; of separate networks those of `copies` [T], biases [T, 1, out]."""
        pairs = list(zip(self.weights, self.biases, strict=True))
        if self.weights[0].dim() == 2:
            return pairs
        chosen = pairs if copies is None else [(weight[copies], bias[copies]) for weight, bias in pairs]
        return [(weight, bias.unsqueeze(1)) for weight, bias in chosen]


def run_layers(layers: list[Layer], x: Tensor) -> Tensor:
    """x [T, B, in] to logits [T, B, out]; ReLU between layers, none after the last."""
    for weight, bias in layers[:-1]:
        x = torch.relu_(_linear(x, weight, bias))
    return _linear(x, *layers[-1])


class TaskNetwork(nn.Module):
    """Any scheme on the bDNN's trunk: features [T, B, places] of T tasks to logits [T, B, places].

    router: the rDNN, whose bits multiply W_2..W_6 per task, Eq. (14). code [K, c]: what the network is told of each
    task; its product with the last c columns of W_1 is a first bias per task. skip: logits += s_task ln |h|^2.
    `masks` [K, bits] is None until `harden_masks`.
    """

    masks: Tensor | None
    code: Tensor | None

    def __init__(
        self,
        trunk: Trunk,
        tasks: int,
        router: Router | None = None,
        code: Tensor | None = None,
        skip: bool = False,
        hard_forward: bool = False,
    ) -> None:
        super().__init__()
        self.trunk, self.router, self._hard_forward = trunk, router, hard_forward
        self.register_buffer("code", code)
        self.register_buffer("masks", None)
        self.skip = nn.Parameter(torch.zeros(tasks)) if skip else None

    def forward(self, features: Tensor, log_gain: Tensor | None, presence: Tensor, tasks: Tensor | None) -> Tensor:  # noqa: ARG002 - padded features are 0 already
        """Logits [T, B, places] of features [T, B, places], 0 where padded; tasks [T], None for all in order.

        log_gain [T, B, places], 0 where padded, is read by the skip. presence [T, 1, places], bool.
        """
        logits = run_layers(self.dense(tasks), features)
        return add_skip(logits, self.skip, log_gain, tasks)

    def dense(self, tasks: Tensor | None) -> list[Layer]:
        """The layers as the tasks [T] see them: masks multiplied in, task codes added to the first bias."""
        layers = self.trunk.layers(tasks)
        if self.code is not None:
            layers[0] = _coded(*layers[0], self.code if tasks is None else self.code[tasks])
        masks = self.routing(tasks)
        return layers if masks is None else _masked(layers, masks)

    def routing(self, tasks: Tensor | None = None) -> Tensor | None:
        """Masks [T, bits] in force: hardened, or the rDNN's; None for a scheme without routing."""
        if self.masks is not None:
            return self.masks if tasks is None else self.masks[tasks]
        if self.router is None:
            return None
        soft: Tensor = self.router(tasks)
        return straight_through(soft) if self._hard_forward else soft

    @torch.no_grad()
    def harden_masks(self) -> None:
        """Fixes the masks at Eq. (15) of the rDNN's output; from here on it is not trained."""
        if self.router is None:
            raise ArchitectureError("this network has no rDNN, so there are no masks to harden")
        self.masks = harden(self.router(None))

    @torch.no_grad()
    def reinitialise(self, generator: torch.Generator) -> None:
        """Draws the bDNN anew, line 12 of Algorithm 1: Xavier weights, biases and skips 0."""
        for weight, bias in self.trunk.layers():
            weight.copy_(_xavier(weight.shape[:-2], weight.shape[-2], weight.shape[-1], generator))
            bias.zero_()
        if self.skip is not None:
            self.skip.zero_()

    def trainable(self) -> list[nn.Parameter]:
        """The parameters the next step moves: all, without the rDNN once the masks are hard."""
        fixed = set() if self.masks is None or self.router is None else set(self.router.parameters())
        return [parameter for parameter in self.parameters() if parameter not in fixed]


def add_skip(logits: Tensor, skip: Tensor | None, log_gain: Tensor | None, tasks: Tensor | None) -> Tensor:
    """logits [T, B, N] + s [K] of each task times ln |h|^2; the logits themselves without a skip."""
    if skip is None or log_gain is None:
        return logits
    chosen = skip if tasks is None else skip[tasks]
    return logits + chosen.view(-1, 1, 1) * log_gain


def mask_bits(trunk: Trunk) -> int:
    """How many bits route a trunk: the sizes of W_2..W_6; 4,352 for the paper's."""
    return sum(weight.numel() for weight in list(trunk.weights)[1:-1])


def parameter_count(network: nn.Module, tasks: int) -> int:
    """Trained numbers in one bDNN (or rival), skips included and the rDNN left out; per network for `single`."""
    sizes = [(name, parameter.numel()) for name, parameter in network.named_parameters()]
    total = sum(size for name, size in sizes if not name.startswith("router."))
    separate = isinstance(network, TaskNetwork) and network.trunk.weights[0].dim() == 3
    return total // tasks if separate else total


def _xavier(lead: torch.Size | tuple[int, ...], out: int, into: int, generator: torch.Generator) -> Tensor:
    bound = (6 / (into + out)) ** 0.5
    return torch.empty(*lead, out, into).uniform_(-bound, bound, generator=generator)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.dim() == 3:
        return torch.baddbmm(bias, x, weight.mT)
    return functional.linear(x, weight, bias) if bias.dim() == 1 else functional.linear(x, weight) + bias


def _coded(weight: Tensor, bias: Tensor, code: Tensor) -> Layer:
    inputs = weight.shape[-1] - code.shape[-1]
    return weight[..., :inputs], (bias + functional.linear(code, weight[..., inputs:])).unsqueeze(1)


def _masked(layers: list[Layer], masks: Tensor) -> list[Layer]:
    inner = layers[1:-1]
    routed = masks * torch.cat([weight.flatten() for weight, _ in inner])
    pieces = torch.split(routed, [weight.numel() for weight, _ in inner], dim=1)
    shaped = [(piece.view(-1, *weight.shape), bias) for piece, (weight, bias) in zip(pieces, inner, strict=True)]
    return [layers[0], *shaped, layers[-1]]
