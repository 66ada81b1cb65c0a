"""What the radio of a run leaves behind: `radio.parquet`, and every user's bill."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge_server.record import ACKNOWLEDGEMENT, APPLIED, FEATURES, FEEDBACK, OUTPUTS, PHASES, Floats, RadioRecord
from edge_server.state import Flat, flattened, restored
from sim.columns import record_batch
from sim.fairness_measures import jain

_DOWN = {OUTPUTS: 0, ACKNOWLEDGEMENT: 1}
_UP = (FEATURES, FEEDBACK)


def _columns() -> list[tuple[str, pa.DataType]]:
    messages: list[tuple[str, pa.DataType]] = []
    for phase, name in enumerate(PHASES):
        messages += [(f"{name}_bits", pa.int64()), (f"{name}_s", pa.float64())]
        messages += [(f"{name}_w", pa.float64())] if phase in _DOWN else []
    shared = ("forward_s", "backward_s", "slot_s", "clock_s")
    return [
        ("round", pa.int32()),
        ("slot", pa.int32()),
        ("user", pa.string()),
        ("gain", pa.float64()),
        *messages,
        ("compute_s", pa.float64()),
        ("late", pa.bool_()),
        *((name, pa.float64()) for name in shared),
    ]


RADIO = pa.schema(_columns())


def radio_batch(round_: int, record: RadioRecord, users: list[str]) -> pa.RecordBatch:
    """The round's rows of radio.parquet, in (slot, user) order."""
    slots, count = record.gain.shape
    columns: dict[str, Any] = {
        "round": np.full(slots * count, round_, np.int32),
        "slot": np.repeat(np.arange(slots, dtype=np.int32), count),
        "user": users * slots,
        "gain": record.gain.ravel(),
        "compute_s": record.compute.ravel(),
        "late": record.late.ravel(),
        "forward_s": np.repeat(record.edge[:, 0], count),
        "backward_s": np.repeat(record.edge[:, 1], count),
        "slot_s": np.repeat(record.slot, count),
        "clock_s": np.repeat(record.clock, count),
    }
    for phase, name in enumerate(PHASES):
        columns |= {f"{name}_bits": record.bits[:, phase].ravel(), f"{name}_s": record.seconds[:, phase].ravel()}
        if phase in _DOWN:
            columns[f"{name}_w"] = record.watts[:, _DOWN[phase]].ravel()
    return record_batch(columns, RADIO)


class Bill:
    """Sums over a run with these users: seconds and joules on the air, up and down, and what they cost the edge.

    user_power [] or [K]: W that every user sends with. flops [K]: of the edge for one slot of each user.
    """

    def __init__(self, users: list[str], user_power: Floats, flops: Sequence[int]):
        self._users, self._user_power = users, user_power
        self._flops = np.array(flops, np.int64)
        self._up_s, self._down_s, self._down_j = (np.zeros(len(users)) for _ in range(3))
        self._slots = np.zeros(len(users), np.int64)

    def add(self, radio: RadioRecord, status: NDArray[np.uint8]) -> None:
        """One more round; status [m, K]. A message without power is not sent, and costs nothing."""
        seconds = np.where(np.isfinite(radio.seconds), radio.seconds, 0.0)
        self._up_s += seconds[:, _UP].sum(axis=(0, 1))
        down = seconds[:, [*_DOWN]]
        self._down_s += down.sum(axis=(0, 1))
        self._down_j += (down * radio.watts).sum(axis=(0, 1))
        self._slots += (status == APPLIED).sum(axis=0)

    def state(self) -> Flat:
        """All sums so far, by name."""
        return flattened(self._sums_so_far(), "bill")

    def restore(self, state: Flat) -> None:
        """Goes on from such sums. Raises OtherShape."""
        vars(self).update(restored(self._sums_so_far(), state, "bill"))

    def _sums_so_far(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_up_s", "_down_s", "_down_j", "_slots")}

    def table(self) -> dict[str, dict[str, float]]:
        """By user: seconds of its messages, joules spent on them, and operations of the edge in applied slots."""
        columns = {
            "up_seconds": self._up_s,
            "down_seconds": self._down_s,
            "up_joules": self._up_s * self._user_power,
            "down_joules": self._down_j,
            "edge_flops": self._slots * self._flops,
        }
        return {user: {name: sums[k].item() for name, sums in columns.items()} for k, user in enumerate(self._users)}

    def fairness(self) -> dict[str, float | None]:
        """Jain's index of what users pay: 1 when all pay the same; null where nobody pays."""
        paid = {"seconds": self._up_s + self._down_s, "joules": self._up_s * self._user_power + self._down_j}
        return {what: None if np.isnan(index := jain(cost)) else index for what, cost in paid.items()}
