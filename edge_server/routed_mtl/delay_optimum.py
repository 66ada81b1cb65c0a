"""The exact optimum of P3: powers that minimise the mean delay over FDMA bands. numpy and scipy, float64.

With u_n = ln(1 + a_n P_n) and w_n = ln(2) L_n / (N W), the KKT conditions of (P3) say u_n^2 exp(u_n) = w_n a_n / nu, so
u_n = 2 W0(sqrt(w_n a_n / nu) / 2). One number per instance is left: s = ln nu, with sum_n P_n(s) = P_tot. As
ln sum_n P_n is convex in s and its slope lies between -1 and -1/2, Newton's method converges from any start.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_server.routed_mtl.checks import NotConverged, positive, positive_array

Array = NDArray[np.float64]

LARGEST_SPREAD = 1e-9
NEWTON_STEPS = 50
BUDGET_TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False)
class DelayOptimum:
    """What minimises the mean delay.

    power [..., N] in W; the sum over n is P_tot.
    multiplier [...]: nu in s/W, the rate at which a larger P_tot would lower the mean delay.
    spread [...]: max_n nu_n / min_n nu_n - 1, with nu_n the multiplier that P_n alone implies; 0 at the optimum.
    """

    power: Array
    multiplier: Array
    spread: Array


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def minimise_delay(gain: ArrayLike, bits: ArrayLike, bandwidth: float, p_tot: float) -> DelayOptimum:
    """(P3), any number of instances at once: min (1/N) sum_n L_n / (W log2(1 + a_n P_n)), sum_n P_n <= P_tot.

    gain [..., N]: a_n = |h_n|^2 / (N0 W) in 1/W. bits: L_n, [..., N] or what broadcasts to it. bandwidth: W in Hz, of
    one band. p_tot in W. ValueError unless all are positive and finite and N >= 1.
    Raises NotConverged where a spread exceeds 1e-9, or where gains are too extreme for float64.
    """
    positive("p3", bandwidth=bandwidth, p_tot=p_tot)
    a = positive_array("p3: gain", gain)
    load = positive_array("p3: bits", np.atleast_1d(bits)) * (math.log(2) / (a.shape[-1] * bandwidth))
    power = _powers(a, np.log(a * load), p_tot)
    log_multipliers = _log_multipliers(np.log(a * load), np.log1p(a * power))
    spread = np.asarray(np.expm1(np.ptp(log_multipliers, axis=-1)))
    _check(spread)
    return DelayOptimum(power, np.exp(log_multipliers.mean(axis=-1)), spread)


def delays(gain: ArrayLike, power: ArrayLike, bits: ArrayLike, bandwidth: float) -> Array:
    """L_n / (W log2(1 + a_n P_n)) in s, [..., N]; infinite where a user has no power. Arguments as above."""
    rate = np.log1p(np.multiply(gain, power)) * (bandwidth / math.log(2))
    with np.errstate(divide="ignore"):
        return np.asarray(np.divide(bits, rate), dtype=np.float64)


def mean_delay(gain: ArrayLike, power: ArrayLike, bits: ArrayLike, bandwidth: float) -> Array:
    """The mean of `delays` over the users in s, [...]."""
    return np.asarray(delays(gain, power, bits, bandwidth).mean(axis=-1))


def _powers(a: Array, log_pull: Array, p_tot: float) -> Array:
    """P [..., N] for log_pull = ln(w_n a_n): Newton's steps on s = ln nu, every instance in each step."""
    from scipy.special import wrightomega

    inverse = 1 / a
    s = _start(a * (p_tot / a.shape[-1]), log_pull)
    for _ in range(NEWTON_STEPS):
        u = 2 * wrightomega((log_pull - s) / 2 - math.log(2))
        power = np.expm1(u) * inverse
        total = power.sum(axis=-1, keepdims=True)
        excess = np.log(total / p_tot)
        if not (np.abs(excess) > BUDGET_TOLERANCE).any():
            break
        fall = ((power + inverse) * u / (2 + u)).sum(axis=-1, keepdims=True)
        s += excess * total / fall
    return np.asarray(power * (p_tot / total))


def _start(snr: Array, log_pull: Array) -> Array:
    """s [..., 1], exact for small signal-to-noise ratios: sqrt(nu) = mean_n sqrt(nu_n) of equal powers."""
    log_multipliers = _log_multipliers(log_pull, np.log1p(snr))
    top = log_multipliers.max(axis=-1, keepdims=True)
    return np.asarray(top + 2 * np.log(np.exp((log_multipliers - top) / 2).mean(axis=-1, keepdims=True)))


def _log_multipliers(log_pull: Array, u: Array) -> Array:
    """ln nu_n [..., N] of u_n^2 exp(u_n) = w_n a_n / nu_n."""
    return np.asarray(log_pull - 2 * np.log(u) - u)


def _check(spread: Array) -> None:
    far = ~(spread <= LARGEST_SPREAD)
    if far.any():
        raise NotConverged(
            f"p3: {int(far.sum())} of {spread.size} instances did not converge in {NEWTON_STEPS} steps: "
            f"their KKT spread is up to {np.max(spread[far]):.3g}, the limit {LARGEST_SPREAD:g}"
        )
