"""Partial participation: S of the users who are there, drawn for every round or for every slot."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Draw:
    """users: S. per: how often it is drawn. seed: of the one stream that all draws are from."""

    users: int
    per: Literal["round", "slot"]
    seed: int

    def of_round(self, there: Mask, t: int) -> Mask:
        """Who of those who are `there` [K] takes part in round t."""
        return self.among(there, t) if self.per == "round" else there

    def of_slot(self, there: Mask, t: int, i: int) -> Mask:
        """Who of those who are in round t takes part in its slot i."""
        return self.among(there, t, i) if self.per == "slot" else there

    def among(self, there: Mask, *key: int) -> Mask:
        """S of those who are `there` [K], each as likely as any other; all of them where they are fewer.

        key: the round, or the round and the slot. Every user has a number of its own, and the S smallest win.
        """
        if there.sum() <= self.users:
            return there
        numbers = np.random.default_rng([self.seed, *key]).random(len(there))
        numbers[~there] = np.inf
        drawn = np.zeros(len(there), bool)
        drawn[np.argpartition(numbers, self.users - 1)[: self.users]] = True
        return drawn
