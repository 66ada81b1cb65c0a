"""The exact optimum of the slowest user: powers that minimise the longest delay over FDMA bands. numpy, float64.

At the optimum every user takes the same time tau, for power taken from a faster one would help the slowest. With
y = ln(2) / (W tau) and u_n = L_n y this says P_n = (e^(u_n) - 1) / a_n, and one number per instance is left: s = ln y,
with sum_n P_n(s) = P_tot. ln sum_n P_n is convex in s with a slope of at least 1, so Newton's method falls to the root
from any s above it. One such start is min_n ln(1 + a_n P_tot) / L_n, each user with all the power, which is at most N
times too large. All is computed with ln P_n: no gain or payload that float64 holds overflows.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_server.routed_mtl.checks import NotConverged, positive, positive_array
from edge_server.routed_mtl.delay_optimum import delays

Array = NDArray[np.float64]

LARGEST_SPREAD = 1e-9
NEWTON_STEPS = 50
BUDGET_TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False)
class MinMaxOptimum:
    """What minimises the longest delay.

    power [..., N] in W; the sum over n is P_tot. delay [...] in s: the longest. spread [...]: max_n delay_n /
    min_n delay_n - 1; 0 at the optimum.
    """

    power: Array
    delay: Array
    spread: Array


@np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore")
def minimise_longest(gain: ArrayLike, bits: ArrayLike, bandwidth: float, p_tot: float) -> MinMaxOptimum:
    """min max_n L_n / (W log2(1 + a_n P_n)), sum_n P_n <= P_tot; any number of instances at once.

    gain [..., N]: a_n = |h_n|^2 / (N0 W) in 1/W. bits: L_n, [..., N] or what broadcasts to it. bandwidth: W in Hz, of
    one band. p_tot in W. ValueError unless all are positive and finite and N >= 1.
    Raises NotConverged where a spread exceeds 1e-9, or where gains are too extreme for float64.
    """
    positive("min_max", bandwidth=bandwidth, p_tot=p_tot)
    a = positive_array("min_max: gain", gain)
    load = np.broadcast_to(positive_array("min_max: bits", np.atleast_1d(bits)), a.shape)
    power = _powers(a, load, p_tot)
    taken = delays(a, power, load, bandwidth)
    longest = np.asarray(taken.max(axis=-1))
    spread = np.asarray(longest / taken.min(axis=-1) - 1)
    _check(spread)
    return MinMaxOptimum(power, longest, spread)


def longest_delay(gain: ArrayLike, power: ArrayLike, bits: ArrayLike, bandwidth: float) -> Array:
    """The largest of `delays` over the users in s, [...]."""
    return np.asarray(delays(gain, power, bits, bandwidth).max(axis=-1))


def _powers(a: Array, load: Array, p_tot: float) -> Array:
    """P [..., N]: Newton's steps on s = ln y, every instance in each step."""
    log_need = -np.log(a) - math.log(p_tot)
    s = np.log(np.log1p(a * p_tot) / load).min(axis=-1, keepdims=True)
    for _ in range(NEWTON_STEPS):
        u = load * np.exp(s)
        kept = -np.expm1(-u)
        log_share = u + np.log(kept) + log_need
        top = log_share.max(axis=-1, keepdims=True)
        share = np.exp(log_share - top)
        total = share.sum(axis=-1, keepdims=True)
        excess = top + np.log(total)
        if not (np.abs(excess) > BUDGET_TOLERANCE).any():
            break
        s -= excess * total / (share * u / kept).sum(axis=-1, keepdims=True)
    return np.asarray(share * (p_tot / total))


def _check(spread: Array) -> None:
    far = ~(spread <= LARGEST_SPREAD)
    if far.any():
        raise NotConverged(
            f"min_max: {int(far.sum())} of {spread.size} instances did not converge in {NEWTON_STEPS} steps: "
            f"their delays differ by up to {np.max(spread[far]):.3g}, the limit is {LARGEST_SPREAD:g}"
        )
