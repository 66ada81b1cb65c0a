"""What turns an honest user hostile; seeded, composable around any task. Validation stays clean.

Yours by `module:Class`, called with the task it wraps, the user's Place, a seed of its own, and `args`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import isqrt, prod

import numpy as np
import torch
from numpy.random import default_rng
from numpy.typing import NDArray
from torch import Tensor

from user_client import config as settings
from user_client.custom import build_custom
from user_client.tasks.base import Job, Place, Task
from user_client.tasks.checks import check_task

Flip = Callable[[Tensor], Tensor]

_COINS, _CLASSES = 0, 1


def with_adversaries(task: Task, configs: Sequence[settings.Adversary], place: Place, seed: int) -> Task:
    """`task` with every adversary of `configs` on top of it, the first innermost; `seed` is their own stream.

    Inflation and gradient attacks leave the task alone: they are in what the user says (`inflation`, `attacks`).

    Raises ValueError when labels do not fit the task's loss, or a block is larger than the round.
    """
    for position, config in enumerate(configs):
        if isinstance(config, settings.PingPong):
            task = PingPong(task, config, place.slots, (seed, position))
        elif not isinstance(config, settings.Inflation | settings.GradientAttack):
            check = partial(check_task, place=place)
            task = build_custom(config, "adversary", task, place, seed + position, check=check)
    return task


def inflation(configs: Sequence[settings.Adversary]) -> float:
    """What these adversaries multiply a user's reported losses by: the product of their factors."""
    return prod(config.factor for config in configs if isinstance(config, settings.Inflation))


def attacks(configs: Sequence[settings.Adversary]) -> tuple[settings.GradientAttack, ...]:
    """Those of the adversaries that falsify output gradients (`outgoing.Outgoing`), in their order."""
    return tuple(config for config in configs if isinstance(config, settings.GradientAttack))


class PingPong:
    """A task whose labels turn hostile in some blocks of a round (maths.md A3, A4); blocks are counted from 0."""

    def __init__(self, task: Task, config: settings.PingPong, slots: int, seed: tuple[int, int]) -> None:
        _check_labels(config.labels, task)
        self.input_shape, self.dtype = task.input_shape, task.dtype
        self.batch, self.validation_batch = task.batch, task.validation_batch
        self.outputs, self.loss = task.outputs, task.loss
        self._task, self._config, self._seed = task, config, seed
        self._block = _block_length(config, slots)
        self._slots = slots
        self._round = -1
        self._hostile: list[bool] = []
        self._flip: Flip = torch.neg

    def job(self, round_: int, slot: int) -> Job:
        """The honest job, y [B] flipped when the slot is hostile."""
        if round_ != self._round:
            self._hostile = self.hostile_slots(round_)
            self._flip = self._flip_of(round_)
            self._round = round_
        job = self._task.job(round_, slot)
        return Job(job.x, self._flip(job.y)) if self._hostile[slot] else job

    def validation(self, round_: int) -> Job:
        """The honest validation set."""
        return self._task.validation(round_)

    def hostile_slots(self, round_: int) -> list[bool]:
        """Which slots of this round are hostile, [m]."""
        slot = np.arange(self._slots)
        block = slot // self._block
        match self._config.hostile:
            case "odd":
                hostile = block % 2 == 1
            case "even":
                hostile = block % 2 == 0
            case "alternate":
                hostile = (round_ + block) % 2 == 1
            case "every":
                hostile = (slot + 1) % self._block == 0
            case "random":
                coins = default_rng([*self._seed, round_, _COINS]).integers(2, size=block[-1] + 1)
                hostile = coins[block] == 1
        return [bool(value) for value in hostile]

    def _flip_of(self, round_: int) -> Flip:
        match self._config.labels:
            case "sign":
                return torch.neg
            case "nine_minus":
                return lambda y: 9 - y
            case "permutation":
                table = torch.from_numpy(_derangement((*self._seed, round_, _CLASSES), self.outputs))
                return lambda y: table[y]


def _derangement(seed: tuple[int, ...], classes: int) -> NDArray[np.int64]:
    """A uniform permutation of 0..classes-1 that moves every class, [classes]."""
    rng = default_rng(seed)
    identity = np.arange(classes)
    while True:
        table = rng.permutation(classes)
        if not (table == identity).any():
            return table


def _block_length(config: settings.PingPong, slots: int) -> int:
    length = isqrt(slots) if config.block == "sqrt" else config.block
    if length > slots:
        raise ValueError(f"adversary block is {length} slots, a round has {slots}: use at most {slots}")
    return length


def _check_labels(labels: str, task: Task) -> None:
    if labels == "sign":
        fits, need = task.loss == "squared", "a regression task"
    elif labels == "nine_minus":
        fits, need = task.loss == "cross_entropy" and task.outputs == 10, "a task with 10 classes"
    else:
        fits, need = task.loss == "cross_entropy" and task.outputs > 1, "a task with at least 2 classes"
    if not fits:
        has = "regression" if task.loss == "squared" else f"{task.outputs} classes"
        raise ValueError(f"adversary labels: {labels} needs {need}, this task is {has}")
