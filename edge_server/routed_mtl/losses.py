"""The joint loss of a step, Eq. (16) of routed MTL, and the step of its dual variables, Eq. (18).

Tasks of one problem are computed together; a step loops over its problems, never over its tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from edge_server.routed_mtl.problems import Problem, Unsupervised
from edge_server.routed_mtl.tasks import Tasks


@dataclass(frozen=True)
class Batch:
    """A step's samples of T tasks. tasks [T], None for all; presence [T, 1, N]; gains, features, log_gain [T, B, N].

    labels [S, B, N]: shares of P_tot, a row per supervised task. log_gain is None where nothing reads it.
    """

    tasks: Tensor | None
    presence: Tensor
    gains: Tensor
    labels: Tensor
    features: Tensor
    log_gain: Tensor | None


@dataclass(frozen=True)
class Group:
    """The tasks of a step that share a problem. rows: their places among the T; limits [G, 1]: E[P_n] in W, or None."""

    problem: Problem
    rows: slice | Tensor
    limits: Tensor | None


@dataclass(frozen=True)
class Losses:
    """total []: to minimise. objective [T]: rate in bits, or the supervised loss without w3. excess [T, N]: W.

    excess is the batch mean of P_n less its limit: 0 in padded places and for tasks without one.
    """

    total: Tensor
    objective: Tensor
    excess: Tensor


def group_tasks(tasks: Tasks, chosen: Sequence[int], device: str) -> list[Group]:
    """The groups of a step that takes the tasks `chosen`, in this order."""
    place = {task: row for row, task in enumerate(chosen)}
    groups = []
    for problem, members in tasks.groups:
        rows = [place[task] for task in members if task in place]
        if rows:
            users = [tasks[task].users for task in members if task in place]
            groups.append(Group(problem, _compact(rows, device), _limits(problem, users, device)))
    return groups


def joint_loss(groups: list[Group], logits: Tensor, batch: Batch, dual: Tensor, w3: float) -> Losses:
    """Eq. (16), before its beta_i: the sum over tasks of w3 sum_n (P - P*)^2 / P_tot^2, or of -rate + lambda excess.

    logits [T, B, N]. dual [T, N] >= 0, lambda in bits per W; supervised rows are unused. Means are over the batch.
    """
    objective, excess = logits.new_zeros(logits.shape[0]), torch.zeros_like(dual)
    total, labelled = logits.new_zeros(()), 0
    for group in groups:
        rows, mask = group.rows, batch.presence[group.rows]
        power = group.problem.power(logits[rows], mask)
        if group.limits is None:
            size = power.shape[0]
            labels = batch.labels[labelled : labelled + size]
            labelled += size
            value = (power / group.problem.p_tot - labels).square().sum(-1).mean(-1)
            total = total + w3 * value.sum()
        else:
            value = group.problem.objective(batch.gains[rows], power, mask).mean(-1)
            over = (power.mean(1) - group.limits) * mask.squeeze(1)
            total = total - value.sum() + (dual[rows] * over).sum()
            excess[rows] = over.detach()
        objective[rows] = value.detach()
    return Losses(total, objective, excess)


def dual_step(dual: Tensor, excess: Tensor, step: float, rule: Literal["projected", "printed"]) -> Tensor:
    """lambda [T, N] after one step: max(0, lambda + step g), or Eq. (18) as printed, lambda + step max(0, g)."""
    if rule == "printed":
        return dual + step * excess.clamp(min=0)
    return (dual + step * excess).clamp(min=0)


def _limits(problem: Problem, users: list[int], device: str) -> Tensor | None:
    if problem.kind == "supervised":
        return None
    limited = cast("Unsupervised", problem)
    return torch.tensor([[limited.mean_power(number)] for number in users], device=device)


def _compact(rows: list[int], device: str) -> slice | Tensor:
    if rows == list(range(rows[0], rows[-1] + 1)):
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows, device=device)
