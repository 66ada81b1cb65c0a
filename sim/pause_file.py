"""The file that holds a run between two slots for as long as it lies in the run's directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

FILE = "pause"
_LOOK = 0.2
"""Seconds between two looks at the file: its disk may be slow."""


class PauseFile:
    """Looked for now and then, never waited for."""

    def __init__(self, folder: Path) -> None:
        self._path, self._looked, self._there = folder / FILE, -_LOOK, False

    def there(self) -> bool:
        """Somebody wants the run to be held."""
        now = perf_counter()
        if now - self._looked >= _LOOK:
            self._looked, self._there = now, self._path.exists()
        return self._there

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """While inside; one that an earlier run left is not, and none is left."""
        self._path.unlink(missing_ok=True)
        try:
            yield
        finally:
            self._path.unlink(missing_ok=True)
