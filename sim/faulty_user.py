"""A user with faults: what it says wrongly, and what is to happen to its stream, slot by slot."""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from protos import edge_pb2 as pb
from sim.fault_schedule import Victim
from sim.faults import TENSOR, Fault, Hang, Lie, Slow
from user_client.session import Session
from user_client.user import Feedback

_HUGE = 1e38
_FLOATS = {pb.FLOAT16: "<f2", pb.FLOAT32: "<f4", pb.FLOAT64: "<f8"}


class Interruption(NamedTuple):
    """What happens to a stream before the user's next message: nothing for `seconds`, a cut, the user's death."""

    seconds: float = 0.0
    cut: bool = False
    dies: bool = False


class FaultySession(Session):
    """A session that things happen to between a slot's outputs and its feedback.

    What is said wrongly is in its answers; what happens to its stream waits for the stream to `take` it.
    victim: what happens when. kills: its death is that of its process, with everybody in it.
    """

    def __init__(self, victim: Victim, kills: bool, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.kills = kills
        self._victim = victim
        self._last_two = deque[bytes](maxlen=2)
        self._struck = Interruption()

    def answer(self, due: pb.Outputs, given: Feedback) -> Iterator[bytes]:
        """As of any session, with what strikes in this slot; all of it is made at once."""
        answers = [*super().answer(due, given)]
        faults = self._victim.faults(due.key.round, due.key.slot)
        self._struck = _interruption(faults)
        for kind in (fault.kind for fault in faults):
            if kind == "duplicate":
                answers.append(answers[-1])
            elif kind == "reorder":
                answers.append(_before_last([*self._last_two]))
        return iter(answers)

    def take(self) -> Interruption:
        """What happens to the stream now, once."""
        struck, self._struck = self._struck, Interruption()
        return struck

    def forget(self) -> None:
        """The slot that it was about to answer is gone with it: its state is that before."""
        self.user.drop()
        self.settled = True

    def _feedback(self, key: pb.Key, given: Feedback) -> pb.UserMessage:
        message = super()._feedback(key, given)
        faults = self._victim.faults(key.round, key.slot)
        for fault in faults:
            if isinstance(fault, Lie):
                message.feedback.loss *= fault.factor
        for kind in TENSOR:
            if any(fault.kind == kind for fault in faults):
                spoil(message.feedback.gradient, kind)
        return message

    def _say(self, message: pb.UserMessage) -> bytes:
        self._last_two.append(super()._say(message))
        return self._last_two[-1]


def spoil(tensor: pb.Tensor, kind: str) -> None:
    """`corrupt` loses its last byte; of `nan` and `huge` every number is NaN or 1e38, or the largest of a float16."""
    if kind == "corrupt":
        tensor.data = tensor.data[:-1]
        return
    value = np.nan if kind == "nan" else _HUGE
    if tensor.dtype == pb.INT8:
        tensor.scale = value
    elif tensor.dtype == pb.BFLOAT16:
        tensor.data = np.array(value, "<f4").tobytes()[2:] * (len(tensor.data) // 2)
    else:
        number = np.dtype(_FLOATS[tensor.dtype])
        fitting = value if kind == "nan" else min(value, float(np.finfo(number).max))
        tensor.data = np.array(fitting, number).tobytes() * (len(tensor.data) // number.itemsize)


def _interruption(faults: list[Fault]) -> Interruption:
    seconds = sum(fault.seconds for fault in faults if isinstance(fault, Slow | Hang))
    kinds = {fault.kind for fault in faults}
    return Interruption(seconds, "disconnect" in kinds, "crash" in kinds)


def _before_last(messages: list[bytes]) -> bytes:
    """What was said before what was said last: of what rides along, each part by itself."""
    said = [part for data in messages for part in _parts(pb.UserMessage.FromString(data))]
    return said[-2].SerializeToString()


def _parts(message: pb.UserMessage) -> list[pb.UserMessage]:
    if not message.HasField("ahead"):
        return [message]
    ahead = pb.UserMessage(features=message.ahead)
    message.ClearField("ahead")
    return [message, ahead]
