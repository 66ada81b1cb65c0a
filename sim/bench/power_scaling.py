"""How solvers and networks grow with N, and what they take for B instances at once: Section III-C of routed MTL."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_server.routed_mtl.capacity_optimum import find_multiplier, optimal_power
from edge_server.routed_mtl.folded import LAYERS, DenseFunction
from edge_server.routed_mtl.policy import Policy
from edge_server.routed_mtl.publishing import publish
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.tasks import Tasks
from edge_server.routed_mtl.training import Trainer
from sim.bench.power import P3, P4, routed
from sim.bench.power_reference import Conic, conic, interior_point
from sim.bench.power_turns import Effort, medians

Array = NDArray[np.float64]

SIZES = (5, 8, 12, 20, 32, 64)
LARGE = 20
"""Slopes are fitted from here up too: below, what does not depend on N hides what does."""

SERVED = (5, 20, 64)
BATCHES = (1, 10, 100, 1000, 10_000)
BATCH = 1000
DENSE_BATCH = 32
"""Instances at a time of the dense interior point; its matrices are (2 N + 1)^2 each."""

Call = Callable[[], object]


def policy_for(sizes: tuple[int, ...]) -> Policy:
    """An untrained routed network that serves P3 and P4 for these N, its masks hard."""
    tasks, places = Tasks.grid([P3, P4], sizes), max(sizes)
    return publish(Trainer(tasks, routed((0, 1), places), draw_samples(tasks, 10, 0, places)))


def scaling(policy: Policy, effort: Effort, sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """Microseconds per instance at each N, and slopes of ln time against ln N, over all N and from N = 20 up."""
    rows = [_scaling_row(policy, users, effort) for users in sizes]
    kinds = [key for key in rows[0] if key.endswith("_us") and rows[0][key] is not None]
    large = [row for row in rows if row["users"] >= LARGE]
    slopes = {kind.removesuffix("_us"): {"all": slope(rows, kind), "large": slope(large, kind)} for kind in kinds}
    return {"rows": rows, "slopes": slopes}


def slope(rows: list[dict[str, Any]], kind: str) -> float | None:
    """The exponent p of the least-squares fit time = c N^p; None for fewer than two N."""
    if len(rows) < 2:
        return None
    users, times = ([row[key] for row in rows] for key in ("users", kind))
    return float(np.polyfit(np.log(users), np.log(times), 1)[0])


def inference(policy: Policy, effort: Effort, batches: tuple[int, ...] = BATCHES) -> list[dict[str, Any]]:
    """Microseconds per instance by N and B; cvxpy takes one instance at a time, so its number holds for every B."""
    return [row for users in SERVED for row in _inference_rows(policy, users, batches, effort)]


def _scaling_row(policy: Policy, users: int, effort: Effort) -> dict[str, Any]:
    gains = P3.sample(np.random.default_rng(users), BATCH, users)
    snr, single, solver = P3.rho * P3.p_tot * gains, gains.astype(np.float32), conic(users)
    square = full_width(users)
    own: list[float] = []
    calls: dict[str, Call] = {
        "interior_point": lambda: interior_point(snr[:DENSE_BATCH]),
        "exact": lambda: P3.optimum(gains),
        "full_width": lambda: square(single),
        "network": lambda: policy(P3.name, single),
    }
    if solver is not None:
        calls["cvxpy"] = _noting(solver, snr, own)
    times = {"cvxpy": None} | medians(calls, effort)
    each = {name: None if s is None else 1e6 * s / _instances(name) for name, s in times.items()}
    return {
        "users": users,
        "iterations": interior_point(snr[:DENSE_BATCH]).iterations,
        "interior_point_us": each["interior_point"],
        "cvxpy_us": each["cvxpy"],
        "conic_us": 1e6 * float(np.median(own)) if own else None,
        "exact_us": each["exact"],
        "full_width_us": each["full_width"],
        "network_us": each["network"],
    }


def full_width(users: int) -> DenseFunction:
    """L layers of N x N, as Section III-C assumes; the bDNN's inner layers keep their width whatever N is."""
    rng = np.random.default_rng(users)
    weights = [rng.normal(0, users**-0.5, (users, users)).astype(np.float32) for _ in range(LAYERS)]
    return DenseFunction(tuple(weights), tuple(np.zeros((LAYERS, users), dtype=np.float32)))


def _noting(solver: Conic, snr: Array, own: list[float]) -> Call:
    following = solver.next_of(snr)

    def call() -> None:
        following()
        own.append(solver.own_seconds)

    return call


def _instances(name: str) -> int:
    return {"interior_point": DENSE_BATCH, "cvxpy": 1}.get(name, BATCH)


def _inference_rows(policy: Policy, users: int, batches: tuple[int, ...], effort: Effort) -> list[dict[str, Any]]:
    solver, gains = conic(users), P3.sample(np.random.default_rng(users), max(batches), users)
    multiplier = find_multiplier(gains, P4.p_tot, P4.p_av)
    one = None if solver is None else medians({"cvxpy": solver.next_of(P3.rho * P3.p_tot * gains)}, effort)["cvxpy"]
    rows = []
    for batch in batches:
        times = medians(_calls(policy, gains[:batch], multiplier), effort)
        each = {f"{name}_us": 1e6 * seconds / batch for name, seconds in times.items()}
        rows.append({"users": users, "batch": batch, **each, "p3_cvxpy_us": None if one is None else 1e6 * one})
    return rows


def _calls(policy: Policy, gains: Array, multiplier: float) -> dict[str, Call]:
    single = gains.astype(np.float32)
    return {
        "p3_net": lambda: policy(P3.name, single),
        "p3_exact": lambda: P3.optimum(gains),
        "p4_net": lambda: policy(P4.name, single),
        "p4_exact": lambda: optimal_power(gains, multiplier, P4.p_tot),
    }
