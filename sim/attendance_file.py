"""`attendance.jsonl`, where slots go on without users: whom each slot went on without, a line for each round."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edge_server.absence import Log
from edge_server.record import RoundRecord
from sim.records import cut_unfinished_line
from sim.report.files import UnreadableRun
from sim.report.records import read_text

FILE = "attendance.jsonl"
_CODES = ("here", "away", "no_features", "no_answer")


class AttendanceFile:
    """Grows by a line for each round that is not there yet. Raises UnreadableRun, naming the line."""

    def __init__(self, folder: Path, users: Sequence[str], slots: int):
        path = folder / FILE
        cut_unfinished_line(path)
        self._known, self._users = read_log(path, users, slots).rounds, users
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: RoundRecord) -> None:
        """Writes one round, unless it is known: then the users that were left out are the same."""
        if record.round < self._known:
            return
        where = np.argwhere(record.left_out).tolist()
        left_out = [[i, self._users[k], _CODES[record.left_out[i, k]]] for i, k in where]
        self._file.write(json.dumps({"round": record.round, "left_out": left_out}) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """What was appended would survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


def read_log(path: Path, users: Sequence[str], slots: int) -> Log:
    """What a run of these users and so many slots a round wrote; empty if it wrote nothing.

    Raises UnreadableRun, naming the line.
    """
    if not path.exists():
        return Log()
    index = {name: k for k, name in enumerate(users)}
    entries: list[tuple[int, int, int, int]] = []
    *lines, _unfinished = read_text(path).split("\n")
    for t, line in enumerate(lines):
        try:
            entries += _entries(t, line, index, slots)
        except (ValueError, KeyError, TypeError) as error:
            said = f"{path}:{t + 1}: not the attendance of round {t} of this scenario ({error})"
            raise UnreadableRun(f"{said}; take the file of a run with the same users and slots") from error
    return Log(len(lines), tuple(entries))


def _entries(t: int, line: str, index: dict[str, int], slots: int) -> Iterator[tuple[int, int, int, int]]:
    said = json.loads(line)
    if said["round"] != t:
        raise ValueError(f"round {said['round']!r}")
    for i, name, code in said["left_out"]:
        if name not in index or not 0 <= i <= slots:
            raise ValueError(f"user {name!r}, slot {i!r}")
        yield t, i, index[name], _CODES.index(code)
