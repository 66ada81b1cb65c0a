"""The joint step against its oracle, the same maths in a loop over tasks."""

from typing import cast

import pytest
import torch
from torch import Tensor

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.losses import Batch
from edge_server.routed_mtl.networks import TaskNetwork
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.tasks import Tasks
from edge_server.routed_mtl.training import Trainer

TASKS = Tasks.grid([P3Delay(), P4Capacity()])


class LoopTrainer(Trainer):
    """The same step, one task after the other, each on tensors of its own N."""

    def step(self) -> float:
        batch = self._drawer.batch(None)
        everyone = [torch.ones(task.users, dtype=torch.bool) for task in self.tasks]
        losses, powers = [], []
        for row, task in enumerate(self.tasks):
            power = task.problem.power(self._logits(row, task.users, batch), everyone[row])
            losses.append(self._loss(row, power, everyone[row], batch))
            powers.append(power.detach().mean(0))
        loss = torch.stack(losses).sum() / len(self.tasks)
        self._primal(loss)
        self.dual = self.dual.clone()
        for row, task in enumerate(self.tasks):
            if task.problem.kind == "unsupervised":
                moved = self.dual[row, : task.users] + self.design.dual_rate * (powers[row] - 0.5)
                self.dual[row, : task.users] = moved.clamp(min=0)
        self.taken += 1
        return float(loss.detach())

    def _logits(self, row: int, users: int, batch: Batch) -> Tensor:
        network = cast("TaskNetwork", self.network)
        weights, biases = list(network.trunk.weights), list(network.trunk.biases)
        assert network.router is not None
        masks = network.router(torch.tensor([row]))[0]
        x = torch.relu(batch.features[row, :, :users] @ weights[0][:, :users].T + biases[0])
        at = 0
        for weight, bias in zip(weights[1:-1], biases[1:-1], strict=True):
            x = torch.relu(x @ (weight * masks[at : at + weight.numel()].view_as(weight)).T + bias)
            at += weight.numel()
        return x @ weights[-1][:users].T + biases[-1][:users]

    def _loss(self, row: int, power: Tensor, everyone: Tensor, batch: Batch) -> Tensor:
        task = self.tasks[row]
        if task.problem.kind == "supervised":
            labels = batch.labels[row, :, : task.users]
            return self.design.w3 * (power / task.problem.p_tot - labels).square().sum(-1).mean()
        rate = task.problem.objective(batch.gains[row, :, : task.users], power, everyone).mean()
        return (self.dual[row, : task.users] * (power.mean(0) - 0.5)).sum() - rate


def both(instances: int) -> tuple[Trainer, LoopTrainer]:
    samples = draw_samples(TASKS, instances, 0)
    return Trainer(TASKS, Design(), samples), LoopTrainer(TASKS, Design(), samples)


def test_the_joint_step_is_a_loop_over_tasks() -> None:
    batched, looped = both(500)
    for _ in range(3):
        assert batched.step() == pytest.approx(looped.step(), rel=1e-6, abs=1e-6)
    for ours, theirs in zip(batched.network.parameters(), looped.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    torch.testing.assert_close(batched.dual, looped.dual, rtol=0, atol=1e-6)
