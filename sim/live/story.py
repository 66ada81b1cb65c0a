"""What happened to a run, from events.jsonl as it grows: the newest events in words, and how many there are of each."""

import json
from collections import Counter, deque
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sim.report.events import BAD, GOOD, event_kind
from sim.report.records import Json, parsed_event
from sim.report.words import number

Tone = Literal["bad", "good", "calm"]

_KEPT = 100
_CHUNK = 1 << 20
"""Bytes read at once."""
_TOLD = ("time", "event", "user", "round", "slot", "text", "reason")


class Entry(NamedTuple):
    """One event, or several of a kind in a row. users: whom it happened to, the first and the last; many: how often."""

    time: str
    kind: str
    tone: Tone
    place: str
    users: tuple[str, ...]
    what: str
    many: int


class Story:
    """Reads each line once; from the first one where another file is there."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "events.jsonl"
        self._begin()

    def _begin(self) -> None:
        self._offset, self._line, self._rest, self._file = 0, 0, b"", 0
        self._counts: Counter[str] = Counter()
        self._last: dict[str, int] = {}
        self.newest: deque[Entry] = deque(maxlen=_KEPT)

    def look(self) -> bool:
        """Takes in what is new; whether anything is. Raises UnreadableRun, naming the line."""
        try:
            found = self._path.stat()
        except OSError:
            return False
        if found.st_size < self._offset or (self._file and found.st_ino != self._file):
            self._begin()
        self._file = found.st_ino
        before = self._line
        while self._offset < found.st_size:
            self._take_in()
        return self._line > before

    @property
    def counts(self) -> list[tuple[str, int]]:
        """Events by kind, most frequent first."""
        return self._counts.most_common()

    @property
    def held(self) -> bool:
        """The run is held between two slots."""
        over = max(self._last.get(kind, 0) for kind in ("continued", "recovered", "resumed"))
        return self._last.get("paused", 0) > over

    def _take_in(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            chunk = file.read(_CHUNK)
        self._offset += len(chunk)
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            self._line += 1
            if line.strip():
                self._tell(parsed_event(self._path, self._line, line))

    def _tell(self, event: Json) -> None:
        kind = event_kind(event)
        self._counts[kind] += 1
        self._last[kind] = self._line
        entry = described(event, kind)
        before = self.newest[-1] if self.newest else None
        if before and (before.kind, before.place, before.what) == (entry.kind, entry.place, entry.what):
            users = (*before.users[:1], *entry.users)
            self.newest[-1] = entry._replace(users=users, many=before.many + 1)
        else:
            self.newest.append(entry)


def described(event: Json, kind: str) -> Entry:
    """An event in words."""
    tone: Tone = "bad" if kind in BAD else "good" if kind in GOOD else "calm"
    place = f"round {event['round']}" if isinstance(event.get("round"), int) else ""
    place += f", slot {event['slot']}" if place and isinstance(event.get("slot"), int) else ""
    said = str(event.get("reason") or event.get("text") or "").strip().splitlines()
    others = [f"{name} {_short(value)}" for name, value in event.items() if name not in _TOLD]
    users = (str(event["user"]),) if event.get("user") else ()
    what = "; ".join([*others, *said[-1:]])
    return Entry(str(event.get("time", "")), kind, tone, place, users, what, 1)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
