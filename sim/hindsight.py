"""The oracle of a simulated run: rebuilds every user's stream and solves each round after the fact."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

from edge_server.domains import Domain
from edge_server.fairness import AlphaFair
from edge_server.outer import Hindsight
from edge_server.participation import Mask
from sim.oracle import Oracle
from user_client.tasks.base import Task

Array = NDArray[np.float64]


class Told(NamedTuple):
    """What one user's reported losses are made of.

    build: its stream. held_out: samples at a job's end that give the loss; 0 means the whole batch does.
    factor: what losses are multiplied by before they are reported.
    """

    build: Callable[[], Task]
    held_out: int = 0
    factor: float = 1.0


class Hindsights:
    """theta*_t of Eq. (2), round by round, for the losses that users report. Simulation only: no edge sees labels.

    l_max [K]. domain: Theta. users: in scenario order. here: who takes part in which slot of a round, [m, K].
    """

    def __init__(
        self,
        fairness: AlphaFair,
        l_max: Array,
        domain: Domain,
        users: Sequence[Told],
        here: Callable[[int], Mask],
    ):
        self._oracle = Oracle(fairness, l_max, domain)
        self._users = users
        self._tasks = [user.build() for user in users]
        self._here = here
        self._thetas: dict[int, Tensor] = {}
        self._pools = ThreadpoolController()

    def __call__(self, t: int) -> Hindsight:
        """Round t's best fixed model for those present, and their slots' utilities [m, K] at it, NaN for the others.

        Raises NotConverged.
        """
        x, y = self.samples(t)
        theta = self._best(t, x, y)
        here = torch.from_numpy(self._here(t))
        utilities = torch.full(here.shape, torch.nan, dtype=torch.float64)
        with self._one_thread():
            for k, xk, yk in zip(self._present(t), x, y, strict=True):
                utilities[here[:, k], k] = self._oracle_of([k]).utilities(theta.numpy(), [xk], [yk])[:, 0]
        return Hindsight(theta, utilities)

    def theta(self, t: int) -> Tensor:
        """theta*_t [d], solved once. Raises NotConverged."""
        return self._thetas[t] if t in self._thetas else self._best(t, *self.samples(t))

    def samples(self, t: int) -> tuple[list[Array], list[Array]]:
        """Round t's x [m, B, d] and y [m, B] of everyone who is present, in user order; of a user's own slots alone."""
        here = self._here(t)
        x, y = zip(*(self._samples(k, t, np.flatnonzero(here[:, k])) for k in self._present(t)), strict=True)
        return [*x], [*y]

    def _present(self, t: int) -> list[int]:
        return [int(k) for k in np.flatnonzero(self._here(t).any(axis=0))]

    def _best(self, t: int, x: Sequence[Array], y: Sequence[Array]) -> Tensor:
        if t not in self._thetas:
            with self._one_thread():
                theta, _ = self._oracle_of(self._present(t)).best(t, x, y)
                self._thetas[t] = torch.from_numpy(theta)
        return self._thetas[t]

    def _oracle_of(self, users: Sequence[int]) -> Oracle:
        """The oracle of these users alone."""
        return replace(self._oracle, l_max=self._oracle.l_max[[*users]])

    def _one_thread(self) -> AbstractContextManager[object]:
        """BLAS sums in one order, whatever the machine's cores."""
        limit: AbstractContextManager[object] = self._pools.limit(limits=1, user_api="blas")
        return limit

    def _samples(self, k: int, t: int, slots: NDArray[np.int64]) -> tuple[Array, Array]:
        """x [m, B, d] and y [m, B] whose squared losses are what user k reports in these m slots."""
        user, jobs = self._users[k], [self._tasks[k].job(t, int(i)) for i in slots]
        scale = np.sqrt(user.factor)
        x = np.stack([job.x.flatten(1).numpy()[-user.held_out :] for job in jobs]).astype(np.float64)
        y = np.stack([job.y.numpy()[-user.held_out :] for job in jobs]).astype(np.float64)
        return x * scale, y * scale
