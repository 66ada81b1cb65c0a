"""What a run leaves behind: append-only journals while it lives, Parquet and JSON when it ends (contract.md)."""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from edge_server.record import APPLIED, STATUS, Event, Floats, Leaks, RoundRecord, Trace
from sim.columns import record_batch
from sim.fairness_measures import last_known
from sim.report.records import read_events
from sim.spools import Spool

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
    "held_back",
    "power_mean",
    "air_mean",
    "late_share",
)
_LEAKS = tuple(field.name for field in fields(Leaks))
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
    + [(name, pa.float64()) for name in (*_PER_USER, *_LEAKS, *_SUMMED_UP, *_PER_ROUND[:-1])]
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
        self.sync()
        partial.replace(self._arrows)
        self._parquet.unlink(missing_ok=True)

    def append(self, batch: pa.RecordBatch) -> None:
        """Write one batch; readable at once."""
        self._writer.write_batch(batch)
        self._file.flush()

    def sync(self) -> None:
        """What was appended would survive a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Leaves the file as it is, for a run that goes on."""
        self._writer.close()
        self._file.close()

    def finish(self) -> None:
        """Turn the journal into Parquet, a few rounds at a time."""
        import pyarrow.parquet as pq

        self.close()
        with pa.ipc.open_stream(self._arrows) as journal, pq.ParquetWriter(self._parquet, journal.schema) as parquet:
            batches: list[pa.RecordBatch] = []
            for batch in journal:
                batches.append(batch)
                if sum(b.num_rows for b in batches) >= _ROWS:
                    parquet.write_table(pa.Table.from_batches(batches))
                    batches = []
            parquet.write_table(pa.Table.from_batches(batches, journal.schema))
        with self._parquet.open("rb") as written:
            os.fsync(written.fileno())
        self._arrows.unlink()


class Events:
    """`events.jsonl`: everything that happened to someone, as it happens. goes_on: after what is there."""

    def __init__(self, folder: Path, *, goes_on: bool = False):
        path = folder / "events.jsonl"
        if goes_on:
            cut_unfinished_line(path)
        self.counts: dict[str, int] = dict(Counter(_named(path))) if goes_on else {}
        self._file = path.open("a" if goes_on else "w", encoding="utf-8")

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


def _named(path: Path) -> list[str]:
    """The names of the events that are there. Raises UnreadableRun, naming the line."""
    return [str(event.get("event")) for event in read_events(path)[0]]


def cut_unfinished_line(path: Path) -> None:
    """A last line that was still being written is not there any more."""
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


class DigestRows:
    """The rows that a run's digest covers, on disk until both sides' hashes are known: loss, utility, weight."""

    def __init__(self, folder: Path, slots: int, users: int, rounds: int = 0) -> None:
        """rounds: how many are there already. Raises SpoolDamaged."""
        self.spool = Spool(folder / "rows.f64", 3 * slots * users, rounds)

    def append(self, record: RoundRecord) -> None:
        """Of every (slot, user) of the round, NaN where absent."""
        self.spool.append(np.stack([record.loss, record.utility, record.weight], axis=-1))

    def feed(self, update: Callable[[bytes], None]) -> None:
        """Give all rows to a hash, in order."""
        for chunk in self.spool.chunks():
            update(chunk)


class Traces:
    """`parameters.npz`, gathered round by round on disk."""

    def __init__(self, path: Path, folder: Path, rounds: int = 0, hashes: Mapping[str, bytes] | None = None):
        """folder: of what is gathered. rounds: how many are there already. hashes: SHA-256 of what they left."""
        self._path, self._folder, self._rounds, self._hashes = path, folder, rounds, hashes or {}
        self._spools: dict[str, tuple[Spool, tuple[int, ...]]] = {}

    def append(self, trace: Trace) -> None:
        """Keep one round. Raises SpoolDamaged."""
        for name, values in _traced(trace).items():
            if name not in self._spools:
                spool = Spool(self._folder / f"{name}.f64", values.size, self._rounds)
                if spool.name in self._hashes:
                    spool.require(self._hashes[spool.name])
                self._spools[name] = spool, values.shape
            self._spools[name][0].append(values)

    @property
    def spools(self) -> list[Spool]:
        """What has been written to."""
        return [spool for spool, _ in self._spools.values()]

    def finish(self) -> None:
        """Write the file: theta [T, m+1, d], x [T+1, d], w [T, m+1, K], theta_star [T, d] where an oracle ran."""
        if not self._spools:
            return
        arrays = {name: spool.array(shape) for name, (spool, shape) in self._spools.items()}
        after = arrays.pop("x_next")
        arrays["x"] = np.concatenate([arrays["x"], after[-1:]])
        np.savez(self._path, **arrays)  # type: ignore[arg-type]


def _traced(trace: Trace) -> dict[str, Floats]:
    arrays = {"theta": trace.theta, "x": trace.x, "w": trace.w, "x_next": trace.x_next, "theta_star": trace.theta_star}
    return {name: values for name, values in arrays.items() if values is not None}


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
    return record_batch(columns, SLOTS)


def rounds_batch(record: RoundRecord, users: list[str]) -> pa.RecordBatch:
    """The round's rows of rounds.parquet, in user order."""
    count = len(users)
    columns: dict[str, Any] = {"round": np.full(count, record.round, np.int32), "user": users}
    columns |= {name: getattr(record, name) for name in _PER_USER}
    columns |= dict.fromkeys(_LEAKS, np.full(count, np.nan)) if record.leaks is None else vars(record.leaks)
    columns["w_last"] = np.abs(last_known(record.weight))
    columns["out_of_range_share"] = _share(record.out_of_range.sum(axis=0), (record.status == APPLIED).sum(axis=0))
    columns |= {name: np.full(count, getattr(record, name)) for name in _PER_ROUND}
    return record_batch(columns, ROUNDS)


def _share(part: Counts, whole: Counts) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share
