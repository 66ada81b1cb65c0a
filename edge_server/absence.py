"""What becomes of a slot without some of its users, and which slots went on without whom."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

HERE, AWAY, NO_FEATURES, NO_ANSWER = range(4)
"""Codes in `RoundRecord.left_out`: a user was not left out; was not asked; did not give its features in time, or its
feedback or report."""


Place = tuple[int, int]
"""A slot: its round, and its number there; slot m is the validation."""


class Return(NamedTuple):
    """User k began anew before slot `at`, as a process that knew what the one before it had known before slot `of`."""

    at: Place
    k: int
    of: Place


@dataclass(frozen=True)
class Log:
    """Whom earlier slots went on without, so that they can be gone through again to the same bits.

    rounds: how many are known, from the first. entries: (round, slot, user k, code). returns: who began anew.
    """

    rounds: int = 0
    entries: tuple[tuple[int, int, int, int], ...] = ()
    returns: tuple[Return, ...] = ()

    def back_to(self, at: Place) -> Mapping[int, Place]:
        """To which slot's state users go back before this one.

        Who began anew twice there, the second time with what was kept in between, goes back as the first time.
        """
        return self._by_place.get(at, {})

    @cached_property
    def _by_place(self) -> dict[Place, dict[int, Place]]:
        found: dict[Place, dict[int, Place]] = defaultdict(dict)
        for at, k, of in self.returns:
            found[at][k] = of if of < at else found[at].get(k, of)
        return found

    def left_out(self, t: int, i: int, code: int) -> frozenset[int]:
        """Users with this code in slot i of round t."""
        return frozenset(self._by_slot.get((t, i, code), ()))

    @cached_property
    def _by_slot(self) -> dict[tuple[int, int, int], list[int]]:
        found: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for t, i, k, code in self.entries:
            found[t, i, code].append(k)
        return found


@dataclass(frozen=True)
class Absence:
    """What the edge does about users who are not heard: it waits for them, goes on without them, or fails.

    deadline: real seconds that a slot may take before it goes on without them; None: it goes on without those alone
    whose streams broke. min_users: how many a slot has at least; it waits for so many. log: what is known already.
    """

    policy: Literal["wait", "drop", "fail"] = "wait"
    deadline: float | None = None
    min_users: int = 1
    log: Log = Log()

    @property
    def drops(self) -> bool:
        """Slots go on without those who are not heard."""
        return self.policy == "drop"

    def drops_in(self, t: int) -> bool:
        """They do in round t; in those of the log everybody is waited for, and the same users are left out."""
        return self.drops and t >= self.log.rounds


WAITING = Absence()
