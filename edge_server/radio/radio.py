"""The radio of a run: it gives power to the users that are spoken to, times every slot, and knows who is late."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_server.radio.clock import Computing, Floats, airtime
from edge_server.radio.gains import Gains
from edge_server.radio.power import Downlink, PowerPolicy, Routed
from edge_server.record import ACKNOWLEDGEMENT, FEATURES, FEEDBACK, OUTPUTS, RadioRecord

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]
Late = Literal["drop", "stale", "wait", "fail"]

_ROUNDING = 1e-6
"""By which powers may exceed their limit, relative."""


class Link(NamedTuple):
    """rho: 1/(N0 W) in 1/W, so that a = rho |h|^2. bandwidth: W in Hz, of one user's band.

    p_tot: W that the edge sends with to all. user_power [] or [K]: W that every user sends with.
    """

    rho: float
    bandwidth: float
    p_tot: float
    user_power: Floats


class InTime(NamedTuple):
    """late [K]: who is out of the slot. seconds [K]: when its message came, after the slot began."""

    late: Mask
    seconds: Floats


@dataclass
class Radio:
    """The virtual clock of a run, slot by slot: `features`, `feedback`, then `end`. sizes [4, K]: bytes by phase.

    Each raises ValueError where a policy gives what is no power, or none to somebody who is waited for.

    policy, returning: share the downlink's power among those who get outputs, and among those who get gradients.
    Messages without a tensor get p_tot / N each.
    computing: None where it is measured. bits: by phase, a payload in place of the measured one.
    deadline: s from a slot's start to its last feedback. late: what becomes of users who are late.
    realtime: the clock on the wall is to be no faster. most: W that `policy` may spend in a phase, None for p_tot.
    clock: virtual seconds since the run began.
    """

    gains: Gains
    link: Link
    policy: PowerPolicy
    returning: PowerPolicy
    computing: Computing | None = None
    bits: Mapping[int, int] = field(default_factory=dict)
    deadline: float | None = None
    late: Late = "drop"
    realtime: bool = False
    most: float | None = None
    clock: float = 0.0

    def begin_round(self, t: int) -> RadioRecord:
        """Round t's record, with its gains and nothing sent yet."""
        self._record = RadioRecord.empty(self.gains.round(t))
        return self._record

    def features(self, i: int, sizes: Counts) -> InTime:
        """Features must be in by half of what the deadline leaves beside the edge's forward pass."""
        limit = None if self.deadline is None else (self.deadline - self._forward) / 2
        seconds = self._up(i, FEATURES, sizes)
        return InTime(self._wait(i, 0, seconds, limit), seconds)

    def feedback(self, i: int, sizes: Counts, measured: Floats) -> InTime:
        """Feedback must be in by the deadline. measured [K]: seconds of each user."""
        record = self._record
        users = measured if self.computing is None else self.computing.user
        record.compute[i] = np.where(sizes[FEEDBACK] > 0, users, 0.0)
        limit = None if self.deadline is None else self.deadline - self._forward - record.waits[i, 0]
        down, up = self._down(i, OUTPUTS, sizes, sizes[OUTPUTS] > 0), self._up(i, FEEDBACK, sizes)
        turn = down + record.compute[i] + up
        return InTime(self._wait(i, 1, turn, limit), record.waits[i, 0] + self._forward + turn)

    def end(self, i: int, sizes: Counts, gradients: Mask, measured: Computing) -> None:
        """Slot i is over once everybody has its acknowledgement; gradients [K]: whose carries one.

        slot = max up + forward + max(down + compute + up) + backward + max down: the edge waits three times.
        """
        record, passes = self._record, self.computing or measured
        self._wait(i, 2, self._down(i, ACKNOWLEDGEMENT, sizes, gradients), None)
        first, second, third = record.waits[i]
        record.edge[i] = passes.forward, passes.backward
        record.slot[i] = first + passes.forward + second + passes.backward + third
        self.clock += float(record.slot[i])
        record.clock[i] = self.clock

    @property
    def beyond(self) -> int:
        """Phases in which a trained policy met a gain unlike those of its training; it has answered all the same."""
        return self.policy.beyond if isinstance(self.policy, Routed) else 0

    @property
    def _forward(self) -> float:
        return 0.0 if self.computing is None else self.computing.forward

    def _wait(self, i: int, nth: int, seconds: Floats, limit: float | None) -> Mask:
        """The edge waits for all, or for those who are in time; who is out [K]."""
        record = self._record
        late = np.zeros(len(seconds), bool) if limit is None else seconds > max(limit, 0.0)
        record.late[i] |= late
        out = late & (self.late != "wait")
        wait = limit if limit is not None and out.any() else float(seconds.max())
        if not np.isfinite(wait):
            raise ValueError(f"user {int(seconds.argmax())} has no power, and would be waited for without end")
        record.waits[i, nth] = wait
        return out

    def _up(self, i: int, phase: int, sizes: Counts) -> Floats:
        snr = self.link.rho * self._record.gain[i] * self.link.user_power
        return self._airtime(i, phase, sizes, snr)

    def _down(self, i: int, phase: int, sizes: Counts, tensors: Mask) -> Floats:
        """Shares the power among those who are spoken to; the policy's share is that of the messages with tensors."""
        row, policy, most = (0, self.policy, self.most) if phase == OUTPUTS else (1, self.returning, None)
        gain, watts = self.link.rho * self._record.gain[i], self._record.watts[i, row]
        served = sizes[phase] > 0
        watts[served] = self.link.p_tot / max(served.sum(), 1)
        if tensors.any():
            share = float(tensors.sum() / served.sum())
            payload = self._payload(phase, sizes)[tensors].astype(np.float64)
            watts[tensors] = share * _powers(policy, share * gain[tensors], payload, most or self.link.p_tot)
        return self._airtime(i, phase, sizes, gain * watts)

    def _airtime(self, i: int, phase: int, sizes: Counts, snr: Floats) -> Floats:
        bits = self._record.bits[i, phase] = self._payload(phase, sizes)
        seconds = airtime(bits.astype(np.float64), snr, self.link.bandwidth)
        self._record.seconds[i, phase] = seconds
        return seconds

    def _payload(self, phase: int, sizes: Counts) -> Counts:
        bits = 8 * sizes[phase]
        return np.where(bits > 0, self.bits[phase], 0) if phase in self.bits else bits


