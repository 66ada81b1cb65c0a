"""How equal a run's utilities are: numbers between users, on numpy alone. F_alpha itself is `edge_server.fairness`."""

import numpy as np
from numpy.typing import NDArray

Utilities = NDArray[np.float64]

_SQUARABLE = 1e150
"""Squares of numbers below this, and of their sums, are float64."""


def jain(utility: Utilities) -> float:
    """Jain's index (sum u)^2 / (K sum u^2) of utility [K]: 1 when all are equal, 1/K when one has everything."""
    largest = float(np.abs(utility).max())
    if largest > _SQUARABLE:
        utility = utility / largest
    squares = float((utility**2).sum())
    return float(utility.sum()) ** 2 / (len(utility) * squares) if squares else np.nan


def worst_tenth(utility: Utilities) -> float:
    """Mean utility of the K // 10 users (at least one) who have least; utility [K]."""
    count = max(1, len(utility) // 10)
    return float(np.sort(utility)[:count].mean()) if not np.isnan(utility).any() else np.nan


def entropy(utility: Utilities) -> float:
    """Entropy of the shares u_k / sum u over log K: 1 when all are equal, 0 when one has everything.

    utility [K]. NaN where a share is negative or undefined; 1 for a single user.
    """
    total = float(utility.sum())
    if not (total > 0 and bool((utility >= 0).all())):
        return np.nan
    shares = utility[utility > 0] / total
    return -float(shares @ np.log(shares)) / np.log(len(utility)) if len(utility) > 1 else 1.0


def price_of_fairness(utility: Utilities, efficient: Utilities) -> float:
    """1 - sum u / sum u' for utility [K] and the utilities [K] of the same run with alpha 0."""
    return 1 - float(utility.sum()) / float(efficient.sum())


def last_known(values: Utilities) -> Utilities:
    """The last value of each column that is not NaN: values [m, K] -> [K], NaN for an empty column."""
    known = ~np.isnan(values)
    last = len(values) - 1 - np.argmax(known[::-1], axis=0)
    return np.where(known.any(axis=0), values[last, np.arange(values.shape[1])], np.nan)
