"""What users sent last in a round, for slots in which they are late."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from edge_server.messages import Feedback
from edge_server.record import Event
from edge_server.state import Flat, flattened


class Heard(NamedTuple):
    """One user's part in a slot that was used: features [B, ...feature_shape] and what came of them."""

    slot: int
    features: Tensor
    feedback: Feedback


class Filled(NamedTuple):
    """A slot with the last parts of late users in place of those that are missing; K users in scenario order."""

    features: Sequence[Tensor | None]
    feedback: Sequence[Feedback | None]
    events: list[Event]


class LastHeard:
    """One round's last parts; a round starts without any. names: of the users, in scenario order."""

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._last: dict[int, Heard] = {}

    def begin_round(self) -> None:
        """Forgets everything: another round may be another task."""
        self._last.clear()

    def keep(self, i: int, features: Sequence[Tensor | None], feedback: Sequence[Feedback | None]) -> None:
        """Slot i's parts of those that were in time."""
        for k, (said, answered) in enumerate(zip(features, feedback, strict=True)):
            if said is not None and answered is not None:
                self._last[k] = Heard(i, said, answered)

    def state(self) -> Flat:
        """A copy of all of it, by the user's index."""
        return {key: value for k, heard in self._last.items() for key, value in flattened(heard, str(k)).items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave."""
        for k in {int(name.partition(".")[0]) for name in state}:
            slot, features, loss, gradient = (state[f"{k}.{part}"] for part in ("0", "1", "2.0", "2.1"))
            self._last[k] = Heard(int(slot), features, Feedback(float(loss), gradient))

    def filled(
        self, late: Sequence[int], features: Sequence[Tensor | None], feedback: Sequence[Feedback | None]
    ) -> Filled:
        """Those of the `late` users that were heard before in this round take part with their last slot."""
        known = {k: self._last[k] for k in late if k in self._last}
        events: list[Event] = [
            {"event": "stale", "user": self._names[k], "of_slot": heard.slot} for k, heard in known.items()
        ]
        return Filled(
            [known[k].features if k in known else said for k, said in enumerate(features)],
            [known[k].feedback if k in known else said for k, said in enumerate(feedback)],
            events,
        )
