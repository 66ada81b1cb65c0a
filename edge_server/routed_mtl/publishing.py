"""From a trainer to a policy: folded weights, and the calibration of mean power."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_server.routed_mtl.equivariant import DeepSet
from edge_server.routed_mtl.folded import Folded, FoldedSet, FoldedTrunk
from edge_server.routed_mtl.heads import Head
from edge_server.routed_mtl.networks import TaskNetwork
from edge_server.routed_mtl.policy import Policy, PolicyTask
from edge_server.routed_mtl.problems import Problem, Unsupervised, payload_ratio
from edge_server.routed_mtl.rivals import Network
from edge_server.routed_mtl.samples import inputs_of, skipped
from edge_server.routed_mtl.training import Trainer

WIDEST_SHIFT = 30.0
BISECTIONS = 30
CHUNK = 1000


@torch.no_grad()
def publish(trainer: Trainer) -> Policy:
    """The trainer's network as it is now, calibrated on the training samples if the design says so.

    Masks are folded in as they are: soft in stage 1, hard by Eq. (15) from its end on.
    """
    network, tasks, design = trainer.network, trainer.tasks, trainer.design
    skips = _skips(network, len(tasks))
    published = [_published(trainer, row, skip) for row, skip in enumerate(skips)]
    return Policy(fold(network, len(tasks)), published, design.inputs)


@torch.no_grad()
def fold(network: Network, tasks: int) -> Folded:
    """The network's weights as dense float32 arrays for each of its `tasks` tasks."""
    if isinstance(network, DeepSet):
        names = ("first", "first_bias", "inner", "inner_bias", "last", "last_bias")
        return FoldedSet({n: _array(getattr(network, n)) for n in names}, network.problems.cpu().numpy())
    layers = network.dense(None)
    weights = [weight.mT.expand(tasks, *weight.mT.shape[-2:]) for weight, _ in layers]
    biases = [bias.expand(tasks, 1, bias.shape[-1]).squeeze(1) for _, bias in layers]
    return FoldedTrunk(tuple(map(_array, weights)), tuple(map(_array, biases)))


@torch.no_grad()
def calibrate(trainer: Trainer, task: int) -> float:
    """The shift of a task's logits at which the mean power of its training samples meets the limit, by bisection.

    0 for a task without a limit. At most 30 in size: a limit of P_tot is met as nearly as that allows.
    """
    problem, users = trainer.tasks[task].problem, trainer.tasks[task].users
    if problem.kind == "supervised":
        return 0.0
    limit = cast("Unsupervised", problem).mean_power(users)
    logits = task_logits(trainer, task)
    low, high = -WIDEST_SHIFT, WIDEST_SHIFT
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _mean_power(problem, logits + middle) < limit else (low, middle)
    return (low + high) / 2


@torch.no_grad()
def task_logits(trainer: Trainer, task: int) -> Tensor:
    """Logits [D, N] of one task's training samples."""
    row = torch.tensor([task], device=trainer.design.device)
    presence = trainer.samples.presence[row].unsqueeze(1)
    stored, pieces = trainer.samples, []
    for start in range(0, stored.instances, CHUNK):
        part = slice(start, start + CHUNK)
        gains = stored.gains[row, part]
        loads = None if stored.loads is None else stored.loads[row, part]
        features = inputs_of(gains, loads, presence, trainer.design.inputs)
        pieces.append(trainer.network(features, skipped(gains, loads, presence), presence, row))
    return torch.cat(pieces, dim=1)[0, :, : trainer.tasks[task].users]


def head_of(problem: Problem) -> Head:
    """The head that gives the same powers as `problem.power`, found by comparing them on fixed logits.

    Raises ValueError for a problem with another output activation.
    """
    logits = np.linspace(-3, 5, 21, dtype=np.float32).reshape(3, 7)
    expected = problem.power(torch.from_numpy(logits), torch.ones(3, 7, dtype=torch.bool)).numpy()
    floor = float(getattr(problem, "floor", 0.0))
    for head in (Head("sigmoid", problem.p_tot), Head("softmax", problem.p_tot, floor)):
        if np.allclose(head(logits.copy()), expected, rtol=1e-5, atol=1e-6 * problem.p_tot):
            return head
    raise ValueError(f"problem {problem.name}: a policy knows softmax and sigmoid outputs, this is neither")


def locked_tasks(trainer: Trainer) -> tuple[str, ...]:
    """Unsupervised tasks whose rate on the training samples is below that of constant power at the limit, by name.

    As they are published: calibrated where the design says so.
    """
    return tuple(str(task) for row, task in enumerate(trainer.tasks) if _is_locked(trainer, row))


@torch.no_grad()
def _is_locked(trainer: Trainer, row: int) -> bool:
    task = trainer.tasks[row]
    if task.problem.kind == "supervised":
        return False
    logits = task_logits(trainer, row) + _shift(trainer, row)
    gains, everyone = trainer.samples.gains[row, :, : task.users], torch.ones_like(logits, dtype=torch.bool)
    constant = torch.full_like(logits, cast("Unsupervised", task.problem).mean_power(task.users))
    rate = task.problem.objective(gains, task.problem.power(logits, everyone), everyone).mean()
    return bool(rate < task.problem.objective(gains, constant, everyone).mean())


def _published(trainer: Trainer, row: int, skip: float) -> PolicyTask:
    problem, users = trainer.tasks[row].problem, trainer.tasks[row].users
    least, largest = trainer.samples.gains[row, :, :users].aminmax()
    return PolicyTask(
        problem.name,
        users,
        head_of(problem),
        skip,
        _shift(trainer, row),
        rho=getattr(problem, "rho", None),
        seen=(float(least), float(largest)),
        payload_ratio=payload_ratio(problem),
    )


def _shift(trainer: Trainer, row: int) -> float:
    return calibrate(trainer, row) if trainer.design.calibrate else 0.0


def _mean_power(problem: Problem, logits: Tensor) -> float:
    return float(problem.power(logits, torch.ones_like(logits, dtype=torch.bool)).mean())


def _skips(network: Network, tasks: int) -> list[float]:
    if network.skip is None:
        return [0.0] * tasks
    skips: Tensor = network.skip if isinstance(network, TaskNetwork) else network.skip[network.problems]
    return [float(skip) for skip in skips]


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
