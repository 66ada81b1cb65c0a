"""Whose turn it is, as a run goes from slot to slot."""

import numpy as np

from edge_server.participation import Mask
from edge_server.plan import RunPlan


class Turns:
    """Users are indices k. mask [K], here: who takes part in the slot that goes on. so_far: in this round up to it."""

    mask: Mask
    here: frozenset[int]

    def __init__(self, plan: RunPlan):
        self._plan = plan
        self.begin(plan.first)

    def begin(self, t: int) -> None:
        """Round t, and its first slot."""
        self._there = np.array(self._plan.present(t))
        self.so_far: set[int] = set()
        self._take(self._plan.in_slot(self._there, t, 0))

    def go_on(self, t: int, i: int) -> None:
        """Slot i of the same round."""
        if self._plan.slot_by_slot:
            self._take(self._plan.in_slot(self._there, t, i))

    def _take(self, mask: Mask) -> None:
        self.mask, self.here = mask, frozenset(np.flatnonzero(mask).tolist())
        self.so_far |= self.here
