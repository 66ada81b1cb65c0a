"""Parquet and Arrow journals from a run directory, finished or still growing."""

from pathlib import Path
from typing import Any

import pyarrow as pa


class UnreadableRun(ValueError):
    """A directory that is not a run, or a file of a run that cannot be read; the message is one line."""


def read_table(folder: Path, name: str, *, live: bool, needed: bool) -> tuple[Any, bool]:
    """`name`.parquet, or the journal `name`.arrows while there is no Parquet file (or the run is live).

    Returns the table and whether the journal's tail was cut off mid-record. None where neither file is there;
    raises UnreadableRun if one was `needed`, or where a file is damaged.
    """
    parquet, journal = folder / f"{name}.parquet", folder / f"{name}.arrows"
    if journal.exists() and (live or not parquet.exists()):
        return _read_journal(journal)
    if parquet.exists():
        return _read_parquet(parquet), False
    if needed:
        raise UnreadableRun(f"{folder} is not a run: {parquet.name} is missing (and no {journal.name} beside it)")
    return None, False


def _read_parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UnreadableRun(f"{path}: cut short or damaged ({reason}); run the scenario again") from error


def _read_journal(path: Path) -> tuple[Any, bool]:
    """Whole record batches up to the first one that is not all there yet."""
    batches: list[Any] = []
    with path.open("rb") as stream:
        try:
            reader = pa.ipc.open_stream(stream)
        except (pa.ArrowException, OSError):
            return None, path.stat().st_size > 0
        while True:
            try:
                batches.append(reader.read_next_batch())
            except StopIteration:
                return pa.Table.from_batches(batches, reader.schema), False
            except (pa.ArrowException, OSError):
                return pa.Table.from_batches(batches, reader.schema), True
