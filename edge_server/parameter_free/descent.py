"""One slot as the learned step sees it: a direction of descent with weights that add up to 1."""

from typing import NamedTuple

import torch
from torch import Tensor

_LEAST_LOSS = 1e-12
"""A loss below this counts as this."""


class Descent(NamedTuple):
    """p_k = |w_k| / sum |w|; an absent user has p_k = 0."""

    gradient: Tensor
    """[d]: G = sum_k p_k g_k, in theta's type."""
    squared: float
    """|G|^2."""
    loss: float
    """L = sum_k p_k l_k > 0."""
    shares: Tensor
    """[K] float64: p."""
    losses: Tensor
    """[K] float64 > 0."""
    per_user: Tensor | None
    """[K, d] in theta's type: g_k, where the curvature is `exact`."""

    @classmethod
    def of(cls, gradient: Tensor, w: Tensor, losses: Tensor, per_user: Tensor | None = None) -> "Descent":
        """gradient [d] = -sum_k w_k g_k over present users. w [K]. losses [K], NaN where absent. per_user [K, d]."""
        total = w.abs().sum()
        absent = losses.isnan()
        shares = torch.where(absent, 0.0, w.abs() / total)
        floored = torch.where(absent, 1.0, losses).clamp(min=_LEAST_LOSS)
        direction = gradient / float(total)
        squared = float(torch.linalg.vector_norm(direction, dtype=torch.float64)) ** 2
        return cls(direction, squared, float(shares @ floored), shares, floored, per_user)
