"""`bench start`: from nothing to the first slot on record, beside what Python, torch and Ray take by themselves."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import joblib
import pyarrow as pa

from sim.bench.machine import machine
from sim.bench.process import WorkerFailed

Kind = Literal["memory", "ray"]

KINDS: tuple[Kind, ...] = ("memory", "ray")
BAR = 1.5
_LOOK = 0.002
"""Seconds between two looks into the journal."""
_PATIENCE = 120.0
_LAST_WORDS = 30.0

_SCENARIO = """\
schema: 1
name: start
rounds: 1000000
slots: 1
users:
  - {name: sine, task: {kind: kernel_regression}, head: {kind: identity}}
  - {name: cosine, task: {kind: kernel_regression}, head: {kind: identity}}
edge:
  encoder: {kind: linear}
  aggregator: {kind: owo_fmtl, u_max: 4.0}
  primal: {step: 0.05, domain: {box: 1.0}}
"""
_TORCH = "import torch; print(flush=True)"
_RAY = """\
import os
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_worker_niceness="0")
import ray
ray.init("local", num_cpus=%d, include_dashboard=False, configure_logging=False, log_to_driver=False)

@ray.remote(num_cpus=0)
class Actor:
    def __init__(self):
        import torch

    def ready(self):
        return True

ray.get(Actor.remote().ready.remote())
print(flush=True)
ray.shutdown()
"""


class Turn(NamedTuple):
    """Seconds of one turn. first_slot: of `equiran run`; floor: of what it stands on."""

    kind: Kind
    first_slot: float
    floor: float


def measure(repeats: int, note: Callable[[str], None]) -> list[Turn]:
    """Turn by turn, after one of each that is not counted: it fills the page cache. Raises WorkerFailed."""
    turns = []
    for number in range(repeats + 1):
        for kind in KINDS:
            turn = Turn(kind, _first_slot(kind), _floor(kind))
            note(f"{kind}: {turn.first_slot:.2f} s, floor {turn.floor:.2f} s" + ("" if number else " (not counted)"))
            turns += [turn] if number else []
    return turns


def _first_slot(kind: Kind) -> float:
    """From the start of the process until the first slot can be read from the run's journal."""
    with TemporaryDirectory(prefix="equiran-start-") as folder:
        file, out = Path(folder) / "start.yaml", Path(folder) / "out"
        file.write_text(_SCENARIO, encoding="utf-8")
        command = ["-m", "sim", "run", str(file), "--out", str(out), "--transport", kind, "--quiet"]
        return _timed(command, lambda process: _until_slot(process, out / "slots.arrows"))


def _floor(kind: Kind) -> float:
    script = _TORCH if kind == "memory" else _RAY % joblib.cpu_count()
    return _timed(["-c", script], _until_line)


def _timed(arguments: Sequence[str], wait: Callable[["subprocess.Popen[str]"], None]) -> float:
    """Seconds until `wait` returns; then the process is ended, untimed, and the next one has the machine alone."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, process_group=0
    )
    try:
        wait(process)
        took = time.perf_counter() - started
        if process.poll() is None and arguments[0] == "-m":
            process.terminate()
        process.communicate(timeout=_LAST_WORDS)
        return took
    finally:
        process.kill()
        process.communicate()


def _until_line(process: "subprocess.Popen[str]") -> None:
    assert process.stdout
    if not process.stdout.readline():
        raise WorkerFailed("the floor of bench start ended without an answer; see stderr")


def _until_slot(process: "subprocess.Popen[str]", journal: Path) -> None:
    deadline = time.perf_counter() + _PATIENCE
    while not _has_slot(journal):
        if process.poll() is not None or time.perf_counter() > deadline:
            raise WorkerFailed("the run of bench start had no first slot; see stderr")
        time.sleep(_LOOK)


def _has_slot(journal: Path) -> bool:
    try:
        with pa.ipc.open_stream(journal) as stream:
            return bool(stream.read_next_batch().num_rows)
    except (OSError, pa.ArrowInvalid, StopIteration):
        return False


def report(turns: Sequence[Turn]) -> dict[str, Any]:
    """Medians over the turns; a ratio is that of one turn, so its median is paired."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        mine = [turn for turn in turns if turn.kind == kind]
        ratios = [turn.first_slot / turn.floor for turn in mine]
        low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
        found[f"{kind}_first_slot_s"] = median(turn.first_slot for turn in mine)
        found[f"{kind}_floor_s"] = median(turn.floor for turn in mine)
        found[f"{kind}_ratio"] = median(ratios)
        found[f"{kind}_ratio_quartiles"] = [low, high]
        found[f"{kind}_bar"] = BAR
    return {**found, "turns": len(turns) // len(KINDS), "machine": machine()}
