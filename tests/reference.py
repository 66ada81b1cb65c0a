"""OWO-FMTL once more, in plain numpy and straight from maths.md A1 to A3; imports nothing of ours.

A linear model without bias, identity heads, squared loss (mean over the batch). x [T, m, K, B, d], y [T, m, K, B].
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    alpha: float
    u_min: float
    u_max: float
    l_max: float
    eta: float
    theta_box: float | None = None
    x_box: float | None = None
    dual: str = "ogd"
    horizon: str = "round"
    index: str = "slot"
    scale: str | float = "none"
    target: str = "last"
    rule: str | float = "running_mean"
    constant: tuple[float, ...] | None = None


class Trace(NamedTuple):
    """theta [T, m+1, d], x [T+1, d], w [T, m+1, K] as applied, theta_star [T, d], regret [T]."""

    theta: Array
    x: Array
    w: Array
    theta_star: Array
    regret: Array


def boxed(v: Array, half_width: float | None) -> Array:
    return v if half_width is None else np.maximum(-half_width, np.minimum(half_width, v))


def fairness(u: Array, alpha: float) -> float:
    return float(np.sum(np.log(u)) if alpha == 1 else np.sum((u ** (1 - alpha) - 1) / (1 - alpha)))


def extended(u: Array, s: Setting) -> float:
    total = 0.0
    for v in u:
        c = min(max(v, s.u_min), s.u_max)
        total += fairness(np.array([c]), s.alpha) + c**-s.alpha * (v - c)
    return total


def losses(theta: Array, x: Array, y: Array) -> Array:
    """[...]: over the last axis of y."""
    return np.mean((x @ theta - y) ** 2, axis=-1)


def loss_gradients(theta: Array, x: Array, y: Array) -> Array:
    """[K, d] for x [K, B, d], y [K, B]."""
    return np.stack([2 * xk.T @ (xk @ theta - yk) / len(yk) for xk, yk in zip(x, y, strict=True)])


def mean_utilities(theta: Array, x: Array, y: Array, s: Setting) -> Array:
    """[K] over one round, x [m, K, B, d]."""
    return s.l_max - losses(theta, x, y).mean(axis=0)


def objective(theta: Array, x: Array, y: Array, s: Setting) -> float:
    return extended(mean_utilities(theta, x, y, s), s)


def objective_gradient(theta: Array, x: Array, y: Array, s: Setting) -> Array:
    price = np.clip(mean_utilities(theta, x, y, s), s.u_min, s.u_max) ** -s.alpha
    return np.asarray(-price @ np.mean([loss_gradients(theta, xi, yi) for xi, yi in zip(x, y, strict=True)], axis=0))


def oracle(x: Array, y: Array, s: Setting) -> Array:
    """theta*_t by L-BFGS-B, then Newton with differenced gradients on the coordinates off their bounds."""
    d = x.shape[-1]
    bounds = None if s.theta_box is None else [(-s.theta_box, s.theta_box)] * d
    found = minimize(
        lambda v: -objective(v, x, y, s),
        np.zeros(d),
        jac=lambda v: -objective_gradient(v, x, y, s),
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-16, "gtol": 1e-12, "maxiter": 5000},
    )
    return polish(found.x, x, y, s)


def polish(theta: Array, x: Array, y: Array, s: Setting) -> Array:
    edge = np.inf if s.theta_box is None else s.theta_box
    for _ in range(30):
        slope = objective_gradient(theta, x, y, s)
        stuck = (np.abs(theta) >= edge - 1e-9) & (slope * np.sign(theta) > 0)
        free = np.flatnonzero(~stuck)
        if free.size == 0 or np.abs(slope[free]).max() < 1e-14:
            break
        h = 1e-4
        columns = [
            (objective_gradient(theta + h * e, x, y, s) - objective_gradient(theta - h * e, x, y, s))[free] / (2 * h)
            for e in np.eye(len(theta))[free]
        ]
        newton = np.zeros_like(theta)
        newton[free] = np.linalg.lstsq(np.stack(columns, axis=1), slope[free], rcond=1e-10)[0]
        moved = next((v for v in tries(theta, newton, s) if objective(v, x, y, s) >= objective(theta, x, y, s)), None)
        if moved is None:
            break
        theta = moved
    return theta


def tries(theta: Array, newton: Array, s: Setting) -> Iterator[Array]:
    """Shorter and shorter steps, each put back into the box: a full one may leave the set of active bounds."""
    for halvings in range(30):
        yield boxed(theta - newton / 2**halvings, s.theta_box)


class Dual:
    """The users' weights, one slot after the other."""

    def __init__(self, users: int, s: Setting) -> None:
        self.s, self.users = s, users
        self.rounds = 0
        self.reset()

    def reset(self) -> None:
        self.w = np.full(self.users, -(self.s.u_min**-self.s.alpha))
        self.seen: list[Array] = []

    def begin_round(self) -> None:
        self.rounds += 1
        if self.s.horizon != "run":
            self.reset()

    def answer(self, u: Array) -> Array:
        return np.asarray(-(np.clip(u, self.s.u_min, self.s.u_max) ** -self.s.alpha))

    def applied(self, u: Array) -> Array:
        if self.s.constant is not None:
            return -np.array(self.s.constant)
        w = self.answer(u) if self.s.horizon == "slot" else self.w
        if self.s.scale == "mean":
            return np.full(self.users, w.mean())
        return w if self.s.scale == "none" else w / -w.sum() * float(self.s.scale)

    def step(self, u: Array) -> None:
        self.seen.append(u)
        if self.s.horizon == "slot":
            self.w = self.answer(u)
        elif self.s.dual == "follow_the_leader":
            self.w = self.answer(np.mean(self.seen, axis=0))
        elif self.s.alpha > 0:
            a, low = self.s.alpha, self.s.u_min
            mu = low ** (1 + a) / a
            i = len(self.seen) if self.s.index == "slot" else self.rounds
            moved = self.w - ((-self.w) ** (-1 / a) - u) / (mu * i)
            self.w = np.clip(moved, -(low**-a), -(self.s.u_max**-a))


