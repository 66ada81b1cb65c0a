"""Which of the 56 tasks, and which images, a user of Rainbow MNIST sees in each round and slot."""

from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray

from user_client import config as settings
from user_client.tasks.base import Place, held_out

Rows = NDArray[np.int64]

TASKS = 56
TRAINING = 775
VALIDATION = 450
PASSES = 3
MNIST_DIGITS = 70_000
BUNDLED_DIGITS = 1_797
BUNDLED_HELD_OUT = 300
_SPLIT, _ORDER, _TASK, _IMAGES = 0, 1, 2, 3


class Schedule(Protocol):
    """Rows are positions in the data set; `task` is 0..55."""

    validation_batch: int

    def task(self, round_: int) -> int:
        """The task of this round."""
        ...

    def training(self, round_: int, slot: int) -> Rows:
        """[B] images of this slot; held-out ones, which the round never trains on, come last."""
        ...

    def validation(self, round_: int) -> Rows:
        """[V] images of the round's validation set."""
        ...


class Passes:
    """MNIST: a pass gives each task 1225 images of its own, 775 to train on and 450 to validate.

    The images of a task are the same for all users; every user sees all tasks of a pass, and no two users the
    same one in a round. New splits in every pass, three passes at most.
    """

    def __init__(self, config: settings.Rainbow, place: Place) -> None:
        if config.tasks == "common":
            raise ValueError("tasks: common is for bundled digits; with mnist all users would see the same images")
        _at_most("rounds", place.rounds, PASSES * TASKS, "Rainbow MNIST has 3 passes of 56 tasks")
        _at_most("users", place.users, TASKS, "no two users see the same of 56 tasks in a round")
        self._batch = config.batch + held_out(config)
        batch = "slots x batch" if self._batch == config.batch else "slots x (batch + holdout)"
        _at_most(batch, place.slots * self._batch, TRAINING, "a task has 775 training images")
        self.validation_batch = _validation_batch(config)
        self._place = place

    def task(self, round_: int) -> int:
        """The task of this round, 0..55."""
        pass_, place_in_pass = divmod(round_, TASKS)
        return int(_order(self._place.shared_seed, pass_)[self._place.index, place_in_pass])

    def training(self, round_: int, slot: int) -> Rows:
        """[B] images of this slot: the slot-th batch of the task's 775."""
        return self._images(round_)[slot * self._batch :][: self._batch]

    def validation(self, round_: int) -> Rows:
        """[V] first of the task's 450 validation images."""
        return self._images(round_)[TRAINING : TRAINING + self.validation_batch]

    def _images(self, round_: int) -> Rows:
        rows: Rows = _split(self._place.shared_seed, round_ // TASKS)[self.task(round_)]
        return rows


class Bundled:
    """scikit-learn's digits: 450 to validate, the rest drawn afresh in every slot; tasks with replacement.

    Every user has a task of its own in a round, or, with `tasks: common`, all have the same.

    With held-out samples, 300 of the rest are kept for them and never trained on.
    """

    def __init__(self, config: settings.Rainbow, place: Place) -> None:
        self._held_out = held_out(config)
        _at_most("holdout", self._held_out, BUNDLED_HELD_OUT, f"{BUNDLED_HELD_OUT} bundled digits are held out")
        kept = BUNDLED_HELD_OUT if self._held_out else 0
        pool = BUNDLED_DIGITS - VALIDATION - kept
        _at_most("batch", config.batch, pool, f"the bundled digits hold {pool} training images")
        self.validation_batch = _validation_batch(config)
        self._seed = place.seed
        self._task_seed = place.shared_seed if config.tasks == "common" else place.seed
        self._batch = config.batch
        order = default_rng([place.shared_seed, _SPLIT]).permutation(BUNDLED_DIGITS)
        self._validation, self._kept, self._pool = np.split(order, [VALIDATION, VALIDATION + kept])

    def task(self, round_: int) -> int:
        """The task of this round, 0..55."""
        return _drawn_task(self._task_seed, round_)

    def training(self, round_: int, slot: int) -> Rows:
        """[B] different images, drawn from (seed, round, slot)."""
        rng = default_rng([self._seed, _IMAGES, round_, slot, 1])
        training: Rows = rng.choice(self._pool, self._batch, replace=False)
        return np.concatenate([training, rng.choice(self._kept, self._held_out, replace=False)])

    def validation(self, _round: int) -> Rows:
        """[V] first of the 450 validation images."""
        return self._validation[: self.validation_batch]


@lru_cache
def _drawn_task(seed: int, round_: int) -> int:
    """One of the 56 tasks, drawn from (seed, round)."""
    return int(default_rng([seed, _TASK, round_, 1]).integers(TASKS))


@lru_cache(maxsize=2)
def _split(seed: int, pass_: int) -> Rows:
    """Disjoint random images of the 56 tasks, [56, 1225]."""
    images = TRAINING + VALIDATION
    order = default_rng([seed, _SPLIT, pass_]).permutation(MNIST_DIGITS)
    return order[: TASKS * images].reshape(TASKS, images)


@lru_cache(maxsize=2)
def _order(seed: int, pass_: int) -> Rows:
    """Who sees which task when: a random Latin square, [56 users, 56 rounds]."""
    rng = default_rng([seed, _ORDER, pass_])
    users, rounds, tasks = (rng.permutation(TASKS) for _ in range(3))
    square: Rows = tasks[(users[:, None] + rounds) % TASKS]
    return square


def _validation_batch(config: settings.Rainbow) -> int:
    if config.validation is None:
        return VALIDATION
    _at_most("validation", config.validation, VALIDATION, "a task has 450 validation images")
    return config.validation


def _at_most(what: str, asked: int, limit: int, why: str) -> None:
    if asked > limit:
        raise ValueError(f"{what} is {asked}, the limit is {limit}: {why}")
