"""What a tracker is."""

from collections.abc import Sequence
from typing import Protocol

from sim.tracking.about import Outcome
from sim.tracking.numbers import Told


class TrackingFailed(Exception):
    """The tracker could not be told; one line."""


class Tracker(Protocol):
    """One run, told to somebody. Raises TrackingFailed."""

    def tell(self, rounds: Sequence[Told]) -> None:
        """Rounds in their order, each once."""
        ...

    def end(self, outcome: Outcome) -> None:
        """How it ended; nothing comes after."""
        ...
