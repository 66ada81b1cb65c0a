"""What P3 costs in general solvers: cvxpy with a conic solver, and the textbook interior point of Section III-C."""

import importlib
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_server.routed_mtl.checks import NotConverged

Array = NDArray[np.float64]

ACCURACY = 1e-8
"""Relative duality gap and residuals at which the interior point stops; Clarabel's default is the same."""

ITERATIONS = 200
_CENTRING = 0.1
_TO_THE_BOUNDARY = 0.9

NO_CVXPY = "cvxpy is not installed, so its numbers are null; `pip install equiran[test]` brings it"


class Conic:
    """P3 with equal payloads for N users, compiled once by cvxpy and solved by Clarabel for one instance at a time."""

    def __init__(self, users: int) -> None:
        """Raises ImportError without cvxpy."""
        cvxpy: Any = importlib.import_module("cvxpy")
        self._share = cvxpy.Variable(users)
        self._log_snr, self._inverse_snr = cvxpy.Parameter(users), cvxpy.Parameter(users, nonneg=True)
        nats = self._log_snr + cvxpy.log(self._share + self._inverse_snr)
        limits = [cvxpy.sum(self._share) <= 1, self._share >= 0]
        self._problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.inv_pos(nats))), limits)

    def __call__(self, snr: Array) -> Array:
        """Optimal shares [N] of P_tot for snr [N]: a_n P_tot, the ratio if user n had all the power."""
        self._log_snr.value, self._inverse_snr.value = np.log(snr), 1 / snr
        self._problem.solve(solver="CLARABEL")
        return np.asarray(self._share.value)

    def next_of(self, snr: Array) -> Callable[[], object]:
        """A call that solves the next of the instances snr [D, N], over and over."""
        rows = itertools.cycle(snr)
        return lambda: self(next(rows))

    @property
    def own_seconds(self) -> float:
        """What Clarabel itself took for the last instance, without cvxpy around it."""
        return float(self._problem.solver_stats.solve_time)


def conic(users: int) -> Conic | None:
    """None where cvxpy is not installed."""
    try:
        return Conic(users)
    except ImportError:
        return None


class InteriorPoint(NamedTuple):
    """share [B, N] of P_tot; iterations: Newton steps, the same number for every instance of the batch."""

    share: Array
    iterations: int


def interior_point(snr: Array) -> InteriorPoint:
    """P3 with equal payloads by a primal-dual interior-point method whose Newton systems are dense.

    snr [B, N]: a_n P_tot. Each of O(sqrt(N) log(1/accuracy)) steps factors a matrix of N variables, N bounds and one
    budget, (2 N + 1)^2: the count behind O(N^3.5) in Section III-C. Raises NotConverged.
    """
    users = snr.shape[1]
    x = np.full(snr.shape, 1 / users)
    scale = 1 / (1 / np.log1p(snr * x)).sum(-1, keepdims=True)
    slack_price, price = np.ones(snr.shape), np.zeros((len(snr), 1))
    for taken in range(ITERATIONS):
        slope, curvature = _derivatives(snr, x, scale)
        gap = (x * slack_price).mean(-1, keepdims=True)
        residuals = np.concatenate(
            [slope - slack_price + price, x * slack_price - _CENTRING * gap, x.sum(-1, keepdims=True) - 1], axis=-1
        )
        if users * gap.max() < ACCURACY and np.abs(residuals).max() < ACCURACY:
            return InteriorPoint(x, taken)
        step = np.linalg.solve(_newton(curvature, x, slack_price), -residuals[..., None])[..., 0]
        length = _length(np.concatenate([x, slack_price], -1), step[:, :-1])
        x = x + length * step[:, :users]
        slack_price = slack_price + length * step[:, users:-1]
        price = price + length * step[:, -1:]
    raise NotConverged(f"interior point: not within {ACCURACY:g} after {ITERATIONS} steps, N = {users}")


def _derivatives(snr: Array, x: Array, scale: Array) -> tuple[Array, Array]:
    """First and second derivatives [B, N] of scale sum_n 1 / ln(1 + snr_n x_n), each in its own x_n."""
    nats, fall = np.log1p(snr * x), snr / (1 + snr * x)
    return -scale * fall / nats**2, scale * fall**2 * (2 / nats**3 + 1 / nats**2)


def _newton(curvature: Array, x: Array, slack_price: Array) -> Array:
    """[B, 2 N + 1, 2 N + 1] for steps in x, in the prices of x >= 0, and in the price of the budget."""
    batch, users = x.shape
    matrix = np.zeros((batch, 2 * users + 1, 2 * users + 1))
    n = np.arange(users)
    matrix[:, n, n], matrix[:, n, users + n], matrix[:, n, -1] = curvature, -1, 1
    matrix[:, users + n, n], matrix[:, users + n, users + n] = slack_price, x
    matrix[:, -1, n] = 1
    return matrix


def _length(values: Array, step: Array) -> Array:
    """[B, 1]: how far each instance may go so that its values stay positive, at most 1."""
    with np.errstate(divide="ignore"):
        room = np.where(step < 0, -values / step, math.inf).min(-1, keepdims=True)
    return np.asarray(np.minimum(1.0, _TO_THE_BOUNDARY * room))
