"""Whether an aggregator of somebody's own keeps to the protocol, tried out on two slots before a run."""

from typing import get_args

import torch
from torch import Tensor

from edge_server.aggregators.base import Aggregator, Cost, Slot, State
from edge_server.purity import require_pure


def check_aggregator(rule: Aggregator, users: int) -> None:
    """Raises ValueError, one line, where its state or its weights are not what `Aggregator` says."""
    if rule.cost not in get_args(Cost):
        raise ValueError(f"its cost is {rule.cost!r}; it must be one of {', '.join(get_args(Cost))}")
    start = rule.start(users)
    if not isinstance(start, State):
        raise ValueError(f"start gives a {type(start).__name__}; it must be a State, or a class of yours made from it")
    low, high = rule.fairness.u_min, rule.fairness.u_max
    rising = torch.linspace(low, high, users, dtype=torch.float64)
    first, second = _slot(rising, high), _slot(rising.flip(0), high)
    begun = rule.begin_round(start)
    _check_weights(rule.weights(begun, first), users)
    require_pure(lambda state, slot: rule.step(rule.begin_round(state), slot), start, first, second)
    _check_weights(rule.weights(rule.step(begun, first), second), users)


def _slot(utilities: Tensor, u_max: float) -> Slot:
    users = len(utilities)
    return Slot(u_max - utilities, utilities, lambda: torch.eye(users, dtype=torch.float64))


def _check_weights(w: Tensor, users: int) -> None:
    if not isinstance(w, Tensor) or (w.shape, w.dtype) != ((users,), torch.float64):
        got = f"{list(w.shape)} {w.dtype}" if isinstance(w, Tensor) else f"a {type(w).__name__}"
        raise ValueError(f"weights gives {got}; expected [{users}] torch.float64")
    if not bool(w.isfinite().all()):
        raise ValueError(f"weights gives {w.tolist()} for utilities within [u_min, u_max]; they must be finite")
