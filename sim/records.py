"""What a run leaves behind: append-only journals while it lives, Parquet and JSON when it ends (contract.md)."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from edge_server.record import APPLIED, STATUS, Event, Floats, RoundRecord, Trace
from sim.fairness_measures import last_known

Counts = NDArray[np.int64]

SLOTS = pa.schema(
    [
        ("round", pa.int32()),
        ("slot", pa.int32()),
        ("user", pa.string()),
        ("loss", pa.float64()),
        ("utility", pa.float64()),
        ("out_of_range", pa.bool_()),
        ("weight", pa.float64()),
        ("bytes_up", pa.int64()),
        ("bytes_down", pa.int64()),
        ("t_slot", pa.float64()),
        ("t_user", pa.float64()),
        ("t_edge", pa.float64()),
        ("status", pa.string()),
    ]
)
_PER_USER = (
    "mean_utility",
    "mean_loss",
    "val_loss",
    "val_accuracy",
    "w_mean",
    "power_mean",
    "air_mean",
    "late_share",
)
_SUMMED_UP = ("w_last", "out_of_range_share")
_PER_ROUND = (
    "fairness",
    "slot_fairness",
    "val_fairness",
    "sum_w",
    "oracle_fairness",
    "regret",
    "bound",
    "residual",
    "eta",
    "pull",
    "dual_gap",
    "primal_regret",
    "drift",
    "gradient_norm",
    "virtual_seconds",
    "capped",
)
ROUNDS = pa.schema(
    [("round", pa.int32()), ("user", pa.string())]
    + [(name, pa.float64()) for name in (*_PER_USER, *_SUMMED_UP, *_PER_ROUND[:-1])]
    + [("capped", pa.int32())]
)
_ROWS = 65_536
"""Rows of a Parquet row group."""


class Journal:
    """An Arrow IPC stream that grows by one batch a round and becomes a Parquet file in the end.

    kept: rows of a run that goes on, to begin with; they replace the journal or the Parquet file of before.
    """

    def __init__(self, folder: Path, name: str, schema: pa.Schema, kept: pa.Table | None = None):
        self._arrows = folder / f"{name}.arrows"
        self._parquet = folder / f"{name}.parquet"
        partial = folder / f"{name}.tmp"
        self._file = partial.open("wb")
        self._writer = pa.ipc.new_stream(self._file, schema)
        for batch in kept.to_batches() if kept is not None else ():
            self.append(batch)
        self._file.flush()
        partial.replace(self._arrows)
        self._parquet.unlink(missing_ok=True)

    def append(self, batch: pa.RecordBatch) -> None:
        """Write one batch; readable at once."""
        self._writer.write_batch(batch)
        self._file.flush()

    def finish(self) -> None:
        """Turn the journal into Parquet, a few rounds at a time."""
        self._writer.close()
        self._file.close()
        with pa.ipc.open_stream(self._arrows) as journal, pq.ParquetWriter(self._parquet, journal.schema) as parquet:
            batches: list[pa.RecordBatch] = []
            for batch in journal:
                batches.append(batch)
                if sum(b.num_rows for b in batches) >= _ROWS:
                    parquet.write_table(pa.Table.from_batches(batches))
                    batches = []
            parquet.write_table(pa.Table.from_batches(batches, journal.schema))
        self._arrows.unlink()


class Events:
    """`events.jsonl`: everything that happened to someone, as it happens. goes_on: after what is there."""

    def __init__(self, folder: Path, *, goes_on: bool = False):
        path = folder / "events.jsonl"
        if goes_on:
            _cut_unfinished_line(path)
        self._file = path.open("a" if goes_on else "w", encoding="utf-8")
        self.counts: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        """Write one event with the time of day."""
        name = str(event["event"])
        self.counts[name] = self.counts.get(name, 0) + 1
        stamped = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event}
        self._file.write(json.dumps(stamped) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


def _cut_unfinished_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


class DigestRows:
    """The rows that a run's digest covers, spooled to disk until both sides' hashes are known."""

    def __init__(self) -> None:
        self._spool: IO[bytes] = TemporaryFile()  # noqa: SIM115 - lives as long as the run

    def append(self, record: RoundRecord) -> None:
        """loss, utility, weight of every (slot, user) of the round, NaN where absent."""
        rows = np.stack([record.loss, record.utility, record.weight], axis=-1)
        self._spool.write(np.where(np.isnan(rows), np.nan, rows).astype("<f8").tobytes())

    def feed(self, update: Callable[[bytes], None]) -> None:
        """Give all rows to a hash, in order."""
        self._spool.seek(0)
        while chunk := self._spool.read(1 << 20):
            update(chunk)


class Traces:
    """`parameters.npz`, gathered round by round."""

    def __init__(self, folder: Path):
        self._path = folder / "parameters.npz"
        self._traces: list[Trace] = []

    def append(self, trace: Trace) -> None:
        """Keep one round."""
        self._traces.append(trace)

    def finish(self) -> None:
        """Write the file: theta [T, m+1, d], x [T+1, d], w [T, m+1, K], theta_star [T, d] where an oracle ran."""
        traces = self._traces
        if not traces:
            return
        arrays: dict[str, Floats] = {
            "theta": np.stack([trace.theta for trace in traces]),
            "x": np.stack([trace.x for trace in traces] + [_known(traces[-1].x_next)]),
            "w": np.stack([trace.w for trace in traces]),
        }
        if traces[0].theta_star is not None:
            arrays["theta_star"] = np.stack([_known(trace.theta_star) for trace in traces])
        np.savez(self._path, **arrays)  # type: ignore[arg-type]


def _known(array: Floats | None) -> Floats:
    assert array is not None
    return array


def slots_batch(record: RoundRecord, users: list[str]) -> pa.RecordBatch:
    """The round's rows of slots.parquet, in (slot, user) order."""
    slots, count = record.loss.shape
    slot = np.repeat(np.arange(slots, dtype=np.int32), count)
    columns: dict[str, Any] = {
        "round": np.full(slots * count, record.round, np.int32),
        "slot": slot,
        "user": users * slots,
        "t_slot": np.repeat(record.t_slot, count),
        "t_edge": np.repeat(record.t_edge, count),
        "status": np.array(STATUS)[record.status.ravel()],
    }
    for name in ("loss", "utility", "out_of_range", "weight", "bytes_up", "bytes_down", "t_user"):
        columns[name] = getattr(record, name).ravel()
    return _batch(columns, SLOTS)


def rounds_batch(record: RoundRecord, users: list[str]) -> pa.RecordBatch:
    """The round's rows of rounds.parquet, in user order."""
    count = len(users)
    columns: dict[str, Any] = {"round": np.full(count, record.round, np.int32), "user": users}
    columns |= {name: getattr(record, name) for name in _PER_USER}
    columns["w_last"] = np.abs(last_known(record.weight))
    columns["out_of_range_share"] = _share(record.out_of_range.sum(axis=0), (record.status == APPLIED).sum(axis=0))
    columns |= {name: np.full(count, getattr(record, name)) for name in _PER_ROUND}
    return _batch(columns, ROUNDS)


def _share(part: Counts, whole: Counts) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share


def _batch(columns: dict[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    """NaN becomes null: a value that is not there."""
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
