"""Whether a task of somebody's own, or an adversary around one, keeps to the protocol: a trial on its first jobs."""

from typing import get_args

import torch

from user_client.tasks.base import Job, Loss, Place, Task


def check_task(task: Task, place: Place) -> None:
    """Raises ValueError, one line, where its jobs are not what it says, or differ when they are asked for again."""
    if task.loss not in get_args(Loss):
        raise ValueError(f"its loss is {task.loss!r}; it must be one of {', '.join(get_args(Loss))}")
    first = task.job(0, 0)
    _check_job(task, first, "job(0, 0)", task.batch)
    _check_job(task, task.job(place.rounds - 1, place.slots - 1), "the last job", task.batch)
    if not all(torch.equal(one, other) for one, other in zip(first, task.job(0, 0), strict=True)):
        raise ValueError(
            "job(0, 0) has other bits when it is asked for again; make generators anew from the seed, round and slot"
        )
    if task.validation_batch:
        _check_job(task, task.validation(0), "validation(0)", task.validation_batch)


def _check_job(task: Task, job: Job, name: str, samples: int) -> None:
    x, y = job
    if (x.shape, x.dtype) != ((samples, *task.input_shape), task.dtype):
        expected = f"{[samples, *task.input_shape]} {task.dtype}"
        raise ValueError(f"x of {name} is {list(x.shape)} {x.dtype}; its attributes say {expected}")
    kind = task.dtype if task.loss == "squared" else torch.int64
    if (y.shape, y.dtype) != ((samples,), kind):
        raise ValueError(f"y of {name} is {list(y.shape)} {y.dtype}; its attributes say {[samples]} {kind}")
    if not bool(x.isfinite().all() and y.isfinite().all()):
        raise ValueError(f"{name} has numbers that are not finite")
    if task.loss == "cross_entropy" and not bool(((y >= 0) & (y < task.outputs)).all()):
        raise ValueError(f"y of {name} has classes {int(y.min())} to {int(y.max())}; `outputs` says {task.outputs}")
