"""What every solver and problem asks of its numbers, said in one line, and what a solver says that has no answer."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


class NotConverged(ArithmeticError):
    """An exact solver stopped before its answer met its bar."""


def positive_array(what: str, values: ArrayLike) -> NDArray[np.float64]:
    """values [..., N], N >= 1, as float64. Raises ValueError with the first place that is not positive and finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{what}: at least one user is needed, got shape {list(array.shape)}")
    good = (array > 0) & (array < math.inf)
    if not good.all():
        place = [int(i) for i in np.argwhere(~good)[0]]
        raise ValueError(f"{what} must be positive and finite, got {array[tuple(place)]} at {place}")
    return array


def positive(what: str, **numbers: float) -> None:
    """Raises ValueError at the first number that is not positive and finite."""
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{what}: {name} must be positive and finite, got {number}")


def at_least_one(what: str, **counts: int) -> None:
    """Raises ValueError at the first count below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{what}: {name} must be at least 1, got {count}")
