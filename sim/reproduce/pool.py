"""Many runs side by side, one core each. A run that is there already, of the same scenario, is not run again."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib

from sim.effective import effective
from sim.reproduce.jobs import Work
from sim.runner import RunError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_stop: Any = None
"""In a worker: the event that ends its run between two slots."""


class Stopped(Exception):
    """Somebody interrupted the runs; what is finished stays, and is not run again."""


def run_all(jobs: Sequence[Work], root: Path, note: Callable[[str], None], stop: Callable[[], bool]) -> None:
    """Run what is missing below `root`. Raises RunError with the first failure, Stopped when `stop` says so."""
    jobs = list(dict.fromkeys(jobs))
    missing = [job for job in jobs if not is_there(job, root)]
    note(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them there already")
    if not missing:
        return
    context = multiprocessing.get_context("spawn")
    event = context.Event()
    workers = min(joblib.cpu_count(), len(missing))
    with _one_thread_each(), ProcessPoolExecutor(workers, context, _start, (event,)) as pool:
        futures = {pool.submit(_run, job, root): job for job in missing}
        try:
            _collect(futures, note, stop)
        except BrokenProcessPool as error:
            raise RunError("a process that carried runs died (out of memory?); start again to go on") from error
        finally:
            event.set()
            pool.shutdown(cancel_futures=True)


def is_there(job: Work, root: Path) -> bool:
    """The run is finished, and its scenario is what the job says now."""
    folder = root / job.name
    try:
        status = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["status"]
        same = (folder / "scenario.yaml").read_text(encoding="utf-8") == effective(job.load().scenario)
    except FileNotFoundError:
        return False
    return same and (status == "done" or (job.may_fail and status == "failed"))


def _collect(futures: dict["Future[float]", Work], note: Callable[[str], None], stop: Callable[[], bool]) -> None:
    waiting, total = set(futures), len(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        if stop():
            raise Stopped
        for number, future in enumerate(done, total - len(waiting) - len(done) + 1):
            note(f"[{number}/{total}] {futures[future].name}: {future.result():.0f} s")


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Workers that start inside compute with one thread."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _start(event: Any) -> None:
    global _stop
    _stop = event
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _run(job: Work, root: Path) -> float:
    """In a worker: one run into its folder; seconds it took."""
    folder = root / job.name
    if (folder / "manifest.json").exists():
        shutil.rmtree(folder)
    try:
        status, seconds = job.run(folder, _stop.is_set)
    except RunError as error:
        raise RunError(f"{job.name}: {error}") from error
    if status == "stopped":
        raise Stopped
    return seconds
