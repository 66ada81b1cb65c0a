"""`bench power --beside-slots`: the rates of slots and of a power trainer, alone and together, in turns.

The processes are those of a run: the edge with the trainer as its child, and hosts of users. While its rate is not
asked for, the trainer is halted by SIGSTOP. All stay alive, so that a turn is short and a machine that drifts drifts
for both.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any, NamedTuple

import joblib
import numpy as np

from edge_server.record import RoundRecord
from edge_server.routed_mtl.progress import Progress
from edge_server.server_tasks.news import TaskNews
from sim.bench.machine import machine
from sim.bench.power import INSTANCES
from sim.bench.process import Worker, ended
from sim.bench.slot import Load, design_of
from sim.blueprint import Blueprint
from sim.local import Hooks, run_over_grpc
from sim.placement import shares
from sim.planning import blueprint
from sim.recipe import to_recipe
from sim.recorder import Recorder
from sim.scenario import Scenario
from sim.step import Step

SLOTS_BAR, TRAINER_BAR = 0.80, 0.15
"""Shares of the rates alone that are to be kept together, on 2 cores."""

_ENDLESS = 10**8
_EVERY = 5
"""Steps between two reports of the trainer: as exactly are its steps counted."""
_STEP = 0.1
_DIGEST_SLOTS = 15
_BREATH = 0.25
"""Seconds for which the slots of that run rest after each round until the trainer has begun."""


@dataclass(frozen=True)
class Effort:
    """turns: that count, after one that warms up. slots: in a block. seconds: of the trainer's turn alone.

    digest_rounds: of the run whose digests are compared, of few slots each.
    """

    turns: int = 12
    slots: int = 150
    seconds: float = 1.0
    digest_rounds: int = 40


class Rates(NamedTuple):
    """Per turn, 1/s."""

    slots_alone: list[float]
    slots_together: list[float]
    steps_alone: list[float]
    steps_together: list[float]


@dataclass(frozen=True)
class Digests:
    """Of the same slots over gRPC, without and with the trainer, which took `steps` meanwhile."""

    without: str
    beside: str
    steps: int


def _scenario(load: Load, rounds: int, slots: int, tasks: bool) -> Blueprint:
    """`bench slot`'s scenario; with the paper's fourteen tasks in the first stage if a trainer stands beside it."""
    scenario = design_of(load).scenario
    trainer = {"kind": "routed_mtl", "stages": [_ENDLESS, 0], "every": _EVERY, "samples": {"train": INSTANCES}}
    tree = scenario.model_dump(mode="json", by_alias=True) | {"rounds": rounds, "slots": slots}
    tree["edge"]["server_tasks"] = [trainer] if tasks else []
    return blueprint(Scenario.model_validate(tree), scenario.name)


def measure(load: Load, effort: Effort) -> Rates:
    """All turns. Raises WorkerFailed."""
    blocks = 2 + 3 * (effort.turns + 1)
    design = _scenario(load, blocks, effort.slots, tasks=True)
    with _running(load, design) as (edge, hosts):
        bench = _Turns(edge, effort.seconds)
        turns = [bench.turn() for _ in range(effort.turns + 1)]
        last = bench.block()
        bench.release()
        edge.tell("go")
        for host in hosts:
            host.hear()
        edge.tell("everybody is gone")
    return _rates(turns[1:], last.step)


class _Block(NamedTuple):
    """Slots per s, and the trainer's steps as of its end."""

    rate: float
    step: int


class _Turn(NamedTuple):
    """A block alone, the trainer alone, a block alone, both; seconds: of the trainer in its two parts."""

    before: _Block
    between: _Block
    both: _Block
    alone_seconds: float
    both_seconds: float


