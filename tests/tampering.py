"""Users that send something wrong at one moment of a run, and are honest otherwise."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import sim.local
from protos import edge_pb2 as pb
from sim.blueprint import Blueprint
from sim.build import build_session
from user_client.session import Session

Tamper = Callable[[pb.UserMessage], None]
When = Callable[[pb.UserMessage], bool]


class Tampering:
    """A session whose answers go through `tamper` where `when` says so. digests: of its parameters, per answer."""

    def __init__(self, session: Session, when: When, tamper: Tamper):
        self._session, self._when, self._tamper = session, when, tamper
        self.digests: dict[tuple[str, int, int], bytes] = {}

    @property
    def name(self) -> str:
        return self._session.name

    @property
    def done(self) -> bool:
        return self._session.done

    @property
    def heard(self) -> int:
        return self._session.heard

    def join(self) -> bytes:
        return self._session.join()

    together = False

    def react(self, data: bytes) -> Iterator[bytes]:
        for answer in self._session.react(data):
            message = pb.UserMessage.FromString(answer)
            riding = message.HasField("ahead")
            ahead = pb.UserMessage(features=message.ahead)
            self._note_and_tamper(message)
            if riding:
                self._note_and_tamper(ahead)
                message.ahead.CopyFrom(ahead.features)
            yield message.SerializeToString()

    def _note_and_tamper(self, message: pb.UserMessage) -> None:
        kind = message.WhichOneof("kind")
        if kind != "leave":
            key = getattr(message, kind).key
            self.digests[kind, key.round, key.slot] = self._session.user.digest()
        if self._when(message):
            self._tamper(message)


def at(kind: str, round_: int, slot: int) -> When:
    def when(message: pb.UserMessage) -> bool:
        if message.WhichOneof("kind") != kind:
            return False
        key = getattr(message, kind).key
        return (key.round, key.slot) == (round_, slot)

    return when


def let(monkeypatch: pytest.MonkeyPatch, user: int, when: When, tamper: Tamper) -> list[Tampering]:
    """User number `user` of every run in this process tampers; the list fills with its sessions."""
    made: list[Tampering] = []

    def build(design: Blueprint, k: int) -> Session | Tampering:
        session = build_session(design, k)
        if k != user:
            return session
        made.append(Tampering(session, when, tamper))
        return made[-1]

    monkeypatch.setattr(sim.local, "build_session", build)
    return made


def _tensor(message: pb.UserMessage) -> pb.Tensor:
    return message.features.features if message.HasField("features") else message.feedback.gradient


def _numpy(tensor: pb.Tensor) -> np.ndarray:
    return np.frombuffer(tensor.data, "<f4" if tensor.dtype == pb.FLOAT32 else "<f8").copy()


def value(bad: float) -> Tamper:
    """The tensor's second number becomes `bad`."""

    def tamper(message: pb.UserMessage) -> None:
        values = _numpy(_tensor(message))
        values[1] = bad
        _tensor(message).data = values.tobytes()

    return tamper


def huge(message: pb.UserMessage) -> None:
    values = _numpy(_tensor(message))
    values[:] = 3e38
    _tensor(message).data = values.tobytes()


def one_row_more(message: pb.UserMessage) -> None:
    tensor = _tensor(message)
    tensor.data += tensor.data[: len(tensor.data) // tensor.shape[0]]
    tensor.shape[0] += 1


def flat(message: pb.UserMessage) -> None:
    tensor = _tensor(message)
    count = int(np.prod(tensor.shape))
    del tensor.shape[:]
    tensor.shape.append(count)


def other_dtype(message: pb.UserMessage) -> None:
    tensor = _tensor(message)
    single = tensor.dtype == pb.FLOAT32
    tensor.data = _numpy(tensor).astype("<f8" if single else "<f4").tobytes()
    tensor.dtype = pb.FLOAT64 if single else pb.FLOAT32


def no_dtype(message: pb.UserMessage) -> None:
    _tensor(message).dtype = pb.DTYPE_UNSPECIFIED


def short(message: pb.UserMessage) -> None:
    _tensor(message).data = _tensor(message).data[:-1]


def missing(message: pb.UserMessage) -> None:
    if message.HasField("features"):
        message.features.ClearField("features")
    else:
        message.feedback.ClearField("gradient")


def loss(bad: float) -> Tamper:
    def tamper(message: pb.UserMessage) -> None:
        (message.feedback if message.HasField("feedback") else message.report).loss = bad

    return tamper


def accuracy(bad: float) -> Tamper:
    def tamper(message: pb.UserMessage) -> None:
        message.report.accuracy = bad

    return tamper


def shape_bomb(message: pb.UserMessage) -> None:
    """As many bytes as were agreed, said to be 2^40 numbers."""
    tensor = _tensor(message)
    del tensor.shape[:]
    tensor.shape.extend([1 << 20, 1 << 20])
