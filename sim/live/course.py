"""A quantity over the course of a run in bounded memory: means of equal stretches, which get longer as it does."""

import numpy as np

from sim.live.plain import mean_of
from sim.report.columns import Floats

MOST = 512
"""Stretches that are kept at least, once there are so many; less than twice as many at most."""
_CELLS = 1 << 20
"""Stretches times users beyond which fewer stretches are kept."""


class Course:
    """Means [N, C] of C columns. width: steps in a stretch; doubled, and pairs made one, when there are too many.

    steps: how many came so far.
    """

    def __init__(self, columns: int) -> None:
        self.most = int(np.clip(_CELLS // max(1, columns), 32, MOST))
        self._sums = np.zeros((2 * self.most, columns))
        self._known = np.zeros((2 * self.most, columns), np.int64)
        self.width, self.steps = 1, 0

    def __len__(self) -> int:
        return -(-self.steps // self.width)

    def add(self, values: Floats) -> None:
        """n more steps: values [n, C], NaN where there is none."""
        while self.steps + len(values) > 2 * self.most * self.width:
            self._halve()
        known = np.isfinite(values)
        places = (self.steps + np.arange(len(values))) // self.width
        firsts = np.flatnonzero(np.diff(places, prepend=-1))
        if len(values):
            self._sums[places[firsts]] += np.add.reduceat(np.where(known, values, 0.0), firsts)
            self._known[places[firsts]] += np.add.reduceat(known.astype(np.int64), firsts)
        self.steps += len(values)

    def means(self, first: int = 0) -> Floats:
        """[N - first, C]: of the stretches from `first` on; NaN where nothing is known."""
        sums, known = self._sums[first : len(self)], self._known[first : len(self)]
        return mean_of(sums, known)

    def centres(self, first: int = 0) -> Floats:
        """[N - first]: the middle step of each stretch."""
        starts = np.arange(first, len(self)) * self.width
        ends = np.minimum(starts + self.width, self.steps)
        return (starts + ends - 1) / 2

    def _halve(self) -> None:
        for kept in (self._sums, self._known):
            kept[: self.most] = kept[0::2] + kept[1::2]
            kept[self.most :] = 0
        self.width *= 2
