from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.drawing import Drawer
from edge_server.routed_mtl.losses import Batch, dual_step, group_tasks, joint_loss
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.samples import draw_samples, features_of
from edge_server.routed_mtl.tasks import Tasks

P3, P4 = P3Delay(), P4Capacity()
MIXED = Tasks.of([(P4, 3), (P3, 5), (P4, 5), (P3, 2), (P4Capacity(p_av=0.2), 4)])
DESIGN = Design(places=6, batch=7)


def looped(tasks: Tasks, batch: Batch, logits: Tensor, dual: Tensor, w3: float) -> list[Tensor]:
    """Eq. (16) one task at a time, on tensors of the task's own N, in float64: the oracle."""
    values = []
    for row, task in enumerate(tasks):
        n = task.users
        gains, y = batch.gains[row, :, :n].double(), logits[row, :, :n].double()
        if task.problem.kind == "supervised":
            share = 0.01 / n + 0.99 * torch.exp(y) / torch.exp(y).sum(1, keepdim=True)
            best = torch.from_numpy(P3.optimum(gains.numpy())) / 10
            values.append(w3 * ((share - best) ** 2).sum(1).mean())
        else:
            power = 1 / (1 + torch.exp(-y))
            limit = cast("P4Capacity", task.problem).p_av
            over = power.mean(0) - limit
            values.append(-torch.log2(1 + (gains * power).sum(1)).mean() + (dual[row, :n] * over).sum())
    return values


def drawn(tasks: Tasks, design: Design = DESIGN) -> tuple[Drawer, Batch]:
    drawer = Drawer(tasks, design, draw_samples(tasks, 50, 1, design.places))
    return drawer, drawer.batch(None)


@pytest.mark.parametrize(
    "tasks", [MIXED, Tasks.grid([P3], [2, 6]), Tasks.grid([P4], [1, 6])], ids=["mixed", "supervised", "unsupervised"]
)
def test_the_joint_loss_is_a_loop_over_tasks(tasks: Tasks) -> None:
    _, batch = drawn(tasks)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(len(tasks), 7, 6, generator=generator, requires_grad=True)
    dual = torch.rand(len(tasks), 6, generator=generator)
    losses = joint_loss(group_tasks(tasks, range(len(tasks)), "cpu"), logits, batch, dual, w3=10.0)
    expected = torch.stack(looped(tasks, batch, logits, dual, 10.0)).sum()
    assert float(losses.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    ours, theirs = torch.autograd.grad(losses.total, logits)[0], torch.autograd.grad(expected, logits)[0]
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-6)


def test_excess_is_mean_power_less_the_limit_and_zero_elsewhere() -> None:
    _, batch = drawn(MIXED)
    logits = torch.zeros(5, 7, 6)
    losses = joint_loss(group_tasks(MIXED, range(5), "cpu"), logits, batch, torch.zeros(5, 6), w3=1.0)
    assert losses.excess[:4].abs().max() == 0
    torch.testing.assert_close(losses.excess[4], torch.tensor([0.3, 0.3, 0.3, 0.3, 0, 0]))


def test_dual_rules_by_hand() -> None:
    dual, excess = torch.tensor([0.1, 0.1, 0.0]), torch.tensor([0.5, -0.5, -20.0])
    torch.testing.assert_close(dual_step(dual, excess, 0.1, "projected"), torch.tensor([0.15, 0.05, 0.0]))
    torch.testing.assert_close(dual_step(dual, excess, 0.1, "printed"), torch.tensor([0.15, 0.10, 0.0]))
    assert dual_step(dual, excess, 1.0, "projected").min() == 0


def test_drawn_tasks_meet_their_own_samples_and_labels() -> None:
    design = Design(places=6, batch=7, tasks_per_step=3)
    drawer, _ = drawn(MIXED, design)
    seen = set()
    for _ in range(20):
        chosen, groups = drawer.choose()
        assert chosen is not None
        batch = drawer.batch(chosen)
        picked = chosen.tolist()
        seen |= set(picked)
        logits = torch.zeros(3, 7, 6)
        some = Tasks(tuple(MIXED[task] for task in picked))
        losses = joint_loss(groups, logits, batch, torch.zeros(3, 6), w3=2.0)
        expected = torch.stack(looped(some, batch, logits, torch.zeros(3, 6), 2.0)).sum()
        assert float(losses.total) == pytest.approx(float(expected), rel=1e-5)
    assert seen == set(range(5))


def test_samples_depend_on_seed_and_task_alone() -> None:
    one, other = draw_samples(MIXED, 20, 4), draw_samples(Tasks.of([(P3, 5), (P4, 5)]), 20, 4)
    assert torch.equal(one.gains[1], other.gains[0])
    assert torch.equal(one.gains[2], other.gains[1])
    assert torch.equal(one.labels[0], other.labels[0])
    assert not torch.equal(draw_samples(MIXED, 20, 5).gains[0], one.gains[0])


def test_labels_are_optimal_shares() -> None:
    samples = draw_samples(MIXED, 20, 4, places=6)
    gains = samples.gains[1, :, :5].double().numpy()
    np.testing.assert_allclose(samples.labels[0, :, :5], P3.optimum(gains) / 10, rtol=1e-4)
    torch.testing.assert_close(samples.labels.sum(-1), torch.ones(2, 20))
    assert samples.labels[1, :, 2:].abs().max() == 0


def test_features_and_padding() -> None:
    gains, presence = torch.tensor([[4.0, 9.0, 1.0]]), torch.tensor([[True, True, False]])
    assert features_of(gains, presence, "amplitude").tolist() == [[2.0, 3.0, 0.0]]
    assert features_of(gains, presence, "power").tolist() == [[4.0, 9.0, 0.0]]
    torch.testing.assert_close(features_of(gains, presence, "log_gain"), torch.tensor([[4.0, 9.0, 1.0]]).log())
