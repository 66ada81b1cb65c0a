"""One run's directory, from its first line to its digest (contract.md)."""

import platform
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa
import torch

from edge_server.fairness import AlphaFair
from edge_server.record import RadioRecord, RoundRecord
from edge_server.server_tasks.news import TaskState
from edge_server.state import Flat
from sim.attendance_file import AttendanceFile
from sim.blueprint import Blueprint
from sim.caller import Result, Status
from sim.checkpoint_files import FOLDER
from sim.compression import savings
from sim.effective import effective
from sim.flops import edge_flops
from sim.identity import fingerprint
from sim.json_files import write_json
from sim.local import Outcome
from sim.radio_records import RADIO, Bill, radio_batch
from sim.records import ROUNDS, SLOTS, DigestRows, Events, Journal, Traces, rounds_batch, slots_batch
from sim.report.files import UnreadableRun, read_table
from sim.report.records import read_json
from sim.server_task_records import ServerTaskRecords
from sim.spools import Spool
from sim.step import Step, described
from sim.streams import write_streams
from sim.summary import Summary

_WALL = "wall_seconds"
_NUMERIC = ("equiran", "python", "torch", "numpy")


class Recorder:
    """Writes one run's directory. `tasks` writes what the edge's server tasks leave there.

    records, task: what an earlier run's `state` was after `design.plan.first` rounds, and that of its server task; None
    with goes_on: of a run that had no checkpoint yet. Raises UnreadableRun where what it wrote is not there any more.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        design: Blueprint,
        records: Flat | None = None,
        task: TaskState | None = None,
        *,
        goes_on: bool = False,
    ):
        scenario, first = design.scenario, design.plan.first
        self._folder, self._name, self._scenario = folder, name, scenario
        self._fingerprint = fingerprint(scenario)
        self._users = [user.name for user in scenario.users]
        self._started = begun(folder) if goes_on else datetime.now(UTC)
        self._clock = perf_counter()
        self._wall: float | None = None
        self.step: Step | None = None
        self.events = Events(folder, goes_on=goes_on)
        rows = len(self._users) * scenario.slots
        self._slots = _journal(folder, "slots", SLOTS, first, rows) if scenario.record.slots else None
        self._rounds = _journal(folder, "rounds", ROUNDS, first, len(self._users))
        on_air = scenario.radio and scenario.record.slots
        self._radio = _journal(folder, "radio", RADIO, first, rows) if on_air else None
        drops = design.plan.absence.drops
        self._attendance = AttendanceFile(folder, self._users, scenario.slots) if drops else None
        self._bill = _bill(design)
        self._savings = savings(design.plan, scenario.compression)
        spools = folder / FOLDER
        hashes = {name: bytes(sha.tolist()) for name, sha in (records or {}).items() if sha.dtype == torch.uint8}
        self._traces = Traces(folder / "parameters.npz", spools, first, hashes)
        self.tasks = ServerTaskRecords(folder, scenario.edge.server_tasks, scenario.seed, task)
        self._digest_rows = DigestRows(spools, scenario.slots, len(self._users), first)
        rule = scenario.edge.aggregator
        self._summary = Summary(self._users, AlphaFair(rule.alpha, rule.u_min, rule.u_max))
        self._before = 0.0
        if records is not None:
            self._restore(records)
        if not goes_on:
            (folder / "scenario.yaml").write_text(effective(scenario), encoding="utf-8")
        self._manifest("running")

    def write_streams(self) -> None:
        """What every user will see, where the scenario wants it on record."""
        if self._scenario.record.streams:
            write_streams(self._folder / "streams.npz", self._scenario)

    def add(self, record: RoundRecord) -> None:
        """Write one round."""
        if self._attendance:
            self._attendance.append(record)
        if self._slots:
            self._slots.append(slots_batch(record, self._users))
        self._rounds.append(rounds_batch(record, self._users))
        self._digest_rows.append(record)
        self._summary.add(record)
        self._wall = self._before + perf_counter() - self._clock
        if record.radio is not None:
            self._add_radio(record, record.radio)
        if record.trace is not None:
            self._traces.append(record.trace)

    def state(self) -> Flat:
        """The sums behind the summary, once all that was added so far would survive a power cut."""
        for file in self._files:
            file.sync()
        for spool in self._spools:
            spool.sync()
        wall = torch.tensor(self._wall or self._before, dtype=torch.float64)
        hashes = {spool.name: torch.tensor([*spool.sha256()], dtype=torch.uint8) for spool in self._spools}
        return self._summary.state() | (self._bill.state() if self._bill else {}) | {_WALL: wall} | hashes

    def _restore(self, records: Flat) -> None:
        self._summary.restore(records)
        if self._bill:
            self._bill.restore(records)
        self._before = self._wall = records[_WALL].item()
        self._digest_rows.spool.require(bytes(records[self._digest_rows.spool.name].tolist()))

    @property
    def _journals(self) -> list[Journal]:
        return [journal for journal in (self._slots, self._rounds, self._radio) if journal]

    @property
    def _files(self) -> list[AttendanceFile | Journal]:
        return [self._attendance, *self._journals] if self._attendance else [*self._journals]

    @property
    def _spools(self) -> list[Spool]:
        return [self._digest_rows.spool, *self._traces.spools]

    def _add_radio(self, record: RoundRecord, radio: RadioRecord) -> None:
        if self._radio:
            self._radio.append(radio_batch(record.round, radio, self._users))
        if self._bill:
            self._bill.add(radio, record.status)

    def leave(self) -> None:
        """Everything stays as it is, as if this process were killed: for another recorder to go on."""
        self.events.close()
        self.tasks.close()
        for file in self._files:
            file.close()
        for spool in self._spools:
            spool.close()

    def finish(self, status: Status, outcome: Outcome | None, error: str | None = None) -> Result:
        """Turn journals into Parquet, write summary and manifest."""
        digest = self._digest(outcome) if outcome and status == "done" else None
        if outcome and digest is None and status == "done":
            gone = [name for name, user in zip(self._users, outcome.users, strict=True) if not user]
            self.events({"event": "no_digest", "reason": f"never said goodbye: {', '.join(gone)}"})
        if error:
            self.events({"event": "failed", "reason": error})
        self.events.close()
        for journal in self._journals:
            journal.finish()
        if self._attendance:
            self._attendance.close()
        self._traces.finish()
        table = self._summary.table(perf_counter() - self._clock if self._wall is None else self._wall, digest)
        table |= {**described(self.step), "server_tasks": self.tasks.finish(), "events": self.events.counts}
        table |= {"rounds_planned": self._scenario.rounds, "compression": self._savings}
        if self._bill:
            table |= {"bill": self._bill.table(), "bill_jain": self._bill.fairness()}
        write_json(self._folder / "summary.json", table)
        parties = outcome and {
            "edge": outcome.edge.hex(),
            "users": dict(zip(self._users, (user.hex() for user in outcome.users), strict=True)),
        }
        self._manifest(status, digest, error, parties)
        self._close_spools(done=status == "done")
        return Result(self._name, self._folder, status, digest, table)

    def _close_spools(self, *, done: bool) -> None:
        """A run that is done goes on from nowhere."""
        for spool in self._spools:
            spool.remove() if done else spool.close()
        with suppress(OSError):
            (self._folder / FOLDER).rmdir()

    def fail(self, line: str, cause: BaseException | None) -> None:
        """The run ends here, for this reason; where it came from goes into the events."""
        if cause is not None:
            self.events({"event": "traceback", "text": "".join(traceback.format_exception(cause))})
        self.finish("failed", None, line)

    def _digest(self, outcome: Outcome) -> str | None:
        """None where a user's parameters are not known: it was lost, and slots went on without it."""
        if not all(outcome.users):
            return None
        hash_ = sha256(outcome.edge)
        for user in outcome.users:
            hash_.update(user)
        self._digest_rows.feed(hash_.update)
        return hash_.hexdigest()

    def _manifest(
        self,
        status: str,
        digest: str | None = None,
        error: str | None = None,
        parties: dict[str, Any] | None = None,
    ) -> None:
        scenario = self._scenario
        kind = {"seed": scenario.seed, "transport": scenario.transport, "device": scenario.edge.device}
        content = {
            **about(self._name, scenario.name),
            **kind,
            "threads": scenario.threads.model_dump(),
            "fingerprint": self._fingerprint,
            **standing(self._started, status, error, digest),
            "parties": parties,
        }
        write_json(self._folder / "manifest.json", content)


