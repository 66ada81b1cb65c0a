"""Feedback messages counted as they come in, whatever becomes of them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_server.attendance import Receipt
from edge_server.state import Flat, flattened, restored

_STATE = "tally"
_ROWS: dict[Receipt, int] = {"again": 1, "late": 2}


class Tally:
    """Of so many users, since it was last taken. In lists, which count one at a time faster than arrays do."""

    def __init__(self, users: int) -> None:
        self._users = users
        self._counts = [[0] * users for _ in range(3)]

    def add(self, k: int, receipt: Receipt) -> None:
        """One more of user k."""
        self._counts[_ROWS.get(receipt, 0)][k] += 1

    def take(self) -> NDArray[np.int32]:
        """[3, K]: how many came in time, again, and after their slot had gone on. Counting begins anew."""
        taken, self._counts = self._now, [[0] * self._users for _ in range(3)]
        return taken

    def state(self) -> Flat:
        """A copy of what was not taken yet."""
        return flattened(self._now, _STATE)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave. Raises OtherShape."""
        self._counts = restored(self._now, state, _STATE).tolist()

    @property
    def _now(self) -> NDArray[np.int32]:
        return np.array(self._counts, np.int32)
