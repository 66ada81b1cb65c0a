"""Regret on the five convex streams: parameter-free, OWO-FMTL and equal weights, all cells side by side.

python docs/decisions/measured/parameter_free_cells.py [SEEDS]

A vectorised stand-in for thousands of `equiran run`: every (stream, alpha, seed) is one entry of the arrays' last axis
N. OWO-FMTL and equal weights have the theory's step with measured G, D* and the oracle. Streams are those of maths.md
A3, from seeds of their own. T = 512.
"""

import sys
from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray

from edge_server.domains import Box
from edge_server.fairness import AlphaFair
from sim.oracle import Oracle

Array = NDArray[np.float64]

ROUNDS, SLOTS, ALPHAS = 512, (32, 128), (0.0, 0.5, 1.0, 2.0)
STREAMS = ("stochastic", "alternate", "random", "conflict", "half")
PAIRS = ("stochastic", "alternate", "random", "half")
"""Streams of two users."""
STRENGTHS = np.array([2.0**j for j in range(-1, 9)] + [1e9])


def draw(stream: str, seed: int, slots: int) -> tuple[Array, Array]:
    """tau, y [T, m, K]."""
    rng = default_rng([seed, STREAMS.index(stream), slots])
    users = 8 if stream == "conflict" else 2
    tau = rng.uniform(size=(ROUNDS, slots, users))
    once = (ROUNDS, 1, 1)
    if stream == "conflict":
        omega, phi = rng.normal(1, 0.3, once), rng.normal(np.pi / 3, 0.1, once)
        size = np.where(np.arange(users) == 0, 1.5, -0.75)
        return tau, size * np.sin(omega * tau + phi) + rng.normal(0, 0.1, tau.shape)
    if stream == "half":
        size = np.array([1, -0.5]) * rng.normal(1, 0.2, once)
        second = (2 * np.arange(slots) >= slots)[:, None]
        noise = rng.choice([-1.6, 1.6], tau.shape) * np.concatenate([~second, second], 1)
        return tau, size * np.sin(1.2 * tau + np.pi / 3) + noise
    each = (ROUNDS, 1, 2)
    size, omega = rng.normal([1, 0.6], [0.2, 0.5], each), rng.normal([1, 0.75], [1, 1], each)
    angle = omega * tau + rng.normal([np.pi / 3, np.pi / 4], [0.01, 0.01], each)
    y = size * np.stack([np.sin(angle[..., 0]), np.cos(angle[..., 1])], -1) + rng.normal(0.05, 0.1, tau.shape)
    y[..., 0] *= signs(stream, rng, slots)
    return tau, y


def signs(stream: str, rng: np.random.Generator, slots: int) -> Array | float:
    """What user 1's labels are multiplied by, [T, m]."""
    block = np.arange(slots) // isqrt(slots)
    if stream == "alternate":
        return np.asarray((-1.0) ** (np.arange(ROUNDS)[:, None] + block))
    return rng.choice([-1.0, 1.0], (ROUNDS, block[-1] + 1))[:, block] if stream == "random" else 1.0


