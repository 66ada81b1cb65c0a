"""How theta moves with the learned numbers: forward-mode tangents, with losses taken to be squared residuals.

For l = r^2 with r linear in theta, the Hessian is g g'/(2 l): gradients and losses are all it takes.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_server.parameter_free.descent import Descent

Curvature = Literal["joint", "exact"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tangents:
    """delta = d theta / d (a, s), and what the round's loss looks like along it.

    directions [2, d]: delta. slope [2]: h = sum_i dL_i/d(a, s). bend [2, 2]: q, its Gauss-Newton Hessian.
    """

    directions: Tensor
    slope: Array
    bend: Array

    @classmethod
    def start(cls, pull_direction: Tensor) -> "Tangents":
        """At x: a has moved nothing yet, s moves x along pull_direction [d]."""
        directions = torch.stack([torch.zeros_like(pull_direction), pull_direction])
        return cls(directions, np.zeros(2), np.zeros((2, 2)))

    def after(self, descent: Descent, eta: float, learned: bool) -> "Tangents":
        """After a step eta along -G; `learned` where eta was e^a itself. Before the projection."""
        slope, bend, bent = (
            _joint(self.directions, descent) if descent.per_user is None else _exact(self.directions, descent)
        )
        directions = self.directions - eta * bent
        if learned:
            directions[0] -= eta * descent.gradient
        return Tangents(directions, self.slope + slope, self.bend + bend)

    def cut(self, moved: Tensor) -> "Tangents":
        """Zero where the projection moved theta; moved [d] bool."""
        return replace(self, directions=self.directions.masked_fill(moved, 0.0))


def _joint(delta: Tensor, descent: Descent) -> tuple[Array, Array, Tensor]:
    """Slope, bend, and H delta with H = G G' / (2 L sum p^2): as if all residuals shared one direction."""
    along = delta @ descent.gradient
    z = along.double().numpy()
    curvature = 1 / (2 * descent.loss * float(descent.shares @ descent.shares))
    return z, curvature * np.outer(z, z), torch.outer(along * curvature, descent.gradient)


def _exact(delta: Tensor, descent: Descent) -> tuple[Array, Array, Tensor]:
    """The same with H = sum_k p_k g_k g_k' / (2 l_k)."""
    assert descent.per_user is not None
    along = delta @ descent.per_user.T
    z = along.double().numpy()
    p, c = descent.shares.numpy(), (descent.shares / (2 * descent.losses)).numpy()
    bent = (along * torch.from_numpy(c).to(along.dtype)) @ descent.per_user
    return z @ p, (z * c) @ z.T, bent
