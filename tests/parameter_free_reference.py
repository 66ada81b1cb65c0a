"""The parameter-free rule for one linear cell in plain numpy, written from its formulas alone: the oracle of a test.

One sample per user and slot, squared loss, Theta and X the box [-1, 1]^d.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STRENGTHS = np.array([2.0**j for j in range(-1, 9)] + [1e9])


class Played(NamedTuple):
    """theta [T, m+1, d] as served, then the average; w [T, m, K], x [T+1, d], eta [T]: the step last taken."""

    theta: Array
    w: Array
    x: Array
    eta: Array


def play(features: Array, labels: Array, stars: Array, alpha: float, u_max: float, exact: bool) -> Played:
    """features [T, m, K, d], labels [T, m, K], stars [T, d]: theta*_t."""
    rounds, slots, users, size = features.shape
    a = radius = squares = 0.0
    strength = 0.0
    s, bend, noise, x = 1.0, np.zeros((2, 2)), np.zeros(2), np.zeros(size)
    mean, last, prior, paid = x, x, np.zeros(users), np.zeros(len(STRENGTHS))
    served, weights, starts, steps = [], [], [x], []
    for t in range(1, rounds + 1):
        theta, delta, h, q = x.copy(), np.stack([0 * x, last - mean]), np.zeros(2), np.zeros((2, 2))
        seen, path, row = np.zeros((0, users)), [x], []
        for i in range(slots):
            v = np.clip(predicted(seen, prior, strength), 1, u_max) ** -alpha
            error = features[t - 1, i] @ theta - labels[t - 1, i]
            loss, slope, p = error**2, 2 * error[:, None] * features[t - 1, i], v / v.sum()
            g, level = p @ slope, p @ loss
            if t == 1:
                first = float(min(level / np.linalg.norm(g), 0.01 * (1 + np.linalg.norm(x))))
                radius = first if i == 0 else max(radius, float(np.linalg.norm(theta - x)))
                squares += g @ g
                eta = radius / np.sqrt(squares)
                theta = np.clip(theta - eta * g, -1, 1)
            else:
                eta = min(np.exp(a), 2 * level / (g @ g))
                hessian = (slope.T * (p / (2 * loss))) @ slope if exact else np.outer(g, g) / (2 * level * (p @ p))
                h, q = h + delta @ g, q + delta @ hessian @ delta.T
                delta = delta - eta * delta @ hessian
                delta[0] -= eta * g * (eta == np.exp(a))
                free = theta - eta * g
                theta = np.clip(free, -1, 1)
                delta = delta * (theta == free)
            seen = np.concatenate([seen, [u_max - loss]])
            path.append(theta)
            row.append(-v)
        if t == 1:
            a = np.log(eta)
        else:
            bend, noise = (1 - 1 / t) * bend + q, (1 - 1 / t) * noise + h**2
            damped = bend + np.diag(np.sqrt(noise))
            move = np.linalg.solve(damped, h) if noise[1] > 0 else np.array([h[0] / damped[0, 0], 0])
            a, s = a - np.clip(move[0], -0.25, 1), np.clip(s - np.clip(move[1], -1, 1), 0, 1)
            paid += [cost(seen, prior, n, alpha, u_max) for n in STRENGTHS]
        strength = float(STRENGTHS[paid.argmin()])
        prior, last = prior + (seen.mean(0) - prior) / t, stars[t - 1]
        mean = mean + (last - mean) / t
        x = np.clip(mean + s * (last - mean), -1, 1)
        count = np.arange(1, slots + 1)
        path[-1] = np.average(path[1:], axis=0, weights=count * (count + 1) * (count + 2))
        served.append(path)
        weights.append(row)
        starts.append(x)
        steps.append(eta)
    return Played(np.array(served), np.array(weights), np.array(starts), np.array(steps))


def predicted(seen: Array, prior: Array, strength: float) -> Array:
    """h [K]: the prior counted `strength` times among the utilities seen [i, K]; 1 where nothing is known."""
    count = strength + len(seen)
    return (strength * prior + seen.sum(0)) / count if count else np.ones_like(prior)


def cost(seen: Array, prior: Array, strength: float, alpha: float, u_max: float) -> float:
    """What this strength would have paid in a round with utilities seen [m, K]."""
    h = np.clip([predicted(seen[:i], prior, strength) for i in range(len(seen))], 1, u_max)
    conjugate = np.log(h) - 1 if alpha == 1 else (alpha * h ** (1 - alpha) - 1) / (1 - alpha)
    return float((conjugate.mean(0) + (h**-alpha).mean(0) * seen.mean(0)).sum())
