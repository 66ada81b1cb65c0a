"""The run in one page of numbers: `summary.json`, gathered round by round in constant memory."""

from dataclasses import fields
from typing import Any

import numpy as np
import torch

from edge_server.fairness import AlphaFair
from edge_server.record import ABSENT, APPLIED, CONTRIBUTIONS, LATE, REJECTED, Leaks, RoundRecord
from edge_server.state import Flat, flattened, restored
from sim.fairness_measures import Utilities, entropy, jain, last_known, worst_tenth

_MEANS = ("fairness", "slot_fairness", "val_fairness", "regret", "sum_w")
"""What is averaged over the rounds in which it is known."""


_LEAKS = tuple(field.name for field in fields(Leaks))


class Summary:
    """Sums over the rounds of a run with these users, in scenario order. fairness: what scores the run."""

    def __init__(self, users: list[str], fairness: AlphaFair):
        self._users, self._fairness = users, fairness
        zeros = np.zeros(len(users))
        self._utility, self._applied = zeros.copy(), zeros.copy()
        self._took_part = zeros.astype(np.int64)
        self._w_last = np.full(len(users), np.nan)
        self._up, self._down = zeros.astype(np.int64), zeros.astype(np.int64)
        self._rounds = 0
        self._sums = dict.fromkeys(_MEANS, 0.0)
        self._known = dict.fromkeys(_MEANS, 0)
        self._counts = dict.fromkeys(
            ("applied", "late", "rejected", "absent", "out_of_range", "capped", "deadline_misses"), 0
        )
        self._leaks = {name: zeros.copy() for name in _LEAKS}
        self._leaks_known = {name: zeros.copy() for name in _LEAKS}
        self._feedback = np.zeros(len(CONTRIBUTIONS), np.int64)
        self._slots = 0
        self._virtual = np.nan

    def add(self, record: RoundRecord) -> None:
        """One more round."""
        self._utility += np.nansum(record.utility, axis=0)
        self._applied += (~np.isnan(record.utility)).sum(axis=0)
        self._took_part += record.present
        self._up += record.bytes_up.sum(axis=0)
        self._down += record.bytes_down.sum(axis=0)
        self._rounds += 1
        weight = last_known(record.weight)
        self._w_last = np.where(np.isnan(weight), self._w_last, np.abs(weight))
        for name in _MEANS:
            value = getattr(record, name)
            if not np.isnan(value):
                self._sums[name] += value
                self._known[name] += 1
        for name, code in (("applied", APPLIED), ("late", LATE), ("rejected", REJECTED), ("absent", ABSENT)):
            self._counts[name] += int((record.status == code).sum())
        self._counts["out_of_range"] += int(record.out_of_range.sum())
        self._counts["capped"] += record.capped
        self._counts["deadline_misses"] += 0 if record.radio is None else int(record.radio.late.sum())
        for name, found in ({} if record.leaks is None else vars(record.leaks)).items():
            self._leaks[name] += np.nan_to_num(found)
            self._leaks_known[name] += np.isfinite(found)
        self._feedback += record.feedback.sum(axis=1)
        self._slots += len(record.loss)
        self._virtual = record.virtual_seconds

    def state(self) -> Flat:
        """All sums so far, by name."""
        return flattened(self._sums_so_far(), "summary")

    def restore(self, state: Flat) -> None:
        """Goes on from such sums. Raises OtherShape."""
        vars(self).update(restored(self._sums_so_far(), state, "summary"))

    def _sums_so_far(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_users", "_fairness")}

    @property
    def utility(self) -> Utilities:
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
            "utility_mean": self._by_user(utility),
            "took_part": int((self._took_part > 0).sum()),
            **self._measures(utility),
            "price_of_fairness": None,
            "w_last": self._by_user(self._w_last),
            "bytes": {
                user: {"up": int(up), "down": int(down)}
                for user, up, down in zip(self._users, self._up, self._down, strict=True)
            },
            "leaks": self._leaks_by_user(),
            **self._counts,
            "contributions": dict(zip(CONTRIBUTIONS, self._feedback.tolist(), strict=True)),
            "out_of_range_share": self._counts["out_of_range"] / n if (n := self._counts["applied"]) else None,
            "wall_seconds": wall_seconds,
            "virtual_seconds": _number(self._virtual),
            "slots_per_second": self._slots / wall_seconds if wall_seconds > 0 else None,
            "digest": digest,
        }

    def _measures(self, utility: Utilities) -> dict[str, Any]:
        """What utility_mean [K] is worth, and how equal it is, among those who took part in a round."""
        there = np.flatnonzero(self._took_part if self._rounds else self._took_part == 0)
        utility = utility[there]
        known = not np.isnan(utility).any()
        return {
            "fairness_of_mean": self._value(utility),
            "extended_fairness_of_mean": self._fairness.extended(torch.from_numpy(utility)) if known else None,
            "jain": _number(jain(utility)),
            "entropy": _number(entropy(utility)),
            "worst_utility": _number(float(utility.min())),
            "worst_user": self._users[int(there[utility.argmin()])] if known else None,
            "worst_tenth": _number(worst_tenth(utility)),
        }

    def _leaks_by_user(self) -> dict[str, dict[str, float | None]] | None:
        """Means over the rounds in which they are known; null where nothing was measured."""
        if not any(known.any() for known in self._leaks_known.values()):
            return None
        means = {}
        for name, known in self._leaks_known.items():
            mean = np.divide(self._leaks[name], known, out=np.full(len(known), np.nan), where=known > 0)
            means[name] = self._by_user(mean)
        return means

    def _value(self, utility: Utilities) -> float | None:
        try:
            return self._fairness.value(torch.from_numpy(utility))
        except ValueError:
            return None

    def _by_user(self, values: Utilities) -> dict[str, float | None]:
        return {user: _number(value) for user, value in zip(self._users, values, strict=True)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
