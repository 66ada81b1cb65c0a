"""A permutation-equivariant rival (deep set): the same function for every user, so it takes any N, seen or not."""

import math

import torch
from torch import Tensor, nn

from edge_server.routed_mtl.networks import add_skip

WIDTH, DEPTH = 20, 4


class DeepSet(nn.Module):
    """Per user h <- ReLU(A h + M mean_m h_m + X max_m h_m + b), then one linear output; about 5,000 parameters.

    It is told the problem (one-hot) and ln(N / 10), nothing else of the task. A skip is one scalar per problem.
    """

    def __init__(
        self, code: Tensor, problems: Tensor, generator: torch.Generator, skip: bool = False, features: int = 1
    ) -> None:
        """code [K, c]: `set_code` of each task. problems [K]: the index of each task's problem.

        features: numbers per user, 2 where it is told the payloads.
        """
        super().__init__()
        self.register_buffer("code", code)
        self.register_buffer("problems", problems)
        self.first = nn.Parameter(_glorot(WIDTH, features + code.shape[1], generator))
        self.first_bias = nn.Parameter(torch.zeros(WIDTH))
        self.inner = nn.Parameter(torch.stack([_glorot(WIDTH, 3 * WIDTH, generator) for _ in range(DEPTH)]))
        self.inner_bias = nn.Parameter(torch.zeros(DEPTH, WIDTH))
        self.last = nn.Parameter(_glorot(1, WIDTH, generator))
        self.last_bias = nn.Parameter(torch.zeros(1))
        self.skip = nn.Parameter(torch.zeros(int(problems.max()) + 1)) if skip else None

    code: Tensor
    problems: Tensor

    def forward(self, features: Tensor, log_gain: Tensor | None, presence: Tensor, tasks: Tensor | None) -> Tensor:
        """Logits [T, B, N] of features [T, B, N], or with payloads behind them [T, B, 2 N], and presence [T, 1, N].

        What stands in padded places is unused.
        """
        code = self.code if tasks is None else self.code[tasks]
        hidden = embed(features, code, self.first, self.first_bias)
        for weight, bias in zip(self.inner, self.inner_bias, strict=True):
            hidden = mix(hidden, presence.unsqueeze(-1), weight, bias)
        logits = hidden @ self.last[0] + self.last_bias
        problems = self.problems if tasks is None else self.problems[tasks]
        return add_skip(logits, self.skip, log_gain, problems)

    def trainable(self) -> list[nn.Parameter]:
        """All parameters."""
        return list(self.parameters())


def set_code(problem: int, problems: int, users: int) -> list[float]:
    """What the deep set is told of a task: the problem of `problems` as one-hot, then ln(N / 10)."""
    return [*(float(problem == index) for index in range(problems)), math.log(users / 10)]


def embed(features: Tensor, code: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """First layer: features [T, B, f N], feature by feature, and code [T, c] to hidden [T, B, N, WIDTH]."""
    each = weight.shape[1] - code.shape[1]
    told = (code @ weight[:, each:].T + bias).view(-1, 1, 1, WIDTH)
    for number, feature in enumerate(features.chunk(each, dim=-1)):
        told = feature.unsqueeze(-1) * weight[:, number] + told
    return torch.relu(told)


def mix(hidden: Tensor, presence: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """An inner layer on hidden [T, B, N, W] >= 0, its mean and its maximum over present users; weight [W, 3 W]."""
    here = hidden * presence
    pooled = torch.cat([here.sum(2) / presence.sum(2), here.amax(2)], dim=-1)
    return torch.relu(hidden @ weight[:, :WIDTH].T + (pooled @ weight[:, WIDTH:].T + bias).unsqueeze(2))


def _glorot(out: int, into: int, generator: torch.Generator) -> Tensor:
    bound = (6 / (out + into)) ** 0.5
    return torch.empty(out, into).uniform_(-bound, bound, generator=generator)
