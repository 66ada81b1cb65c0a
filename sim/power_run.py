"""A power trainer from its samples to its published policy and its scores."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from edge_server.compute import threads
from edge_server.power_config import SampleCounts
from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.networks import parameter_count
from edge_server.routed_mtl.policy import Policy
from edge_server.routed_mtl.problems import NotConverged, Unsupervised
from edge_server.routed_mtl.progress import Progress
from edge_server.routed_mtl.publishing import locked_tasks, publish
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.tasks import Task, Tasks
from edge_server.routed_mtl.training import Diverged, Trainer
from sim.power_recorder import PowerRecorder, PowerResult
from sim.power_scenario import LoadedPower, PowerScenario
from sim.power_scores import mask_overlap, score
from sim.runner import BadScenario, RunError, claim

SMALL_VIOLATION = 0.02
"""Of the limit on mean power; .01 W at the paper's .5 W."""
LARGEST_VIOLATION = 0.2
"""The same for the user with the largest; beyond it, that user's power hardly follows its channel."""


@dataclass
class PowerWatcher:
    """What a caller may want to see and say: something of `total` parts begins, `done` of them are done."""

    on_start: Callable[[str, int], None] = lambda _what, _total: None
    on_progress: Callable[[int, str], None] = lambda _done, _numbers: None
    on_note: Callable[[str], None] = lambda _text: None
    stop: Callable[[], bool] = lambda: False


class _Stopped(Exception):
    """Somebody wants it to stop, and training is over."""


def train_power(loaded: LoadedPower, folder: Path, watcher: PowerWatcher) -> PowerResult:
    """Trains, publishes and scores into `folder`. Stopped on request between two steps, or between two scores.

    Raises BadScenario when nothing was started, RunError when it failed; both are one line.
    """
    scenario = loaded.scenario
    with threads(scenario.threads.edge):
        tasks, design = _rehearsed(loaded)
        claim(folder)
        run = _Run(scenario, tasks, design, PowerRecorder(folder, scenario), watcher)
        return run.to_the_end()


def _rehearsed(loaded: LoadedPower) -> tuple[Tasks, Design]:
    """The tasks and the design, once a trainer on two samples of each has shown that they can be built and published.

    Raises BadScenario.
    """
    try:
        tasks, design = loaded.scenario.task.built_tasks(), loaded.scenario.task.design(loaded.scenario.seed)
        publish(Trainer(tasks, design, draw_samples(tasks, 2, design.seed, design.places)))
    except (ValueError, NotConverged) as error:
        raise BadScenario(f"{loaded.where}: edge.server_tasks.0: {error}") from error
    return tasks, design


class _Run:
    """One training run while it lives."""

    def __init__(
        self, scenario: PowerScenario, tasks: Tasks, design: Design, recorder: PowerRecorder, watcher: PowerWatcher
    ) -> None:
        self._scenario, self._tasks, self._design = scenario, tasks, design
        self._recorder, self._watcher = recorder, watcher
        self._trainer: Trainer | None = None

    def to_the_end(self) -> PowerResult:
        """Raises RunError, once the directory says why."""
        recorder, name = self._recorder, self._scenario.name
        try:
            power = self._power()
        except _Stopped:
            return recorder.finish("stopped", self._trainer)
        except Diverged as error:
            recorder.finish("failed", self._trainer, error=str(error))
            raise RunError(f"{name}: {error}") from error
        except (KeyboardInterrupt, SystemExit):
            recorder.finish("stopped", self._trainer)
            raise
        except Exception as error:
            line = f"{type(error).__name__}: {error}"
            recorder.fail(line, self._trainer, error)
            raise RunError(f"{name}: {line}; {recorder.folder / 'events.jsonl'} says where") from error
        return recorder.finish("done", self._trainer, power)

    def _power(self) -> dict[str, Any]:
        """power.json, with the policy it is about written beside it."""
        self._unless_stopped()
        samples = draw_samples(self._tasks, self._counts.train, self._design.seed, self._design.places)
        trainer = self._trainer = Trainer(self._tasks, self._design, samples)
        seconds = self._train(trainer)
        policy = publish(trainer)
        self._warn_of_locked(trainer)
        scores = self._scores(policy)
        self._warn_of_violations(scores)
        power = {
            "scheme": self._design.scheme,
            "seeds": [self._design.seed],
            "steps": trainer.taken,
            "bdnn_parameters": parameter_count(trainer.network, len(self._tasks)),
            "tasks": scores,
            "mask_overlap": mask_overlap(trainer),
            "train_seconds": seconds,
        }
        self._recorder.publish(policy, power)
        return power

    @property
    def _counts(self) -> SampleCounts:
        return self._scenario.task.samples

    def _train(self, trainer: Trainer) -> float:
        """All steps; returns the seconds they took."""
        every, start = self._scenario.task.every, perf_counter()
        self._watcher.on_start(f"steps of {self._scenario.name}", self._design.steps)
        while not trainer.done:
            self._unless_stopped()
            stage, loss = trainer.stage, trainer.step()
            if trainer.taken % every == 0 or trainer.done:
                self._show(trainer.progress(loss))
            if trainer.stage != stage:
                self._recorder.events({"event": "masks_hardened", "step": trainer.taken})
        return perf_counter() - start

    def _show(self, progress: Progress) -> None:
        self._recorder.add(progress)
        said = f"stage {progress.stage} loss {progress.loss:.4f} violation {progress.worst_violation:.4f} W"
        self._watcher.on_progress(progress.taken, said)

    def _scores(self, policy: Policy) -> list[dict[str, Any]]:
        self._watcher.on_start("tasks to score", len(self._tasks))
        scores = []
        for done, task in enumerate(self._tasks, start=1):
            self._unless_stopped()
            supervised = task.problem.kind == "supervised"
            samples = self._counts.test if supervised else self._counts.violation
            scores.append(score(policy, task.problem, task.users, self._design.seed, samples))
            self._watcher.on_progress(done, "")
        return scores

    def _warn_of_locked(self, trainer: Trainer) -> None:
        for name in locked_tasks(trainer):
            self._recorder.events({"event": "locked", "task": name})
            self._watcher.on_note(f"note: {name} is locked: its rate is below that of constant power; try another seed")

    def _warn_of_violations(self, scores: list[dict[str, Any]]) -> None:
        for task, entry in zip(self._tasks, scores, strict=True):
            if task.problem.kind == "unsupervised":
                limit = cast("Unsupervised", task.problem).mean_power(task.users)
                self._warn_beyond(task, "the mean power", entry["violation_mean"], SMALL_VIOLATION * limit)
                self._warn_beyond(task, "one user's mean power", entry["violation_max"], LARGEST_VIOLATION * limit)

    def _warn_beyond(self, task: Task, what: str, violation: float, allowed: float) -> None:
        if abs(violation) > allowed:
            self._recorder.events({"event": "violation", "task": str(task), "of": what, "watts": violation})
            self._watcher.on_note(
                f"note: {task}: {what} misses its limit by {violation:+.4f} W, more than {allowed:g} W: "
                "its rate is not a result"
            )

    def _unless_stopped(self) -> None:
        if self._watcher.stop():
            raise _Stopped
