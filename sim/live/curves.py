"""The courses of a run as the page draws them: only what a page does not have yet."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sim.live.course import Course
from sim.live.people import mean_utility
from sim.live.plain import plain
from sim.live.sums import SHARED
from sim.live.watched import Tables, Watched
from sim.report.columns import Floats
from sim.report.tables import FEW_USERS

_BANDS = ("lowest", "10 %", "median", "90 %", "highest")
_QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
_ROUNDS = {
    "fairness": {"fairness": "fairness", "val_fairness": "validation fairness"},
    "regret": {"regret": "regret"},
}
"""By curve: columns of rounds, and what they are called."""


class Sent(NamedTuple):
    """What a page has of a curve: so many steps, in stretches of this width, under these names."""

    generation: int
    names: tuple[str, ...]
    width: int
    steps: int


class Curves:
    """What one page was sent, and what it lacks."""

    def __init__(self) -> None:
        self._sent: dict[str, Sent] = {}

    def news(self, run: Watched) -> dict[str, Any]:
        """By curve: names, width, first stretch that is told (the page forgets what it has from there on), x and y."""
        tables = run.tables
        if tables is None:
            return {}
        per_round = float(run.small.scenario.get("slots") or 1) if run.by_slot else 1.0
        told = {}
        for name in ("utility", "weight"):
            told[name] = self._of_users(run, tables, name, per_round)
        for name, columns in _ROUNDS.items():
            there = {c: label for c, label in columns.items() if np.isfinite(tables.rounds.last[c])}
            if there:
                told[name] = self._of_rounds(run, tables, name, there)
        return {name: curve for name, curve in told.items() if curve is not None}

    def _of_users(self, run: Watched, tables: Tables, name: str, per_round: float) -> dict[str, Any] | None:
        course, named = tables.courses[name], extremes(run, tables)
        names = (*_BANDS, *(label for label, _ in named)) if named else tables.users

        def rows(first: int) -> Floats:
            means = course.means(first)
            return means.T if not named else _banded(means, [k for _, k in named])

        return self._told(run, name, names, course, rows, per_round, band=bool(named))

    def _of_rounds(self, run: Watched, tables: Tables, name: str, there: dict[str, str]) -> dict[str, Any] | None:
        places = [SHARED.index(column) for column in there]
        course = tables.courses["shared"]
        return self._told(run, name, tuple(there.values()), course, lambda first: course.means(first)[:, places].T, 1.0)

    def _told(
        self,
        run: Watched,
        name: str,
        names: tuple[str, ...],
        course: Course,
        rows: Callable[[int], Floats],
        per_round: float,
        *,
        band: bool = False,
    ) -> dict[str, Any] | None:
        now, before = Sent(run.generation, names, course.width, course.steps), self._sent.get(name)
        self._sent[name] = now
        if now == before:
            return None
        first = before.steps // before.width if before is not None and before[:3] == now[:3] else 0
        x = plain(course.centres(first) / per_round)
        return {"names": names, "band": band, "width": course.width, "from": first, "x": x, "y": plain(rows(first))}


def extremes(run: Watched, tables: Tables) -> list[tuple[str, int]]:
    """The users with the lowest and the highest mean utility, where they are too many to draw each."""
    utility = mean_utility(run)
    if len(tables.users) <= FEW_USERS or not np.isfinite(utility).any():
        return []
    worst, best = int(np.nanargmin(utility)), int(np.nanargmax(utility))
    return [(f"worst: {tables.users[worst]}", worst), (f"best: {tables.users[best]}", best)]


def _banded(means: Floats, named: list[int]) -> Floats:
    """[N, K] -> [7, N]: what lies between all users, and two of them."""
    rows = np.full((len(_QUANTILES), len(means)), np.nan)
    known = np.isfinite(means).any(axis=1)
    if known.any():
        quantile = np.quantile if np.isfinite(means[known]).all() else np.nanquantile
        rows[:, known] = quantile(means[known], _QUANTILES, axis=1)
    return np.concatenate([rows, means[:, named].T])