@dataclass
class Cells:
    """Cells with equal K and m. keys [N]: (stream, alpha, seed)."""

    keys: list[tuple[str, float, int]]
    slots: int

    def __post_init__(self) -> None:
        unique = sorted({(stream, seed) for stream, _, seed in self.keys})
        self._of = np.array([unique.index((stream, seed)) for stream, _, seed in self.keys])
        drawn = [draw(stream, seed, self.slots) for stream, seed in unique]
        self._tau, self._y = (np.stack(arrays, -1) for arrays in zip(*drawn, strict=True))
        self.alpha = np.array([alpha for _, alpha, _ in self.keys])
        self.u_max = np.array([5.0 if stream == "conflict" else 4.0 for stream, _, _ in self.keys])
        self.users, self.size = self._tau.shape[2], len(self.keys)

    def round(self, t: int) -> tuple[Array, Array]:
        """Features [m, 4, K, N] and labels [m, K, N]."""
        tau = self._tau[t]
        return np.stack([tau**power for power in range(4)], 1)[..., self._of], self._y[t][..., self._of]

    def clip(self, u: Array) -> Array:
        """u [.., K, N] clipped to the range meant."""
        return np.asarray(np.clip(u, 1.0, self.u_max))

    def fairness(self, u: Array) -> Array:
        """f_ext of u [K, N], per cell [N]."""
        inside, rest = self.clip(u), np.where(self.alpha == 1, 1.0, 1 - self.alpha)
        value = np.where(self.alpha == 1, np.log(inside), np.expm1(np.log(inside) * rest) / rest)
        return np.asarray((value + inside**-self.alpha * (u - inside)).sum(0))

    def conjugates(self, h: Array) -> Array:
        """c(-h^-alpha) per user, h in the range."""
        rest = np.where(self.alpha == 1, 1.0, 1 - self.alpha)
        return np.where(self.alpha == 1, np.log(h) - 1, (self.alpha * h**rest - 1) / rest)


def best_models(cells: Cells) -> tuple[Array, Array]:
    """theta*_t [T, 4, N] and the fairness there [T, N]; KKT residuals at most 1e-8."""
    stars, fairness = np.empty((ROUNDS, 4, cells.size)), np.empty((ROUNDS, cells.size))
    for n, (_, alpha, _) in enumerate(cells.keys):
        u_max = float(cells.u_max[n])
        oracle = Oracle(AlphaFair(alpha, 1.0, u_max), np.full(cells.users, u_max), Box(1.0))
        one = Cells([cells.keys[n]], cells.slots)
        for t in range(ROUNDS):
            features, labels = one.round(t)
            x = [features[:, None, :, k, 0] for k in range(cells.users)]
            found = oracle.solve(t, x, [labels[:, None, k, 0] for k in range(cells.users)])
            stars[t, :, n] = found.hindsight.theta.numpy()
            fairness[t, n] = oracle.fairness.extended(found.hindsight.utilities.mean(0))
    return stars, fairness


def play_by_hand(cells: Cells, stars: Array, eta: Array, equal: bool) -> tuple[Array, Array]:
    """OWO-FMTL, or equal weights, with a running mean: fairness [T, N] and the largest gradient [N]."""
    strong, weak = -np.ones(cells.size), -(cells.u_max**-cells.alpha)
    root, x = np.where(cells.alpha == 0, 1.0, cells.alpha), np.zeros((4, cells.size))
    found, largest = np.empty((ROUNDS, cells.size)), np.zeros(cells.size)
    for t in range(ROUNDS):
        (features, labels), theta, total = cells.round(t), x, np.zeros((cells.users, cells.size))
        w = np.full_like(total, -1 / cells.users) if equal else np.tile(strong, (cells.users, 1))
        for i in range(cells.slots):
            error = (features[i] * theta[:, None]).sum(0) - labels[i]
            u = cells.u_max - error**2
            gradient = (features[i] * (-2 * w * error)).sum(1)
            largest = np.maximum(largest, np.sqrt((gradient**2).sum(0)))
            theta, total = np.clip(theta - eta * gradient, -1, 1), total + u
            if not equal:
                moved = np.clip(w - ((-w) ** (-1 / root) - u) * root / (i + 1), strong, weak)
                w = np.where(cells.alpha == 0, w, moved)
        found[t] = cells.fairness(total / cells.slots)
        x = x + (stars[t] - x) / (t + 1)
    return found, largest


def by_theory(cells: Cells, stars: Array, equal: bool) -> Array:
    """Fairness [T, N] with eta = D*/(G sqrt m), G measured in three passes."""
    square = (stars**2).sum(1)
    apart = [square[:, n, None] + square[:, n] - 2 * stars[:, :, n] @ stars[:, :, n].T for n in range(cells.size)]
    d_star = np.sqrt([max(float(a.max()), 0.0) for a in apart])
    eta = d_star / (10 * np.sqrt(cells.slots))
    for _ in range(3):
        eta = d_star / (play_by_hand(cells, stars, eta, equal)[1] * np.sqrt(cells.slots))
    return play_by_hand(cells, stars, eta, equal)[0]


