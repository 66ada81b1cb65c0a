"""The same slots as one plain PyTorch process: no messages, no cut, one backward pass through everything."""

from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from edge_server.config import OwoFmtl
from edge_server.encoders import build_encoder
from sim.bench.process import answer, listen
from sim.blueprint import Blueprint, place
from sim.recipe import from_recipe
from sim.seeds import stream_seed
from user_client.config import IdentityHead
from user_client.user import User


class Monolith:
    """OWO-FMTL (maths.md A1) on classifiers without fronts, whose rounds continue where the last one ended."""

    def __init__(self, design: Blueprint, step: float):
        scenario, first = design.scenario, design.plan.users[0]
        assert isinstance(scenario.edge.aggregator, OwoFmtl)
        users = [User(user, place(scenario, k), design.output_shape) for k, user in enumerate(scenario.users)]
        self._tasks = [user.task for user in users]
        self._heads = [user.head or nn.Identity() for user in users]
        seed = stream_seed(scenario.seed, "encoder")
        self._encoder = build_encoder(scenario.edge.encoder, first.feature_shape, first.dtype, seed)
        self._step = torch.optim.SGD(self._groups(design, step))
        self._fairness = scenario.edge.aggregator
        self._l_max = np.array([user.l_max for user in design.plan.users])
        self._slots = scenario.slots

    def round(self, t: int) -> tuple[list[float], list[list[float]]]:
        """Seconds of every slot, and losses [m, K]."""
        weight = np.full(len(self._heads), self._fairness.u_min**-self._fairness.alpha)
        seconds, losses = [], []
        for i in range(self._slots):
            started = perf_counter()
            loss = self._slot(t, i, weight)
            weight = self._next_weight(weight, self._l_max - loss, i + 1)
            seconds.append(perf_counter() - started)
            losses.append(loss.tolist())
        return seconds, losses

    def _slot(self, t: int, i: int, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        jobs = [task.job(t, i) for task in self._tasks]
        features = self._encoder(torch.cat([job.x for job in jobs])).split([len(job.x) for job in jobs])
        heads = zip(self._heads, features, jobs, strict=True)
        loss = torch.stack([cross_entropy(head(z), job.y) for head, z, job in heads])
        self._step.zero_grad()
        torch.autograd.backward(torch.from_numpy(weight).to(loss.dtype) @ loss)
        for head, share in zip(self._heads, weight, strict=True):
            for parameter in head.parameters():
                assert parameter.grad is not None
                parameter.grad /= share  # a head learns from its own loss, not the weighted one
        self._step.step()
        return loss.detach().double().numpy()

    def _next_weight(self, weight: NDArray[np.float64], u: NDArray[np.float64], i: int) -> NDArray[np.float64]:
        """Eq. (9) for |w|, slot i counted from 1."""
        alpha, low, high = self._fairness.alpha, self._fairness.u_min, self._fairness.u_max
        moved = weight + (weight ** (-1 / alpha) - u) / (low ** (1 + alpha) / alpha * i)
        clipped: NDArray[np.float64] = moved.clip(high**-alpha, low**-alpha)
        return clipped

    def _groups(self, design: Blueprint, step: float) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": [*self._encoder.parameters()], "lr": step}]
        for head, user in zip(self._heads, design.scenario.users, strict=True):
            assert not isinstance(user.head, IdentityHead)
            groups.append({"params": [*head.parameters()], "lr": user.head.step})
        return groups


def main() -> None:
    """One round for each line that is told."""
    design, step = from_recipe(listen()["recipe"])
    torch.set_num_threads(design.scenario.threads.edge)
    monolith = Monolith(design, step.eta)
    answer("ready")
    for t in range(design.scenario.rounds):
        listen()
        seconds, losses = monolith.round(t)
        answer({"slot": seconds, "loss": losses})


if __name__ == "__main__":
    main()
