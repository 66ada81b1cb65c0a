"""The routed network as a power policy: one small matrix product per layer in place of a solver."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_server.radio.power.base import Array, Downlink
from edge_server.routed_mtl.checks import positive_array
from edge_server.routed_mtl.policy import Policy, PolicyError, PolicyTask

ALIKE = 0.01
"""Payloads closer than this count as equal to a network that is not told them: a few bytes of a message's frame."""


@dataclass(eq=False)
class Routed:
    """A published network, trained on `problem`: the mean delay (`p3_delay`) or the longest (`p3_min_max`).

    With x_n = P_n / p_tot, both problems read L_n / log2(1 + (a_n p_tot) x_n) with x on the simplex, up to the factor
    1 / W; so a common factor of the payloads drops out, and the network is asked for shares at
    |h|^2 = a_n p_tot / (rho p_tot') of its own rho and p_tot'. `policy` may be replaced between two calls by a newer
    one; None, where there is none yet, shares the power equally. `beyond` counts the instances with a gain, or a ratio
    of payloads, outside those of its training samples: it answers, but has seen nothing like it.
    """

    downlink: Downlink
    policy: Policy | None
    problem: Literal["p3_delay", "p3_min_max"] = "p3_delay"
    beyond: int = 0

    def power(self, gain: ArrayLike, bits: ArrayLike) -> Array:
        """P [N] or [S, N] in W; one user gets p_tot.

        Raises ValueError for payloads that differ by 1 % or more unless the network is told them, PolicyError for more
        users than it was trained for, and for a policy without this problem or its scale.
        """
        a = positive_array("routed_mtl: gain", gain)
        load = np.broadcast_to(positive_array("routed_mtl: bits", bits), a.shape)
        if self.policy is None or a.shape[-1] == 1:
            return np.full_like(a, self.downlink.p_tot / a.shape[-1])
        return self._asked(self.policy, a, load)

    def require(self, users: int) -> None:
        """Raises PolicyError unless `policy` serves so many users."""
        if self.policy is not None and users > 1:
            self._scale(self._task(self.policy, users))

    def _asked(self, policy: Policy, a: Array, load: Array) -> Array:
        told = policy.payloads
        if not told:
            _check_alike(load)
        task = self._task(policy, a.shape[-1])
        channel = a * self._scale(task)
        self.beyond += int((_outside(channel, task) | (told & _uneven(load, task))).sum())
        shares = policy(self.problem, channel, load if told else None).astype(np.float64)
        return np.asarray(shares * (self.downlink.p_tot / shares.sum(axis=-1, keepdims=True)))

    def _task(self, policy: Policy, users: int) -> PolicyTask:
        return policy.tasks[policy.task_for(self.problem, users)]

    def _scale(self, task: PolicyTask) -> float:
        """|h|^2 of the network's own problem per 1/W of gain."""
        if task.rho is None:
            raise PolicyError(f"routed_mtl: the policy does not say rho of {self.problem}; train and publish it again")
        return self.downlink.p_tot / (task.rho * task.head.p_tot)


def _outside(channel: Array, task: PolicyTask) -> NDArray[np.bool_]:
    least, largest = task.seen or (0.0, math.inf)
    return np.asarray(((channel < least) | (channel > largest)).any(axis=-1))


def _uneven(bits: Array, task: PolicyTask) -> NDArray[np.bool_]:
    return np.asarray(bits.max(axis=-1) > max(task.payload_ratio, 1 + ALIKE) * bits.min(axis=-1))


def _check_alike(bits: Array) -> None:
    if (bits.max(axis=-1) > (1 + ALIKE) * bits.min(axis=-1)).any():
        raise ValueError(
            f"routed_mtl: its network learned equal payloads, these are {bits.min():g} to {bits.max():g} bits; "
            "train it with payload_ratio, or use power optimal or min_max"
        )
