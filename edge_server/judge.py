"""What the edge does not use: users are rejected for a slot when a field of theirs is bad, and everybody hears why."""

from collections.abc import Callable
from math import isfinite
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_server.messages import BadField, Feedback, bounded, read_tensor
from edge_server.participation import Mask
from edge_server.plan import RunPlan
from edge_server.record import Event
from protos import edge_pb2 as pb
from protos.narrow import overflow

T = TypeVar("T")

LIMIT = 200
"""Longest reason, in characters, that is sent to a user."""


class RunFailed(Exception):
    """The run cannot go on; the text says who, where and why in one line."""


class Forgotten(RunFailed):
    """It waited for what a process knew that is gone; from what all have kept it can go on."""


class Judge:
    """Keeps who is rejected in the slot `at` (round, slot; slot m stands for the validation), and tells of it.

    strikes [K]: how often so far, for what was sent and not when. With as many as the plan allows a user is in
    quarantine: whatever it says is rejected, without an event, until the round is over and it is not asked any more.
    before [K]: those of earlier rounds. out [K]: who takes no part in this one.
    """

    def __init__(self, plan: RunPlan, on_event: Callable[[Event], None]):
        self.at = (0, 0)
        self._plan = plan
        self._event = on_event
        self._rejected: dict[int, pb.Rejected] = {}
        before, so_far = plan.struck
        self.strikes: NDArray[np.int64] = np.zeros(len(plan.users), np.int64)
        self.strikes[: len(before)] = before
        self.begin_round()
        self.strikes[: len(so_far)] = so_far

    def begin_round(self) -> None:
        """Who is in quarantine by now takes part no more."""
        self.before, self.out = self.strikes.copy(), self.quarantined

    @property
    def quarantined(self) -> Mask:
        """[K]: whose messages are not used any more."""
        limit = self._plan.strikes
        return np.zeros(len(self.strikes), bool) if limit is None else self.strikes >= limit

    def _is_out(self, k: int) -> bool:
        return self._plan.strikes is not None and bool(self.strikes[k] >= self._plan.strikes)

    @property
    def key(self) -> Event:
        """Where we are, for an event."""
        return {"round": self.at[0], "slot": self.at[1]}

    @property
    def where(self) -> str:
        """Where we are, for people."""
        t, i = self.at
        return f"round {t}, slot {i}" if i < self._plan.slots else f"the validation of round {t}"

    def open(self, k: int, said: pb.Features) -> Tensor | BadField:
        """Features are read as they arrive, which may be while the edge computes, and judged when they are due."""
        user = self._plan.users[k]
        spec = user.features if said.key.slot < self._plan.slots else user.validation
        return read_tensor(said.features, spec, "features")

    def features(self, k: int, said: Tensor | BadField) -> Tensor | None:
        """As `checked`, and rejected where their norm is above the plan's."""
        told = None if isinstance(said, BadField) else bounded(said, self._plan.max_norm, "features")
        return self.checked(k, told or said)

    def feedback(self, k: int, said: Feedback | BadField) -> Feedback | None:
        """As `checked`, and rejected where the gradient's norm is above the plan's."""
        told = None if isinstance(said, BadField) else bounded(said.gradient, self._plan.max_norm, "gradient")
        return self.checked(k, told or said)

    def checked(self, k: int, said: T | BadField) -> T | None:
        """What user k said; None, and user k rejected for this slot, if it is in quarantine or a field of it is bad."""
        if self._is_out(k):
            reason = f"in quarantine after {self.strikes[k]} rejections"
            self._rejected.setdefault(k, pb.Rejected(code=pb.Rejected.INVALID, reason=reason))
            return None
        if not isinstance(said, BadField):
            return said
        self._rejected[k] = pb.Rejected(code=said.code, field=said.field, reason=said.reason[:LIMIT])
        event = {"event": "rejected", "user": self._plan.users[k].name, **self.key, "field": said.field}
        self._event({**event, "reason": said.reason})
        self._strike(k)
        return None

    def _strike(self, k: int) -> None:
        self.strikes[k] += 1
        if self._is_out(k):
            name, count = self._plan.users[k].name, int(self.strikes[k])
            self._event({"event": "quarantined", "user": name, **self.key, "strikes": count})
            if self.quarantined.all():
                raise RunFailed(f"{self.where}: every user is in quarantine, {name!r} was the last; see events.jsonl")

    def late(self, k: int, what: str, seconds: float) -> None:
        """User k is rejected for this slot: its `what` came so many seconds after the slot began; infinite: never."""
        reason = f"its {what} came after {seconds:.4g} s, beyond the slot's deadline"
        self._rejected[k] = pb.Rejected(code=pb.Rejected.LATE, field=what, reason=reason)
        known = seconds if isfinite(seconds) else None
        self._event({"event": "late", "user": self._plan.users[k].name, **self.key, "of": what, "seconds": known})

    def missed(self, k: int, what: str, why: str) -> None:
        """User k is rejected for this slot, which went on without its `what`.

        Why is for the run's events alone: a run that follows this one says messages of the same size.
        """
        self._rejected[k] = pb.Rejected(code=pb.Rejected.LATE, field=what, reason=f"its {what} did not come in time")
        event = {"event": "late", "user": self._plan.users[k].name, **self.key, "of": what, "seconds": None}
        self._event({**event, "reason": why})

    def require_fit(self, k: int, gradient: Tensor) -> None:
        """Raises RunFailed for a feature gradient that its coding cannot hold: the edge has stepped already."""
        user = self._plan.users[k]
        if told := overflow(gradient, user.codings.acknowledgement):
            advice = "set compression.acknowledgement to bfloat16 or none"
            raise RunFailed(f"user {user.name!r}, {self.where}: its feature gradient reaches {told}: {advice}")

    def take(self) -> dict[int, pb.Rejected]:
        """What the rejected users are to be told; from now on nobody is rejected."""
        rejected, self._rejected = self._rejected, {}
        return rejected

    def require_somebody(self, present: int) -> None:
        """Several users do not go bad in the same slot: the model has.

        Raises RunFailed if all of the `present` ones are, but for those who are late.
        """
        heard = {k: said for k, said in self._rejected.items() if not self._is_out(k)}
        bad = [said for said in heard.values() if said.code != pb.Rejected.LATE]
        in_time = present - (len(self._rejected) - len(bad))
        if len(bad) == in_time > 1:
            said = bad[0]
            diverged = ": the model has diverged; lower edge.primal.step or set edge.primal.cap"
            narrow = ": set compression to bfloat16 or none, or scale the data; or the model has diverged"
            advice = "" if said.code != pb.Rejected.NOT_FINITE else narrow if "float16" in said.reason else diverged
            raise RunFailed(f"every user was rejected in {self.where} ({said.field}: {said.reason}){advice}")
