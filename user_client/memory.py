"""Earlier states of a user that a run may want back: where it follows one in which a process began anew."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from protos import edge_pb2 as pb

State = Mapping[str, Tensor]
_PAST = "past"


class Memory:
    """A user changes by its steps, and by the first features of a round, which it is asked for: its state before a slot
    is that before the first of these in it, or later.
    """

    def __init__(self) -> None:
        self._named: list[tuple[int, int]] = []
        self._past: dict[tuple[int, int], State] = {}

    def keep(self, places: Iterable[pb.Key]) -> None:
        """The states before these slots will be wanted, and no others."""
        named = {_place(key) for key in places}
        self._past = {place: state for place, state in self._past.items() if place in named}
        self._named = sorted(named - self._past.keys())

    def before(self, key: pb.Key, state: Callable[[], State]) -> None:
        """The user is about to change in this slot, or may be."""
        while self._named and self._named[0] <= _place(key):
            self._past[self._named.pop(0)] = state()

    def has(self, key: pb.Key) -> bool:
        """This slot was named."""
        return _place(key) in self._past or _place(key) in self._named

    def take(self, key: pb.Key) -> State | None:
        """The state before this slot; None where it still is that."""
        return self._past.get(_place(key))

    def state(self) -> dict[str, Tensor]:
        """All that it has, by name."""
        return {f"{_PAST} {t} {i} {name}": x for (t, i), state in self._past.items() for name, x in state.items()}

    def restore(self, state: State) -> State:
        """Goes on from what `state` gave; the rest of `state`."""
        past: dict[tuple[int, int], dict[str, Tensor]] = defaultdict(dict)
        own = {name: values for name, values in state.items() if not name.startswith(f"{_PAST} ")}
        for known in state.keys() - own.keys():
            _, t, i, name = known.split(" ", 3)
            past[int(t), int(i)][name] = state[known]
        self._past = dict(past)
        return own


def _place(key: pb.Key) -> tuple[int, int]:
    return key.round, key.slot
