"""Where users wait whose process began anew, in a run that goes on without them, until a slot lets them in."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from edge_server.absence import Place, Return
from edge_server.attendance import Refused
from edge_server.conversation import Conversation, Line
from edge_server.state import Flat
from protos import edge_pb2 as pb

_STATE = "returns"


class Let(NamedTuple):
    """A user that is let in, and what it goes on from."""

    conversation: Conversation
    back: Return


class Door:
    """Users are indices k. Of each, the latest process waits. coming: the number of the one that was told to come, and
    is not let in yet.
    """

    def __init__(self) -> None:
        self.coming: dict[int, int] = {}
        self._waiting: dict[int, tuple[Conversation, Place]] = {}
        self._returns: list[Return] = []

    def knock(self, k: int, join: pb.Join, line: Line) -> None:
        """User k waits, with a process that is later than any before. Raises Refused."""
        if known := self._of(k):
            known.replaced_by(join)
        self._waiting[k] = Conversation(join, line), (join.begins.round, join.begins.slot)

    def take_back(self, k: int, join: pb.Join, line: Line) -> bool:
        """Whether this is the process that waits, over another stream. Raises Refused for an earlier one."""
        if (known := self._of(k)) is None or join.process > known.process:
            return False
        known.resume(join, line)
        return True

    def lose(self, k: int, line: Line) -> bool:
        """Whether this was the line of one that waits; it may come back."""
        if (known := self._of(k)) is None or not known.is_on(line):
            return False
        known.break_off()
        return True

    def waits(self, k: int) -> bool:
        """User k is at the door, here or away again."""
        return k in self._waiting

    @property
    def here(self) -> list[int]:
        """Who could be let in, ascending."""
        return sorted(k for k, (known, _) in self._waiting.items() if known.is_here)

    def let_in(self, k: int, at: Place) -> Let:
        """User k takes part from slot `at` on."""
        conversation, begins = self._waiting.pop(k)
        if self.coming.get(k) == conversation.process:
            del self.coming[k]
        back = Return(at, k, begins)
        self._returns.append(back)
        return Let(conversation, back)

    def close(self, why: Refused) -> None:
        """Nobody is let in any more."""
        for known, _ in self._waiting.values():
            known.end(why)
        self._waiting.clear()

    def take(self) -> tuple[Return, ...]:
        """Who came back since it was last asked."""
        taken, self._returns = tuple(self._returns), []
        return taken

    def state(self) -> Flat:
        """A copy of what was not taken yet: [n, 5]."""
        rows = [(*back.at, back.k, *back.of) for back in self._returns]
        return {_STATE: torch.tensor(rows, dtype=torch.int64).reshape(-1, 5)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave."""
        self._returns = [Return((t, i), k, (of_t, of_i)) for t, i, k, of_t, of_i in state[_STATE].tolist()]

    def _of(self, k: int) -> Conversation | None:
        return self._waiting[k][0] if k in self._waiting else None
