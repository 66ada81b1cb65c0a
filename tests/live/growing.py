"""A run's directory that grows round by round, written by the writers of a run, with numbers from a seed."""

import json
import os
import socket
from pathlib import Path

import numpy as np

import runs
from edge_server.record import APPLIED, RoundRecord
from sim.records import ROUNDS, SLOTS, Journal, rounds_batch, slots_batch

ON_AIR = {
    "radio": {
        "kind": "rician",
        "k_factor": 3.0,
        "loss_db": [0.0, 3.0, 9.0],
        "rho_db": 10.0,
        "user_power": 1.0,
        "power": "equal",
    },
    "deadline": 0.0005,
    "on_user_failure": "drop",
}
"""Of a scenario of three users."""


class Growing:
    """A run of so many users and slots a round; `grow` adds rounds."""

    def __init__(self, folder: Path, users: int = 3, slots: int = 4, rounds: int = 1000) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.users = folder, [f"user_{k:02d}" for k in range(users)]
        self._rng, self._slots, self.done = np.random.default_rng(7), slots, 0
        tree = runs.kernel(many=users, rounds=rounds, slots=slots)
        runs.write(folder, {**tree, "users": [{"name": name} for name in self.users]})
        self.tell("running")
        self.lock(os.getpid())
        self._journals = {"slots": Journal(folder, "slots", SLOTS), "rounds": Journal(folder, "rounds", ROUNDS)}

    def tell(self, status: str) -> None:
        told = {"name": "growing", "status": status, "seed": 7, "transport": "memory", "error": None, "digest": None}
        content = {**told, "started": "2026-11-22T10:00:00+00:00", "finished": None}
        partial = self.folder / "manifest.part"
        partial.write_text(json.dumps(content))
        partial.replace(self.folder / "manifest.json")

    def lock(self, pid: int, host: str | None = None) -> None:
        (self.folder / "lock").write_text(json.dumps({"pid": pid, "host": host or socket.gethostname()}))

    def grow(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            record = self.record(self.done)
            self._journals["slots"].append(slots_batch(record, self.users))
            self._journals["rounds"].append(rounds_batch(record, self.users))
            self.done += 1

    def record(self, t: int) -> RoundRecord:
        record = RoundRecord.empty(t, self._slots, len(self.users))
        shape = record.loss.shape
        record.loss = self._rng.uniform(0, 2, shape)
        record.utility, record.weight = 4 - record.loss, self._rng.uniform(0.1, 1, shape)
        record.bytes_up[:], record.bytes_down[:], record.status[:] = 100, 50, APPLIED
        record.t_slot = np.full(self._slots, 0.002)
        record.fairness = float(np.log(record.mean_utility).sum())
        return record

    def event(self, **event: object) -> None:
        with (self.folder / "events.jsonl").open("a") as file:
            file.write(json.dumps({"time": "2026-11-22T10:00:01+00:00", **event}) + "\n")

    def finish(self) -> None:
        for journal in self._journals.values():
            journal.finish()
        self.tell("stopped")
        (self.folder / "lock").unlink()
