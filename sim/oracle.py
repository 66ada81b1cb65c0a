"""The exact theta*_t of Eq. (2) for a linear encoder, identity heads and squared loss on a box.

Sequential quadratic programming: mean utilities are concave quadratics of theta and f_ext is concave, so every
step maximises the local quadratic model over the box exactly (daqp) and is shortened until the objective rises.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import daqp
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_server.domains import Ball, Box, Domain
from edge_server.fairness import AlphaFair
from edge_server.outer import Hindsight

Array = NDArray[np.float64]

TOLERANCE = 1e-8
"""Largest KKT residual of an accepted solution."""
_GOAL = 1e-11
_STEPS = 200
_RIDGE = 1e-12
"""Added to the Hessian, relative to its trace: flat directions stay where they are."""
_UNBOUNDED = 1e30


class NotConverged(RuntimeError):
    """The oracle could not solve a round to its tolerance."""


class Optimum(NamedTuple):
    """A solved round."""

    hindsight: Hindsight
    kkt: float
    """max |theta - Proj(theta + s grad)|, s = max(1, 1/largest |w|): at least the residual with s = 1."""


@dataclass(frozen=True)
class Oracle:
    """Solves max over the domain of f_ext(mean_i u_i(theta)), u_ik = l_max_k - mean_b (x theta - y)^2.

    l_max [K] float64. domain: Theta, a box or none; a ball raises ValueError.
    """

    fairness: AlphaFair
    l_max: Array
    domain: Domain

    def __post_init__(self) -> None:
        if isinstance(self.domain, Ball):
            raise ValueError("edge.meta.target: oracle solves boxes only, not a ball; use domain {box: c} or none")

    def solve(self, round_: int, x: Sequence[Array], y: Sequence[Array]) -> Optimum:
        """The best fixed model of a round. Per user x [m, B, d] and y [m, B] float64; users may differ in B.

        Raises NotConverged, naming the round and the residual, above a KKT residual of 1e-8.
        """
        theta, kkt = self.best(round_, x, y)
        return Optimum(Hindsight(torch.from_numpy(theta), self.utilities(theta, x, y)), kkt)

    def best(self, round_: int, x: Sequence[Array], y: Sequence[Array]) -> tuple[Array, float]:
        """theta [d] of `solve` and its KKT residual; here users may differ in m, too. Raises NotConverged."""
        losses = _MeanLosses.of(x, y)
        half_width = self.domain.half_width if isinstance(self.domain, Box) else _UNBOUNDED
        theta, kkt = _Search(self.fairness, self.l_max, losses, half_width).run()
        if not kkt <= TOLERANCE:
            raise NotConverged(
                f"oracle, round {round_}: KKT residual {kkt:.2e} where the search stops, limit {TOLERANCE:g}; "
                "the data may be too badly scaled: rescale the features, or use edge.meta.target last or average"
            )
        return theta, kkt

    def utilities(self, theta: Array, x: Sequence[Array], y: Sequence[Array]) -> Tensor:
        """u_ik(theta) [m, K] for theta [d]; x and y as in `solve`."""
        losses = [((xk @ theta - yk) ** 2).mean(-1) for xk, yk in zip(x, y, strict=True)]
        return torch.from_numpy(self.l_max - np.stack(losses, axis=-1))


class _MeanLosses(NamedTuple):
    """Each user's loss, averaged over the round: theta.A theta - 2 b.theta + c."""

    a: Array
    b: Array
    c: Array

    @classmethod
    def of(cls, x: Sequence[Array], y: Sequence[Array]) -> "_MeanLosses":
        rows = [xk.reshape(-1, xk.shape[-1]) for xk in x]
        labels = [yk.reshape(-1) for yk in y]
        return cls(
            np.stack([r.T @ r / len(r) for r in rows]),
            np.stack([v @ r / len(r) for r, v in zip(rows, labels, strict=True)]),
            np.array([np.square(v).mean() for v in labels]),
        )

    def at(self, theta: Array) -> tuple[Array, Array]:
        """Losses [K] and half their gradients [K, d]."""
        pulled = self.a @ theta
        return pulled @ theta - 2 * self.b @ theta + self.c, pulled - self.b


