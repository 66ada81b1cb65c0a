"""The theory's step eta = D*/(G sqrt m), with G measured by pre-passes in memory on the same streams (maths.md A1)."""

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import pdist

from edge_server.build import build_domain
from edge_server.primal_dual import theory_step
from edge_server.record import Event, RoundRecord
from edge_server.scoring import Theory
from sim.build import Blueprint, Step, hindsights
from sim.local import Hooks, run_in_memory

PASSES = 3
"""Fixed-point passes for G, after the first guess of eta."""

Progress = Callable[[str], None]


class NoTheory(Exception):
    """The theory's step does not exist for this scenario."""


def resolve_step(design: Blueprint, on_progress: Progress, stop: Callable[[], bool]) -> Step:
    """The inner step of a run: the scenario's number, or the theory's. Raises NoTheory, NotConverged, RunFailed."""
    step = design.scenario.edge.primal.step
    if step != "theory":
        return step, None
    return _measured(design, on_progress, stop)


def _measured(design: Blueprint, on_progress: Progress, stop: Callable[[], bool]) -> Step:
    scenario, slots = design.scenario, design.scenario.slots
    on_progress("theory step: D* from the oracle")
    d_star = _diameter(design)
    eta = d_star / (10 * np.sqrt(slots))
    gradient = 0.0
    for number in range(PASSES):
        on_progress(f"theory step: pass {number + 1} of {PASSES} over all rounds, eta {eta:.4g}")
        gradient = _largest_gradient(design, eta, stop)
        if stop():
            break
        eta = theory_step(d_star, gradient, slots)
    diameter = build_domain(scenario.edge.primal.domain).diameter(_parameters(design))
    theory = Theory(d_star, diameter, gradient) if np.isfinite(diameter) else None
    return eta, theory


def _diameter(design: Blueprint) -> float:
    """D*: the largest distance between two theta*_t."""
    scenario = design.scenario
    oracle = hindsights(scenario, np.array([user.l_max for user in design.plan.users]))
    thetas = np.stack([oracle(t).theta.numpy() for t in range(scenario.rounds)])
    d_star = float(pdist(thetas).max(initial=0.0))
    if d_star == 0:
        raise NoTheory("edge.primal.step: theory needs rounds whose best models differ, but D* is 0; give a number")
    return d_star


def _largest_gradient(design: Blueprint, eta: float, stop: Callable[[], bool]) -> float:
    """G: the largest norm of a weighted gradient in one pass with this eta."""
    largest = 0.0

    def on_round(record: RoundRecord) -> None:
        nonlocal largest
        largest = max(largest, record.gradient_norm)

    def on_event(event: Event) -> None:
        del event

    run_in_memory(design, (eta, None), Hooks(on_round, on_event, stop))
    return largest


def _parameters(design: Blueprint) -> int:
    """d of the linear encoder that an oracle can solve."""
    return int(np.prod(design.plan.users[0].feature_shape))
