"""Worker processes of a benchmark: they are told, and tell, one line of JSON at a time."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_LAST_WORDS = 10.0
"""Seconds that a worker has to end by itself."""


class WorkerFailed(Exception):
    """A worker ended before it had answered; what it had to say is on stderr."""


class Worker:
    """`python -m module` as a process of its own; `task` is the first line it is told.

    A Ctrl-C reaches the benchmark alone, which then ends its workers.
    """

    def __init__(self, module: str, task: dict[str, Any]):
        self._module = module
        command = [sys.executable, "-m", module]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        self.tell(task)

    def tell(self, content: Any) -> None:
        """Give the worker one line. Raises WorkerFailed if it is gone."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(content) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerFailed(f"benchmark process {self._module} ended too early") from error

    def hear(self) -> Any:
        """The worker's next line. Raises WorkerFailed if it ends instead."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"benchmark process {self._module} ended without an answer; see stderr")
        return json.loads(line)

    def ask(self, content: Any) -> Any:
        """Tell, then hear."""
        self.tell(content)
        return self.hear()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """It has not ended yet."""
        return self._process.poll() is None

    def end(self, kill: bool) -> None:
        """Wait until it has ended by itself; kill it if it may not or does not."""
        try:
            self._process.communicate(timeout=0 if kill else _LAST_WORDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@contextmanager
def ended(workers: Sequence[Worker]) -> Iterator[None]:
    """Whatever happens inside, none of the workers is left behind; `workers` may still grow."""
    kill = True
    try:
        yield
        kill = False
    finally:
        for worker in workers:
            worker.end(kill)


def listen() -> Any:
    """In a worker: the next line it is told. Ends the process when nobody is left to tell one."""
    line = sys.stdin.readline()
    if not line:
        os._exit(1)
    return json.loads(line)


def answer(content: Any) -> None:
    """In a worker: tell one line."""
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()
