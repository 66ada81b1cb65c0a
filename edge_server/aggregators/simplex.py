"""Exact quadratic programs over mixtures of users, for rules that look for a common direction."""

import daqp
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TOLERANCE = 1e-7
"""Largest duality gap of an accepted mixture, relative to the mean squared gradient norm."""
_GOAL = 1e-12
_PULL = 1e-6
"""Towards the last mixture: Gramians are singular as soon as there are more users than directions."""
_PASSES = 20
_EQUALITY = 5


def best_mixture(gramian: Array, linear: Array) -> Array:
    """A minimiser of w.G w/2 + linear.w over the simplex, w [P]; equal gradients get equal shares.

    gramian G [P, P], positive semidefinite with mean diagonal 1. Quadratic programs with a vanishing pull towards the
    last one's answer, from 1/P on. Raises ValueError when the duality gap stays open.
    """
    mixture: Array = np.full(len(gramian), 1 / len(gramian))
    curved = gramian + _PULL * np.eye(len(gramian))
    scale = max(1.0, float(np.abs(linear).max()))
    for _ in range(_PASSES):
        mixture = _solved(curved, linear - _PULL * mixture)
        gap = duality_gap(gramian @ mixture + linear, mixture)
        if gap <= _GOAL * scale:
            break
    if not gap <= TOLERANCE * scale:
        raise ValueError(f"no best mixture of {len(gramian)} users' gradients: the duality gap is still {gap:.1e}")
    return mixture


def duality_gap(slope: Array, mixture: Array) -> float:
    """How far a mixture w [P] on the simplex can be from the best one, by the objective's slope there [P]."""
    return float(slope @ mixture - slope.min())


def _solved(curved: Array, linear: Array) -> Array:
    users = len(curved)
    upper, lower = np.append(np.full(users, np.inf), 1.0), np.append(np.zeros(users), 1.0)
    sense = np.append(np.zeros(users, np.int32), np.int32(_EQUALITY))
    found, _, flag, _ = daqp.solve(
        curved, linear, np.ones((1, users)), upper, lower, sense, primal_tol=1e-12, dual_tol=1e-12
    )
    if flag != 1:
        raise ValueError(f"no best mixture of {users} users' gradients: daqp ended with {flag}")
    mixture: Array = np.clip(found, 0, None)
    mixture /= mixture.sum()
    return mixture
