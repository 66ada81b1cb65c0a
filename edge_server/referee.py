"""A place beside the rounds for somebody who sees more than the edge: in a simulation, the referee."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from edge_server.record import Leaks
from edge_server.state import Flat


class Seen(NamedTuple):
    """What the edge has of every user once a slot's feedback is there, in scenario order; None where it has nothing.

    features [B, ...feature_shape], outputs [B, ...output_shape], gradients [B, ...output_shape]: as they came and went.
    """

    features: Sequence[Tensor | None]
    outputs: Sequence[Tensor | None]
    gradients: Sequence[Tensor | None]


class Referee(Protocol):
    """Notes what the edge sees, and says after each round how much that gives away. It changes nothing."""

    def slot(self, t: int, i: int, seen: Seen) -> None:
        """Slot i of round t."""
        ...

    def take(self) -> Leaks:
        """What the round gave away; the next one starts afresh."""
        ...

    def state(self) -> Flat:
        """Its notes of the round under way."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from such notes. Raises OtherShape where they are another run's."""
        ...
