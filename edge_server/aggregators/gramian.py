"""Rules that weigh users by the inner products of their encoder gradients: the rivals that need every gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from edge_server.aggregators.bargaining import Bargain
from edge_server.aggregators.base import Cost, Slot, State
from edge_server.aggregators.common_direction import Cagrad, mgda
from edge_server.aggregators.memoryless import Memoryless
from edge_server.aggregators.simplex import Array
from edge_server.fairness import AlphaFair

Weighting = Callable[[Array, State], Array]
"""From a Gramian [P, P] float64 of the users present, mean diagonal 1, to their weights -w [P]."""


@dataclass(frozen=True)
class GramianRule(Memoryless):
    """w = -weighting(G) for the users present; equal weights 1/K where all gradients are zero.

    degree: the weights for c G are c^degree those for G.
    """

    cost: ClassVar[Cost] = "gramian"
    fairness: AlphaFair
    weighting: Weighting
    degree: float = 0.0

    def weights(self, state: State, slot: Slot) -> Tensor:
        """w [K]. Raises ValueError where the rule's equation cannot be solved."""
        present = slot.present
        if not bool(present.any()):
            return state.w
        gramian = slot.gramian()[present][:, present].numpy()
        scale = float(gramian.diagonal().mean())
        if scale == 0:
            return state.w
        try:
            found = self.weighting(gramian / scale, state) * scale**self.degree
        except ValueError as error:
            raise ValueError(f"{error}; gradient norms {_norms(gramian)}") from error
        if not np.isfinite(found).all():
            raise ValueError(f"the weights are not finite; gradient norms {_norms(gramian)}")
        return state.w.masked_scatter(present, -torch.from_numpy(found))


def gramian_rule(kind: str, fairness: AlphaFair, seed: int) -> GramianRule:
    """The rule of this kind. `fairgrad` takes the run's alpha; seed: `pcgrad`'s order.

    Raises ValueError where the kind needs TorchJD and it is not installed.
    """
    if kind == "mgda":
        return GramianRule(fairness, mgda)
    if kind in ("nash_mtl", "fairgrad"):
        alpha = 1.0 if kind == "nash_mtl" else fairness.alpha
        return GramianRule(fairness, Bargain(alpha), degree=-alpha / (1 + alpha))
    return GramianRule(fairness, _from_torchjd(kind, seed))


def cagrad_rule(fairness: AlphaFair, c: float) -> GramianRule:
    """CAGrad within `c` times the mean gradient's norm."""
    return GramianRule(fairness, Cagrad(c))


def _from_torchjd(kind: str, seed: int) -> Weighting:
    try:
        from edge_server.aggregators import from_torchjd
    except ImportError as error:
        raise ValueError(f"{kind} needs TorchJD: pip install 'equiran[rivals]'") from error
    rules: dict[str, Weighting] = {
        "imtl_g": from_torchjd.imtl_g,
        "aligned_mtl": from_torchjd.aligned_mtl,
        "upgrad": from_torchjd.upgrad,
        "pcgrad": from_torchjd.PcGrad(seed),
    }
    return rules[kind]


def _norms(gramian: Array) -> str:
    norms = np.sqrt(gramian.diagonal())
    return f"{norms.min():.1e} to {norms.max():.1e}"
