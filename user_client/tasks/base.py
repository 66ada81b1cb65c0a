"""What a task is: a seeded stream of jobs, one per (round, slot)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from user_client import config as settings

Loss = Literal["squared", "cross_entropy"]


class Job(NamedTuple):
    """x [B, ...] inputs, y [B] labels: float for `squared`, int64 for `cross_entropy`."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Place:
    """Where a user stands in its scenario. Rounds and slots are counted from 0.

    seed: this user's own stream; shared_seed: the same for all users of the scenario (who sees which task).
    folder: what relative paths are relative to.
    """

    name: str
    index: int
    users: int
    rounds: int
    slots: int
    seed: int
    shared_seed: int
    folder: Path


def held_out(config: settings.Task) -> int:
    """Samples at the end of every job that give the loss and no gradient (footnote 1)."""
    if isinstance(config, settings.KernelRegression | settings.Rainbow) and config.feedback != "batch":
        return config.feedback.holdout
    return 0


class Task(Protocol):
    """A stream of jobs. Yours is called with the user's `Place`, then `args`; an adversary, which is a task around one,
    with the task it wraps, the `Place` and a seed of its own, then `args`.

    Equal arguments give equal bits, in any order of calls: a task keeps no state from job to job, and makes its
    generators anew, as in `default_rng([seed, round_, slot])`. The user tries yours out on its first and last job.
    """

    input_shape: tuple[int, ...]
    """Shape of one input sample, [..] without the batch."""
    dtype: torch.dtype
    """float32 or float64: the numeric type of the inputs, and of the run."""
    batch: int
    """Samples in a job; held-out ones, which give the loss and no gradient, come last."""
    validation_batch: int
    """Samples in a round's validation set; 0 means none."""
    outputs: int
    """Numbers per sample that a head must give: classes, or 1 for regression."""
    loss: Loss

    def job(self, round_: int, slot: int) -> Job:
        """The job of this slot: x [B, ...], y [B]."""
        ...

    def validation(self, round_: int) -> Job:
        """The round's clean validation set; only called when `validation_batch` > 0."""
        ...
