"""The rows of a run's table as they come: from its journal while the run lives, from Parquet once it is over."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.ipc

from sim.report.files import UnreadableRun

_PREFIX, _MARK = 8, b"\xff\xff\xff\xff"
"""Bytes in front of a message of an Arrow stream: a mark, and how long what describes it is."""


class Rows(NamedTuple):
    """What is new. again: rows of before are no more, these are the first. more: there is more to take at once."""

    batches: list[pa.RecordBatch]
    again: bool = False
    more: bool = False


class Journal:
    """`name`.arrows or `name`.parquet in `folder`, each row read once. `cut`: it ends in an unfinished record.

    The file of a journal stays open, so that its end is there to read when the run has made Parquet of it.
    """

    def __init__(self, folder: Path, name: str, columns: Sequence[str]) -> None:
        self._arrows, self._parquet = folder / f"{name}.arrows", folder / f"{name}.parquet"
        self._columns = tuple(columns)
        self._source: _Stream | _Groups | None = None
        self._rows = 0
        self.cut = False

    def take(self, most: int) -> Rows:
        """Rows that came since, in order, until there are `most`. Raises UnreadableRun."""
        rows = self._read(most)
        if rows.batches or not self._replaced():
            return rows
        self.close()
        return self._read(most)._replace(again=True)

    def close(self) -> None:
        """Lets go of the file."""
        if self._source is not None:
            self._source.close()
        self._source, self._rows = None, 0

    def _read(self, most: int) -> Rows:
        if self._source is None:
            self._source = self._opened()
        if self._source is None:
            return Rows([])
        batches, count = [], 0
        for batch in self._source.batches():
            batches.append(batch.select(self._there(batch.schema)))
            count += batch.num_rows
            self._rows += batch.num_rows
            if count >= most:
                return Rows(batches, more=True)
        self.cut = self._source.cut
        return Rows(batches)

    def _replaced(self) -> bool:
        """Whether other rows are there now: the run went on. Parquet that was made of the journal has the same ones."""
        newest = self._arrows if self._arrows.exists() else self._parquet
        if self._source is None or not newest.exists() or self._source.is_file(newest):
            return False
        if newest is self._arrows or isinstance(self._source, _Groups):
            return True
        whole = _Groups(newest)
        if whole.skip() != self._rows:
            whole.close()
            return True
        self._source.close()
        self._source, self.cut = whole, False
        return False

    def _opened(self) -> "_Stream | _Groups | None":
        for path, kind in ((self._arrows, _Stream), (self._parquet, _Groups)):
            try:
                return kind(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UnreadableRun(f"{path}: cannot be read ({error}); restore it or run again") from error
        return None

    def _there(self, schema: pa.Schema) -> list[str]:
        missing = [name for name in ("round", "user") if name not in schema.names]
        if missing:
            raise UnreadableRun(f"{self._arrows}: column {missing[0]!r} is missing; is it the journal of a run?")
        return [name for name in self._columns if name in schema.names]


class _Stream:
    """An Arrow stream that somebody else writes."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("rb")
        self._schema: pa.Schema | None = None
        self.cut = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Those that are all there, from where the last look ended."""
        while (message := self._next()) is not None:
            try:
                if self._schema is None:
                    self._schema = pa.ipc.read_schema(message)
                else:
                    yield pa.ipc.read_record_batch(message, self._schema)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(error) from error

    def is_file(self, path: Path) -> bool:
        return _same(self._file, path)

    def close(self) -> None:
        self._file.close()

    def _next(self) -> Any:
        """The next message; None where it is not all there yet, or at the end."""
        start = self._file.tell()
        prefix = self._file.read(_PREFIX)
        length = int.from_bytes(prefix[4:], "little")
        there = os.fstat(self._file.fileno()).st_size - start
        if prefix and not prefix.startswith(_MARK[: len(prefix)]):
            raise self._damaged("no record begins where one should")
        self.cut = 0 < there < _PREFIX + length
        self._file.seek(start)
        if there < _PREFIX + length or length == 0:
            return None
        try:
            return pa.ipc.read_message(self._file)
        except (pa.ArrowException, OSError, EOFError) as error:
            if "message body" not in str(error):
                raise self._damaged(error) from error
        self.cut = True
        self._file.seek(start)
        return None

    def _damaged(self, why: object) -> UnreadableRun:
        reason = str(why).splitlines()[0]
        return UnreadableRun(f"{self._path}: damaged ({reason}); run the scenario again")


class _Groups:
    """A Parquet file, one group of rows after the other."""

    cut = False

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path, self._file, self._group = path, path.open("rb"), 0
        try:
            self._parquet = pq.ParquetFile(self._file)
        except (pa.ArrowException, OSError) as error:
            self._file.close()
            raise self._damaged(error) from error

    def batches(self) -> Iterator[pa.RecordBatch]:
        while self._group < self._parquet.num_row_groups:
            try:
                table = self._parquet.read_row_group(self._group)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(error) from error
            self._group += 1
            yield from table.combine_chunks().to_batches()

    def skip(self) -> int:
        """Everything counts as read; how many rows that is."""
        self._group = self._parquet.num_row_groups
        return int(self._parquet.metadata.num_rows)

    def is_file(self, path: Path) -> bool:
        return _same(self._file, path)

    def close(self) -> None:
        self._parquet.close()
        self._file.close()

    def _damaged(self, error: Exception) -> UnreadableRun:
        reason = str(error).splitlines()[0]
        return UnreadableRun(f"{self._path}: cut short or damaged ({reason}); run the scenario again")


def _same(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
