"""`bench sweep`: seconds for the whole of Fig. 2, one seed, in memory with real messages and real records."""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal, NamedTuple

from joblib import Parallel, cpu_count, delayed, parallel_config

from sim.bench.machine import machine
from sim.local import Hooks, run_in_memory
from sim.planning import blueprint
from sim.recorder import Recorder
from sim.scenario import Scenario
from sim.theory import resolve_step

Environment = Literal["stochastic", "alternate"]

ROUNDS = 512
SLOTS = (4, 8, 16, 32, 64, 128)
ALPHAS = (1.0, 2.0)
ENVIRONMENTS: tuple[Environment, ...] = ("stochastic", "alternate")


class Timed(NamedTuple):
    """One run, in a process of its own. pre_pass: seconds to find the theory's step; run: of the rest, with records."""

    environment: Environment
    alpha: float
    m: int
    pre_pass: float
    run: float
    digest: str | None


def scenario_of(environment: Environment, alpha: float, slots: int, rounds: int) -> Scenario:
    """One curve's point, as in scenarios/owo_fmtl/fig2_*.yaml."""
    hostile = {"kind": "ping_pong", "labels": "sign", "block": "sqrt", "hostile": "alternate"}
    adversary = {"adversary": hostile} if environment == "alternate" else {}
    user = {"task": {"kind": "kernel_regression"}, "head": {"kind": "identity"}}
    return Scenario.model_validate(
        {
            "schema": 1,
            "name": f"fig2_{environment}",
            "transport": "memory",
            "rounds": rounds,
            "slots": slots,
            "users": [{"name": "sine", **user, **adversary}, {"name": "cosine", **user}],
            "edge": {
                "encoder": {"kind": "linear"},
                "aggregator": {"kind": "owo_fmtl", "alpha": alpha, "u_min": 1.0, "u_max": 4.0},
                "primal": {"step": "theory", "domain": {"box": 1.0}},
                "meta": {"rule": "running_mean", "target": "oracle", "domain": {"box": 1.0}},
            },
        }
    )


def measure(rounds: int) -> tuple[list[Timed], float]:
    """Every run of Fig. 2 with `rounds` rounds, on as many processes as there are cores; seconds for all of them.

    The longest go first; the list is in the order of the paper.
    """
    runs = [(environment, alpha, m) for environment in ENVIRONMENTS for alpha in ALPHAS for m in SLOTS]
    longest_first = sorted(runs, key=lambda run: -run[-1])
    started = perf_counter()
    with parallel_config("loky", n_jobs=cpu_count(), inner_max_num_threads=1):
        timed = Parallel()(delayed(_timed)(*run, rounds) for run in longest_first)
    return sorted(timed, key=lambda one: runs.index(one[:3])), perf_counter() - started


def _timed(environment: Environment, alpha: float, slots: int, rounds: int) -> Timed:
    scenario = scenario_of(environment, alpha, slots, rounds)
    design = blueprint(scenario, scenario.name)
    started = perf_counter()
    step = resolve_step(design, lambda _: None, lambda: False)
    found = perf_counter()
    with TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder), scenario.name, design)
        outcome = run_in_memory(design, step, Hooks(recorder.add, recorder.events, lambda: False))
        digest = recorder.finish("done", outcome).digest
    return Timed(environment, alpha, slots, found - started, perf_counter() - found, digest)


def report(timed: list[Timed], took: float, rounds: int) -> dict[str, Any]:
    """took: seconds by the clock; with fewer rounds than Fig. 2 has, scaled to all of them and marked so."""
    run, pre_pass = sum(one.run for one in timed), sum(one.pre_pass for one in timed)
    share = ROUNDS / rounds
    return {
        "seconds": share * took,
        "process_seconds": share * (run + pre_pass),
        "pre_pass_seconds": share * pre_pass,
        "scaled": rounds != ROUNDS,
        "rounds": rounds,
        "measured_seconds": took,
        "slots": rounds * sum(one.m for one in timed),
        "slot_us": 1e6 * run / (rounds * sum(one.m for one in timed)),
        "runs": [one._asdict() for one in timed],
        "machine": machine(),
    }
