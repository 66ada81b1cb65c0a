"""One run as the page sees it: its records, each read once as they grow, and what they add up to."""

from collections import deque
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any, NamedTuple

import numpy as np

from sim.live.blocks import Block, Blocks, users_of
from sim.live.course import Course
from sim.live.journal import Journal
from sim.live.owner import Owner, owner_of
from sim.live.story import Story
from sim.live.sums import BY_USER, SHARED, AirSums, RoundSums, SlotSums
from sim.report.columns import Floats
from sim.report.files import UnreadableRun
from sim.report.records import Json, read_json, read_scenario, read_text

_SLOTS = ("round", "user", "utility", "weight", "bytes_up", "bytes_down", "out_of_range", "status", "t_slot")
_ROUNDS = ("round", "user", *BY_USER, *SHARED)
_RADIO = ("round", "user", "gain", "late")
_AT_ONCE = 200_000
"""Rows of one table taken in one look: a long run comes in several."""
_WINDOW = 10.0
"""Seconds over which slots are counted for their rate."""


class Tables:
    """What rows add up to, from the first one on. courses: `utility` and `weight` [.., K], `shared` by SHARED."""

    def __init__(self, folder: Path, users: tuple[str, ...]) -> None:
        many = len(users)
        self.users = users
        self.slots, self.rounds, self.air = SlotSums(many), RoundSums(many), AirSums(many)
        self.courses = {"utility": Course(many), "weight": Course(many), "shared": Course(len(SHARED))}
        self._blocks = {name: Blocks(folder / f"{name}.arrows", users) for name in ("slots", "rounds", "radio")}

    def add(self, name: str, batches: list[Any], *, by_slot: bool) -> None:
        """More rows of a table. by_slot: utilities and weights come from the slots. Raises UnreadableRun."""
        block = self._blocks[name].add(batches)
        if block is None:
            return
        if name == "rounds":
            self._add_rounds(block, by_slot=by_slot)
        elif name == "radio":
            self.air.add(block)
        else:
            self.slots.add(block)
            self._add_courses(block.numbers("utility"), block.numbers("weight"))

    def _add_rounds(self, block: Block, *, by_slot: bool) -> None:
        self.rounds.add(block)
        self.courses["shared"].add(np.stack([block.shared(name) for name in SHARED], axis=1))
        if not by_slot:
            self._add_courses(block.numbers("mean_utility"), block.numbers("w_mean"))

    def _add_courses(self, utility: Floats, weight: Floats) -> None:
        self.courses["utility"].add(utility)
        self.courses["weight"].add(np.abs(weight))


class Small(NamedTuple):
    """The small files of a run."""

    manifest: Json
    scenario: Json
    summary: Json


class Watched:
    """A run's directory. version: goes up when anything changed. generation: when all begins again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = self.generation = 0
        self.small = Small({}, {}, {})
        self.owner: Owner | None = None
        self.story = Story(folder)
        self.tables: Tables | None = None
        self.by_slot = True
        self._stamps: tuple[Any, ...] = ()
        self._journals = {
            name: Journal(folder, name, columns)
            for name, columns in (("rounds", _ROUNDS), ("slots", _SLOTS), ("radio", _RADIO))
        }
        self._grown: deque[tuple[float, int]] = deque()

    def look(self) -> bool:
        """Takes in what is new; whether there is more to take in at once. Raises UnreadableRun, one line."""
        if not self.folder.is_dir():
            raise UnreadableRun(f"{self.folder} is gone")
        self._look_at_small()
        owner = owner_of(self.folder)
        changed = self.story.look() or owner != self.owner
        self.owner = owner
        more = False
        for name in self._journals:
            rows = self._take(name)
            changed, more = changed or bool(rows), more or rows is None
        self.version += changed or more
        return more

    def close(self) -> None:
        """Lets go of its files."""
        for journal in self._journals.values():
            journal.close()

    @property
    def status(self) -> str:
        """As the manifest says; `waiting` before it is there, `paused`, and `interrupted` where nobody runs it."""
        told = str(self.small.manifest.get("status", "waiting"))
        if told != "running":
            return told
        if self.owner is None or self.owner.alive is False:
            return "interrupted"
        return "paused" if self.story.held else told

    @property
    def slots(self) -> int:
        """Slots so far."""
        if self.tables is None:
            return 0
        per_round = int(self.small.scenario.get("slots") or 0)
        return self.tables.slots.slots if self.by_slot else self.tables.rounds.rounds * per_round

    @property
    def cut(self) -> list[str]:
        """Tables of a run that is over which end in an unfinished record."""
        return [name for name, journal in self._journals.items() if journal.cut and self.status != "running"]

    @property
    def slots_per_second(self) -> float | None:
        """As summary.json has it; while it runs, of the last seconds in which its journal grew."""
        if (told := self.small.summary.get("slots_per_second")) is not None:
            return float(told)
        if self.status != "running" or len(self._grown) < 2:
            return None
        (first, before), (last, now) = self._grown[0], self._grown[-1]
        silent = time() - last > _WINDOW + last - first
        return None if silent else (now - before) / (last - first)

    @property
    def seconds(self) -> float | None:
        """From its start to its last record."""
        if (told := self.small.summary.get("wall_seconds")) is not None:
            return float(told)
        if not self._grown or "started" not in self.small.manifest:
            return None
        return max(0.0, self._grown[-1][0] - datetime.fromisoformat(self.small.manifest["started"]).timestamp())

    def _look_at_small(self) -> None:
        """Small files are read again when they are others."""
        names = ("manifest.json", "scenario.yaml", "summary.json")
        stamps = tuple(_stamp(self.folder / name) for name in names)
        if stamps == self._stamps:
            return
        manifest, scenario, summary = (self.folder / name for name in names)
        self.small = Small(
            read_json(manifest) if stamps[0] else {},
            read_scenario(scenario, read_text(scenario)) if stamps[1] else {},
            read_json(summary) if stamps[2] else {},
        )
        if self.small.manifest.get("status") == "running":
            self.small = self.small._replace(summary={})
        self.by_slot = bool((self.small.scenario.get("record") or {}).get("slots", True))
        self._stamps = stamps
        self.version += 1

    def _take(self, name: str) -> bool | None:
        """Whether a table has new rows; None where there are more. Users are known from the first round on."""
        if name != "rounds" and self.tables is None:
            return False
        rows = self._journals[name].take(_AT_ONCE)
        if rows.again:
            self._begin_again()
            return None
        if not rows.batches:
            return False
        if self.tables is None:
            self.tables = Tables(self.folder, users_of(rows.batches[0]))
        self.tables.add(name, rows.batches, by_slot=self.by_slot)
        self._mark()
        return None if rows.more else True

    def _begin_again(self) -> None:
        """The run went on from a checkpoint: its tables are others now."""
        self.close()
        self.tables = None
        self._grown.clear()
        self.generation += 1

    def _mark(self) -> None:
        """When the journal grew, and to how many slots."""
        try:
            grew = (self.folder / "rounds.arrows").stat().st_mtime
        except FileNotFoundError:
            return
        if self._grown and grew <= self._grown[-1][0]:
            self._grown[-1] = (self._grown[-1][0], self.slots)
        else:
            self._grown.append((grew, self.slots))
        while len(self._grown) > 2 and self._grown[-1][0] - self._grown[0][0] > _WINDOW:
            self._grown.popleft()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