class _Turns:
    """Lets edge and trainer work one after the other and together; begins with everything warm and at rest."""

    def __init__(self, edge: Worker, seconds: float) -> None:
        self._edge, self._seconds = edge, seconds
        first = edge.hear()
        self._pid = int(first["pid"])
        os.kill(self._pid, signal.SIGSTOP)

    def block(self) -> _Block:
        """One block of slots."""
        self._edge.tell("go")
        told = self._edge.hear()
        return _Block(len(told["slot"]) / sum(told["slot"]), told["step"])

    def turn(self) -> _Turn:
        """Everything once. The steps of `both` are known at the end of the block after it."""
        before = self.block()
        with self._training() as alone:
            sleep(self._seconds)
        between = self.block()
        with self._training() as together:
            both = self.block()
        return _Turn(before, between, both, alone[0], together[0])

    def release(self) -> None:
        """The trainer is free to hear that it is over."""
        os.kill(self._pid, signal.SIGCONT)

    @contextmanager
    def _training(self) -> Iterator[list[float]]:
        """The trainer works inside; yields a list that gets the seconds that took."""
        seconds: list[float] = []
        started = perf_counter()
        os.kill(self._pid, signal.SIGCONT)
        try:
            yield seconds
        finally:
            os.kill(self._pid, signal.SIGSTOP)
            seconds.append(perf_counter() - started)


def _rates(turns: list[_Turn], last_step: int) -> Rates:
    after = [*(turn.before.step for turn in turns[1:]), last_step]
    return Rates(
        slots_alone=[(turn.before.rate + turn.between.rate) / 2 for turn in turns],
        slots_together=[turn.both.rate for turn in turns],
        steps_alone=[(turn.between.step - turn.before.step) / turn.alone_seconds for turn in turns],
        steps_together=[
            (step - turn.between.step) / turn.both_seconds for turn, step in zip(turns, after, strict=True)
        ],
    )


@contextmanager
def _running(load: Load, design: Blueprint) -> Iterator[tuple[Worker, list[Worker]]]:
    workers: list[Worker] = []
    recipe = to_recipe(design, Step(_STEP))
    with ended(workers):
        edge = Worker("sim.bench.power_beside_edge", {"recipe": recipe})
        workers.append(edge)
        task = {"recipe": recipe, "address": edge.hear()["address"]}
        placed = shares(load.users, load.hosts, joblib.cpu_count())
        hosts = [Worker("sim.bench.wire", {**task, "users": share}) for share in placed]
        workers += hosts
        yield edge, hosts


def digests(load: Load, effort: Effort) -> Digests:
    """Of a short run over gRPC without and with the trainer. Raises RunFailed."""
    rounds, slots = effort.digest_rounds, _DIGEST_SLOTS
    with TemporaryDirectory() as folder:
        without, _ = _digest(Path(folder) / "without", _scenario(load, rounds, slots, tasks=False))
        beside, steps = _digest(Path(folder) / "beside", _scenario(load, rounds, slots, tasks=True))
    return Digests(without, beside, steps)


def _digest(folder: Path, design: Blueprint) -> tuple[str, int]:
    """The run's digest, and the steps that its trainer took meanwhile."""
    folder.mkdir()
    recorder = Recorder(folder, design.scenario.name, design)
    seen: list[Progress] = []

    def on_round(record: RoundRecord) -> None:
        recorder.add(record)
        if design.scenario.edge.server_tasks and not seen:
            sleep(_BREATH)

    def on_task(news: TaskNews) -> None:
        recorder.tasks(news)
        seen.extend(news.progress)

    hooks = Hooks(on_round, recorder.events, lambda: False, on_task)
    result = recorder.finish("done", run_over_grpc(design, Step(_STEP), hooks))
    assert result.digest is not None
    return result.digest, sum(task["steps_taken"] or 0 for task in result.summary["server_tasks"])


def report(load: Load, effort: Effort) -> dict[str, Any]:
    """Medians over turns, the ratios of every turn's rates beside the bars, and the digests."""
    rates, found = measure(load, effort), digests(load, effort)
    slots = np.array(rates.slots_together) / np.array(rates.slots_alone)
    steps = np.array(rates.steps_together) / np.array(rates.steps_alone)
    return {
        "users": load.users,
        "batch": load.batch,
        "encoder": load.encoder,
        "turns": effort.turns,
        **{f"{name}_per_s": float(np.median(values)) for name, values in rates._asdict().items()},
        "slots_ratio": float(np.median(slots)),
        "slots_ratio_quartiles": np.quantile(slots, (0.25, 0.75)).tolist(),
        "slots_bar": SLOTS_BAR,
        "steps_ratio": float(np.median(steps)),
        "steps_ratio_quartiles": np.quantile(steps, (0.25, 0.75)).tolist(),
        "steps_bar": TRAINER_BAR,
        "digest_without": found.without,
        "digest_beside": found.beside,
        "digest_steps": found.steps,
        "same_digest": found.without == found.beside,
        "machine": machine(),
    }
