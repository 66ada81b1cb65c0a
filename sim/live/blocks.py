"""Rows in (round, slot, user) or (round, user) order as arrays with a column for each user."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sim.report.columns import Floats, Ints, encoded, floats
from sim.report.files import UnreadableRun


class Block:
    """n steps of K users, whole."""

    def __init__(self, table: pa.Table, users: int) -> None:
        self._table: Any = table
        self._steps, self._users = int(table.num_rows) // users, users

    def __len__(self) -> int:
        return self._steps

    def numbers(self, name: str) -> Floats:
        """[n, K]: NaN where there is none, also of a column that is not recorded."""
        if name not in self._table.column_names:
            return np.full((self._steps, self._users), np.nan)
        return floats(self._table[name]).reshape(self._steps, self._users)

    def shared(self, name: str) -> Floats:
        """[n]: of what is the same for all users."""
        return self.numbers(name)[:, 0]

    def statuses(self) -> dict[str, Ints]:
        """[K] by status: how many steps ended in it."""
        if "status" not in self._table.column_names:
            return {}
        names, codes = encoded(self._table["status"])
        codes = codes.reshape(self._steps, self._users)
        return {name: (codes == code).sum(axis=0) for code, name in enumerate(names)}


class Blocks:
    """Makes whole steps of rows as they come; those of a step that is not all there wait for the rest of it."""

    def __init__(self, path: Path, users: Sequence[str]) -> None:
        """path: of the rows, for what is said when they do not fit."""
        self._path, self._users = path, pa.array(users, pa.string())
        self._rest: list[pa.RecordBatch] = []

    def add(self, batches: Sequence[pa.RecordBatch]) -> Block | None:
        """The steps that are whole now. Raises UnreadableRun where rows are not in the users' order."""
        together = [*self._rest, *batches]
        count, users = sum(batch.num_rows for batch in together), len(self._users)
        whole = count - count % users
        if not whole:
            self._rest = together
            return None
        table = pa.Table.from_batches(together)
        self._rest = table.slice(whole).to_batches()
        self._require_order(table["user"])
        return Block(table.slice(0, whole), users)

    def _require_order(self, column: Any) -> None:
        """Of the first step and the last one."""
        users = len(self._users)
        for start in (0, len(column) // users * users - users):
            found = column.slice(start, users).cast(pa.string()).combine_chunks()
            if not found.equals(self._users):
                raise UnreadableRun(f"{self._path}: rows are not in the order of the users; is it the table of a run?")


def users_of(batch: Any) -> tuple[str, ...]:
    """In the order of the first round."""
    table = pa.Table.from_batches([batch])
    rounds = table["round"].to_numpy()
    return encoded(table["user"].slice(0, int((rounds == rounds[0]).sum())))[0]
