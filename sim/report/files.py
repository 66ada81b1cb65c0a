"""Parquet and Arrow journals from a run directory, finished or still growing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

_BATCH = 65_536
"""Rows of a Parquet file that are read at a time."""


class UnreadableRun(ValueError):
    """A directory that is not a run, or a file of a run that cannot be read; the message is one line."""


def read_table(folder: Path, name: str, *, live: bool, needed: bool) -> tuple[Any, bool]:
    """`name`.parquet, or the journal `name`.arrows while there is no Parquet file (or the run is live).

    Returns the table and whether the journal's tail was cut off mid-record. None where neither file is there;
    raises UnreadableRun if one was `needed`, or where a file is damaged.
    """
    parquet, journal = folder / f"{name}.parquet", folder / f"{name}.arrows"
    if _is_journal(folder, name, live=live):
        return _read_journal(journal)
    if parquet.exists():
        return _read_parquet(parquet), False
    if needed:
        raise UnreadableRun(f"{folder} is not a run: {parquet.name} is missing (and no {journal.name} beside it)")
    return None, False


def read_batches(folder: Path, name: str, *, live: bool) -> Iterator[Any]:
    """The same rows, a few at a time; nothing where neither file is there. Raises UnreadableRun."""
    if _is_journal(folder, name, live=live):
        yield from _Journaled(folder / f"{name}.arrows")
    elif (parquet := folder / f"{name}.parquet").exists():
        yield from _parquet_batches(parquet)


def _is_journal(folder: Path, name: str, *, live: bool) -> bool:
    return (folder / f"{name}.arrows").exists() and (live or not (folder / f"{name}.parquet").exists())


def _read_parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _parquet_batches(path: Path) -> Iterator[Any]:
    """Row group by row group: Arrow's own iterator keeps what it has read until the file is closed."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group).to_batches(_BATCH)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UnreadableRun:
    reason = str(error).splitlines()[0]
    return UnreadableRun(f"{path}: cut short or damaged ({reason}); run the scenario again")


class _Journaled:
    """The whole record batches of a journal, up to the first one that is not all there yet. Known once read:

    schema: None where not even that is there. cut: something was left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.schema: Any = None
        self.cut = False

    def __iter__(self) -> Iterator[Any]:
        with self._path.open("rb") as stream:
            try:
                reader = pa.ipc.open_stream(stream)
                self.schema = reader.schema
                while True:
                    yield reader.read_next_batch()
            except StopIteration:
                return
            except (pa.ArrowException, OSError):
                self.cut = self.schema is not None or self._path.stat().st_size > 0


def _read_journal(path: Path) -> tuple[Any, bool]:
    journal = _Journaled(path)
    batches = [*journal]
    return (None if journal.schema is None else pa.Table.from_batches(batches, journal.schema)), journal.cut
