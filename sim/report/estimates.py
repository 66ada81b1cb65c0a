"""Means over seeds, and how sure they are."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.special import stdtrit

LEVEL = 0.95


class Estimate(NamedTuple):
    """The mean of `many` numbers, and its interval by Student's t; None for a single number, which has none."""

    mean: float
    low: float | None
    high: float | None
    many: int

    def within(self, least: float | None, most: float | None) -> "Estimate":
        """Cut at what the number can be, as Student's t knows no bounds; the mean stays inside, however rounded."""
        if self.low is None or self.high is None:
            return self
        low = self.low if least is None else min(max(self.low, least), self.mean)
        high = self.high if most is None else max(min(self.high, most), self.mean)
        return self._replace(low=low, high=high)


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean of independent numbers and its 95 % interval, mean +- t_{n-1} s / sqrt(n). None without any."""
    if not values:
        return None
    mean = fmean(values)
    if len(values) == 1:
        return Estimate(mean, None, None, 1)
    half = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * stdev(values) / sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, len(values))
