"""A run from start to finish: the directory, the transport, the records, and how it ends."""

import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

from edge_server.judge import RunFailed
from edge_server.record import Event, RoundRecord
from sim.advice import advice
from sim.attendance_file import FILE
from sim.blueprint import Blueprint
from sim.caller import BadScenario, Result, RunError, Status, Watcher, placed
from sim.going_on import Back, CannotGoOn, Recovery, anywhere, attended
from sim.local import Hooks, Outcome, ProcessLost, run_in_memory, run_over_grpc
from sim.oracle import NotConverged
from sim.pause_file import PauseFile
from sim.planning import blueprint
from sim.price import price
from sim.recorder import Recorder
from sim.report.files import UnreadableRun
from sim.run_lock import InUse, locked
from sim.saver import Saver
from sim.scenario import Loaded, compared
from sim.served import go_on
from sim.step import Step
from sim.theory import NoTheory, resolve_step


class Way(NamedTuple):
    """How a run goes: all its rounds, and back where a process is lost."""

    go: Callable[[Blueprint, Step, Hooks], Outcome]
    back: Back = anywhere


class Part(NamedTuple):
    """One run of a directory: the scenario itself, or one that it is compared with."""

    name: str
    folder: Path
    design: Blueprint


def run(
    loaded: Loaded,
    folder: Path,
    address: str | None,
    watcher: Watcher,
    stop_after: int | None = None,
    attendance: Path | None = None,
) -> Result:
    """Run a scenario and what it is compared with, into `folder` and its sub-folders. Raises RunError.

    stop_after: rounds after which it ends as if stopped, unless they are all. attendance: a run whose slots went on
    without users; this one's go on without the same.
    """
    parts = parts_of(loaded, folder)
    if stop_after is not None and stop_after < loaded.scenario.rounds:
        base = parts[0]
        parts[0] = base._replace(design=replace(base.design, plan=replace(base.design.plan, last=stop_after)))
    require_cluster(parts, address)
    claim(folder)
    if attendance:
        follow(attendance, parts)
    for note in advice(loaded.scenario):
        watcher.on_note(f"note: {note}")
    with alone(folder):
        return run_parts(parts, address, watcher, run_one)


def parts_of(loaded: Loaded, folder: Path) -> list[Part]:
    """The run itself, then those it is compared with. Raises BadScenario."""
    base = Part(loaded.scenario.name, folder, _design(loaded))
    return [base, *(Part(name, folder / name, _design(other)) for name, other in compared(loaded))]


def run_parts(
    parts: Sequence[Part], address: str | None, watcher: Watcher, go: Callable[[Part, Any, Watcher], Result]
) -> Result:
    """What `go` makes of each part, up to one that is stopped. Raises RunError, BadScenario."""
    results: list[Result] = []
    with _cluster(address) if require_cluster(parts, address) else nullcontext() as nodes:
        for part in parts:
            part.folder.mkdir(parents=True, exist_ok=True)
            with _advised(parts[0].folder):
                results.append(go(part, nodes, watcher))
            gc.collect()  # what the run leaves may be large, and Python rarely looks for it
            if results[-1].status == "stopped":
                break
    price(results, [part.design for part in parts])
    base = results[0]
    status: Status = "stopped" if results[-1].status == "stopped" else base.status
    return Result(base.name, base.folder, status, base.digest, base.summary, results[1:])


@contextmanager
def _advised(folder: Path) -> Iterator[None]:
    """What can be done about a lost process is told, too. Raises RunError."""
    try:
        yield
    except RunError as error:
        if isinstance(error.__cause__, ProcessLost):
            raise RunError(f"{error}; go on with: equiran resume {folder}") from error
        raise


