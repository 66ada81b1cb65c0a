"""The run in one page of numbers: `summary.json`, gathered round by round in constant memory."""

from typing import Any

import numpy as np

from edge_server.record import ABSENT, APPLIED, LATE, REJECTED, RoundRecord

_MEANS = ("fairness", "slot_fairness", "val_fairness", "regret", "sum_w")
"""What is averaged over the rounds in which it is known."""


class Summary:
    """Sums over the rounds of a run with these users, in scenario order."""

    def __init__(self, users: list[str]):
        self._users = users
        zeros = np.zeros(len(users))
        self._utility, self._applied = zeros.copy(), zeros.copy()
        self._up, self._down = zeros.astype(np.int64), zeros.astype(np.int64)
        self._rounds = 0
        self._sums = dict.fromkeys(_MEANS, 0.0)
        self._known = dict.fromkeys(_MEANS, 0)
        self._counts = dict.fromkeys(("applied", "late", "rejected", "absent", "out_of_range", "capped"), 0)
        self._slots = 0

    def add(self, record: RoundRecord) -> None:
        """One more round."""
        self._utility += np.nansum(record.utility, axis=0)
        self._applied += (~np.isnan(record.utility)).sum(axis=0)
        self._up += record.bytes_up.sum(axis=0)
        self._down += record.bytes_down.sum(axis=0)
        self._rounds += 1
        for name in _MEANS:
            value = getattr(record, name)
            if not np.isnan(value):
                self._sums[name] += value
                self._known[name] += 1
        for name, code in (("applied", APPLIED), ("late", LATE), ("rejected", REJECTED), ("absent", ABSENT)):
            self._counts[name] += int((record.status == code).sum())
        self._counts["out_of_range"] += int(record.out_of_range.sum())
        self._counts["capped"] += record.capped
        self._slots += len(record.loss)

    @property
    def utility(self) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        """[K]: mean utility over all applied slots; NaN for a user without any."""
        mean = np.full(len(self._users), np.nan)
        np.divide(self._utility, self._applied, out=mean, where=self._applied > 0)
        return mean

    def table(self, wall_seconds: float, digest: str | None) -> dict[str, Any]:
        """The content of summary.json; null stands for what was not computed."""
        utility = self.utility
        means = {f"{name}_mean": self._sums[name] / n if n else None for name, n in self._known.items()}
        return {
            **means,
            "rounds": self._rounds,
            "utility_mean": {user: _number(u) for user, u in zip(self._users, utility, strict=True)},
            "jain": _number(jain(utility)),
            "worst_utility": _number(float(utility.min())),
            "price_of_fairness": None,
            "bytes": {
                user: {"up": int(up), "down": int(down)}
                for user, up, down in zip(self._users, self._up, self._down, strict=True)
            },
            **self._counts,
            "wall_seconds": wall_seconds,
            "virtual_seconds": None,
            "slots_per_second": self._slots / wall_seconds if wall_seconds > 0 else None,
            "digest": digest,
        }


def jain(utility: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    """Jain's index (sum u)^2 / (K sum u^2) of utility [K]: 1 when all are equal, 1/K when one has everything."""
    squares = float((utility**2).sum())
    return float(utility.sum()) ** 2 / (len(utility) * squares) if squares else np.nan


def price_of_fairness(utility: dict[str, float], efficient: dict[str, float]) -> float:
    """1 - sum u / sum u of the same run with alpha 0."""
    return 1 - sum(utility.values()) / sum(efficient.values())


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
