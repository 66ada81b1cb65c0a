"""Training samples of every task, padded to one tensor, and the features a network sees of them."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from edge_server.routed_mtl.design import Design, Inputs
from edge_server.routed_mtl.problems import Supervised
from edge_server.routed_mtl.streams import numpy_stream
from edge_server.routed_mtl.tasks import Task, Tasks


@dataclass(frozen=True)
class Samples:
    """gains [K, D, places], float32, |h|^2, 1 in padded places; labels [S, D, places], P* / P_tot, 0 where padded.

    labels has a row per supervised task, in task order. presence [K, places]: which places hold a user.
    """

    gains: Tensor
    labels: Tensor
    presence: Tensor

    @property
    def instances(self) -> int:
        """D."""
        return self.gains.shape[1]

    def to(self, device: str) -> "Samples":
        """The same samples on another device."""
        return Samples(self.gains.to(device), self.labels.to(device), self.presence.to(device))


def draw_samples(tasks: Tasks, instances: int, seed: int, places: int = Design.places) -> Samples:
    """`instances` channels per task from each problem's own model, and exact labels where the problem has them.

    A task's samples depend on (seed, problem name, N) alone, so every scheme trains on the same ones.
    """
    gains = torch.ones(len(tasks), instances, places)
    labels = []
    for row, task in enumerate(tasks):
        drawn = task.problem.sample(numpy_stream(seed, "samples", str(task)), instances, task.users)
        gains[row, :, : task.users] = torch.from_numpy(drawn)
        if task.problem.kind == "supervised":
            labels.append(_labels(task, drawn, places))
    stacked = torch.stack(labels) if labels else torch.zeros(0, instances, places)
    return Samples(gains, stacked, tasks.presence(places))


def features_of(gains: Tensor, presence: Tensor, inputs: Inputs) -> Tensor:
    """What the network sees of gains [..., N]: |h|, |h|^2 or ln |h|^2; 0 in padded places."""
    if inputs == "amplitude":
        return gains.sqrt() * presence
    return (gains.log() if inputs == "log_gain" else gains) * presence


def _labels(task: Task, gains: np.ndarray, places: int) -> Tensor:
    problem = cast("Supervised", task.problem)
    shares = torch.zeros(gains.shape[0], places)
    shares[:, : task.users] = torch.from_numpy(problem.optimum(gains) / problem.p_tot)
    return shares
