"""A step of the routed network as a loop over tasks: the same maths as the trainer's, and the floor it is to beat."""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.drawing import Drawer
from edge_server.routed_mtl.losses import Batch
from edge_server.routed_mtl.networks import TaskNetwork
from edge_server.routed_mtl.optimiser import adam, descend
from edge_server.routed_mtl.problems import Unsupervised
from edge_server.routed_mtl.rivals import build_network
from edge_server.routed_mtl.samples import Samples
from edge_server.routed_mtl.tasks import Task, Tasks


class LoopTrainer:
    """Stage 1 of `Trainer` with scheme `routed`, projected dual and all tasks in each step, one task after the other.

    Each task runs on tensors of its own N, without padding. It draws the same samples as `Trainer`.
    """

    def __init__(self, tasks: Tasks, design: Design, samples: Samples) -> None:
        self.network = cast("TaskNetwork", build_network(tasks, design))
        self.dual = [torch.zeros(task.users) for task in tasks]
        self._tasks, self._design = tasks, design
        self._drawer = Drawer(tasks, design, samples)
        self._optimiser = adam(self.network.trainable(), design.rate)
        supervised = [row for row, task in enumerate(tasks) if task.problem.kind == "supervised"]
        self._label_row = {row: place for place, row in enumerate(supervised)}

    def step(self) -> float:
        """One minibatch of every task, one Adam step on their mean loss. Returns the loss."""
        batch = self._drawer.batch(None)
        losses, excess = zip(*(self._task(row, task, batch) for row, task in enumerate(self._tasks)), strict=True)
        loss = torch.stack(losses).sum() / len(self._tasks)
        descend(self._optimiser, loss)
        moved = zip(self.dual, excess, strict=True)
        self.dual = [(dual + self._design.dual_rate * over).clamp(min=0) for dual, over in moved]
        return float(loss.detach())

    def _task(self, row: int, task: Task, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss [] of one task and its excess power [N]."""
        everyone = torch.ones(task.users, dtype=torch.bool)
        power = task.problem.power(self._logits(row, batch.features[row, :, : task.users]), everyone)
        if task.problem.kind == "supervised":
            labels = batch.labels[self._label_row[row], :, : task.users]
            error = (power / task.problem.p_tot - labels).square().sum(-1).mean()
            return self._design.w3 * error, torch.zeros(task.users)
        limit = cast("Unsupervised", task.problem).mean_power(task.users)
        rate = task.problem.objective(batch.gains[row, :, : task.users], power, everyone).mean()
        excess = power.mean(0) - limit
        return (self.dual[row] * excess).sum() - rate, excess.detach()

    def _logits(self, row: int, x: Tensor) -> Tensor:
        """Logits [B, N] of features x [B, N], Eq. (14)."""
        (first, first_bias), *inner, (last, last_bias) = self.network.trunk.layers()
        routing = self.network.routing(torch.tensor([row]))
        assert routing is not None
        users = x.shape[-1]
        masks = torch.split(routing[0], [weight.numel() for weight, _ in inner])
        x = torch.relu(functional.linear(x, first[:, :users], first_bias))
        for mask, (weight, bias) in zip(masks, inner, strict=True):
            x = torch.relu(functional.linear(x, weight * mask.view_as(weight), bias))
        return functional.linear(x, last[:users], last_bias[:users])
