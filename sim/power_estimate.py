"""What a power trainer will need, before it starts: weights, memory, and its speed as measured here and now."""

from dataclasses import replace
from time import perf_counter
from typing import Any

from edge_server.compute import threads
from edge_server.routed_mtl.networks import parameter_count
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.training import Trainer
from sim.power_scenario import PowerScenario

_PROCESS_MB, _TRAINED, _SCORED = 360, 2.2, 12
"""Measured (torch 2.13, numpy 2): resident memory of the command before it draws a sample; the most that it takes in
sizes of all training samples, and then of the fresh gains of the largest task with a limit on mean power."""
_WARM, _TIMED = 10, 0.3
"""Steps before the clock starts, and seconds on it, for each stage."""


def estimate_power(scenario: PowerScenario, rehearsed: Trainer) -> dict[str, Any]:
    """Tasks, trained numbers, steps, megabytes, and minutes at the speed of a few steps taken on this machine.

    training_minutes: without samples and scores, on a machine as busy as it is now. megabytes: of the process.
    """
    trainer, task = rehearsed, scenario.task
    everything = sum(parameter.numel() for parameter in trainer.network.parameters())
    router = sum(p.numel() for name, p in trainer.network.named_parameters() if name.startswith("router."))
    with threads(scenario.threads.edge):
        seconds = _seconds(trainer)
    return {
        "tasks": len(trainer.tasks),
        "bdnn_parameters": parameter_count(trainer.network, len(trainer.tasks)),
        "rdnn_parameters": router,
        "all_parameters": everything,
        "steps": task.stages[0] + task.stages[1],
        "training_samples": len(trainer.tasks) * task.samples.train,
        "megabytes": _megabytes(scenario, trainer),
        "steps_per_second_here": round(trainer.design.steps / seconds, 1),
        "training_minutes_here": round(seconds / 60, 1),
    }


def _megabytes(scenario: PowerScenario, trainer: Trainer) -> int:
    """At the peak, which is in training or while the largest task is scored."""
    samples = scenario.task.samples
    supervised = [task for task in trainer.tasks if task.problem.kind == "supervised"]
    limited = [task.users for task in trainer.tasks if task not in supervised]
    drawn = 4 * (len(trainer.tasks) + len(supervised)) * samples.train * trainer.design.places
    fresh = 8 * max(limited, default=0) * samples.violation
    return round(_PROCESS_MB + (_TRAINED * drawn + _SCORED * fresh) / 1e6)


def _seconds(trainer: Trainer) -> float:
    """All steps of both stages at the speed of a few; a rival has one stage."""
    first, second = trainer.design.stages if trainer.design.scheme == "routed" else (trainer.design.steps, 0)
    begun = _step_seconds(trainer, (10**8, 0)) if first else 0.0
    hardened = _step_seconds(trainer, (0, 10**8)) if second else 0.0
    return first * begun + second * hardened


def _step_seconds(trainer: Trainer, stages: tuple[int, int]) -> float:
    design = replace(trainer.design, stages=stages)
    timed = Trainer(trainer.tasks, design, draw_samples(trainer.tasks, 2, design.seed, design.places))
    timed.train(_WARM)
    taken, start = 0, perf_counter()
    while (spent := perf_counter() - start) < _TIMED:
        timed.step()
        taken += 1
    return spent / taken
