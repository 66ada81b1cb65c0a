"""Losses of one batch and their slopes at the predictions, in closed form: no graph is built for them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from user_client.tasks.base import Loss


class Slope(NamedTuple):
    """A mean loss, and its gradient in the shape of the predictions."""

    loss: float
    gradient: Tensor


def slope(kind: Loss, predictions: Tensor, labels: Tensor) -> Slope:
    """Mean loss of `predictions` [B, c], and its gradient [B, c]; labels [B]. squared: c = 1.

    Raises RuntimeError for a class that the predictions do not have.
    """
    if kind == "squared":
        return squared_together(predictions.unsqueeze(0), labels.unsqueeze(0))[0]
    return _cross_entropy(predictions, labels)


def linear_slope(kind: Loss, layer: nn.Linear, inputs: Tensor, labels: Tensor) -> tuple[Slope, list[Tensor]]:
    """`slope` behind a layer with a bias: at its inputs [B, n], and the gradients of its weight and bias."""
    weight, bias = layer.weight.detach(), layer.bias.detach()
    loss, gradient = slope(kind, torch.addmm(bias, inputs, weight.T), labels)
    return Slope(loss, gradient @ weight), [gradient.T @ inputs, gradient.sum(0)]


def squared_together(predictions: Tensor, labels: Tensor) -> list[Slope]:
    """mean (f - y)^2 and 2 (f - y) / B of N batches: predictions [N, B, 1], labels [N, B].

    Each has the bits that it has alone, in any number of threads while B is below 32,768 (`User.together`).
    """
    error = predictions - labels.unsqueeze(2)
    losses = (error * error).mean((1, 2)).tolist()
    return list(map(Slope, losses, (error * (2.0 / labels.shape[1])).unbind()))


def _cross_entropy(scores: Tensor, labels: Tensor) -> Slope:
    """-mean log p_y and (p - e_y) / B, for p = softmax(scores)."""
    own = labels.unsqueeze(1)
    log_p = log_softmax(scores, 1)
    loss = -log_p.gather(1, own).mean().item()
    gradient = log_p.exp_().scatter_add_(1, own, log_p.new_full(own.shape, -1.0))
    return Slope(loss, gradient.div_(len(labels)))