def require_cluster(parts: Sequence[Part], address: str | None) -> bool:
    """Whether any part runs on Ray. Raises BadScenario for an address that none has a use for."""
    transports = [part.design.scenario.transport for part in parts]
    if address and "ray" not in transports:
        raise BadScenario(f"--address {address}: a cluster is for transport ray, this is {transports[0]}")
    return "ray" in transports


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process writes there meanwhile. Raises BadScenario."""
    try:
        with locked(folder):
            yield
    except InUse as error:
        raise BadScenario(str(error)) from error


def _design(loaded: Loaded) -> Blueprint:
    with placed(loaded):
        return blueprint(loaded.scenario, f"{loaded.scenario.name}-{token_hex(8)}")


def claim(folder: Path) -> None:
    """Makes a run's folder. Raises BadScenario when it holds a run, or runs, already, or cannot be made."""
    if any((folder / name).exists() for name in ("manifest.json", FILE)):
        raise BadScenario(f"{folder} holds a run already; give another --out")
    if next(folder.glob("*/manifest.json"), None):
        raise BadScenario(f"{folder} holds runs in folders of their own; give another --out, such as {folder / 'one'}")
    if folder.is_file():
        raise BadScenario(f"--out {folder}: this is a file, give a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadScenario(f"--out {folder}: {error.strerror}") from error


def follow(attendance: Path, parts: Sequence[Part]) -> None:
    """Takes over whom each part's slots went on without in the run in `attendance`. Raises BadScenario."""
    for part in parts:
        if not part.design.plan.absence.drops:
            line = f"--attendance {attendance}: slots go on without users where on_user_failure is drop, here it is "
            raise BadScenario(f"{line}{part.design.scenario.on_user_failure}")
        there = attendance / part.folder.relative_to(parts[0].folder) / FILE
        try:
            part.folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(there, part.folder / FILE)
        except OSError as error:
            advice = "give the directory of a run with on_user_failure: drop"
            raise BadScenario(f"--attendance {there}: {error.strerror}; {advice}") from error


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, for as long as the runs last."""
    from sim.cluster import Cluster
    from sim.reach import ClusterError

    try:
        with Cluster.start(address) as cluster:
            yield cluster
    except ClusterError as error:
        raise RunError(str(error)) from error


def run_one(part: Part, cluster: Any, watcher: Watcher) -> Result:
    """One run from its start, or through the slots of one whose attendance is there. Raises RunError, BadScenario."""
    try:
        part = part._replace(design=attended(part.folder, part.design))
    except UnreadableRun as error:
        raise BadScenario(str(error)) from error
    recorder = Recorder(part.folder, part.name, part.design)
    if rounds := part.design.plan.absence.log.rounds:
        recorder.events({"event": "follows", "rounds": rounds})
    return finished(part, recorder, going(cluster), watcher)


def finished(part: Part, recorder: Recorder, way: Way, watcher: Watcher) -> Result:
    """One run from where its design begins to its end. Raises RunError."""
    living = _Living(part, recorder, way, watcher)
    try:
        outcome = living.outcome()
    except (RunFailed, NotConverged, NoTheory) as error:
        if watcher.stop():
            return living.recorder.finish("stopped", None, str(error))
        living.recorder.fail(str(error), error.__cause__)
        raise RunError(f"{part.name}: {error}") from error
    except CannotGoOn as error:
        raise RunError(f"{part.name}: {error}") from error
    except (KeyboardInterrupt, SystemExit):
        living.recorder.finish("stopped", None)
        raise
    except Exception as error:
        raise _unforeseen(part, living.recorder, error) from error
    return living.recorder.finish("stopped" if outcome.stopped else "done", outcome)


def _unforeseen(part: Part, recorder: Recorder, error: Exception) -> RunError:
    line = f"{type(error).__name__}: {error}"
    try:
        recorder.fail(line, error)
    except OSError as second:
        advice = f"free space or mend {part.folder}, then: {go_on(part.folder)}"
        return RunError(f"{part.name}: {line}; its end could not be written ({second}): {advice}")
    return RunError(f"{part.name}: {line}; events.jsonl in {part.folder} says where")


class _Living:
    """A run that goes on when its processes die. recorder: the one that writes now."""

    def __init__(self, part: Part, recorder: Recorder, way: Way, watcher: Watcher) -> None:
        self.recorder, self._pause = recorder, PauseFile(part.folder)
        self._part, self._design, self._way, self._watcher = part, part.design, way, watcher

    def outcome(self) -> Outcome:
        """Its end. Raises what its way raises, CannotGoOn, NoTheory."""
        self._watcher.on_start(self._part.name, self._design.scenario.rounds - self._design.plan.first)
        self.recorder.write_streams()
        step = resolve_step(self._design, self._watcher.on_note, self._watcher.stop)
        with self._pause.heeded():
            outcome = self._recovered(step)
        if not outcome.stopped:
            self.recorder.tasks.score(self.recorder.events, self._watcher.on_note, self._watcher.stop)
        return outcome

    def _recovered(self, step: Step) -> Outcome:
        name, folder, design = self._part
        recovery = Recovery(folder, name, design, self._watcher.on_note, self._watcher.stop, self._way.back)
        while True:
            self.recorder.step = step
            try:
                return self._way.go(self._design, step, self._hooks())
            except ProcessLost as lost:
                self._design, self.recorder = recovery.after(lost, self.recorder)
                recovery.pause()
                if self._watcher.stop():
                    raise
                self._watcher.on_start(name, design.scenario.rounds - self._design.plan.first)

    def _hooks(self) -> Hooks:
        recorder, watcher = self.recorder, self._watcher

        def on_round(record: RoundRecord) -> None:
            recorder.add(record)
            watcher.on_round(record)

        def on_event(event: Event) -> None:
            recorder.events(event)
            watcher.on_event(event)

        saver = Saver(self._part.folder, self._design, recorder, watcher.on_note)
        return Hooks(on_round, on_event, watcher.stop, recorder.tasks, saver, self._pause.there)


def going(cluster: Any) -> Way:
    """On the transport that the scenario names; with Ray on this cluster."""
    return Way(lambda design, step, hooks: _go(design, step, hooks, cluster))


def _go(design: Blueprint, step: Step, hooks: Hooks, cluster: Any) -> Outcome:
    if design.scenario.transport == "memory":
        return run_in_memory(design, step, hooks)
    if design.scenario.transport == "grpc":
        return run_over_grpc(design, step, hooks)
    outcome: Outcome = cluster.run(design, step, hooks)
    return outcome
