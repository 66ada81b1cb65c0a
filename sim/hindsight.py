"""The oracle of a simulated run: rebuilds every user's stream and solves each round after the fact."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_server.domains import Domain
from edge_server.fairness import AlphaFair
from edge_server.outer import Hindsight
from sim.oracle import Oracle
from user_client.tasks.base import Task


class Hindsights:
    """theta*_t of Eq. (2), round by round. Simulation only: no edge may know its users' labels.

    l_max [K]. domain: Theta. streams: how to build each user's task, in scenario order. slots: m.
    """

    def __init__(
        self,
        fairness: AlphaFair,
        l_max: NDArray[np.float64],
        domain: Domain,
        streams: Sequence[Callable[[], Task]],
        slots: int,
    ):
        self._oracle = Oracle(fairness, l_max, domain)
        self._tasks = [build() for build in streams]
        self._slots = slots

    def __call__(self, t: int) -> Hindsight:
        """Round t's best fixed model, and every slot's utilities [m, K] at it. Raises NotConverged."""
        jobs = [[task.job(t, i) for i in range(self._slots)] for task in self._tasks]
        x = [np.stack([job.x.numpy() for job in user]).astype(np.float64) for user in jobs]
        y = [np.stack([job.y.numpy() for job in user]).astype(np.float64) for user in jobs]
        return self._oracle.solve(t, x, y).hindsight
