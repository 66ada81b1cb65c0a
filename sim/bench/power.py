"""`bench power`: a training step of fourteen tasks beside a loop over them, inference beside exact and conic solvers.

Everything runs in one process on one thread, in turns. Weights and samples are made up: what is timed does not depend
on how well a network has learned.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.policy import Policy
from edge_server.routed_mtl.publishing import publish
from edge_server.routed_mtl.samples import Samples, draw_samples
from edge_server.routed_mtl.tasks import Tasks
from edge_server.routed_mtl.training import Trainer
from sim.bench.machine import machine
from sim.bench.power_loop import LoopTrainer
from sim.bench.power_reference import NO_CVXPY, conic
from sim.bench.power_turns import Effort, Times, median, one_thread, ratio_quartiles, take_turns

P3, P4 = P3Delay(), P4Capacity()
PAPER = Tasks.grid([P3, P4])
"""The paper's fourteen tasks."""

USERS = 20
"""N of `solver_us_per_instance` and of inference."""

MANY = 10_000
"""The large batch of inference, and the steps of a training run."""

ENDLESS = 10**9
INSTANCES = 5000
"""Samples per task to draw batches from."""


class Measured(NamedTuple):
    """Seconds of every call by contender."""

    train: Times
    loop: Times
    hard: Times
    """Stage 2: hard masks, no rDNN."""
    solver: Times
    solver_batch1: Times
    infer: Times
    infer_10k: Times
    reference: Times | None = None
    """None without cvxpy."""


def routed(stages: tuple[int, int] = (ENDLESS, 0), places: int = Design.places) -> Design:
    """The paper's settings; stages (0, ENDLESS) starts with hard masks."""
    return Design(stages=stages, places=places)


def one_of(policy: Policy, problem: str, gains: NDArray[np.float64]) -> Callable[[], object]:
    """A call of a policy on the next row of gains [D, N], over and over."""
    rows = itertools.cycle(gains.astype(np.float32))
    return lambda: policy(problem, next(rows))


def measure(effort: Effort) -> Measured:
    """All contenders in turns, on one thread."""
    with one_thread():
        samples = draw_samples(PAPER, INSTANCES, 0)
        training = take_turns(_steps(samples), effort)
        serving = take_turns(_powers(publish(Trainer(PAPER, routed(), samples))), effort)
    return Measured(**training, **serving)


def _steps(samples: Samples) -> dict[str, Callable[[], object]]:
    return {
        "train": Trainer(PAPER, routed(), samples).step,
        "loop": LoopTrainer(PAPER, routed(), samples).step,
        "hard": Trainer(PAPER, routed(stages=(0, ENDLESS)), samples).step,
    }


def _powers(policy: Policy) -> dict[str, Callable[[], object]]:
    """P3 with N = 20: the exact solver, the conic one, and the network."""
    gains = P3.sample(np.random.default_rng(0), MANY, USERS)
    many, rows = gains.astype(np.float32), itertools.cycle(gains)
    calls: dict[str, Callable[[], object]] = {
        "solver": lambda: P3.optimum(gains),
        "solver_batch1": lambda: P3.optimum(next(rows)),
        "infer": one_of(policy, P3.name, gains),
        "infer_10k": lambda: policy(P3.name, many),
    }
    reference = conic(USERS)
    if reference is not None:
        calls["reference"] = reference.next_of(P3.p_tot * P3.rho * gains)
    return calls


def report(measured: Measured) -> dict[str, Any]:
    """The contract's numbers, medians over all calls, and what belongs to them."""
    train, loop, hard = (1e3 * median(times) for times in (measured.train, measured.loop, measured.hard))
    reference = measured.reference
    return {
        "tasks": len(PAPER),
        "users": USERS,
        "train_step_ms": train,
        "loop_step_ms": loop,
        "speedup": loop / train,
        "speedup_quartiles": ratio_quartiles(measured.loop, measured.train),
        "hard_step_ms": hard,
        "train_10k_steps_s": (train + hard) / 2 * MANY / 1e3,
        "solver_us_per_instance": 1e6 * median(measured.solver) / MANY,
        "solver_us_batch1": 1e6 * median(measured.solver_batch1),
        "reference_solver_us": None if reference is None else 1e6 * median(reference),
        "infer_us_batch1": 1e6 * median(measured.infer),
        "infer_us_per_sample_10k": 1e6 * median(measured.infer_10k) / MANY,
        "note": NO_CVXPY if reference is None else None,
        "machine": machine(),
    }
