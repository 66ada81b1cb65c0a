"""What the edge writes down about a round; plain numpy, so that anyone can store it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_server.absence import HERE, Return

Floats = NDArray[np.float64]
Event = dict[str, Any]

APPLIED, LATE, REJECTED, ABSENT = range(4)
STATUS = ("applied", "late", "rejected", "absent")
"""Names of the codes in `RoundRecord.status`."""

CONTRIBUTIONS = ("received", "applied", "rejected", "late", "duplicate")
"""Of feedback messages: the first is the sum of the others."""

FEATURES, OUTPUTS, FEEDBACK, ACKNOWLEDGEMENT = range(4)
PHASES = ("features", "outputs", "feedback", "acknowledgement")
"""Messages of a slot in their order; the first and the third go up. The last may be a rejection."""


@dataclass
class Trace:
    """With `record.parameters`: theta [m+1, d] as served and after the last slot, w [m+1, K], x [d], theta_star [d]."""

    theta: Floats
    w: Floats
    x: Floats
    theta_star: Floats | None = None
    x_next: Floats | None = None


@dataclass
class RadioRecord:
    """One round on the air: m slots, K users, messages in the order of PHASES; 0 where nothing was sent.

    gain [m, K]: |h|^2. bits [m, 4, K]. seconds [m, 4, K]. watts [m, 2, K]: downlink, for outputs and acknowledgement.
    late [m, K]: beyond the deadline. compute [m, K], edge [m, 2] (forward, backward), waits [m, 3] (for features,
    feedback, acknowledgements) and slot [m] in s. clock [m]: virtual seconds when the slot ended.
    """

    gain: Floats
    bits: NDArray[np.int64]
    seconds: Floats
    watts: Floats
    late: NDArray[np.bool_]
    compute: Floats
    edge: Floats
    waits: Floats
    slot: Floats
    clock: Floats

    @classmethod
    def empty(cls, gain: Floats) -> "RadioRecord":
        """Nothing sent yet over the gains [m, K]."""
        slots, users = gain.shape
        return cls(
            gain=gain,
            bits=np.zeros((slots, 4, users), np.int64),
            seconds=np.zeros((slots, 4, users)),
            watts=np.zeros((slots, 2, users)),
            late=np.zeros((slots, users), bool),
            compute=np.zeros((slots, users)),
            edge=np.zeros((slots, 2)),
            waits=np.zeros((slots, 3)),
            slot=np.zeros(slots),
            clock=np.zeros(slots),
        )


@dataclass
class Leaks:
    """With `record.privacy`, what a round gave away to the edge [K]; NaN where that cannot be said.

    norm_auc, direction_auc: how well one known label finds the others, from the norms or the directions of the output
    gradients; .5 is chance. label_error: of labels solved for, in units of their spread; 0 is all of them.
    distance_correlation: squared and bias-corrected, between inputs and features; 1 is the same.
    """

    norm_auc: Floats
    direction_auc: Floats
    label_error: Floats
    distance_correlation: Floats


@dataclass
class RoundRecord:
    """One round of m slots and K users. NaN stands for what a user did not give.

    loss, utility, weight [m, K]; weight is -w as applied: |w|, but below 0 where a rule steps against a user. bytes_up,
    bytes_down [m, K] in bytes. t_slot, t_edge [m] and t_user [m, K] in seconds. status [m, K]: index into STATUS.
    left_out [m+1, K]: whom slots, and the validation, went on without, as in `absence`. returns: who began anew.
    val_loss, val_accuracy [K]: on theta_{m+1}. held_back [K]: slots in which a robust rule cut the user's contribution
    or left it out; NaN without such a rule, or where it goes by coordinate. feedback [5, K]: messages, by
    CONTRIBUTIONS. eta: the inner step; of the last slot, where it is learned. pull: the learned s that placed x.
    dual_gap, primal_regret, drift: `edge_server.certificate`.
    """

    round: int
    loss: Floats
    utility: Floats
    weight: Floats
    out_of_range: NDArray[np.bool_]
    bytes_up: NDArray[np.int64]
    bytes_down: NDArray[np.int64]
    t_slot: Floats
    t_user: Floats
    t_edge: Floats
    status: NDArray[np.uint8]
    left_out: NDArray[np.uint8]
    val_loss: Floats
    val_accuracy: Floats
    held_back: Floats
    feedback: NDArray[np.int64]
    fairness: float = np.nan
    slot_fairness: float = np.nan
    val_fairness: float = np.nan
    oracle_fairness: float = np.nan
    regret: float = np.nan
    residual: float = np.nan
    bound: float = np.nan
    eta: float = np.nan
    pull: float = np.nan
    dual_gap: float = np.nan
    primal_regret: float = np.nan
    drift: float = np.nan
    gradient_norm: float = 0.0
    capped: int = 0
    returns: tuple[Return, ...] = ()
    trace: Trace | None = None
    radio: RadioRecord | None = None
    leaks: Leaks | None = None

    @classmethod
    def empty(cls, round_: int, slots: int, users: int) -> "RoundRecord":
        """A round in which nothing happened yet: m = `slots`, K = `users`."""
        shape = (slots, users)
        return cls(
            round=round_,
            loss=_unknown(*shape),
            utility=_unknown(*shape),
            weight=_unknown(*shape),
            out_of_range=np.zeros(shape, bool),
            bytes_up=np.zeros(shape, np.int64),
            bytes_down=np.zeros(shape, np.int64),
            t_slot=_unknown(slots),
            t_user=_unknown(*shape),
            t_edge=np.zeros(slots),
            status=np.full(shape, ABSENT, np.uint8),
            left_out=np.full((slots + 1, users), HERE, np.uint8),
            val_loss=_unknown(users),
            val_accuracy=_unknown(users),
            held_back=_unknown(users),
            feedback=np.zeros((len(CONTRIBUTIONS), users), np.int64),
        )

    @property
    def present(self) -> NDArray[np.bool_]:
        """[K]: who took part in the round, heard or rejected."""
        return np.asarray((self.status != ABSENT).any(axis=0))

    def account(self, i: int, counted: NDArray[np.int32]) -> None:
        """What became of the feedback messages of slot i; counted [3, K]: in time, again, after their slot went on."""
        in_time, again, late = counted
        applied, rejected, missed = (in_time * (self.status[i] == code) for code in (APPLIED, REJECTED, LATE))
        self.feedback += np.stack([counted.sum(axis=0), applied, rejected, missed + late, again])

    @property
    def virtual_seconds(self) -> float:
        """The virtual clock when the round ended; NaN without a radio."""
        return np.nan if self.radio is None else float(self.radio.clock[-1])

    @property
    def power_mean(self) -> Floats:
        """[K] in W: mean downlink power over the slots in which the user got outputs; NaN without a radio."""
        return self._on_air(lambda radio: np.where(radio.bits[:, OUTPUTS] > 0, radio.watts[:, 0], np.nan))

    @property
    def air_mean(self) -> Floats:
        """[K] in s: mean over slots of a user's four messages together; NaN without a radio."""
        return self._on_air(lambda radio: np.where(np.isfinite(radio.seconds), radio.seconds, 0.0).sum(axis=1))

    @property
    def late_share(self) -> Floats:
        """[K]: share of slots beyond the deadline; NaN without a radio."""
        return self._on_air(lambda radio: radio.late.astype(np.float64))

    def _on_air(self, of_slots: Callable[[RadioRecord], Floats]) -> Floats:
        """Mean [K] of what was on the air, over the slots in which a user took part."""
        if self.radio is None:
            return _unknown(self.loss.shape[1])
        return mean_over_slots(np.where(self.status != ABSENT, of_slots(self.radio), np.nan))

    @property
    def mean_utility(self) -> Floats:
        """[K], over the slots that were applied."""
        return mean_over_slots(self.utility)

    @property
    def mean_loss(self) -> Floats:
        """[K], over the slots that were applied."""
        return mean_over_slots(self.loss)

    @property
    def w_mean(self) -> Floats:
        """[K], mean |w| over the slots that were applied."""
        return mean_over_slots(np.abs(self.weight))

    @property
    def sum_w(self) -> float:
        """Mean over slots of sum_k |w_ik|, absent users counting as nothing."""
        return float(np.nansum(np.abs(self.weight), axis=1).mean())


def _unknown(*shape: int) -> Floats:
    return np.full(shape, np.nan)


def mean_over_slots(values: Floats) -> Floats:
    """values [m, K], NaN where absent -> [K]; NaN for a user that was absent throughout."""
    present = ~np.isnan(values)
    total = np.where(present, values, 0.0).sum(axis=0)
    count = present.sum(axis=0)
    mean: Floats = np.divide(total, count, out=_unknown(values.shape[1]), where=count > 0)
    return mean
