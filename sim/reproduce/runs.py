"""What finished runs say, as numbers by seed."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from edge_server.routed_mtl.policy import load_policy
from sim.power_scores import PowerOf
from sim.report.columns import Rounds, read_rounds
from sim.reproduce.jobs import Job, PowerJob, Work

Floats = NDArray[np.float64]


class Runs:
    """Reads the runs below `root`; every file once."""

    def __init__(self, root: Path):
        self._root = root
        self._rounds = cache(self._read_rounds)
        self._progress = cache(self._read_progress)
        self._json = cache(self._read_json)

    def folder(self, job: Work) -> Path:
        """Where the run lies."""
        return self._root / job.name

    def summary(self, jobs: Sequence[Job], key: str) -> Floats:
        """One number of summary.json per job [S]; NaN where it is null or the run failed."""
        found = [self._json(job, "summary.json")[key] for job in jobs]
        known = [
            np.nan if value is None or self.failure(job) else value for job, value in zip(jobs, found, strict=True)
        ]
        return np.array(known, np.float64)

    def utilities(self, jobs: Sequence[Job]) -> Floats:
        """Mean utilities [S, K]."""
        return np.array([[*self._json(job, "summary.json")["utility_mean"].values()] for job in jobs], np.float64)

    def bytes_per_slot(self, job: Job) -> float:
        """Bytes up and down per user and slot, mean over users."""
        summary, scenario = self._json(job, "summary.json"), job.load().scenario
        total = sum(sum(ways.values()) for ways in summary["bytes"].values())
        return float(total / (len(scenario.users) * scenario.slots * summary["rounds"]))

    def shared(self, job: Job, column: str) -> Floats:
        """A column of rounds.parquet that is the round's [T]."""
        found = self._rounds(job).shared(column)
        return np.full(len(self._rounds(job).numbers), np.nan) if found is None else found

    def per_user(self, job: Job, column: str) -> Floats:
        """A column of rounds.parquet by user [T, K]."""
        return self._rounds(job).columns[column]

    def score(self, jobs: Sequence[PowerJob], problem: str, users: int, key: str) -> Floats:
        """One number of power.json for the task (`P3` or `P4`, N) per job [S]."""
        return np.array([self._task(job, problem, users)[key] for job in jobs], np.float64)

    def overlap(self, job: PowerJob) -> Floats:
        """Jaccard index [K, K] of the tasks' masks."""
        return np.array(self._json(job, "power.json")["mask_overlap"], np.float64)

    def policy(self, job: PowerJob) -> PowerOf:
        """The policy that it published."""
        return load_policy(self._root / job.name / "policy")

    def power_tasks(self, job: PowerJob) -> list[tuple[str, int]]:
        """(`P3` or `P4`, N) of every task, in order."""
        return [(entry["problem"], entry["n"]) for entry in self._json(job, "power.json")["tasks"]]

    def training(self, job: PowerJob, task: str, column: str) -> tuple[Floats, Floats]:
        """Steps [P] and a column of progress.parquet [P] of a task such as `p4_capacity/5`."""
        table = self._progress(job)
        rows = [index for index, name in enumerate(table["task"].to_pylist()) if name == task]
        chosen = table.take(rows)
        return tuple(chosen[name].to_numpy().astype(np.float64) for name in ("step", column))

    def locked(self, job: PowerJob) -> list[str]:
        """The tasks that training left below constant power, by name."""
        lines = (self._root / job.name / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [event["task"] for event in map(json.loads, lines) if event.get("event") == "locked"]

    def failure(self, job: Work) -> str | None:
        """Why a run has no answer."""
        manifest = self._json(job, "manifest.json")
        return str(manifest["error"]) if manifest["status"] == "failed" else None

    def edge_seconds(self, job: Job) -> float:
        """Median over slots of the edge's own seconds in a slot; NaN without slots.parquet."""
        path = self._root / job.name / "slots.parquet"
        if not path.exists():
            return np.nan
        seconds: Floats = pq.read_table(path, columns=["t_edge"])["t_edge"].to_numpy()
        return float(np.median(seconds))

    def _read_rounds(self, job: Job) -> Rounds:
        folder = self._root / job.name
        return read_rounds(pq.read_table(folder / "rounds.parquet"), folder)

    def _task(self, job: PowerJob, problem: str, users: int) -> dict[str, Any]:
        tasks: list[dict[str, Any]] = self._json(job, "power.json")["tasks"]
        return next(entry for entry in tasks if (entry["problem"], entry["n"]) == (problem, users))

    def _read_progress(self, job: PowerJob) -> pa.Table:
        return pq.read_table(self._root / job.name / "progress.parquet")

    def _read_json(self, job: Work, file: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._root / job.name / file).read_text(encoding="utf-8"))
        return found
