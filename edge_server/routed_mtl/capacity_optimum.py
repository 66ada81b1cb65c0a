"""The optimum of P4 over all policies, and two simple policies beside it. numpy and scipy, float64.

For a multiplier lambda in bits per W, each state's powers maximise log2(1 + sum_n g_n P_n) - lambda sum_n P_n. In order
of falling gain P_k = clip(level - (1 + P_tot sum_{j<k} g_j) / g_k, 0, P_tot), with the water level 1 / (lambda ln 2).
Users whose gains follow one law share one lambda, found from E[P_n] = P_av on samples.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_server.routed_mtl.checks import positive, positive_array

Array = NDArray[np.float64]


def optimal_power(gains: ArrayLike, multiplier: float, p_tot: float) -> Array:
    """P [..., N] in W for gains |h|^2 [..., N] and lambda in bits per W; 0 <= P_n <= p_tot.

    Raises ValueError unless gains, multiplier and p_tot are positive and finite and N >= 1.
    """
    positive("p4", multiplier=multiplier, p_tot=p_tot)
    g = positive_array("p4: gains", gains)
    order = np.argsort(-g, axis=-1)
    ground = _ground(np.take_along_axis(g, order, axis=-1), p_tot)
    power = np.empty_like(g)
    np.put_along_axis(power, order, _poured(ground, 1 / (multiplier * math.log(2)), p_tot), axis=-1)
    return power


def find_multiplier(gains: ArrayLike, p_tot: float, mean_power: float) -> float:
    """lambda in bits per W at which the mean of P_n over instances and users is mean_power (W), to 1e-12 relative.

    gains [instances, N]: samples of |h|^2, one law for all users. Raises ValueError for bad gains, unless
    0 < mean_power < p_tot: a mean at p_tot limits nothing, so nothing but full power is optimal there.
    """
    check_limits(p_tot, mean_power)
    if mean_power == p_tot:
        raise ValueError(f"p4: the mean power {mean_power:g} W equals P_tot, so no multiplier is needed")
    g = positive_array("p4: gains", gains)
    ground = _ground(-np.sort(-g, axis=-1), p_tot)

    from scipy.optimize import brentq

    def excess(log_level: float) -> float:
        return float(_poured(ground, math.exp(log_level), p_tot).mean()) - mean_power

    log_level = brentq(excess, math.log(ground.min()), math.log(ground.max() + p_tot), xtol=1e-12)
    return math.exp(-log_level) / math.log(2)


def threshold_power(gains: ArrayLike, p_tot: float, mean_power: float, mean_gain: float = 1.0) -> Array:
    """P_n = p_tot where g_n > mean_gain ln(p_tot / mean_power), else 0; [..., N] in W.

    Under Rayleigh fading of mean |h|^2 mean_gain, E[P_n] = mean_power. ValueError as in `find_multiplier`.
    """
    check_limits(p_tot, mean_power)
    threshold = mean_gain * math.log(p_tot / mean_power)
    return np.where(positive_array("p4: gains", gains) > threshold, p_tot, 0.0)


def sum_capacity(gains: ArrayLike, power: ArrayLike) -> Array:
    """log2(1 + sum_n g_n P_n) in bits, [...], of gains and powers [..., N]."""
    return np.asarray(np.log1p(np.multiply(gains, power).sum(axis=-1)) / math.log(2))


def check_limits(p_tot: float, mean_power: float) -> None:
    """Raises ValueError unless 0 < mean_power <= p_tot, both in W."""
    positive("p4", p_tot=p_tot, mean_power=mean_power)
    if mean_power > p_tot:
        raise ValueError(f"p4: the mean power P_av = {mean_power:g} W must be at most P_tot = {p_tot:g} W")


def _ground(falling: Array, p_tot: float) -> Array:
    """(1 + P_tot sum_{j<k} g_j) / g_k [..., N] of gains in falling order: the level above which user k gets power."""
    stronger = np.cumsum(falling, axis=-1) - falling
    return np.asarray((1 + p_tot * stronger) / falling)


def _poured(ground: Array, level: float, p_tot: float) -> Array:
    return np.clip(level - ground, 0.0, p_tot)
