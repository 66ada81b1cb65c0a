"""What an aggregator is: a rule from utilities to the users' training weights, with its whole state outside."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from edge_server.fairness import AlphaFair


@dataclass(frozen=True)
class State:
    """All that an aggregator remembers; K users in scenario order."""

    w: Tensor
    """[K] float64 < 0: the dual weights, before any scaling."""
    utility_sum: Tensor
    """[K] float64: sum of the utilities applied within the horizon."""
    applied: Tensor
    """[K] int64: slots in which the user was present, within the horizon."""
    slot: int
    """Slots stepped within the horizon."""
    rounds: int
    """Rounds begun."""


class Aggregator(Protocol):
    """Immutable state in, state out. A utility of NaN says that the user is absent in this slot."""

    @property
    def fairness(self) -> AlphaFair:
        """What scores the run."""
        ...

    def start(self, users: int) -> State:
        """The state before the first round. Raises ValueError when the rule cannot serve so many users."""
        ...

    def begin_round(self, state: State) -> State:
        """The state in a round's first slot."""
        ...

    def weights(self, state: State, utilities: Tensor) -> Tensor:
        """w [K] float64 < 0 applied in this slot, whose utilities are [K]; an absent user's is the one held.

        With every utility NaN: what the last step left.
        """
        ...

    def step(self, state: State, utilities: Tensor) -> State:
        """The state after a slot with these utilities [K]."""
        ...
