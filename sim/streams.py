"""`streams.npz`: what every user saw, for a simulation that is to be checked by someone else."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.blueprint import place
from sim.scenario import Scenario
from user_client.tasks.base import Task
from user_client.user import build_stream


def write_streams(path: Path, scenario: Scenario) -> None:
    """NAME.x [T, m, B, ...], NAME.y [T, m, B], and NAME.x_val, NAME.y_val [T, V, ...] where the user validates."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for k, user in enumerate(scenario.users):
        task = build_stream(user, place(scenario, k))
        arrays |= {f"{user.name}.{key}": values for key, values in _arrays(task, scenario).items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _arrays(task: Task, scenario: Scenario) -> dict[str, NDArray[np.generic]]:
    jobs = [[task.job(t, i) for i in range(scenario.slots)] for t in range(scenario.rounds)]
    arrays = {
        "x": np.stack([np.stack([job.x.numpy() for job in round_]) for round_ in jobs]),
        "y": np.stack([np.stack([job.y.numpy() for job in round_]) for round_ in jobs]),
    }
    if task.validation_batch:
        sets = [task.validation(t) for t in range(scenario.rounds)]
        arrays |= {"x_val": np.stack([s.x.numpy() for s in sets]), "y_val": np.stack([s.y.numpy() for s in sets])}
    return arrays
