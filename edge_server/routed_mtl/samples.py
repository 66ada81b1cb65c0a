"""Training samples of every task, padded to one tensor, and the features a network sees of them."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_server.routed_mtl.design import Design, Inputs
from edge_server.routed_mtl.problems import Payloads, Supervised, payload_ratio
from edge_server.routed_mtl.streams import numpy_stream
from edge_server.routed_mtl.tasks import Task, Tasks

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """gains [K, D, places], float32, |h|^2, 1 in padded places; labels [S, D, places], P* / P_tot, 0 where padded.

    labels has a row per supervised task, in task order. presence [K, places]: which places hold a user.
    loads [K, D, places]: `centred` payloads, 0 where padded; None where no task's payloads differ.
    """

    gains: Tensor
    labels: Tensor
    presence: Tensor
    loads: Tensor | None = None

    @property
    def instances(self) -> int:
        """D."""
        return self.gains.shape[1]

    def to(self, device: str) -> "Samples":
        """The same samples on another device."""
        loads = None if self.loads is None else self.loads.to(device)
        return Samples(self.gains.to(device), self.labels.to(device), self.presence.to(device), loads)


def draw_samples(tasks: Tasks, instances: int, seed: int, places: int = Design.places) -> Samples:
    """`instances` channels per task from each problem's own model, and exact labels where the problem has them.

    A task's samples depend on (seed, problem name, N) alone, so every scheme trains on the same ones.
    """
    gains = torch.ones(len(tasks), instances, places)
    loads = torch.zeros_like(gains) if tasks.payloads else None
    labels = []
    for row, task in enumerate(tasks):
        drawn = task.problem.sample(numpy_stream(seed, "samples", str(task)), instances, task.users)
        gains[row, :, : task.users] = torch.from_numpy(drawn)
        bits = draw_payloads(task, instances, seed, "payloads")
        if loads is not None and bits is not None:
            loads[row, :, : task.users] = torch.from_numpy(centred(bits))
        if task.problem.kind == "supervised":
            labels.append(_labels(task, drawn, bits, places))
    stacked = torch.stack(labels) if labels else torch.zeros(0, instances, places)
    return Samples(gains, stacked, tasks.presence(places), loads)


def draw_payloads(task: Task, instances: int, seed: int, stream: str) -> Array | None:
    """L_n [instances, N] in bits, from (seed, stream, problem name, N) alone; None for a task of equal payloads."""
    if payload_ratio(task.problem) == 1:
        return None
    return cast("Payloads", task.problem).payloads(numpy_stream(seed, stream, str(task)), instances, task.users)


def centred(bits: Array) -> Array:
    """ln L_n less its mean over the users, [..., N]: only the ratios of payloads move the optimum."""
    load = np.log(bits)
    return np.asarray(load - load.mean(axis=-1, keepdims=True))


def inputs_of(gains: Tensor, loads: Tensor | None, presence: Tensor, inputs: Inputs) -> Tensor:
    """The network's inputs: `features_of` gains [..., N], and behind them, if there are any, the loads: [..., 2 N]."""
    features = features_of(gains, presence, inputs)
    return features if loads is None else torch.cat([features, loads], dim=-1)


def skipped(gains: Tensor, loads: Tensor | None, presence: Tensor) -> Tensor:
    """What the skip adds to: ln(|h|^2 / L), up to a common term; 0 in padded places.

    Weak signals share by a power of a_n / L_n: -1/2 for the mean delay, -1 for the longest.
    """
    log_gain = features_of(gains, presence, "log_gain")
    return log_gain if loads is None else log_gain - loads


def features_of(gains: Tensor, presence: Tensor, inputs: Inputs) -> Tensor:
    """What the network sees of gains [..., N]: |h|, |h|^2 or ln |h|^2; 0 in padded places."""
    if inputs == "amplitude":
        return gains.sqrt() * presence
    return (gains.log() if inputs == "log_gain" else gains) * presence


def _labels(task: Task, gains: Array, bits: Array | None, places: int) -> Tensor:
    problem = cast("Supervised", task.problem)
    optimum = problem.optimum(gains) if bits is None else cast("Payloads", problem).optimum(gains, bits)
    shares = torch.zeros(gains.shape[0], places)
    shares[:, : task.users] = torch.from_numpy(optimum / problem.p_tot)
    return shares