def require_repeatable(policy: PowerPolicy, downlink: Downlink, users: int) -> None:
    """Raises ValueError where equal gains and payloads of `users` users get other powers, or what is no power."""
    gain, bits = np.linspace(1.0, 2.0, users), np.full(users, 1e6)
    first, _, again = (_powers(policy, a, bits, downlink.p_tot) for a in (gain, gain[::-1], gain))
    if not np.array_equal(first, again):
        raise ValueError(
            f"power {type(policy).__name__}: equal gains and payloads get other powers when asked again; "
            "a policy keeps no state and draws nothing"
        )


def _powers(policy: PowerPolicy, gain: Floats, bits: Floats, most: float) -> Floats:
    """P [N] in W, together at most `most`; checked, for a policy may be somebody's own."""
    powers = np.asarray(policy.power(gain, bits), np.float64)
    if powers.shape != gain.shape:
        raise ValueError(f"power {type(policy).__name__}: gave powers {list(powers.shape)} for {len(gain)} users")
    if (bad := ~((powers >= 0) & np.isfinite(powers))).any():
        raise ValueError(f"power {type(policy).__name__}: gave {powers[bad][0]:g} W; powers are finite and at least 0")
    if (total := float(powers.sum())) > most * (1 + _ROUNDING):
        raise ValueError(f"power {type(policy).__name__}: gave {total:g} W in all; the limit is {most:g} W")
    return powers
