"""The edge between two slots: all that it goes on from, taken and given back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from edge_server.aggregators.base import State
from edge_server.door import Door
from edge_server.outer import OuterLoop, OwnOuter
from edge_server.parameter_free import Learner
from edge_server.state import Flat, below, flattened, require_all, restored
from edge_server.step_size import Guess
from edge_server.tally import Tally

_EDGE = "edge"
_OWED, _RESIDUALS = "owed.", "residuals"
STRIKES = "strikes"
"""Where a boundary's state has the users' strikes: they are part of the plan of what goes on from it."""


@dataclass(frozen=True)
class Remembered:
    """eta, guess: of the inner step. theta [d]: the model as the last round left it. clock: virtual seconds."""

    outer: OuterLoop | OwnOuter
    duals: State
    eta: float
    guess: Guess | None
    learner: Learner | None
    theta: Tensor
    clock: float


@dataclass(frozen=True)
class Boundary:
    """The edge before a slot. Until its round goes on nothing in it changes but `tally`, `door`, and `residuals`, of
    which `known` count.

    owed: what feature gradients owe, by user. strikes [2, K]: the rejections of each user before the round, and so far.
    tally: what it counts. door: who began anew. under_way: what the slots before it left in the same round.
    """

    round: int
    slot: int
    remembered: Remembered
    residuals: Sequence[float]
    known: int
    owed: Mapping[str, Tensor]
    strikes: Sequence[Sequence[int]]
    tally: Tally
    door: Door
    under_way: Callable[[], Flat] = dict

    def state(self) -> Flat:
        """All of it, by name. Raises OtherShape where a rule remembers what cannot be saved."""
        residuals = torch.tensor(self.residuals[: self.known], dtype=torch.float64)
        lists = {_RESIDUALS: residuals, STRIKES: torch.tensor(self.strikes, dtype=torch.int64)}
        owed = {_OWED + user: values for user, values in self.owed.items()}
        cell = owed | self.tally.state() | self.door.state()
        return flattened(self.remembered, _EDGE) | lists | cell | self.under_way()


class Keeper(NamedTuple):
    """How a run is saved while nothing moves.

    due: after so many slots of a round that goes on, 0 for between two rounds: it is time. keep: awaited then.
    """

    due: Callable[[int], bool]
    keep: Callable[[Boundary], Awaitable[None]]


def given_back(like: Remembered, state: Mapping[str, Tensor]) -> tuple[Remembered, list[float], dict[str, Tensor]]:
    """A boundary's remembered, residuals and owed, for a run that is built like that one. Raises OtherShape."""
    remembered = restored(like, state, _EDGE)
    require_all(state, remembered, _EDGE)
    return remembered, state[_RESIDUALS].tolist(), below(_OWED, state)
