"""The inner step of a run: a number, Theorem 1's eta = D*/(G sqrt m), or that for a guessed D* (maths.md A1, A2.12).

G is measured by pre-passes on the same streams, all rounds at once where they are independent, else in memory; or it is
the closed form of the worst case.
"""

import math
from collections.abc import Callable

import numpy as np

from edge_server.build import build_domain
from edge_server.compute import threads
from edge_server.encoders import build_encoder
from edge_server.primal_dual import theory_step
from edge_server.record import Event, RoundRecord
from edge_server.scoring import Theory
from edge_server.step_size import Guess
from sim.blueprint import Blueprint, on_cpu
from sim.local import Hooks, run_in_memory
from sim.prepass import Prepass, fits
from sim.step import Step
from sim.worst_case import NoWorstCase, smoothness, worst_gradient

PASSES = 3
"""Fixed-point passes for G, after the first guess of it."""
FIRST_GRADIENT = 10.0
"""G before the first pass."""

Progress = Callable[[str], None]
StepOf = Callable[[float], Step]
"""The step for a given G."""


class NoTheory(Exception):
    """The theory's step does not exist for this scenario."""


def resolve_step(design: Blueprint, on_progress: Progress, stop: Callable[[], bool]) -> Step:
    """The inner step of a run. Raises NoTheory, NotConverged, RunFailed."""
    primal = design.scenario.edge.primal
    if primal.step == "free":
        return Step(math.nan)
    if not isinstance(primal.step, str):
        return Step(primal.step)
    with threads(design.scenario.threads.edge):
        return _of_theory(design, on_progress, stop)


def _of_theory(design: Blueprint, on_progress: Progress, stop: Callable[[], bool]) -> Step:
    try:
        step_of = _step_of(design, on_progress)
        if design.scenario.edge.primal.gradient == "worst_case":
            return step_of(worst_gradient(design))
    except NoWorstCase as error:
        raise NoTheory(str(error)) from error
    return _measured(design, step_of, on_progress, stop)


def _step_of(design: Blueprint, on_progress: Progress) -> StepOf:
    scenario, slots = design.scenario, design.scenario.slots
    limit = 1 / smoothness(design) if scenario.edge.primal.limit == "inverse_smoothness" else None
    diameter = build_domain(scenario.edge.primal.domain).diameter(_parameters(design))
    if scenario.edge.primal.step == "guess":
        return lambda gradient: Step.guessed(Guess.first(diameter, gradient, slots), limit)
    on_progress("theory step: D* from the oracle")
    d_star = _diameter(design)

    def of_theory(gradient: float) -> Step:
        eta = theory_step(d_star, gradient, slots)
        return Step.of_theory(eta, Theory(d_star, diameter, gradient), limit)

    return of_theory


def _measured(design: Blueprint, step_of: StepOf, on_progress: Progress, stop: Callable[[], bool]) -> Step:
    name = f"{design.scenario.edge.primal.step} step"
    step = step_of(FIRST_GRADIENT)
    at_once = Prepass(design, design.oracle) if step.guess is None and fits(design) else None
    for number in range(PASSES):
        on_progress(f"{name}: pass {number + 1} of {PASSES} over all rounds, eta {step.eta:.4g}")
        gradient = at_once.largest_gradient(step.eta) if at_once else _largest_gradient(design, step, stop)
        if stop():
            break
        if gradient == 0:
            raise NoTheory(f"edge.primal.step: {name} needs gradients, but all are 0; give a number")
        step = step_of(gradient)
    return step


def _diameter(design: Blueprint) -> float:
    """D*: the largest distance between two theta*_t."""
    from scipy.spatial.distance import pdist

    thetas = np.stack([design.oracle.theta(t).numpy() for t in range(design.scenario.rounds)])
    d_star = float(pdist(thetas).max(initial=0.0))
    if d_star == 0:
        raise NoTheory("edge.primal.step: theory needs rounds whose best models differ, but D* is 0; give a number")
    return d_star


def _parameters(design: Blueprint) -> int:
    """d."""
    first = design.plan.users[0]
    encoder = build_encoder(design.scenario.edge.encoder, first.feature_shape, first.dtype, seed=0)
    return sum(parameter.numel() for parameter in encoder.parameters())


def _largest_gradient(design: Blueprint, step: Step, stop: Callable[[], bool]) -> float:
    """G: the largest norm of a weighted gradient in one pass with this step."""
    largest = 0.0

    def on_round(record: RoundRecord) -> None:
        nonlocal largest
        largest = max(largest, record.gradient_norm)

    def on_event(event: Event) -> None:
        del event

    run_in_memory(on_cpu(design.whole), step, Hooks(on_round, on_event, stop))
    return largest
