"""A power trainer from its samples to its published policy and its scores."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from edge_server.compute import threads
from edge_server.power_config import SampleCounts
from edge_server.routed_mtl.checks import NotConverged
from edge_server.routed_mtl.networks import parameter_count
from edge_server.routed_mtl.policy import Policy
from edge_server.routed_mtl.progress import Progress
from edge_server.routed_mtl.publishing import locked_tasks, publish
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.training import Diverged, Trainer
from edge_server.server_tasks.rehearsal import rehearsed
from sim.caller import BadScenario, RunError
from sim.checkpoint_files import NotSaved
from sim.power_checkpoints import PowerCheckpoints, Saved
from sim.power_recorder import PowerRecorder, PowerResult
from sim.power_scenario import LoadedPower, PowerScenario
from sim.power_table import Scores, Trained, broken_limits, power_table, scored
from sim.runner import alone, claim


@dataclass
class PowerWatcher:
    """What a caller may want to see and say: something of `total` parts begins, `done` of them are done."""

    on_start: Callable[[str, int], None] = lambda _what, _total: None
    on_progress: Callable[[int, str], None] = lambda _done, _numbers: None
    on_note: Callable[[str], None] = lambda _text: None
    stop: Callable[[], bool] = lambda: False


class _Stopped(Exception):
    """Somebody wants it to stop, and training is over."""


def train_power(loaded: LoadedPower, folder: Path, watcher: PowerWatcher, stop_after: int | None = None) -> PowerResult:
    """Trains, publishes and scores into `folder`. Stopped on request between two steps, or between two scores.

    stop_after: steps after which it ends as if stopped, unless they are all. Raises BadScenario when nothing was
    started, RunError when it failed; both are one line.
    """
    scenario = loaded.scenario
    with threads(scenario.threads.edge):
        rehearsed = rehearse(loaded)
        claim(folder)
        with alone(folder):
            run = PowerRun(scenario, rehearsed, PowerRecorder(folder, scenario), watcher, stop_after=stop_after)
            return run.to_the_end()


def rehearse(loaded: LoadedPower) -> Trainer:
    """A trainer on two samples of each task, which shows that its tasks and its design can be built and published.

    Raises BadScenario.
    """
    try:
        return rehearsed(loaded.scenario.task, loaded.scenario.seed)
    except (ValueError, NotConverged) as error:
        raise BadScenario(f"{loaded.where}: edge.server_tasks.0: {error}") from error


class PowerRun:
    """One training run while it lives: the tasks and the design of a rehearsed trainer, from `saved` on."""

    def __init__(
        self,
        scenario: PowerScenario,
        rehearsed: Trainer,
        recorder: PowerRecorder,
        watcher: PowerWatcher,
        *,
        saved: Saved | None = None,
        stop_after: int | None = None,
    ) -> None:
        self._scenario, self._tasks, self._design = scenario, rehearsed.tasks, rehearsed.design
        self._recorder, self._watcher = recorder, watcher
        self._trainer: Trainer | None = None
        self._saved, self._stop_after = saved, stop_after
        self._seconds = saved.seconds if saved else 0.0
        self._checkpoints = PowerCheckpoints(recorder.folder, scenario, self._on_save)

    def to_the_end(self) -> PowerResult:
        """Raises RunError, once the directory says why."""
        recorder, name = self._recorder, self._scenario.name
        try:
            power = self._power()
        except _Stopped:
            self._save()
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
        trainer = Trainer(self._tasks, self._design, samples)
        if self._saved:
            trainer.load_state_dict(self._saved.state)
        self._trainer = trainer
        self._train(trainer)
        self._save()
        policy = publish(trainer)
        self._warn_of_locked(trainer)
        scores = self._scores(policy)
        self._warn_of_violations(scores)
        parameters = parameter_count(trainer.network, len(self._tasks))
        trained = Trained(self._design, trainer.taken, self._seconds, parameters, trainer.state_dict())
        power = power_table(trained, scores)
        self._recorder.publish(policy, power)
        return power

    @property
    def _counts(self) -> SampleCounts:
        return self._scenario.task.samples

    def _train(self, trainer: Trainer) -> None:
        """All steps that are left."""
        self._watcher.on_start(f"steps of {self._scenario.name}", self._design.steps)
        before = perf_counter() - self._seconds
        while not trainer.done:
            self._seconds = perf_counter() - before
            self._unless_stopped()
            self._save(when_due=True)
            self._step(trainer)
        self._seconds = perf_counter() - before

    def _step(self, trainer: Trainer) -> None:
        progress, hardened = trainer.advance(self._scenario.task.every)
        if progress:
            self._show(progress)
        if hardened:
            self._recorder.events({"event": "masks_hardened", "step": trainer.taken})

    def _save(self, *, when_due: bool = False) -> None:
        """One that cannot be written is named; the run goes on, and an older one stands."""
        if self._trainer is None:
            return
        save = self._checkpoints.save_when_due if when_due else self._checkpoints.save
        try:
            save(self._trainer, self._seconds)
        except NotSaved as error:
            self._recorder.events({"event": "not_saved", "step": self._trainer.taken, "reason": str(error)})
            self._watcher.on_note(f"note: {error}")

    def _on_save(self, step: int) -> None:
        self._recorder.events({"event": "checkpoint", "step": step})

    def _show(self, progress: Progress) -> None:
        self._recorder.add(progress)
        said = f"stage {progress.stage} loss {progress.loss:.4f} violation {progress.worst_violation:.4f} W"
        self._watcher.on_progress(progress.taken, said)

    def _scores(self, policy: Policy) -> Scores:
        self._watcher.on_start("tasks to score", len(self._tasks))
        self._unless_stopped()
        scores: Scores = []
        for entry in scored(policy, self._tasks, self._design.seed, self._counts):
            scores.append(entry)
            self._watcher.on_progress(len(scores), "")
            if len(scores) < len(self._tasks):
                self._unless_stopped()
        return scores

    def _warn_of_locked(self, trainer: Trainer) -> None:
        for name in locked_tasks(trainer):
            self._recorder.events({"event": "locked", "task": name})
            self._watcher.on_note(f"note: {name} is locked: its rate is below that of constant power; try another seed")

    def _warn_of_violations(self, scores: Scores) -> None:
        for broken in broken_limits(self._tasks, scores):
            self._recorder.events(broken.event)
            self._watcher.on_note(broken.note)

    def _unless_stopped(self) -> None:
        if self._watcher.stop() or self._is_enough():
            raise _Stopped

    def _is_enough(self) -> bool:
        """Whether it was to stop here, and there are steps left to stop before."""
        if self._stop_after is None or self._trainer is None or self._trainer.done:
            return False
        return self._trainer.taken >= self._stop_after
