"""The runs that pages look at: each is read once, however many pages there are, and not for longer than they do."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from sim.live.curves import Curves
from sim.live.folders import run_of
from sim.live.owner import Control
from sim.live.people import users
from sim.live.view import head, tiles
from sim.live.watched import Watched
from sim.report.files import UnreadableRun

PACE = 0.5
"""Seconds between two looks at a run."""
_BUSY = 0.05
"""The same while a long run is taken in."""
_OPEN = 4
"""Runs that stay read, newest first, for pages that come back to them."""

_NOT_OF_A_RUN = (AttributeError, KeyError, TypeError, ValueError)
"""What is raised where a file was written by hand, and is of another shape."""

Told = dict[str, Any]
T = TypeVar("T")


class Seen:
    """A run that is looked at now and then. trouble: why it cannot be read, one line."""

    def __init__(self, folder: Path) -> None:
        self.run = Watched(folder)
        self.trouble = ""
        self.more = False
        self._looked = 0.0
        self._busy = asyncio.Lock()

    async def look(self, *, at_once: bool = False) -> None:
        """Reads what is new, unless somebody just did."""
        async with self._busy:
            pace = _BUSY if self.more else PACE / 2
            if at_once or monotonic() - self._looked >= pace:
                await asyncio.to_thread(self._read)
                self._looked = monotonic()

    async def alone(self, what: Callable[[], T]) -> T:
        """What is told of it while nobody reads it on."""
        async with self._busy:
            return await asyncio.to_thread(what)

    def _read(self) -> None:
        trouble = ""
        try:
            self.more = self.run.look()
        except (UnreadableRun, OSError) as error:
            trouble, self.more = str(error), False
        except _NOT_OF_A_RUN as error:
            trouble, self.more = _strange(self.run, error), False
        if trouble != self.trouble:
            self.trouble = trouble
            self.run.version += 1


class Hub:
    """The runs under a folder, read where pages ask for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control = Control()
        self._seen: dict[Path, Seen] = {}

    def seen(self, name: str) -> Seen:
        """A run by its name. Raises UnknownRun."""
        path = run_of(self.folder, name)
        seen = self._seen.pop(path, None) or Seen(path)
        self._seen[path] = seen
        for old in [*self._seen][:-_OPEN]:
            self._seen.pop(old).run.close()
        return seen


class Page:
    """One page that looks at one run: what it was told, and what is news to it."""

    def __init__(self, hub: Hub, name: str) -> None:
        """Raises UnknownRun."""
        self.seen, self._control = hub.seen(name), hub.control
        self._curves, self._version, self._entries = Curves(), -1, -1
        self._standing: Told = {}

    async def news(self) -> Told | None:
        """All that a page has to change; None where nothing did."""
        return await self.seen.alone(self._news)

    def _news(self) -> Told | None:
        try:
            return self._told()
        except _NOT_OF_A_RUN as error:
            told: Told = {"head": None, "trouble": self.seen.trouble or _strange(self.seen.run, error)}
        before, self._standing, self._version = self._standing, told, -1
        return None if told == before else told

    def _told(self) -> Told | None:
        run, standing = self.seen.run, head(self.seen.run, self._control)
        if (run.version, standing) == (self._version, self._standing):
            return None
        self._version, self._standing = run.version, standing
        return {"head": standing, "trouble": self.seen.trouble, "reading": self.seen.more, **self._numbers(run)}

    def _numbers(self, run: Watched) -> Told:
        told = {"tiles": tiles(run), "users": users(run), "curves": self._curves.news(run)}
        return told | self._events(run)

    def _events(self, run: Watched) -> Told:
        count = sum(many for _, many in run.story.counts)
        if count == self._entries:
            return {}
        self._entries = count
        return {"events": [entry._asdict() for entry in reversed(run.story.newest)], "counts": run.story.counts}


def _strange(run: Watched, error: Exception) -> str:
    return f"{run.folder}: its files are not what a run writes ({type(error).__name__}: {error})"
