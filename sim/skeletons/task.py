"""A task: a line whose slope drifts while a round goes on, and starts anew with the next."""

import numpy as np
import torch

from user_client.tasks.base import Job, Loss, Place


class DriftingLine:
    """x [B, 2] = (tau, 1) with tau ~ U[0, 1], y [B] = slope tau + N(0, 0.1); float64, no validation set.

    The slope goes from `first` in a round's first slot to `last` in its last.
    """

    input_shape: tuple[int, ...] = (2,)
    dtype = torch.float64
    validation_batch = 0
    outputs = 1
    loss: Loss = "squared"

    def __init__(self, place: Place, first: float = 0.5, last: float = 1.0, batch: int = 4) -> None:
        self.batch = batch
        self._seed, self._slopes = place.seed, np.linspace(first, last, place.slots)

    def job(self, round_: int, slot: int) -> Job:
        """x [B, 2], y [B] of this slot, from a generator of its own."""
        rng = np.random.default_rng([self._seed, round_, slot])
        tau = rng.uniform(size=self.batch)
        y = self._slopes[slot] * tau + rng.normal(0, 0.1, self.batch)
        return Job(torch.from_numpy(np.stack([tau, np.ones_like(tau)], axis=1)), torch.from_numpy(y))

    def validation(self, round_: int) -> Job:
        """Raises ValueError: this task has no validation set."""
        raise ValueError(f"no validation set in round {round_}: validation_batch is 0")