def reference_run(x: Array, y: Array, s: Setting, x1: Array | None = None) -> Trace:
    rounds, _, users, _, d = x.shape
    start = [np.zeros(d) if x1 is None else x1]
    dual = Dual(users, s)
    thetas, weights, stars, regrets = [], [], [], []
    for t in range(rounds):
        theta, served, w = serve_round(start[-1], x[t], y[t], dual, s)
        best = oracle(x[t], y[t], s)
        star = {"last": theta[-1], "average": theta[:-1].mean(axis=0), "oracle": best}[s.target]
        start.append(next_start(start, star, t + 1, s))
        thetas.append(theta)
        weights.append(w)
        stars.append(star)
        regrets.append(objective(best, x[t], y[t], s) - extended(served, s))
    return Trace(np.stack(thetas), np.stack(start), np.stack(weights), np.stack(stars), np.array(regrets))


def serve_round(theta: Array, x: Array, y: Array, dual: Dual, s: Setting) -> tuple[Array, Array, Array]:
    """Models [m+1, d], mean utilities as served [K], weights [m+1, K]."""
    dual.begin_round()
    path, utilities, weights = [theta], [], []
    for xi, yi in zip(x, y, strict=True):
        u = s.l_max - losses(theta, xi, yi)
        w = dual.applied(u)
        theta = boxed(theta + s.eta * w @ loss_gradients(theta, xi, yi), s.theta_box)
        dual.step(u)
        path.append(theta)
        utilities.append(u)
        weights.append(w)
    return np.stack(path), np.mean(utilities, axis=0), np.stack([*weights, dual.applied(utilities[-1])])


def next_start(start: list[Array], star: Array, t: int, s: Setting) -> Array:
    if s.rule == "scratch":
        return start[0]
    step = {"running_mean": 1 / t, "continue": 1.0}.get(str(s.rule)) or float(s.rule)
    return boxed(start[-1] - step * (start[-1] - star), s.x_box)


GOLDEN_X = np.array(
    [
        [[[1, 0.5], [1, -0.5]], [[1, 0.2], [0.5, 1]], [[0.3, 1], [1, 1]]],
        [[[0.5, 0.5], [1, 0]], [[0, 1], [1, 0.5]], [[1, 1], [0.2, 0.8]]],
    ]
)[:, :, :, None, :]
GOLDEN_Y = np.array([[[0.5, -1], [1, 0.25], [-0.5, 0.5]], [[1, 0], [-1, 0.5], [0.25, 0.75]]])[..., None]
GOLDEN = Setting(
    alpha=2, u_min=1, u_max=4, l_max=4, eta=0.05, theta_box=1.0, x_box=1.0, target="oracle", rule="running_mean"
)
GOLDEN_THETA = [
    [[0, 0], [-0.05, 0.075], [-0.042906, 0.077544]],
    [[0.118739, 0.261229], [0.147366, 0.301729], [0.148627, 0.294224]],
]
GOLDEN_W = [[[-1, -1], [-0.0625, -0.0625], [-1, -0.1025]], [[-1, -1], [-0.0625, -0.0625], [-1, -0.103211]]]
GOLDEN_STARS = [[0.118739, 0.261229], [0.518382, -0.143986]]
GOLDEN_X3 = [0.318561, 0.058621]
