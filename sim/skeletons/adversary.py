"""An adversary: in some slots the labels of a job are dealt out to the wrong samples."""

import numpy as np
import torch

from user_client.tasks.base import Job, Place, Task


class Shuffled:
    """Shuffles y [B] with probability `share`, slot by slot; inputs and the validation set stay as they are."""

    def __init__(self, task: Task, place: Place, seed: int, share: float = 0.5) -> None:  # noqa: ARG002 - given to all
        self.input_shape, self.dtype, self.batch = task.input_shape, task.dtype, task.batch
        self.validation_batch, self.outputs, self.loss = task.validation_batch, task.outputs, task.loss
        self._task, self._seed, self._share = task, seed, share

    def job(self, round_: int, slot: int) -> Job:
        """The honest job, or one with its labels in another order."""
        x, y = self._task.job(round_, slot)
        rng = np.random.default_rng([self._seed, round_, slot])
        hostile = rng.uniform() < self._share
        return Job(x, y[torch.from_numpy(rng.permutation(len(y)))] if hostile else y)

    def validation(self, round_: int) -> Job:
        """The honest validation set."""
        return self._task.validation(round_)