def begun(folder: Path) -> datetime:
    """When the run in `folder` was started."""
    return datetime.fromisoformat(read_json(folder / "manifest.json")["started"])


def _journal(folder: Path, name: str, schema: pa.Schema, rounds: int, rows: int) -> Journal:
    """A journal that begins with the rows of so many rounds of an earlier run, `rows` each."""
    if not rounds:
        return Journal(folder, name, schema)
    import pyarrow.compute as pc

    table, _ = read_table(folder, name, live=True, needed=True)
    kept = table.filter(pc.field("round") < rounds)
    if kept.num_rows != rounds * rows:
        said = f"{folder / name} has {kept.num_rows:,} rows of its first {rounds} rounds, they had {rounds * rows:,}"
        raise UnreadableRun(f"{said}; run the scenario again")
    return Journal(folder, name, schema, kept)


def _bill(design: Blueprint) -> Bill | None:
    radio, users = design.scenario.radio, design.plan.users
    if radio is None:
        return None
    encoder, first = design.scenario.edge.encoder, users[0]
    per_sample = {
        trains: edge_flops(encoder, first.feature_shape, first.dtype, inputs=trains)
        for trains in {user.trainable_front for user in users}
    }
    flops = [user.batch * per_sample[user.trainable_front] for user in users]
    return Bill([user.name for user in users], radio.link.user_power, flops)


def about(name: str, scenario: str) -> dict[str, Any]:
    """How a manifest begins: the run, its scenario's name, and the versions its numbers depend on."""
    return {"schema": 1, "name": name, "scenario": scenario, **versions()}


def standing(started: datetime, status: str, error: str | None, digest: str | None) -> dict[str, Any]:
    """Where a run stands, as its manifest says; `finished` is now, unless it is running."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "started": started.isoformat(timespec="seconds"),
        "finished": None if status == "running" else now,
        "status": status,
        "error": error,
        "digest": digest,
    }


@cache
def versions() -> dict[str, str]:
    """Of what a run's numbers depend on, as a manifest names them."""
    packages = {"equiran": "equiran", "torch": "torch", "ray": "ray", "grpc": "grpcio", "numpy": "numpy"}
    found = {key: version(package) for key, package in packages.items()}
    return {"equiran": found.pop("equiran"), "python": platform.python_version(), **found}


def numeric_versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return {name: version for name, version in versions().items() if name in _NUMERIC}


def other_versions(there: Mapping[str, str]) -> list[str]:
    """What a checkpoint was made with and is another version here, a line each."""
    here = numeric_versions()
    return [
        f"the checkpoint was made with {name} {version}, this is {here.get(name)}: the bits may differ"
        for name, version in there.items()
        if here.get(name) != version
    ]