class _Point(NamedTuple):
    theta: Array
    utilities: Array
    slopes: Array
    """[K, d]: gradients of the mean utilities."""
    value: float
    prices: Array
    """[K]: |w_k|, the gradient of f_ext."""
    kkt: float


class _Search:
    def __init__(self, fairness: AlphaFair, l_max: Array, losses: _MeanLosses, half_width: float) -> None:
        self.fairness, self.l_max, self.losses, self.half_width = fairness, l_max, losses, half_width

    def run(self) -> tuple[Array, float]:
        """The best theta [d] found and its KKT residual."""
        point = best = self._at(np.zeros(self.losses.b.shape[1]))
        for _ in range(_STEPS):
            if point.kkt <= _GOAL:
                break
            moved = self._advance(point)
            if moved is None:
                break
            point = moved
            best = min(best, point, key=lambda p: p.kkt)
        return best.theta, best.kkt

    def _at(self, theta: Array) -> _Point:
        losses, half = self.losses.at(theta)
        u = torch.from_numpy(self.l_max - losses)
        prices = self.fairness.extended_gradient(u).numpy()
        slopes = -2 * half
        ascent = prices @ slopes * max(1.0, 1.0 / prices.max())
        kkt = float(np.abs(theta - self._project(theta + ascent)).max())
        return _Point(theta, u.numpy(), slopes, self.fairness.extended(u), prices, kkt)

    def _project(self, theta: Array) -> Array:
        return np.clip(theta, -self.half_width, self.half_width)

    def _advance(self, point: _Point) -> _Point | None:
        """A better point along the exact step of the quadratic model; None when rounding hides any progress."""
        step = self._newton_step(point)
        if step is None:
            return None
        rise = float(point.prices @ point.slopes @ step)
        size = 1.0
        while size > 1e-12:
            moved = self._at(self._project(point.theta + size * step))
            if moved.value >= point.value + 1e-4 * size * rise and moved.value > point.value:
                return moved
            if moved.kkt < 0.5 * point.kkt and self._indistinguishable(moved, point):
                return moved
            size /= 2
        return None

    def _indistinguishable(self, a: _Point, b: _Point) -> bool:
        scale = abs(a.value) + float(a.prices @ np.abs(self.l_max))
        return abs(a.value - b.value) <= 1e-13 * scale

    def _newton_step(self, point: _Point) -> Array | None:
        """The maximiser of the quadratic model over the box, less theta; None when daqp finds none."""
        scale = 1.0 / point.prices.max()
        hessian = self._hessian(point) * scale
        hessian += np.eye(len(hessian)) * (_RIDGE * np.trace(hessian) + 1e-300)
        ascent = point.prices @ point.slopes * scale
        if self.half_width == _UNBOUNDED:
            return np.linalg.solve(hessian, ascent)
        upper, lower = self.half_width - point.theta, -self.half_width - point.theta
        step, _, flag, _ = daqp.solve(
            hessian, -ascent, np.empty((0, len(ascent))), upper, lower, primal_tol=1e-13, dual_tol=1e-13
        )
        return np.asarray(step) if flag == 1 else None

    def _hessian(self, point: _Point) -> Array:
        """Minus the Hessian of f_ext(mean utilities) in theta [d, d], positive semidefinite."""
        inside = ~self.fairness.out_of_range(torch.from_numpy(point.utilities)).numpy()
        bend = np.where(inside, self.fairness.alpha * point.prices / np.where(inside, point.utilities, 1), 0)
        curved = 2 * np.tensordot(point.prices, self.losses.a, axes=1)
        return np.asarray(curved + (point.slopes.T * bend) @ point.slopes)
