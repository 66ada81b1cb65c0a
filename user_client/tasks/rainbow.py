"""Rainbow MNIST (maths.md A4): digits in 7 colours, 2 scales and 4 rotations, 56 tasks in all."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from user_client import config as settings
from user_client import datasets
from user_client.tasks.base import Job, Loss, Place, held_out
from user_client.tasks.rainbow_schedules import Bundled, Passes, Schedule

_COLOURS = torch.tensor(
    [
        [1.0, 0.0, 0.0],
        [1.0, 0.5, 0.0],
        [1.0, 1.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
        [0.29, 0.0, 0.51],
        [0.56, 0.0, 1.0],
    ]
)


def render(digits: NDArray[np.uint8], task: int) -> Tensor:
    """Grey digits [B, 28, 28] as task 0..55 shows them: [B, 3, 28, 28] float32 in [0, 1].

    Colour task // 8 behind a white digit, half size if (task // 4) % 2, turned (task % 4) x 90 degrees.
    """
    grey = torch.from_numpy(digits).float().div_(255.0)
    if task // 4 % 2:
        grey = pad(avg_pool2d(grey, 2), (7, 7, 7, 7))
    grey = torch.rot90(grey, task % 4, (1, 2)).contiguous().unsqueeze(1)
    colour = _COLOURS[task // 8].view(1, 3, 1, 1)
    return (grey * (1.0 - colour)).add_(colour)


class Rainbow:
    """x [B, 3, 28, 28] float32 in [0, 1], y [B] int64 in 0..9; images are rendered when asked for.

    Raises FileNotFoundError when MNIST is not on this machine, ValueError when the scenario asks for more
    rounds, slots, users or validation images than there are.
    """

    input_shape: tuple[int, ...] = (3, 28, 28)
    dtype = torch.float32
    outputs = 10
    loss: Loss = "cross_entropy"

    def __init__(self, config: settings.Rainbow, place: Place) -> None:
        self._digits = config.digits
        self._schedule: Schedule = (Passes if config.digits == "mnist" else Bundled)(config, place)
        self.batch = config.batch + held_out(config)
        self.validation_batch = self._schedule.validation_batch
        if config.digits == "mnist":
            datasets.require_mnist()

    def job(self, round_: int, slot: int) -> Job:
        """x [B, 3, 28, 28], y [B] of this slot."""
        return self._show(round_, self._schedule.training(round_, slot))

    def validation(self, round_: int) -> Job:
        """x [V, 3, 28, 28], y [V] of this round's task, disjoint from its training images."""
        return self._show(round_, self._schedule.validation(round_))

    def _show(self, round_: int, rows: NDArray[np.int64]) -> Job:
        digits = datasets.mnist() if self._digits == "mnist" else datasets.bundled()
        x = render(digits.images[rows], self._schedule.task(round_))
        return Job(x, torch.from_numpy(digits.labels[rows].astype(np.int64)))
