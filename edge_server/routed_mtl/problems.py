"""What a power-allocation problem is: an output activation, an objective, and where its channels come from.

A problem is a frozen value in a file of its own (`p3_delay.py`, `p4_capacity.py`). Gains are |h|^2, dimensionless;
powers are in W. Users sit in the last axis. mask [..., N], bool, says which of the N places hold a user. What stands in
the other places, NaN too, changes nothing: their power is 0 and they add nothing to the objective. Every row of a mask
holds at least one user.
"""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Kind = Literal["supervised", "unsupervised"]


class Problem(Protocol):
    """One problem of any number of users: a frozen dataclass. Yours is called with `args` alone.

    It is `Supervised` or `Unsupervised` by its `kind`, keeps no state, and draws from the generator it is given alone.
    The trainer tries yours out first; a policy can be published where `power` is p_tot softmax or p_tot sigmoid.
    """

    @property
    def name(self) -> str:
        """`p3_delay`, `p4_capacity`, ..."""
        ...

    @property
    def kind(self) -> Kind:
        """`supervised`: it has an `optimum` per instance. `unsupervised`: it has a limit `mean_power` on E[P_n]."""
        ...

    @property
    def p_tot(self) -> float:
        """The power limit in W: of the sum (P3), or of each user (P4)."""
        ...

    def power(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The output activation: logits [..., N], mask [..., N] to powers [..., N] in W within the limit `p_tot`."""
        ...

    def objective(self, gains: Tensor, power: Tensor, mask: Tensor) -> Tensor:
        """[...] of gains and powers [..., N]: mean delay in s, to minimise (P3), or rate in bits, to maximise (P4)."""
        ...

    def sample(self, rng: np.random.Generator, instances: int, users: int) -> NDArray[np.float64]:
        """|h|^2 [instances, users] > 0. Raises ValueError unless instances >= 1 and users >= 1."""
        ...


class Supervised(Problem, Protocol):
    """A problem that is solved exactly, one instance at a time; the network learns from labels."""

    def optimum(self, gains: NDArray[np.float64]) -> NDArray[np.float64]:
        """Optimal powers [..., N] in W for gains [..., N]. Raises ValueError (bad gains) or NotConverged."""
        ...


class Payloads(Supervised, Protocol):
    """One whose users' payloads may differ: bits are L_n [..., N]."""

    def objective(self, gains: Tensor, power: Tensor, mask: Tensor, bits: Tensor | None = None) -> Tensor:
        """As above, with these payloads; None: equal ones."""
        ...

    def optimum(self, gains: NDArray[np.float64], bits: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """As above, with these payloads; None: equal ones."""
        ...

    @property
    def payload_ratio(self) -> float:
        """The largest payload of a training sample over the smallest, at most; 1: all are equal."""
        ...

    def payloads(self, rng: np.random.Generator, instances: int, users: int) -> NDArray[np.float64]:
        """L_n [instances, users] > 0 in bits."""
        ...


class Unsupervised(Problem, Protocol):
    """A problem with limits on means over channels; the network learns by primal-dual steps on the objective."""

    @property
    def p_av(self) -> float:
        """The limit on mean power in W, as the preset states it."""
        ...

    def mean_power(self, users: int) -> float:
        """The limit on E[P_n] in W for each n, with `users` users."""
        ...


def payload_ratio(problem: Problem) -> float:
    """That of a problem with payloads; 1 for every other."""
    return float(getattr(problem, "payload_ratio", 1.0))
