"""`bench sweep`: seconds for the whole of Fig. 2, one seed, in memory with real messages and real records."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal, NamedTuple

from sim.bench.machine import machine
from sim.build import blueprint
from sim.local import Hooks, run_in_memory
from sim.recorder import Recorder
from sim.scenario import Scenario
from sim.theory import resolve_step

Environment = Literal["stochastic", "alternate"]

ROUNDS = 512
SLOTS = (4, 8, 16, 32, 64, 128)
ALPHAS = (1.0, 2.0)
ENVIRONMENTS: tuple[Environment, ...] = ("stochastic", "alternate")


class Timed(NamedTuple):
    """One run. pre_pass: seconds to find the theory's step; run: seconds of the run itself, records included."""

    environment: Environment
    alpha: float
    slots: int
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


def measure(rounds: int) -> Iterator[Timed]:
    """Every run of Fig. 2 with `rounds` rounds, one after the other."""
    for environment in ENVIRONMENTS:
        for alpha in ALPHAS:
            for slots in SLOTS:
                yield _timed(environment, alpha, slots, rounds)


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


def report(timed: list[Timed], rounds: int) -> dict[str, Any]:
    """Seconds of the whole sweep; with fewer rounds than Fig. 2 has, also scaled to all of them and marked so."""
    run, pre_pass = sum(one.run for one in timed), sum(one.pre_pass for one in timed)
    share = ROUNDS / rounds
    return {
        "seconds": share * (run + pre_pass),
        "seconds_without_pre_passes": share * run,
        "scaled": rounds != ROUNDS,
        "rounds": rounds,
        "measured_seconds": run + pre_pass,
        "slots": rounds * sum(one.slots for one in timed),
        "slot_us": 1e6 * run / (rounds * sum(one.slots for one in timed)),
        "runs": [one._asdict() for one in timed],
        "machine": machine(),
    }
