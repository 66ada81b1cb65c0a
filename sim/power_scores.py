"""How good a power policy is on fresh samples: its distance to the exact optimum and how far it breaks its limits.

Every table and every `power.json` takes its numbers from here. Rates are in bits, powers in W, delays in s.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from edge_server.routed_mtl.capacity_optimum import find_multiplier, optimal_power
from edge_server.routed_mtl.masks import overlap
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.problems import Problem, Supervised, Unsupervised
from edge_server.routed_mtl.samples import draw_payloads
from edge_server.routed_mtl.streams import numpy_stream
from edge_server.routed_mtl.tasks import Task

SAMPLES = 400_000
CHUNK = 20_000
"""Instances at a time: 20 users of them stay near the cache."""
LABELS = {"p3_delay": "P3", "p4_capacity": "P4"}
"""The names in `power.json`; a problem of one's own goes by its own."""

Array = NDArray[np.float64]
PowerOf = Callable[..., ArrayLike]
"""A published policy, or any function of a problem's name, gains [B, N], and bits [B, N] where payloads differ; powers
[B, N] in W."""


def score(policy: PowerOf, problem: Problem, users: int, seed: int, samples: int = SAMPLES) -> dict[str, Any]:
    """One entry of `power.json`'s tasks, over `samples` fresh channels that depend on (seed, problem name, N) alone.

    Supervised: gap_mean, gap_median, gap_p99 of delay / optimum - 1 per instance; label_mse, the mean over instances
    and users of (P - P*)^2 in W^2; delay_mse, the mean of (delay - optimum)^2 in s^2. Unsupervised: rate in bits, its
    optimum on the same channels and percent_of_optimum (None for a problem without a known one), what `simple_rates`
    reach on them (the same), and violation_mean
    and violation_max over n of violation_n = mean P_n - limit, in W. The rest is None.
    """
    entry: dict[str, Any] = dict.fromkeys(_KEYS)
    entry |= {"problem": LABELS.get(problem.name, problem.name), "n": users}
    if problem.kind == "supervised":
        return entry | _supervised(policy, cast("Supervised", problem), users, seed, samples)
    return entry | _unsupervised(policy, cast("Unsupervised", problem), users, seed, samples)


_KEYS = (
    "problem", "n", "gap_mean", "gap_median", "gap_p99", "label_mse", "delay_mse",
    "rate", "optimum", "percent_of_optimum", "violation_mean", "violation_max", "constant", "threshold",
)  # fmt: skip


def mask_overlap(state: Mapping[str, Tensor]) -> list[list[float]] | None:
    """Jaccard index [K][K] of the tasks' hard masks in a trainer's state; None if nothing is routed or hardened yet."""
    masks = state.get("network.masks")
    if masks is None:
        return None
    return [[round(value, 6) for value in row] for row in overlap(masks.cpu()).tolist()]


def fresh_gains(problem: Problem, users: int, seed: int, samples: int = SAMPLES) -> Array:
    """|h|^2 [samples, users], from a stream of its own that no training run reads."""
    return problem.sample(numpy_stream(seed, "scores", f"{problem.name}/{users}"), samples, users)


def _supervised(policy: PowerOf, problem: Supervised, users: int, seed: int, samples: int) -> dict[str, float]:
    gaps, misses, squares = [], 0.0, 0.0
    for gains, *bits in _instances(problem, users, seed, samples):
        best, ours = problem.optimum(gains, *bits), np.array(policy(problem.name, gains, *bits), np.float64)
        optimum, delay = (_objective(problem, gains, power, *bits) for power in (best, ours))
        gaps.append(delay / optimum - 1)
        misses += float(np.square(delay - optimum).sum())
        squares += float(np.square(ours - best).sum())
    gap = np.concatenate(gaps)
    return {
        "gap_mean": float(gap.mean()),
        "gap_median": float(np.median(gap)),
        "gap_p99": float(np.quantile(gap, 0.99)),
        "label_mse": squares / (samples * users),
        "delay_mse": misses / samples,
    }


def _unsupervised(policy: PowerOf, problem: Unsupervised, users: int, seed: int, samples: int) -> dict[str, Any]:
    total, sums = 0.0, np.zeros(users)
    for gains in _chunks(fresh_gains(problem, users, seed, samples)):
        power = np.array(policy(problem.name, gains), np.float64)
        total += float(_objective(problem, gains, power).sum())
        sums += power.sum(axis=0)
    rate, violation = total / samples, sums / samples - problem.mean_power(users)
    optimum, constant, threshold = None, None, None
    if isinstance(problem, P4Capacity):
        optimum = best_rate(problem, users, seed, samples)
        constant, threshold = simple_rates(problem, users, seed, samples)
    return {
        "rate": rate,
        "constant": constant,
        "threshold": threshold,
        "optimum": optimum,
        "percent_of_optimum": None if optimum is None else 100 * rate / optimum,
        "violation_mean": float(violation.mean()),
        "violation_max": float(violation.max()),
    }


@lru_cache(maxsize=64)
def best_rate(problem: P4Capacity, users: int, seed: int, samples: int = SAMPLES) -> float:
    """P4's optimum in bits, on the channels that `score` draws."""
    gains, limit = fresh_gains(problem, users, seed, samples), problem.mean_power(users)
    if limit == problem.p_tot:
        return float(np.mean(_objective(problem, gains, np.full_like(gains, limit))))
    multiplier = find_multiplier(gains, problem.p_tot, limit)
    parts = _chunks(gains)
    return (
        sum(float(_objective(problem, g, optimal_power(g, multiplier, problem.p_tot)).sum()) for g in parts) / samples
    )


@lru_cache(maxsize=64)
def simple_rates(problem: P4Capacity, users: int, seed: int, samples: int = SAMPLES) -> tuple[float, float]:
    """P4's rates in bits of two rules that need no network and meet the limit, on the channels that `score` draws.

    Constant: the mean power, always. Threshold: P_tot to a user above the gain that a share P_av / P_tot of all gains
    exceed, else nothing.
    """
    gains, limit = fresh_gains(problem, users, seed, samples), problem.mean_power(users)
    least = np.quantile(gains, 1 - limit / problem.p_tot)
    constant = sum(float(_objective(problem, g, np.full_like(g, limit)).sum()) for g in _chunks(gains))
    parts = _chunks(gains)
    threshold = sum(float(_objective(problem, g, np.where(g >= least, problem.p_tot, 0.0)).sum()) for g in parts)
    return constant / samples, threshold / samples


def _instances(problem: Problem, users: int, seed: int, samples: int) -> Iterator[tuple[Array, ...]]:
    """Gains [B, N], with payloads [B, N] where they differ."""
    gains = fresh_gains(problem, users, seed, samples)
    bits = draw_payloads(Task(problem, users), samples, seed, "payloads of scores")
    return zip(_chunks(gains), strict=True) if bits is None else zip(_chunks(gains), _chunks(bits), strict=True)


def _objective(problem: Problem, gains: Array, power: Array, *bits: Array) -> Array:
    everyone, told = torch.ones(gains.shape, dtype=torch.bool), map(torch.from_numpy, bits)
    found: Array = problem.objective(torch.from_numpy(gains), torch.from_numpy(power), everyone, *told).numpy()
    return found


def _chunks(gains: Array) -> Iterator[Array]:
    return (gains[start : start + CHUNK] for start in range(0, len(gains), CHUNK))
