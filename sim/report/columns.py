"""Long tables (one row per user) turned into arrays by round, slot and user."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sim.report.files import UnreadableRun

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUND_COLUMNS = (
    "mean_utility", "mean_loss", "val_loss", "val_accuracy", "w_mean", "fairness", "slot_fairness",
    "val_fairness", "sum_w", "oracle_fairness", "regret", "bound", "residual", "capped",
    "power_mean", "air_mean", "late_share", "virtual_seconds",
)  # fmt: skip

TASK_COLUMNS = ("task_loss", "rate", "violation")


@dataclass(frozen=True)
class Rounds:
    """rounds.parquet. `numbers` [R]: rounds recorded, ascending. `columns`: each [R, K], NaN where null."""

    numbers: Ints
    users: tuple[str, ...]
    columns: dict[str, Floats]

    def per_user(self, name: str) -> Floats | None:
        """A column as [R, K]; None where it holds no finite number."""
        found = self.columns.get(name)
        return found if found is not None and np.isfinite(found).any() else None

    def shared(self, name: str) -> Floats | None:
        """A column that is the same for all users, as [R]; None where it holds no finite number."""
        found = self.per_user(name)
        return None if found is None else np.fmax.reduce(found, axis=1)


@dataclass(frozen=True)
class Slots:
    """slots.parquet, summed up so that its length no longer matters.

    statuses: per status, answers by user [K]. out_of_range, bytes_up, bytes_down, user_seconds: sums by user [K], None
    where not recorded. loss_by_slot [m, K]: mean over rounds. sum_w_by_slot [m]: mean over rounds of sum_k |w_k|.
    """

    statuses: dict[str, Floats]
    out_of_range: Floats | None
    bytes_up: Floats | None
    bytes_down: Floats | None
    user_seconds: Floats | None
    loss_by_slot: Floats | None
    sum_w_by_slot: Floats | None


def read_rounds(table: Any, folder: Path) -> Rounds:
    """Users keep the order of their first row. Raises UnreadableRun where `round` or `user` is missing."""
    if table is None or table.num_rows == 0:
        return Rounds(np.zeros(0, np.int64), (), {})
    _require(table, ("round", "user"), folder / "rounds.parquet")
    users, codes = encoded(table["user"])
    numbers, rows = np.unique(_ints(table["round"]), return_inverse=True)
    columns = {}
    for name in ROUND_COLUMNS:
        if name in table.column_names:
            columns[name] = np.full((len(numbers), len(users)), np.nan)
            columns[name][rows, codes] = floats(table[name])
    return Rounds(numbers, users, columns)


@dataclass(frozen=True)
class Training:
    """progress.parquet. steps, loss [S], ascending. columns: each [S, K] by task, NaN where null."""

    steps: Ints
    tasks: tuple[str, ...]
    loss: Floats
    columns: dict[str, Floats]

    def of(self, column: str, task: str) -> Floats | None:
        """One task's column [S]; None where it holds no finite number."""
        found = self.columns[column][:, self.tasks.index(task)] if task in self.tasks else np.zeros(0)
        return found if np.isfinite(found).any() else None


def read_training(table: Any, folder: Path) -> Training:
    """Tasks keep the order of their first row. Raises UnreadableRun where a column is missing."""
    if table is None or table.num_rows == 0:
        return Training(np.zeros(0, np.int64), (), np.zeros(0), {name: np.zeros((0, 0)) for name in TASK_COLUMNS})
    _require(table, ("step", "task", "loss", *TASK_COLUMNS), folder / "progress.parquet")
    tasks, codes = encoded(table["task"])
    steps, first, rows = np.unique(_ints(table["step"]), return_index=True, return_inverse=True)
    columns = {name: np.full((len(steps), len(tasks)), np.nan) for name in TASK_COLUMNS}
    for name, column in columns.items():
        column[rows, codes] = floats(table[name])
    return Training(steps, tasks, floats(table["loss"])[first], columns)


def read_slots(table: Any, users: tuple[str, ...], folder: Path) -> Slots | None:
    """Totals by user in the order of `users`; rows of other users (of an unfinished round) are left out."""
    if table.num_rows == 0 or not users:
        return None
    _require(table, ("round", "slot", "user", "status"), folder / "slots.parquet")
    names, codes = encoded(table["user"])
    place = np.array([users.index(name) if name in users else -1 for name in names])[codes]
    known = place >= 0
    table, user = table.filter(pa.array(known)), place[known]
    return Slots(
        statuses=_statuses(table, user, len(users)),
        out_of_range=_sum(table, "out_of_range", user, len(users)),
        bytes_up=_sum(table, "bytes_up", user, len(users)),
        bytes_down=_sum(table, "bytes_down", user, len(users)),
        user_seconds=_sum(table, "t_user", user, len(users)),
        loss_by_slot=_mean_by_slot(table, "loss", user, len(users)),
        sum_w_by_slot=_sum_w_by_slot(table),
    )


def _require(table: Any, names: tuple[str, ...], path: Path) -> None:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise UnreadableRun(f"{path}: column {missing[0]!r} is missing; contract.md lists what a run records")


def encoded(column: Any) -> tuple[tuple[str, ...], Ints]:
    """Distinct strings in order of appearance, and each row's index into them."""
    found = column.cast(pa.string()).combine_chunks().dictionary_encode()
    return tuple(found.dictionary.to_pylist()), found.indices.to_numpy().astype(np.int64)


def floats(column: Any) -> Floats:
    """A column as numbers; NaN where it is null or not finite."""
    values: Floats = column.cast(pa.float64()).to_numpy().astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _ints(column: Any) -> Ints:
    values: Ints = column.cast(pa.int64()).to_numpy().astype(np.int64)
    return values


def _statuses(table: Any, user: Ints, users: int) -> dict[str, Floats]:
    names, codes = encoded(table["status"])
    return {
        name: np.bincount(user[codes == code], minlength=users).astype(np.float64) for code, name in enumerate(names)
    }


def _sum(table: Any, name: str, user: Ints, users: int) -> Floats | None:
    if name not in table.column_names:
        return None
    return np.bincount(user, np.nan_to_num(floats(table[name])), users).astype(np.float64)


def _mean_by_slot(table: Any, name: str, user: Ints, users: int) -> Floats | None:
    if name not in table.column_names or table.num_rows == 0:
        return None
    values, slot = floats(table[name]), _ints(table["slot"])
    shape, cell, there = (int(slot.max()) + 1, users), slot * users + user, np.isfinite(values)
    size = shape[0] * users
    total = np.bincount(cell[there], weights=values[there], minlength=size)
    count = np.bincount(cell[there], minlength=size)
    mean = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    return mean.reshape(shape) if there.any() else None


def _sum_w_by_slot(table: Any) -> Floats | None:
    if "weight" not in table.column_names or table.num_rows == 0:
        return None
    slot, weight = _ints(table["slot"]), np.nan_to_num(floats(table["weight"]))
    served = np.unique(slot + (int(slot.max()) + 1) * _ints(table["round"])) % (int(slot.max()) + 1)
    total = np.bincount(slot, weights=weight)
    count = np.bincount(served, minlength=len(total))
    mean: Floats = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return mean
