"""The edge between two rounds: all that it goes on from, taken and given back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_server.aggregators.base import State
from edge_server.outer import OuterLoop
from edge_server.parameter_free import Learner
from edge_server.state import Flat, flattened, require_all, restored
from edge_server.step_size import Guess

_EDGE = "edge"
_OWED, _RESIDUALS = "owed.", "residuals"


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


@dataclass(frozen=True)
class Boundary:
    """The edge before `round`. Nothing in it changes later but `residuals`, which grow: `known` of them count.

    owed: what feature gradients owe, by user.
    """

    round: int
    remembered: Remembered
    residuals: Sequence[float]
    known: int
    owed: Mapping[str, Tensor]

    def state(self) -> Flat:
        """All of it, by name. Raises OtherShape where a rule remembers what cannot be saved."""
        lists = {_RESIDUALS: torch.tensor(self.residuals[: self.known], dtype=torch.float64)}
        return flattened(self.remembered, _EDGE) | lists | {_OWED + user: values for user, values in self.owed.items()}


def given_back(like: Remembered, state: Mapping[str, Tensor]) -> tuple[Remembered, list[float], dict[str, Tensor]]:
    """A boundary's remembered, residuals and owed, for a run that is built like that one. Raises OtherShape."""
    owed = {name.removeprefix(_OWED): values for name, values in state.items() if name.startswith(_OWED)}
    remembered = restored(like, state, _EDGE)
    require_all(state, remembered, _EDGE)
    return remembered, state[_RESIDUALS].tolist(), owed
