"""The exact optima of P3 and P4: how exact, how fast, and the optimum of P4 for every N.

OMP_NUM_THREADS=1 python docs/decisions/measured/power_optima.py    (needs the test extra: cvxpy)
"""

import math
import statistics
import sys
import time
from collections.abc import Callable

import cvxpy
import numpy as np
from numpy.typing import NDArray

from edge_server.routed_mtl import p3_delay
from edge_server.routed_mtl.capacity_optimum import find_multiplier, optimal_power, sum_capacity, threshold_power
from edge_server.routed_mtl.delay_optimum import mean_delay, minimise_delay

USERS = (5, 8, 10, 12, 15, 18, 20)
P_TOT = 10.0
BITS = BANDWIDTH = 1e6


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _wide(rng: np.random.Generator, instances: int, users: int) -> NDArray[np.float64]:
    """Gains of -10 to 144 dB per W."""
    return np.asarray(10 ** rng.uniform(-1, 14.4, (instances, users)))


def _seconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median wall and CPU seconds."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def _conic(gain: NDArray[np.float64]) -> float:
    """The least mean delay by Clarabel, in shares of P_tot."""
    share, snr = cvxpy.Variable(gain.size), gain * P_TOT
    nats = np.log(snr) + cvxpy.log(share + 1 / snr)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.inv_pos(nats))), [cvxpy.sum(share) <= 1, share >= 0])
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(problem.value) * BITS * math.log(2) / (gain.size * BANDWIDTH)


def _exactness() -> None:
    rng = np.random.default_rng(4)
    spreads = [minimise_delay(_wide(rng, 1600, n), BITS, BANDWIDTH, P_TOT).spread.max() for n in range(2, 65)]
    _say(f"P3, {1600 * len(spreads)} instances, N 2..64, -10..144 dB: largest KKT spread {max(spreads):.2g}")
    far = []
    for i in range(300):
        gain = _wide(rng, 1, 2 + i % 63)[0]
        ours = mean_delay(gain, minimise_delay(gain, BITS, BANDWIDTH, P_TOT).power, BITS, BANDWIDTH)
        far.append(abs(float(ours) / _conic(gain) - 1))
    _say(f"P3 against cvxpy, 300 instances: largest relative delay difference {max(far):.2g}")


def _speed() -> None:
    rng = np.random.default_rng(4)
    gains = [1e3 * rng.standard_exponential((40_000, n)) for n in USERS]
    wall, cpu = _seconds(lambda: [minimise_delay(gain, BITS, BANDWIDTH, P_TOT) for gain in gains], 7)
    _say(f"P3, 280,000 instances: {wall:.2f} s wall, {cpu:.2f} s CPU")
    for users, few, many in ((5, gains[0][:1], gains[0][:10_000]), (20, gains[-1][:1], gains[-1][:10_000])):
        one = _seconds(lambda few=few: minimise_delay(few, BITS, BANDWIDTH, P_TOT), 500)[0]
        all_ = _seconds(lambda many=many: minimise_delay(many, BITS, BANDWIDTH, P_TOT), 15)[0]
        conic = _seconds(lambda few=few: _conic(few[0]), 15)[0]
        _say(f"P3, N = {users}: one {one * 1e6:.0f} us, 10,000 {all_ * 1e3:.0f} ms; cvxpy, one {conic * 1e3:.1f} ms")


def _trivial() -> None:
    rng = np.random.default_rng(4)
    for name, problem in p3_delay.PRESETS.items():
        gains = problem.rho * problem.sample(rng, 10_000, 20)
        best = mean_delay(gains, minimise_delay(gains, BITS, BANDWIDTH, P_TOT).power, BITS, BANDWIDTH)
        equal = mean_delay(gains, np.full_like(gains, P_TOT / 20), BITS, BANDWIDTH)
        gap = equal / best - 1
        _say(f"P3 {name}, N = 20: equal power is {np.median(gap):.4%} (median), {gap.mean():.4%} (mean) slower")


def _floor() -> None:
    for users in (5, 20):
        problem = p3_delay.PRESETS["default"]
        gains = problem.sample(np.random.default_rng(4), 100_000, users)
        power = problem.optimum(gains)
        raised = np.maximum(power, problem.floor * P_TOT / users)
        raised *= P_TOT / raised.sum(axis=-1, keepdims=True)
        least, floored = (mean_delay(problem.rho * gains, p, BITS, BANDWIDTH) for p in (power, raised))
        gap = floored / least - 1
        _say(f"P3's floor, N = {users}: {gap.mean():.1g} (mean), {gap.max():.1g} (largest) slower than the optimum")


def _capacity() -> None:
    for users in USERS:
        gains = np.random.default_rng([4, users]).standard_exponential((400_000, users))
        multiplier = find_multiplier(gains, 1.0, 0.5)
        best = sum_capacity(gains, optimal_power(gains, multiplier, 1.0)).mean()
        on_off = sum_capacity(gains, threshold_power(gains, 1.0, 0.5)).mean()
        constant = sum_capacity(gains, np.full_like(gains, 0.5)).mean()
        printed = find_multiplier(gains, 1.0, 0.5 / users)
        literal = sum_capacity(gains, optimal_power(gains, printed, 1.0)).mean()
        _say(
            f"P4, N = {users}: optimum {best:.4f}, lambda {multiplier:.4f}, threshold {on_off:.4f}, "
            f"constant {constant:.4f}; as printed {literal:.3f}"
        )


def main() -> None:
    """One line per figure."""
    _exactness()
    _speed()
    _trivial()
    _floor()
    _capacity()


if __name__ == "__main__":
    main()
