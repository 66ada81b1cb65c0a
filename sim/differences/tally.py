"""Two tables compared row by row: what differs, where first, and by how much."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Kind(NamedTuple):
    """A table. places: integers that name a row together with `who`, in order. decisive: None for all that is compared.

    skipped: columns that the machine's clock decides. meaned: a column whose mean per `who` is told.
    """

    name: str
    places: tuple[str, ...]
    who: str
    decisive: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()
    meaned: str | None = None


@dataclass
class Column:
    """How a column differs. one_sided: in so many rows only one side has a value. largest: absolute; at: its row."""

    rows: int = 0
    one_sided: int = 0
    largest: float | None = None
    at: dict[str, Any] | None = None


class _Shared(NamedTuple):
    """The rows that both have, in order: indices into either side, and their keys."""

    a: Ints
    b: Ints
    keys: Ints


@dataclass
class Tally:
    """Takes a few rounds at a time; its memory grows with the names alone.

    rows, only, names, apart: of either side; only: ranges of rounds the other has not; apart: columns it has not.
    """

    kind: Kind
    rows: list[int] = field(default_factory=lambda: [0, 0])
    shared: int = 0
    differing: int = 0
    first: dict[str, Any] | None = None
    columns: dict[str, Column] = field(default_factory=dict)
    only: tuple[list[list[int]], list[list[int]]] = field(default_factory=lambda: ([], []))
    names: tuple[dict[str, None], dict[str, None]] = field(default_factory=lambda: ({}, {}))
    apart: tuple[dict[str, None], dict[str, None]] = field(default_factory=lambda: ({}, {}))
    _sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((4, 0)))
    _codes: dict[str, int] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Any row that only one has, or any value."""
        return bool(self.columns) or self.rows != [self.shared, self.shared]

    def means(self) -> dict[str, tuple[float | None, float | None]]:
        """Of the meaned column per name, on either side; empty without one."""
        if not self.kind.meaned:
            return {}
        return {
            name: (_mean(*self._sums[:2, code]), _mean(*self._sums[2:, code])) for name, code in self._codes.items()
        }

    def add(self, a: pa.Table | None, b: pa.Table | None) -> None:
        """The same rounds of both sides; None for a side without them."""
        tables = (a, b)
        for side, table in enumerate(tables):
            if table is not None:
                self.rows[side] += table.num_rows
                self._note(side, table)
        self._note_rounds(a, b)
        if a is not None and b is not None:
            for side, (one, other) in enumerate(((a, b), (b, a))):
                self.apart[side].update(
                    dict.fromkeys(name for name in one.column_names if name not in other.column_names)
                )
            self._compare(a, b)

    def _note(self, side: int, table: pa.Table) -> None:
        for name in table[self.kind.who].unique().to_pylist():
            self.names[side][name] = None
            self._codes.setdefault(name, len(self._codes))
        if self.kind.meaned:
            self._add_up(side, _floats(table, self.kind.meaned), self._who(table))

    def _add_up(self, side: int, values: NDArray[np.float64], who: Ints) -> None:
        known, count = ~np.isnan(values), len(self._codes)
        self._sums = np.pad(self._sums, ((0, 0), (0, count - self._sums.shape[1])))
        self._sums[2 * side] += np.bincount(who[known], values[known], count)
        self._sums[2 * side + 1] += np.bincount(who[known], minlength=count)

    def _note_rounds(self, a: pa.Table | None, b: pa.Table | None) -> None:
        ours, theirs = (self._rounds(table) for table in (a, b))
        for side, gone in enumerate((np.setdiff1d(ours, theirs), np.setdiff1d(theirs, ours))):
            for round_ in gone.tolist():
                ranges = self.only[side]
                if ranges and ranges[-1][1] == round_ - 1:
                    ranges[-1][1] = round_
                else:
                    ranges.append([round_, round_])

    def _rounds(self, table: pa.Table | None) -> Ints:
        empty: Ints = np.array([], np.int64)
        return empty if table is None else np.unique(_ints(table, self.kind.places[0]))

    def _compare(self, a: pa.Table, b: pa.Table) -> None:
        shared = self._meet(a, b)
        self.shared += shared.keys.size
        any_, decisive = np.zeros(shared.keys.size, bool), np.zeros(shared.keys.size, bool)
        for name in self._compared(a, b):
            differ = self._column(name, a, b, shared)
            any_ |= differ
            if self.kind.decisive is None or name in self.kind.decisive:
                decisive |= differ
        self.differing += int(any_.sum())
        if self.first is None and decisive.any():
            self.first = self._row(a, b, shared, int(decisive.argmax()))

    def _compared(self, a: pa.Table, b: pa.Table) -> list[str]:
        """Columns of both but those that name the row."""
        left_out = {*self.kind.places, self.kind.who, *self.kind.skipped}
        return [name for name in a.column_names if name in b.column_names and name not in left_out]

    def _meet(self, a: pa.Table, b: pa.Table) -> _Shared:
        spans = [
            1 + max(int(_ints(table, place).max()) for table in (a, b)) for place in self.kind.places
        ]  # fmt: skip
        keys, at_a, at_b = np.intersect1d(self._keys(a, spans), self._keys(b, spans), return_indices=True)
        return _Shared(at_a.astype(np.int64), at_b.astype(np.int64), keys)

    def _keys(self, table: pa.Table, spans: list[int]) -> Ints:
        """One number for each row, in the order of round, slot and user."""
        keys: Ints = np.zeros(table.num_rows, np.int64)
        for place, span in zip(self.kind.places, spans, strict=True):
            keys = keys * span + _ints(table, place)
        return keys * len(self._codes) + self._who(table)

    def _who(self, table: pa.Table) -> Ints:
        encoded = table[self.kind.who].combine_chunks().dictionary_encode()
        codes = np.array([self._codes[name] for name in encoded.dictionary.to_pylist()], np.int64)
        found: Ints = codes[encoded.indices.to_numpy(zero_copy_only=False)]
        return found

    def _column(self, name: str, a: pa.Table, b: pa.Table, shared: _Shared) -> Mask:
        if not pa.types.is_floating(a[name].type) and not pa.types.is_integer(a[name].type):
            ours, theirs = (table[name].to_numpy()[at] for table, at in ((a, shared.a), (b, shared.b)))
            differ: Mask = np.asarray(ours != theirs, bool)
            if differ.any():
                self.columns.setdefault(name, Column()).rows += int(differ.sum())
            return differ
        x, y = _floats(a, name)[shared.a], _floats(b, name)[shared.b]
        differ = _bits_differ(x, y)
        if differ.any():
            self._measure(name, x, y, differ, a, shared)
        return differ

    def _measure(self, name: str, x: Any, y: Any, differ: Mask, a: pa.Table, shared: _Shared) -> None:
        column = self.columns.setdefault(name, Column())
        column.rows += int(differ.sum())
        column.one_sided += int((np.isnan(x) != np.isnan(y)).sum())
        apart = np.where(differ & np.isfinite(x) & np.isfinite(y), np.abs(x - y), -1.0)
        at = int(apart.argmax())
        if apart[at] >= 0 and (column.largest is None or apart[at] > column.largest):
            column.largest, column.at = float(apart[at]), self._place(a, int(shared.a[at]))

    def _place(self, table: pa.Table, index: int) -> dict[str, Any]:
        return {name: table[name][index].as_py() for name in (*self.kind.places, self.kind.who)}

    def _row(self, a: pa.Table, b: pa.Table, shared: _Shared, index: int) -> dict[str, Any]:
        """A place, and what differs there."""
        at_a, at_b = int(shared.a[index]), int(shared.b[index])
        found = {name: (a[name][at_a].as_py(), b[name][at_b].as_py()) for name in self._compared(a, b)}
        return {
            **self._place(a, at_a),
            "values": {name: {"a": x, "b": y} for name, (x, y) in found.items() if _unlike(x, y)},
        }


def _unlike(x: Any, y: Any) -> bool:
    if isinstance(x, float) and isinstance(y, float):
        return bool(_bits_differ(np.array([x]), np.array([y]))[0])
    return bool(x != y)


def _bits_differ(x: NDArray[np.float64], y: NDArray[np.float64]) -> Mask:
    """All bits but those of NaN, which stands for what is not there and equals itself."""
    differ: Mask = (x.view(np.int64) != y.view(np.int64)) & ~(np.isnan(x) & np.isnan(y))
    return differ


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    """NaN where null; integers as floats, exact up to 2**53."""
    values: NDArray[np.float64] = table[name].to_numpy().astype(np.float64)
    return values


def _ints(table: pa.Table, name: str) -> Ints:
    values: Ints = table[name].to_numpy().astype(np.int64)
    return values


def _mean(total: float, count: float) -> float | None:
    return float(total / count) if count else None
