"""Whose turn it is, as a run goes from slot to slot."""

from collections.abc import Callable, Collection

import numpy as np

from edge_server.participation import Mask
from edge_server.plan import RunPlan


class Turns:
    """Users are indices k. mask [K], here: who takes part in the slot that goes on. so_far: in this round up to it.

    away: who is left out of a round's slot although it is its turn.
    """

    mask: Mask
    here: frozenset[int]

    def __init__(self, plan: RunPlan, out: Mask, away: Callable[[int, int], Collection[int]]):
        self._plan, self._left_out = plan, away
        self.begin(plan.first, out)
        for i in range(1, min(plan.first_slot + 1, plan.slots)):
            self.go_on(plan.first, i)

    def begin(self, t: int, out: Mask) -> None:
        """Round t, and its first slot; out [K]: who takes part no more."""
        self._there = np.array(self._plan.present(t)) & ~out
        self.so_far: set[int] = set()
        self._take(t, 0)

    def go_on(self, t: int, i: int) -> None:
        """Slot i of the same round."""
        if self._plan.slot_by_slot or self._plan.absence.drops:
            self._take(t, i)

    @property
    def away(self) -> Mask:
        """[K]: whose turn it is, and who takes no part."""
        return self._due & ~self.mask

    def come_back(self, k: int) -> bool:
        """User k takes part in the slot that goes on, if it is its turn; whether it does."""
        if self._due[k]:
            self.mask = self.mask.copy()
            self.mask[k] = True
            self.here |= {k}
            self.so_far.add(k)
        return bool(self._due[k])

    def _take(self, t: int, i: int) -> None:
        self._due = mask = self._plan.in_slot(self._there, t, i)
        if away := self._left_out(t, i):
            mask = mask.copy()
            mask[[*away]] = False
        self.mask, self.here = mask, frozenset(np.flatnonzero(mask).tolist())
        self.so_far |= self.here
