"""The numbers of a run's rounds, by name, as its journal grows."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sim.live.blocks import Block, Blocks, users_of
from sim.live.journal import Journal
from sim.report.columns import Floats

SHARED = ("fairness", "slot_fairness", "val_fairness", "sum_w", "oracle_fairness", "regret", "bound")
"""Columns of `rounds` that are the same for all users; told as `run/NAME`."""
BY_USER = {
    "utility": "mean_utility",
    "loss": "mean_loss",
    "weight": "w_mean",
    "val_loss": "val_loss",
    "val_accuracy": "val_accuracy",
}
"""What is told of every user, as `NAME/USER`, and the column of `rounds` that it is."""
MOST_USERS = 100
"""Above, the least, the median and the largest of all users are told in place of everybody's own."""
_AT_ONCE = 50_000


class Told(NamedTuple):
    """What a round came to. values: finite numbers by name."""

    round: int
    values: dict[str, float]


class Numbers:
    """Each round once, also where a run went on from a checkpoint before it: it goes on to the same bits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = Journal(folder, "rounds", ("round", "user", *SHARED, *BY_USER.values()))
        self._users: tuple[str, ...] = ()
        self._blocks: Blocks | None = None
        self._next = 0

    def take(self) -> Iterator[list[Told]]:
        """What came since, some rounds at a time. Raises UnreadableRun."""
        while True:
            rows = self._journal.take(_AT_ONCE)
            if rows.again:
                self._blocks = None
            if rows.batches:
                yield self._told(rows.batches)
            if not rows.more and not rows.again:
                return

    def close(self) -> None:
        """Lets go of the file."""
        self._journal.close()

    def _told(self, batches: list[object]) -> list[Told]:
        if self._blocks is None:
            self._users = users_of(batches[0])
            self._blocks = Blocks(self._folder / "rounds.arrows", self._users)
        block = self._blocks.add(batches)
        told = [] if block is None else [one for one in _rounds(block, self._users) if one.round >= self._next]
        self._next = told[-1].round + 1 if told else self._next
        return told


def _rounds(block: Block, users: tuple[str, ...]) -> Iterator[Told]:
    columns = {f"run/{name}": block.shared(name) for name in SHARED}
    for kind, column in BY_USER.items():
        columns |= {f"{kind}/{who}": values for who, values in _by_user(block.numbers(column), users).items()}
    for n, number in enumerate(block.shared("round")):
        yield Told(int(number), {name: float(values[n]) for name, values in columns.items() if np.isfinite(values[n])})


def _by_user(values: Floats, users: tuple[str, ...]) -> dict[str, Floats]:
    """values [n, K] as columns [n] by user, or by what is known of many."""
    if len(users) <= MOST_USERS:
        return dict(zip(users, values.T, strict=True))
    ordered = np.sort(values, axis=1)  # NaN last
    known = np.isfinite(ordered).sum(axis=1)
    rows = np.arange(len(values))
    places = {"least": np.zeros_like(known), "median": known // 2, "largest": known - 1}
    return {who: ordered[rows, np.maximum(place, 0)] for who, place in places.items()}
