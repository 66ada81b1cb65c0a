"""What finished runs say, as numbers by seed."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sim.report.columns import Rounds, read_rounds
from sim.reproduce.jobs import Job

Floats = NDArray[np.float64]


class Runs:
    """Reads the runs below `root`; every file once."""

    def __init__(self, root: Path):
        self._root = root
        self._rounds = cache(self._read_rounds)
        self._json = cache(self._read_json)

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

    def failure(self, job: Job) -> str | None:
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

    def _read_json(self, job: Job, file: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._root / job.name / file).read_text(encoding="utf-8"))
        return found
