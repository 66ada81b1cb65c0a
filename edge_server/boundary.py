"""The edge between two rounds: all that it goes on from, taken and given back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from edge_server.aggregators.base import State
from edge_server.outer import OuterLoop
from edge_server.parameter_free import Learner
from edge_server.state import Flat, flattened, restored
from edge_server.step_size import Guess

_EDGE = "edge"
_OWED, _RESIDUALS = "owed.", "residuals"


class Boundary(NamedTuple):
    """What the edge remembers before `round`, by name."""

    round: int
    state: Flat


@dataclass(frozen=True)
class Remembered:
    """eta, guess: of the inner step. theta [d]: the model as the last round left it. clock: virtual seconds."""

    outer: OuterLoop
    duals: State
    eta: float
    guess: Guess | None
    learner: Learner | None
    theta: Tensor
    clock: float


def taken(what: Remembered, residuals: list[float], owed: Mapping[str, Tensor]) -> Flat:
    """residuals: one number per round. owed: what feature gradients owe, by user."""
    lists = {_RESIDUALS: torch.tensor(residuals, dtype=torch.float64)}
    return flattened(what, _EDGE) | lists | {_OWED + user: values for user, values in owed.items()}


def given_back(like: Remembered, state: Mapping[str, Tensor]) -> tuple[Remembered, list[float], dict[str, Tensor]]:
    """What `taken` took, for a run that is built like that one. Raises OtherShape."""
    owed = {name.removeprefix(_OWED): values for name, values in state.items() if name.startswith(_OWED)}
    return restored(like, state, _EDGE), state[_RESIDUALS].tolist(), owed