class Slot(NamedTuple):
    """p [K, N], L [N], G [4, N], and H delta for delta [2, 4, N] with its slope and bend."""

    shares: Array
    losses: Array
    level: Array
    gradients: Array
    gradient: Array

    def along(self, delta: Array, exact: bool) -> tuple[Array, Array, Array]:
        """Slope [2, N], bend [2, 2, N] and H delta [2, 4, N]."""
        if not exact:
            z = (self.gradient * delta).sum(1)
            c = 1 / (2 * self.level * (self.shares**2).sum(0))
            return z, c * z[:, None] * z, (c * z)[:, None] * self.gradient
        each = (self.gradients * delta[:, :, None]).sum(1)
        bent = self.shares / (2 * self.losses) * each
        return (self.shares * each).sum(1), (bent[:, None] * each).sum(2), (bent[:, None] * self.gradients).sum(2)


class Free:
    """The rule of edge_server/parameter_free and aggregators/parameter_free.py, all cells at once."""

    def __init__(self, cells: Cells, exact: bool) -> None:
        shape, n = (cells.users, cells.size), cells.size
        self.cells, self.exact, self.t = cells, exact, 0
        self.log_step, self.pull, self.strength = np.zeros(n), np.ones(n), np.zeros(n)
        self.bend, self.noise = np.zeros((2, 2, n)), np.zeros((2, n))
        self.radius, self.squares, self.eta = np.zeros(n), np.zeros(n), np.zeros(n)
        self.x, self.mean, self.last = (np.zeros((4, n)) for _ in range(3))
        self.prior, self.cost = np.zeros(shape), np.zeros((len(STRENGTHS), n))

    def run(self, stars: Array) -> Array:
        """Fairness [T, N]."""
        return np.stack([self.round(*self.cells.round(t), stars[t]) for t in range(ROUNDS)])

    def round(self, features: Array, labels: Array, star: Array) -> Array:
        """Fairness [N] of the next round."""
        cells, theta, served = self.cells, self.x, []
        total = np.zeros_like(self.prior)
        slope, bend = np.zeros((2, cells.size)), np.zeros((2, 2, cells.size))
        delta = np.stack([np.zeros_like(theta), self.last - self.mean])
        self.t += 1
        for i in range(cells.slots):
            error = (features[i] * theta[:, None]).sum(0) - labels[i]
            slot = self.seen(error, features[i], total, i)
            eta, learned = self.step(slot, theta, i)
            free = theta - eta * slot.gradient
            if self.t > 1:
                z, q, bent = slot.along(delta, self.exact)
                slope, bend, delta = slope + z, bend + q, delta - eta * bent
                delta[0] -= np.where(learned, eta, 0) * slot.gradient
                delta = np.where(np.abs(free) <= 1, delta, 0)
            theta, total = np.clip(free, -1, 1), total + cells.u_max - error**2
            served.append(cells.u_max - error**2)
        self.learn(slope, bend, np.array(served), star)
        return cells.fairness(total / cells.slots)

    def seen(self, error: Array, features: Array, total: Array, i: int) -> Slot:
        """Slot i, weighted by the prediction from `total` [K, N], the utilities before it."""
        count = self.strength + i
        h = np.where(count > 0, (self.strength * self.prior + total) / np.maximum(count, 1e-300), 1.0)
        v = self.cells.clip(h) ** -self.cells.alpha
        shares, losses = v / v.sum(0), np.maximum(error**2, 1e-12)
        gradients = 2 * error * features
        return Slot(shares, losses, (shares * losses).sum(0), gradients, (shares * gradients).sum(1))

    def step(self, slot: Slot, theta: Array, i: int) -> tuple[Array, NDArray[np.bool_]]:
        """eta [N], and where it is the learned one."""
        squared = (slot.gradient**2).sum(0)
        if self.t > 1:
            learned, most = np.exp(self.log_step), 2 * slot.level / squared
            return np.minimum(learned, most), learned <= most
        moved = np.sqrt(((theta - self.x) ** 2).sum(0))
        self.squares = self.squares + squared
        first = np.minimum(slot.level / np.sqrt(squared), 0.01)
        self.radius = np.maximum(self.radius, moved) if i else first
        self.eta = self.radius / np.sqrt(self.squares)
        return self.eta, squared < 0

    def learn(self, slope: Array, bend: Array, served: Array, star: Array) -> None:
        """What changes between two rounds; served [m, K, N]."""
        if self.t == 1:
            self.log_step = np.log(self.eta)
        else:
            self.move(slope, bend)
            self.cost += np.array([self.paid(served, strength) for strength in STRENGTHS])
        self.strength = STRENGTHS[self.cost.argmin(0)]
        self.prior = self.prior + (served.mean(0) - self.prior) / self.t
        self.last, self.mean = star, self.mean + (star - self.mean) / self.t
        self.x = self.mean + self.pull * (star - self.mean)

    def move(self, slope: Array, bend: Array) -> None:
        """One step of (a, s) on slope [2, N] and bend [2, 2, N]."""
        kept = 1 - 1 / self.t
        self.bend, self.noise = kept * self.bend + bend, kept * self.noise + slope**2
        (aa, ab), (_, ss) = self.bend + np.sqrt(self.noise) * np.eye(2)[:, :, None]
        ss = np.where(self.noise[1] > 0, ss, 1.0)
        determinant = aa * ss - ab**2
        a, s = (ss * slope[0] - ab * slope[1]) / determinant, (aa * slope[1] - ab * slope[0]) / determinant
        self.log_step = self.log_step - np.clip(a, -0.25, 1)
        self.pull = np.clip(self.pull - np.clip(s, -1, 1), 0, 1)

    def paid(self, served: Array, strength: float) -> Array:
        """What a strength would have paid [N] in a round with utilities served [m, K, N]."""
        before = np.concatenate([np.zeros_like(served[:1]), served.cumsum(0)[:-1]])
        count = strength + np.arange(len(served))[:, None, None]
        h = self.cells.clip((strength * self.prior + before) / count)
        weights = h**-self.cells.alpha
        return np.asarray((self.cells.conjugates(h).mean(0) + weights.mean(0) * served.mean(0)).sum(0))


