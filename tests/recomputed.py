"""A run with misses, refusals and a price of fairness, and what its files add up to: once more, by numpy alone."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import runs

USERS = ("user_00", "user_01", "user_02")
U_MIN, U_MAX = 1.0, 4.0


def tree() -> runs.Tree:
    """Virtual time and a deadline, so that every run misses the same slots; two messages that are refused."""
    radio = {"kind": "rician", "k_factor": 3.0, "loss_db": [0.0, 3.0, 9.0], "rho_db": 10.0, "user_power": 1.0}
    spoilt = [{"at": {"round": place, "slot": 2}, "user": "user_00", "kind": "nan"} for place in (1, 3)]
    made = runs.kernel(many=3, rounds=5, slots=6, radio={**radio, "power": "equal"}, deadline=0.001)
    made["edge"]["meta"]["target"] = "oracle"
    beside = [{"name": "efficient", "edge.aggregator.alpha": 0.0}]
    return {**made, "transport": "grpc", "on_user_failure": "drop", "faults": spoilt, "compare": beside}


class Recomputed:
    """From slots.parquet, rounds.parquet, radio.parquet and events.jsonl of a run with alpha 1."""

    def __init__(self, folder: Path) -> None:
        self._slots, self._rounds = runs.slots(folder), runs.rounds(folder)
        radio = pq.read_table(folder / "radio.parquet")
        self._air = {name: radio[name].to_numpy() for name in radio.column_names}
        self._events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]

    def utility(self, user: str) -> float:
        return float(np.nanmean(self._slots["utility"][self._slots["user"] == user]))

    @property
    def utilities(self) -> np.ndarray:
        return np.array([self.utility(user) for user in USERS])

    @property
    def fairness(self) -> float:
        """Mean over rounds of sum_k log u, u the mean utility of a round, carried on linearly outside the box."""
        place = self._slots["round"]
        terms = []
        for round_ in range(place.max() + 1):
            for user in USERS:
                u = np.nanmean(self._slots["utility"][(place == round_) & (self._slots["user"] == user)])
                inside = min(max(u, U_MIN), U_MAX)
                terms.append(np.log(inside) + (u - inside) / inside)
        return float(np.sum(terms)) / (place.max() + 1)

    @property
    def regret(self) -> float:
        """What is lost to the oracle, mean over rounds."""
        lost = self._rounds["oracle_fairness"] - self._rounds["fairness"]
        return float(lost[self._rounds["user"] == USERS[0]].mean())

    @property
    def jain(self) -> float:
        return float(self.utilities.mean() ** 2 / (self.utilities**2).mean())

    def bytes(self, user: str, way: str) -> int:
        return int(self._slots[f"bytes_{way}"][self._slots["user"] == user].sum())

    @property
    def misses(self) -> int:
        return int(np.sum(self._air["late"]))

    def of(self, status: str, user: str | None = None) -> int:
        there = self._slots["status"] == status
        return int((there if user is None else there & (self._slots["user"] == user)).sum())

    def down_joules(self, user: str) -> float:
        mine = self._air["user"] == user
        sent = [
            self._air[f"{name}_s"][mine] * self._air[f"{name}_w"][mine]
            for name in ("outputs", "acknowledgement")
        ]  # fmt: skip
        return float(np.nansum(np.where(np.isfinite(sent), sent, 0.0)))

    @property
    def virtual_seconds(self) -> float:
        return float(self._air["clock_s"].max())

    def events(self, kind: str) -> int:
        return sum(event["event"] == kind for event in self._events)


def price(fair: Recomputed, efficient: Recomputed) -> float:
    return 1 - float(fair.utilities.sum() / efficient.utilities.sum())
