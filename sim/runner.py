"""A run from start to finish: the directory, the transport, the records, and how it ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_server.judge import RunFailed
from edge_server.record import RoundRecord
from sim.advice import advice
from sim.build import Blueprint, PartError, blueprint
from sim.fairness_measures import price_of_fairness
from sim.json_files import write_json
from sim.local import Hooks, Outcome, run_in_memory, run_over_grpc
from sim.oracle import NotConverged
from sim.recorder import Recorder, Result, Status
from sim.scenario import Loaded, Record, Scenario, compared
from sim.step import Step
from sim.theory import NoTheory, resolve_step


class RunError(Exception):
    """The run failed or could not start; one line for the user."""


@dataclass
class Watcher:
    """What a caller may want to see and say while runs go on."""

    on_start: Callable[[str, int], None] = lambda _name, _rounds: None
    on_round: Callable[[RoundRecord], None] = lambda _record: None
    on_note: Callable[[str], None] = lambda _text: None
    stop: Callable[[], bool] = lambda: False


def run(loaded: Loaded, folder: Path, address: str | None, watcher: Watcher) -> Result:
    """Run a scenario and what it is compared with, into `folder` and its sub-folders. Raises RunError."""
    designs = [(loaded.scenario.name, folder, _design(loaded))]
    designs += [(name, folder / name, _design(other)) for name, other in compared(loaded)]
    scenarios = [design.scenario for _, _, design in designs]
    on_ray = next((scenario for scenario in scenarios if scenario.transport == "ray"), None)
    if address and not on_ray:
        raise BadScenario(f"--address {address}: a cluster is for transport ray, this is {loaded.scenario.transport}")
    claim(folder)
    for note in advice(loaded.scenario):
        watcher.on_note(f"note: {note}")
    results = []
    with _cluster(address) if on_ray else nullcontext() as nodes:
        for name, place, design in designs:
            place.mkdir(parents=True, exist_ok=True)
            results.append(_run_one(name, place, design, nodes, watcher))
            if results[-1].status == "stopped":
                break
    _price(results, [design for _, _, design in designs])
    base = results[0]
    status: Status = "stopped" if results[-1].status == "stopped" else base.status
    return Result(base.name, base.folder, status, base.digest, base.summary, results[1:])


def _design(loaded: Loaded) -> Blueprint:
    try:
        return blueprint(loaded.scenario, f"{loaded.scenario.name}-{token_hex(8)}")
    except PartError as error:
        path = ".".join(str(step) for step in error.path)
        raise BadScenario(f"{loaded.where(error.path)}: {path}: {error}") from error


class BadScenario(Exception):
    """A scenario whose parts cannot be built; nothing was started."""


def claim(folder: Path) -> None:
    """Makes a run's folder. Raises BadScenario when it holds a run already, or cannot be made."""
    if (folder / "manifest.json").exists():
        raise BadScenario(f"{folder} holds a run already; give another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadScenario(f"--out {folder}: {error.strerror}") from error


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, for as long as the runs last."""
    from sim.cluster import Cluster, ClusterError

    try:
        with Cluster.start(address) as cluster:
            yield cluster
    except ClusterError as error:
        raise RunError(str(error)) from error


def _run_one(name: str, folder: Path, design: Blueprint, cluster: Any, watcher: Watcher) -> Result:
    recorder = Recorder(folder, name, design)
    watcher.on_start(name, design.scenario.rounds)

    def on_round(record: RoundRecord) -> None:
        recorder.add(record)
        watcher.on_round(record)

    hooks = Hooks(on_round, recorder.events, watcher.stop, recorder.tasks)
    try:
        recorder.write_streams()
        step = resolve_step(design, watcher.on_note, watcher.stop)
        recorder.step = step
        outcome = _go(design, step, hooks, cluster)
        if not outcome.stopped:
            recorder.tasks.score(recorder.events, watcher.on_note, watcher.stop)
    except (RunFailed, NotConverged, NoTheory) as error:
        if watcher.stop():
            return recorder.finish("stopped", None, str(error))
        recorder.fail(str(error), error.__cause__)
        raise RunError(f"{name}: {error}") from error
    except (KeyboardInterrupt, SystemExit):
        recorder.finish("stopped", None)
        raise
    except Exception as error:
        line = f"{type(error).__name__}: {error}"
        recorder.fail(line, error)
        raise RunError(f"{name}: {line}; events.jsonl in {folder} says where") from error
    return recorder.finish("stopped" if outcome.stopped else "done", outcome)


def _go(design: Blueprint, step: Step, hooks: Hooks, cluster: Any) -> Outcome:
    if design.scenario.transport == "memory":
        return run_in_memory(design, step, hooks)
    if design.scenario.transport == "grpc":
        return run_over_grpc(design, step, hooks)
    outcome: Outcome = cluster.run(design, step, hooks)
    return outcome


def _price(results: list[Result], designs: list[Blueprint]) -> None:
    """Fill in the price of fairness where the same run with alpha 0 stands beside a run."""
    for result, design in zip(results, designs, strict=False):
        for other, efficient in zip(results, designs, strict=False):
            if _numbers(efficient.scenario) == _without_fairness(_numbers(design.scenario)):
                price = price_of_fairness(_utilities(result), _utilities(other))
                result.summary["price_of_fairness"] = price if np.isfinite(price) else None
                write_json(result.folder / "summary.json", result.summary)


def _utilities(result: Result) -> NDArray[np.float64]:
    return np.array([*result.summary["utility_mean"].values()], np.float64)


def _numbers(scenario: Scenario) -> Scenario:
    """What a scenario says about its numbers: not where it runs, what it writes and what stands beside it."""
    trains = scenario.radio is not None and scenario.radio.steps_per_round is not None
    edge = scenario.edge if trains else scenario.edge.model_copy(update={"server_tasks": ()})
    elsewhere = {"transport": "memory", "hosts": "auto", "compare": (), "record": Record(), "edge": edge}
    return scenario.model_copy(update=elsewhere)


def _without_fairness(scenario: Scenario) -> Scenario:
    aggregator = scenario.edge.aggregator.model_copy(update={"alpha": 0.0})
    return scenario.model_copy(update={"edge": scenario.edge.model_copy(update={"aggregator": aggregator})})