def regrets(cells: Cells) -> Array:
    """Mean regret [4, N] of: joint curvature, exact curvature, OWO-FMTL, equal weights."""
    stars, best = best_models(cells)
    played = [Free(cells, exact).run(stars) for exact in (False, True)]
    played += [by_theory(cells, stars, equal) for equal in (False, True)]
    return np.stack([(best - fairness).mean(0) for fairness in played])


def main(seeds: int) -> None:
    """The table, and how many cells meet the goal."""
    sys.stdout.write(
        "| m | alpha | stream | joint | exact | OWO-FMTL | equal | within | better |\n|" + "---|" * 9 + "\n"
    )
    within = better = 0
    for slots in SLOTS:
        for streams in (PAIRS, ("conflict",)):
            keys = [(stream, alpha, seed) for stream in streams for alpha in ALPHAS for seed in range(seeds)]
            means = regrets(Cells(keys, slots)).reshape(4, -1, seeds).mean(2)
            for (stream, alpha, _), (joint, exact, owo, equal) in zip(keys[::seeds], means.T, strict=True):
                best = min(owo, equal)
                meets, beats = joint <= best + max(0.1 * abs(best), 0.002), joint < owo
                within, better = within + meets, better + beats
                numbers = " | ".join(f"{value:.4f}" for value in (joint, exact, owo, equal))
                said = " | ".join("yes" if yes else "no" for yes in (meets, beats))
                sys.stdout.write(f"| {slots} | {alpha:g} | {stream} | {numbers} | {said} |\n")
                sys.stdout.flush()
    sys.stdout.write(f"\nwithin max(10 %, .002) of the better: {within} of 40; better than OWO-FMTL: {better} of 40\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
