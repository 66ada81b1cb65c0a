"""Two tables of the same kind, read side by side, a few whole rounds at a time."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_ROWS = 65_536
"""Rows of each side at a time, unless one round has more."""
_END = 1 << 62


class Rows:
    """The rows of one side. first: the column that they are in order of, such as `round`."""

    def __init__(self, batches: Iterator[Any], first: str) -> None:
        self._batches, self._first = batches, first
        self._held: Any = None
        self._over = False

    def known(self) -> int:
        """Rounds up to this one can be taken whole; reads on until there is at least one."""
        while not self._over and (self._held is None or self._held.num_rows < _ROWS or self._within_one()):
            self._read()
        return _END if self._over else self._at(-1) - 1

    def take(self, until: int) -> Any:
        """The rows of the rounds up to this one; None where none is left."""
        if self._held is None:
            return None
        mine = pc.less_equal(self._held[self._first], pa.scalar(min(until, (1 << 31) - 1), pa.int32()))
        taken, self._held = self._held.filter(mine), self._held.filter(pc.invert(mine))
        return taken if taken.num_rows else None

    @property
    def over(self) -> bool:
        """Nothing is left to take."""
        return self._over and (self._held is None or not self._held.num_rows)

    def _read(self) -> None:
        held = [] if self._held is None else [self._held]
        rows = self._held.num_rows if held else 0
        while rows < _ROWS or len(held) < 2:
            batch = next(self._batches, None)
            if batch is None:
                self._over = True
                break
            held.append(pa.Table.from_batches([batch]))
            rows += batch.num_rows
        self._held = pa.concat_tables(held) if held else None

    def _within_one(self) -> bool:
        return self._at(0) == self._at(-1)

    def _at(self, index: int) -> int:
        return int(self._held[self._first][index].as_py())


def side_by_side(a: Rows, b: Rows) -> Iterator[tuple[Any, Any]]:
    """The same rounds of both, whole; None for a side that has none of them."""
    while True:
        until = min(a.known(), b.known())
        if a.over and b.over:
            return
        yield a.take(until), b.take(until)
