"""What a run's slots and rounds add up to, user by user, in the memory of a few rows."""

import numpy as np

from sim.live.blocks import Block
from sim.live.plain import mean_of
from sim.report.columns import Floats, Ints

_RECENT = 32
"""Slots over which the link quality is averaged."""
MEANS = ("fairness", "val_fairness", "slot_fairness", "regret", "sum_w")
BY_USER = ("mean_utility", "mean_loss", "val_accuracy", "w_mean", "power_mean", "air_mean", "late_share")
SHARED = (*MEANS, "oracle_fairness", "bound", "residual", "virtual_seconds")


class SlotSums:
    """Over slots. utility, applied, bytes_up, bytes_down, out_of_range [K]; statuses: [K] by name.

    slot_seconds: of the last slots that came, their median at the edge.
    """

    def __init__(self, users: int) -> None:
        self.slots = 0
        self.utility, self.applied = np.zeros(users), np.zeros(users, np.int64)
        self.bytes_up, self.bytes_down, self.out_of_range = (np.zeros(users, np.int64) for _ in range(3))
        self.statuses: dict[str, Ints] = {}
        self.slot_seconds = np.nan

    def add(self, block: Block) -> None:
        """More slots."""
        utility = block.numbers("utility")
        self.slots += len(block)
        self.utility += np.nansum(utility, axis=0)
        self.applied += np.isfinite(utility).sum(axis=0)
        for name in ("bytes_up", "bytes_down", "out_of_range"):
            getattr(self, name)[:] += np.rint(np.nansum(block.numbers(name), axis=0)).astype(np.int64)
        for name, counts in block.statuses().items():
            self.statuses[name] = self.statuses.get(name, np.zeros_like(counts)) + counts
        seconds = block.shared("t_slot")
        self.slot_seconds = float(np.nanmedian(seconds)) if np.isfinite(seconds).any() else np.nan

    @property
    def mean_utility(self) -> Floats:
        """[K], as summary.json has it: over all applied slots; NaN for a user without any."""
        return mean_of(self.utility, self.applied)

    def of(self, status: str) -> int:
        """Slots of users that ended so."""
        return int(self.statuses[status].sum()) if status in self.statuses else 0


class RoundSums:
    """Over rounds. newest: of the last round [K], by name. last: the last known value of what all users share."""

    def __init__(self, users: int) -> None:
        self.rounds = 0
        self.newest: dict[str, Floats] = {name: np.full(users, np.nan) for name in BY_USER}
        self.last = dict.fromkeys(SHARED, np.nan)
        self._sums, self._known = dict.fromkeys(MEANS, 0.0), dict.fromkeys(MEANS, 0)
        self._utility, self._heard = np.zeros(users), np.zeros(users, np.int64)

    def add(self, block: Block) -> None:
        """More rounds."""
        self.rounds += len(block)
        self.newest = {name: block.numbers(name)[-1] for name in BY_USER}
        for name in SHARED:
            self._add_shared(name, block.shared(name))
        utility = block.numbers("mean_utility")
        self._utility += np.nansum(utility, axis=0)
        self._heard += np.isfinite(utility).sum(axis=0)

    def _add_shared(self, name: str, values: Floats) -> None:
        known = values[np.isfinite(values)]
        if len(known):
            self.last[name] = float(known[-1])
        if name in self._sums:
            self._sums[name] += float(known.sum())
            self._known[name] += len(known)

    def mean(self, name: str) -> float | None:
        """Over the rounds in which it is known, as summary.json has it."""
        return self._sums[name] / self._known[name] if self._known[name] else None

    @property
    def mean_utility(self) -> Floats:
        """[K]: mean of the rounds' means, for a run that does not record its slots."""
        return mean_of(self._utility, self._heard)


class AirSums:
    """On the radio. missed [K]: slots beyond the deadline. gain [K]: mean |h|^2 of the last slots."""

    def __init__(self, users: int) -> None:
        self.missed, self.gain = np.zeros(users, np.int64), np.full(users, np.nan)

    def add(self, block: Block) -> None:
        """More slots."""
        self.missed += np.rint(np.nansum(block.numbers("late"), axis=0)).astype(np.int64)
        gain = block.numbers("gain")[-_RECENT:]
        mean = mean_of(np.nansum(gain, axis=0), np.isfinite(gain).sum(axis=0))
        self.gain = np.where(np.isfinite(mean), mean, self.gain)
