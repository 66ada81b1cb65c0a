"""What another power policy would have made of a run: the same gains and payloads on another clock.

Without a deadline a radio times a run and does not change it, so this is what a run under that policy records, where
payloads are the measured ones.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_server.radio.clock import Computing
from edge_server.radio.gains import Floats, Trace
from edge_server.radio.power import PowerPolicy
from edge_server.radio.radio import Link, Radio
from edge_server.record import ACKNOWLEDGEMENT, PHASES

_BARE = 1000
"""Bits: an acknowledgement without a gradient has fewer."""


class Replayed(NamedTuple):
    """seconds [T, m, 4, K] by phase, slot [T, m] and clock [T, m], in s."""

    seconds: Floats
    slot: Floats
    clock: Floats


def replay(folder: Path, link: Link, policy: PowerPolicy, slots: int) -> Replayed:
    """The run in `folder`, which had a radio and recorded its slots, under another policy."""
    columns = _columns(folder, slots)
    gain = columns["gain"]
    sizes = np.stack([columns[f"{phase}_bits"].astype(np.int64) // 8 for phase in PHASES], axis=2)
    radio = Radio(Trace(gain), link, policy, policy)
    rounds = []
    for t in range(len(gain)):
        rounds.append(radio.begin_round(t))
        for i in range(slots):
            passes = Computing(columns["compute_s"][t, i], *(float(columns[f"{w}_s"][t, i, 0]) for w in _PASSES))
            radio.features(i, sizes[t, i])
            radio.feedback(i, sizes[t, i], passes.user)
            radio.end(i, sizes[t, i], 8 * sizes[t, i, ACKNOWLEDGEMENT] > _BARE, passes)
    return Replayed(*(np.stack([getattr(one, name) for one in rounds]) for name in Replayed._fields))


_PASSES = ("forward", "backward")


def _columns(folder: Path, slots: int) -> dict[str, Floats]:
    """Every number of radio.parquet as [T, m, K]."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "radio.parquet")
    users = len(set(table["user"].to_pylist()))
    numbers = [name for name in table.column_names if name not in ("user", "late")]
    return {name: table[name].to_numpy().reshape(-1, slots, users) for name in numbers}
