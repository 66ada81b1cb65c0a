"""Worst-case constants of the convex problem: a linear encoder, identity heads, squared loss, Theta a box.

Closed forms over the whole stream of every user, with every weight at the strong end of its dual box.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_server.aggregators import build_aggregator
from edge_server.config import Box, Constant, OwoFmtl, ScaleTo
from sim.blueprint import Blueprint, place
from user_client.tasks.base import Task, held_out
from user_client.user import build_stream

Array = NDArray[np.float64]
OfJobs = Callable[[Array, Array], Array]
"""From x [m, B, d] and y [m, B] to one number or matrix per slot, [m, ...]."""


class NoWorstCase(Exception):
    """No closed form is known for this scenario."""


def worst_gradient(design: Blueprint) -> float:
    """G: sup over slots and Theta = [-c, c]^d of ||sum_k w_k grad loss_k|| is at most this, and is it for B = K = 1.

    The bound of a user's gradient is mean_b 2 (c ||x||_1 + |y|) ||x||_2. Raises NoWorstCase.
    """
    domain = design.scenario.edge.primal.domain
    if not isinstance(domain, Box):
        raise NoWorstCase("edge.primal.gradient: worst_case needs edge.primal.domain as {box: c}")

    def steepest(x: Array, y: Array) -> Array:
        error = domain.box * np.abs(x).sum(-1) + np.abs(y)
        return np.asarray((2 * error * np.linalg.norm(x, axis=-1)).mean(-1))

    return max(float(round_.max()) for round_ in _rounds(design, steepest))


def smoothness(design: Blueprint) -> float:
    """L: the largest eigenvalue over slots of sum_k w_k 2 X_k'X_k / B. Raises NoWorstCase."""

    def hessian(x: Array, _y: Array) -> Array:
        return np.asarray(2 * np.swapaxes(x, -1, -2) @ x / x.shape[1])

    return max(float(np.linalg.eigvalsh(round_).max()) for round_ in _rounds(design, hessian))


def _rounds(design: Blueprint, of_jobs: OfJobs) -> "list[Array]":
    """For every round the worst weighted sum over the users that are there, [m, ...]."""
    scenario = design.scenario
    together = _together(design)
    tasks = [build_stream(user, place(scenario, k)) for k, user in enumerate(scenario.users)]
    trained = [task.batch - held_out(user.task) for task, user in zip(tasks, scenario.users, strict=True)]
    rounds = []
    for t in range(scenario.rounds):
        here = [k for k, present in enumerate(design.plan.present(t)) if present]
        rounds.append(together(here, [of_jobs(*_jobs(tasks[k], t, scenario.slots, trained[k])) for k in here]))
    return rounds


def _jobs(task: Task, t: int, slots: int, trained: int) -> tuple[Array, Array]:
    jobs = [task.job(t, i) for i in range(slots)]
    x = np.stack([job.x.flatten(1).numpy()[:trained] for job in jobs]).astype(np.float64)
    return x, np.stack([job.y.numpy()[:trained] for job in jobs]).astype(np.float64)


def _together(design: Blueprint) -> Callable[[Sequence[int], Sequence[Array]], Array]:
    """How users' terms add up at worst. For scaled weights, whose sum is given, the largest user has it all."""
    rule, users = design.scenario.edge.aggregator, len(design.plan.users)
    if not isinstance(rule, OwoFmtl | Constant):
        raise NoWorstCase(f"edge.primal: worst-case constants of aggregator {rule.kind} are unknown; use measured")
    if isinstance(rule, OwoFmtl) and isinstance(rule.scale, ScaleTo):
        total = rule.scale.sum
        return lambda _here, terms: total * np.max(np.stack([_size(term) for term in terms]), axis=0)
    weights = np.abs(build_aggregator(rule).start(users).w.numpy())
    return lambda here, terms: np.asarray(sum(weights[k] * term for k, term in zip(here, terms, strict=True)))


def _size(term: Array) -> Array:
    """A term as a scalar per slot, or the 1 x 1 matrix of its largest eigenvalue."""
    return term if term.ndim == 1 else np.asarray(np.linalg.eigvalsh(term)[:, -1:, None], np.float64)
