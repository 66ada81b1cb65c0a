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


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean of independent numbers and its 95 % interval, mean +- t_{n-1} s / sqrt(n). None without any."""
    if not values:
        return None
    mean = fmean(values)
    if len(values) == 1:
        return Estimate(mean, None, None, 1)
    half = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * stdev(values) / sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, len(values))
