"""Many runs side by side, each in a process of its own that keeps what it has imported for the next one.

Parent and workers exchange JSON. A worker ends with its parent, however that ends.
"""

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SPAWN = multiprocessing.get_context("spawn")
_LOOK = 0.2
"""Seconds between two looks at whether the caller wants to stop."""
_TRIES = 2
"""How often a run may lose its process before it counts as failed."""
_STOP = b""


class Stopped(Exception):
    """Somebody interrupted the runs; what is finished stays, and is not run again."""


class Run(Protocol):
    """One run, as a NamedTuple of text, numbers and tuples of text: that is how it reaches its process."""

    @property
    def name(self) -> str:
        """For people, and the folder below the root of all runs."""
        ...

    def _asdict(self) -> dict[str, Any]: ...

    def run(self, folder: Path, stop: Callable[[], bool]) -> tuple[str, float]:
        """Do it, with its files in `folder`: how it ended (`stopped` if `stop` said so) and the seconds it took."""
        ...


class Ended(NamedTuple):
    """How a run ended: the seconds it took, or the one line that says why it failed."""

    seconds: float
    error: str | None


def run_side_by_side(
    jobs: Sequence[Run],
    root: Path,
    workers: int,
    on_end: Callable[[int, Ended], None],
    stop: Callable[[], bool],
) -> None:
    """Run every job into `root`/its name, with `workers` processes; what half a run left there is removed first.

    on_end: told the job's index; what it raises ends the other runs between two slots. Raises Stopped when `stop`
    says so. A run whose process dies is put at the end of the queue once.
    """
    waiting, lost = deque(range(len(jobs))), [0] * len(jobs)
    with _crew(min(workers, len(jobs))) as crew:
        while waiting or any(worker.job is not None for worker in crew):
            for worker in crew:
                if worker.job is None and waiting:
                    worker.begin(waiting.popleft(), jobs, root)
            for worker in _answering(crew):
                index, ended = worker.ended()
                if ended is None:
                    lost[index] += 1
                    worker.start()
                if ended is None and lost[index] < _TRIES:
                    waiting.append(index)
                else:
                    on_end(index, ended or Ended(0.0, "its process died twice (killed? out of memory?)"))
            if stop():
                raise Stopped


def _answering(crew: "Sequence[_Worker]") -> "list[_Worker]":
    """The busy workers that have something to say, their death included."""
    busy = {worker.line: worker for worker in crew if worker.job is not None}
    return [busy[line] for line in wait([*busy], _LOOK) if isinstance(line, Connection)]


class _Worker:
    """A process that runs one job after the other. job: the index of the one it is at."""

    def __init__(self) -> None:
        self.job: int | None = None
        self.start()

    def start(self) -> None:
        """A new process, idle."""
        self.line, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
        with _one_thread_each():
            self._process.start()
        theirs.close()

    def begin(self, index: int, jobs: Sequence[Run], root: Path) -> None:
        """Give it a job. A process that is gone is noticed when it should answer."""
        self.job = index
        self._tell(_packed(jobs[index], root / jobs[index].name))

    def ended(self) -> tuple[int, Ended | None]:
        """The job it was at, and how it ended; None if the process died."""
        assert self.job is not None
        index, self.job = self.job, None
        try:
            answer = json.loads(self.line.recv_bytes())
        except (EOFError, OSError):
            self.line.close()
            self._process.join()
            return index, None
        return index, Ended(**answer)

    def dismiss(self) -> None:
        """Ask it to end between two slots."""
        self._tell(_STOP)

    def leave(self) -> None:
        """Wait until it has ended."""
        self._process.join()

    def kill(self) -> None:
        """End it now, if it still lives."""
        self._process.kill()
        self._process.join()
        self.line.close()

    def _tell(self, data: bytes) -> None:
        with suppress(OSError):
            self.line.send_bytes(data)


@contextmanager
def _crew(count: int) -> Iterator[list[_Worker]]:
    """So many workers; in the end none is left, also where a second Ctrl-C does not wait for them."""
    crew = list[_Worker]()
    try:
        crew += (_Worker() for _ in range(count))
        yield crew
    finally:
        try:
            for worker in crew:
                worker.dismiss()
            for worker in crew:
                worker.leave()
        finally:
            for worker in crew:
                worker.kill()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start inside compute with one thread, until a scenario says otherwise."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _packed(job: Run, folder: Path) -> bytes:
    kind = f"{type(job).__module__}:{type(job).__qualname__}"
    return json.dumps({"kind": kind, "fields": job._asdict(), "folder": str(folder)}).encode()


def _unpacked(order: bytes) -> tuple[Run, Path]:
    content = json.loads(order)
    module, _, name = content["kind"].partition(":")
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in content["fields"].items()}
    job: Run = getattr(import_module(module), name)(**fields)
    return job, Path(content["folder"])


def _serve(line: Connection) -> None:
    """In a worker: jobs one after the other. Signals are the parent's: it says when to stop."""
    from sim.allocator import keep_buffers, keep_objects

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    keep_buffers()
    keep_objects()
    orders, stopping = SimpleQueue[bytes](), threading.Event()
    threading.Thread(target=_listen, args=(line, orders, stopping), name="listener", daemon=True).start()
    while order := orders.get():
        line.send_bytes(json.dumps(_done(order, stopping.is_set)._asdict()).encode())


def _listen(line: Connection, orders: "SimpleQueue[bytes]", stopping: threading.Event) -> None:
    """In a worker, beside the runs: without a parent there is nobody to run for."""
    while True:
        try:
            order = line.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)
        if order == _STOP:
            stopping.set()
        orders.put(order)


def _done(order: bytes, stop: Callable[[], bool]) -> Ended:
    """In a worker: one run into its folder."""
    job, folder = _unpacked(order)
    if folder.exists():
        shutil.rmtree(folder)
    return ended_as(lambda: job.run(folder, stop))


def ended_as(run: Callable[[], tuple[str, float]]) -> Ended:
    """How a run ended that gives its status and its seconds, or fails."""
    try:
        status, seconds = run()
    except Exception as error:
        return Ended(0.0, _line(error))
    return Ended(seconds, "it was interrupted" if status == "stopped" else None)


def _line(error: Exception) -> str:
    from sim.caller import RunError

    return str(error) if isinstance(error, RunError) else " ".join(f"{type(error).__name__}: {error}".split())
