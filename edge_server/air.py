"""A cell's slots on the radio's clock: who is in time, and what a slot took. Without a radio nobody is late."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

import numpy as np

from edge_server.cell import Cell
from edge_server.judge import RunFailed
from edge_server.radio.clock import Computing
from edge_server.radio.radio import InTime, Radio
from edge_server.record import (
    ACKNOWLEDGEMENT,
    FEATURES,
    FEEDBACK,
    OUTPUTS,
    PHASES,
    Event,
    Floats,
    RoundRecord,
)
from edge_server.routed_mtl.checks import NotConverged

Heard = TypeVar("Heard")

_TICK = 0.1
"""Seconds between two looks at whether the run is to stop."""


class Air:
    """late [K]: who missed the slot that goes on."""

    def __init__(self, cell: Cell, radio: Radio | None, on_event: Callable[[Event], None]):
        self.late = np.zeros(len(cell.plan.users), bool)
        self._cell, self._radio, self._event = cell, radio, on_event
        self._told, self._round = 0, 0

    def begin_round(self, record: RoundRecord) -> None:
        """Opens the round's record of the radio."""
        self._round = record.round
        if self._radio is None:
            return
        try:
            record.radio = self._radio.begin_round(record.round)
        except ValueError as error:
            raise RunFailed(f"radio: {error}") from error

    def features(self, i: int, said: Sequence[Heard | None]) -> Sequence[Heard | None]:
        """Slot i's features [K], without those that are late."""
        self.late[:] = self._cell.missed
        if self._radio is None:
            return said
        with self._named(i):
            judged = self._radio.features(i, self._cell.sizes)
        return self._sifted(i, FEATURES, said, judged)

    def feedback(self, i: int, said: Sequence[Heard | None], measured: Floats) -> Sequence[Heard | None]:
        """Slot i's feedback [K], without that which is late. measured [K]: the users' own seconds, NaN unknown."""
        self.late |= self._cell.missed
        if self._radio is None:
            return said
        with self._named(i):
            judged = self._radio.feedback(i, self._cell.sizes, np.nan_to_num(measured))
        return self._sifted(i, FEEDBACK, said, judged)

    async def end(self, i: int, record: RoundRecord, forward: float, backward: float) -> None:
        """Slot i is over: its bytes, and its virtual time. forward, backward: measured seconds of the edge.

        In real time the slot is over no sooner than its virtual time has passed.
        """
        sizes = self._cell.sizes
        record.bytes_up[i] = sizes[FEATURES] + sizes[FEEDBACK]
        record.bytes_down[i] = sizes[OUTPUTS] + sizes[ACKNOWLEDGEMENT]
        if self._radio is not None:
            measured = Computing(np.nan_to_num(record.t_user[i]), forward, backward)
            with self._named(i):
                self._radio.end(i, sizes, self._cell.gradients, measured)
            if self._radio.realtime and record.radio is not None:
                await self._pass(float(record.radio.slot[i] - record.t_slot[i]))
                record.t_slot[i] = max(record.t_slot[i], record.radio.slot[i])

    async def _pass(self, seconds: float) -> None:
        """Lets so many seconds pass, fewer if the run is to stop."""
        end = perf_counter() + seconds
        while (left := end - perf_counter()) > 0 and not self._cell.wanted_to_stop:
            await asyncio.sleep(min(left, _TICK))

    def end_round(self, t: int) -> None:
        """Tells of gains that a trained policy had not seen."""
        if self._radio is not None and self._radio.beyond > self._told:
            new, self._told = self._radio.beyond - self._told, self._radio.beyond
            self._event({"event": "beyond_training", "round": t, "phases": new})

    @contextmanager
    def _named(self, i: int) -> Iterator[None]:
        """What no power policy could do ends the run: RunFailed says where."""
        try:
            yield
        except (ValueError, NotConverged) as error:
            raise RunFailed(f"radio, round {self._round}, slot {i}: {error}") from error

    def _sifted(self, i: int, phase: int, said: Sequence[Heard | None], judged: InTime) -> Sequence[Heard | None]:
        late = judged.late & np.array([one is not None for one in said])
        if late.any():
            self._refuse(i, phase, int(late.argmax()), judged.seconds)
        self._cell.too_late(late, PHASES[phase], judged.seconds)
        self.late |= late
        return [None if out else one for one, out in zip(said, late, strict=True)]

    def _refuse(self, i: int, phase: int, k: int, seconds: Floats) -> None:
        if self._radio is not None and self._radio.late == "fail":
            raise RunFailed(
                f"user {self._cell.plan.users[k].name!r} was late: its {PHASES[phase]} came {seconds[k]:.4g} s after "
                f"slot {i} began; raise `deadline`, or set on_user_failure to drop, stale or wait"
            )
