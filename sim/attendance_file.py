"""`attendance.jsonl`, where slots go on without users: whom each slot went on without, and who began anew, a line
for each round."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_server.absence import Log, Return
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
        said: dict[str, Any] = {"round": record.round, "left_out": left_out}
        if record.returns:
            said["returns"] = [[back.at[1], self._users[back.k], *back.of] for back in record.returns]
        self._file.write(json.dumps(said) + "\n")
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
    returns: list[Return] = []
    *lines, _unfinished = read_text(path).split("\n")
    for t, line in enumerate(lines):
        try:
            said = _line(t, line)
            entries += _entries(t, said, index, slots)
            returns += _returns(t, said, index, slots)
        except (ValueError, KeyError, TypeError) as error:
            told = f"{path}:{t + 1}: not the attendance of round {t} of this scenario ({error})"
            raise UnreadableRun(f"{told}; take the file of a run with the same users and slots") from error
    return Log(len(lines), tuple(entries), tuple(returns))


def _line(t: int, line: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(line)
    if said["round"] != t:
        raise ValueError(f"round {said['round']!r}")
    return said


def _returns(t: int, said: dict[str, Any], index: dict[str, int], slots: int) -> Iterator[Return]:
    for i, name, of_t, of_i in said.get("returns", ()):
        if name not in index or not (0 <= i <= slots and (0, 0) <= (of_t, of_i) <= (t, i)):
            raise ValueError(f"user {name!r}, slot {i!r}, back to round {of_t!r}, slot {of_i!r}")
        yield Return((t, i), index[name], (of_t, of_i))


def _entries(t: int, said: dict[str, Any], index: dict[str, int], slots: int) -> Iterator[tuple[int, int, int, int]]:
    for i, name, code in said["left_out"]:
        if name not in index or not 0 <= i <= slots:
            raise ValueError(f"user {name!r}, slot {i!r}")
        yield t, i, index[name], _CODES.index(code)
