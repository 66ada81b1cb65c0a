"""What a person sees in a terminal: progress and notes on stderr, results on stdout."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_server.record import RoundRecord
from sim.caller import Watcher

if TYPE_CHECKING:
    from sim.power_run import PowerWatcher


_WIDE = 64
"""Columns of a terminal from which on a bar has room for numbers beside it."""
_QUIET = 10.0
"""Seconds after which a run under way is told of where there is no bar."""
_GAP, _FOLDED = 2, 10
"""Columns between those of a table, and to which text in one may be folded."""


class Stopped(Exception):
    """Somebody wanted it to stop while there was nothing to keep."""


class Interrupts:
    """The first SIGINT or SIGTERM asks for a clean stop, the second one ends the process at once."""

    def __init__(self) -> None:
        self.number: int | None = None

    def asked(self) -> bool:
        """Somebody wants the run to stop."""
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """130 or 143."""
        return 128 + (self.number or 0)

    @contextmanager
    def caught(self) -> Iterator["Interrupts"]:
        """While inside, the two signals are ours."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            sys.exit(self.exit_code)
        self.number = number


class Screen:
    """Progress of runs: bars on a terminal, a line at the start of each run elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool):
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        numbers = [TextColumn("{task.fields[numbers]}")] if self._console.width >= _WIDE else []
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            *numbers,
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._slots = 0
        self._told = 0.0

    @contextmanager
    def watching(self, interrupts: Interrupts) -> Iterator[Watcher]:
        """A watcher that draws what it is told."""
        with self._progress:
            yield Watcher(self._on_start, self._on_round, self.note, interrupts.asked)

    @contextmanager
    def training(self, interrupts: Interrupts) -> Iterator["PowerWatcher"]:
        """The same for a power trainer."""
        from sim.power_run import PowerWatcher

        with self._progress:
            yield PowerWatcher(self._on_part, self._on_done, self.note, interrupts.asked)

    @contextmanager
    def counting(self, what: str, total: int, at_once: int = 1) -> Iterator[Callable[[str], None]]:
        """Something of `total` parts, each told by a line when over: a bar on a terminal, else the line.

        at_once: so many go on at a time. How long it still takes is told by those behind them: the first ones start up.
        """
        task = self._progress.add_task(what, total=total, numbers="")
        ends: list[float] = []

        def count(text: str) -> None:
            ends.append(perf_counter())
            over = len(ends)
            self._progress.update(task, completed=over, numbers=text)
            if not self._console.is_terminal:
                known = at_once < over < total
                left = (ends[-1] - ends[0]) / (over - 1) * (total - over) if known else 0.0
                self.note(f"[{over}/{total}] {text}" + (f"; about {left:.0f} s left" if known else ""))

        with self._progress:
            yield count

    def note(self, text: str) -> None:
        """One line for people."""
        self._console.print(text, markup=False, soft_wrap=True)

    def _on_part(self, what: str, total: int) -> None:
        if not self._console.is_terminal:
            self.note(f"{total} {what}")
        self._told = perf_counter()
        self._task = self._progress.add_task(what, total=total, numbers="")

    def _on_done(self, done: int, numbers: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, numbers=numbers)
            self._say_now_and_then(self._progress.tasks[self._task], "")

    def _on_start(self, name: str, rounds: int) -> None:
        if not self._console.is_terminal:
            self.note(f"{name}: {rounds} rounds")
        self._slots, self._told = 0, perf_counter()
        self._task = self._progress.add_task(name, total=rounds, numbers="")

    def _on_round(self, record: RoundRecord) -> None:
        if self._task is None:
            return
        self._slots += len(record.loss)
        elapsed = self._progress.tasks[self._task].elapsed or 0.0
        rate = f" {self._slots / elapsed:.0f} slots/s" if elapsed else ""
        known = [v for v in (record.val_fairness, record.fairness) if not np.isnan(v)]
        fairness = f"fairness {known[0]:.3f}" if known else ""
        self._progress.update(self._task, advance=1, numbers=fairness + rate)
        self._say_now_and_then(self._progress.tasks[self._task], "rounds")

    def _say_now_and_then(self, task: Task, unit: str) -> None:
        """Where there is no bar, how far it is."""
        if not self._console.is_terminal and perf_counter() - self._told > _QUIET and not task.finished:
            self._told = perf_counter()
            far = f"{task.description}: {task.completed:.0f} of {task.total:.0f} {unit}".rstrip()
            self.note(", ".join(filter(None, (far, task.fields["numbers"]))))


def fail(text: str) -> None:
    """An error, on stderr, whatever the verbosity."""
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)


def say(text: str) -> None:
    """A result, on stdout."""
    sys.stdout.write(text + "\n")


def say_json(content: dict[str, Any]) -> None:
    """The one JSON object of `--json`, on stdout."""
    say(json.dumps(content, allow_nan=False))


def say_table(rows: list[dict[str, Any]], title: str) -> None:
    """Rows with equal keys, on stdout; one value a line where the terminal is too narrow for a table.

    Where it is only a little too narrow, headings of several words stand on several lines.
    """
    console = Console(highlight=False)
    if _wide(rows, _folded) > console.width:
        console.print(title, *_upright(rows), sep="\n", markup=False)
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    stacked = _wide(rows, _whole) > console.width
    for name in rows[0]:
        heading = name.replace(" ", "\n") if stacked else name
        if isinstance(rows[0][name], str):
            table.add_column(heading, overflow="fold", vertical="bottom")
        else:
            table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    with console.capture() as drawn:
        console.print(table)
    say("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def _wide(rows: list[dict[str, Any]], width: Callable[[str, list[Any]], int]) -> int:
    """Columns of a terminal that a table takes. width: of one of its columns, by heading and values."""
    return sum(_GAP + width(name, [row[name] for row in rows]) for name in rows[0]) - _GAP


def _whole(name: str, values: list[Any]) -> int:
    return max(len(_cell(value)) for value in (name, *values))


def _folded(name: str, values: list[Any]) -> int:
    """With the heading on several lines, and text at its narrowest."""
    widest = max(_whole(word, values) for word in name.split() or [name])
    return min(widest, _FOLDED) if isinstance(values[0], str) else widest


def _upright(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A block of lines for each row, which its first value begins."""
    names = max(len(name) for name in rows[0])
    for row in rows:
        first, *rest = row
        yield f"{first} {_cell(row[first])}".strip()
        yield from (f"  {name:{names}}  {_cell(row[name])}" for name in rest if row[name] != "")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
