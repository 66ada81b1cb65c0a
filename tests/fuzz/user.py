"""A fuzzed edge in front of a user: it answers, or refuses with the documented error and stays as it was."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from google.protobuf.message import DecodeError

from fuzz.tape import Tape, require_one_line
from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.tensors import BadTensor, pack
from user_client import config as settings
from user_client.session import ProtocolError, Session
from user_client.tasks.base import Place
from user_client.user import User

ROUNDS, SLOTS = 4, 6


KINDS: tuple[dict[str, Any], ...] = (
    {"task": {"kind": "kernel_regression", "batch": 2}},
    {
        "task": {"kind": "rainbow", "digits": "bundled", "batch": 2, "validation": 2},
        "front": {"kind": "conv_pool", "channels": 1, "trainable": True},
    },
)


@cache
def _prototype(kind: int) -> Session:
    config = settings.User.model_validate({"name": "a", "head": {"kind": "linear"}, **KINDS[kind]})
    here = Place("a", 0, 2, ROUNDS, SLOTS, seed=11, shared_seed=5, folder=Path())
    return Session(User(config, here, (1,)), "a", "r", (1,))


def _fresh(kind: int) -> Session:
    """A user that has heard nothing; its data are shared."""
    prototype = _prototype(kind)
    return deepcopy(prototype, {id(prototype.user.task): prototype.user.task})


class Edge:
    """What an honest edge would say next to one user."""

    def __init__(self, session: Session):
        self._dtype, self._features = session.user.dtype, (session.user.batch, *session.user.feature_shape)
        self._trains, self._batch = session.user.trainable_front, session.user.batch
        self.said = 0

    def next(self, tape: Tape) -> bytes:
        """A message of the kind that the tape names, about the slot that is due or the one beside it."""
        kind, slot = tape.number(8), (self.said // 2 + (tape.number(8) == 7)) % (SLOTS + 1)
        self.said += 1
        message = pb.EdgeMessage()
        key = pb.Key(round=0, slot=slot)
        if kind == 0:
            welcome = message.welcome
            welcome.protocol, welcome.rounds, welcome.slots = PROTOCOL, ROUNDS, SLOTS
            welcome.output_shape.append(1)
            self._ask(welcome.next, pb.Next.FEATURES, 0)
            self.said = 0
        elif kind < 4:
            self._outputs(message.outputs, key)
        elif kind == 4:
            self._acknowledge(message.acknowledgement, key)
        elif kind == 5:
            message.rejected.key.CopyFrom(key)
            self._ask(message.rejected.next, tape.number(6), slot + 1)
        elif kind == 6:
            self._ask(message.round_end.next, tape.number(6), slot)
        else:
            message.goodbye.SetInParent()
        return message.SerializeToString()

    def _outputs(self, into: pb.Outputs, key: pb.Key) -> None:
        into.key.CopyFrom(key)
        pack(torch.full((self._batch, 1), 0.5, dtype=self._dtype), into.outputs)

    def _acknowledge(self, into: pb.Acknowledgement, key: pb.Key) -> None:
        into.key.CopyFrom(key)
        self._ask(into.next, pb.Next.FEATURES if self._trains else pb.Next.WAIT, key.slot + 1)
        if self._trains:
            pack(torch.ones(self._features, dtype=self._dtype), into.feature_gradient)

    def _ask(self, into: pb.Next, what: int, slot: int) -> None:
        into.ask, into.key.slot = what, slot  # type: ignore[assignment]


def talk(data: bytes) -> None:
    """A byte for the kind of user, then what the edge says to it."""
    tape = Tape(data)
    session = _fresh(tape.number(len(KINDS)))
    edge = Edge(session)
    while not tape.over and not session.done:
        how = tape.number(8)
        said = tape.piece(tape.number()) if how == 7 else edge.next(tape)
        if not _hear(session, tape.spoiled(said) if how == 6 else said):
            return


def _hear(session: Session, data: bytes) -> bool:
    before = session.user.digest()
    try:
        for answer in session.react(data):
            pb.UserMessage.FromString(answer)
    except (ProtocolError, BadTensor) as error:
        require_one_line(error)
        assert session.user.digest() == before or _is_double(data), "a refused message changed the user"
        return False
    return True


def _is_double(data: bytes) -> bool:
    """What ends a slot counts, whatever the next slot's outputs beside it are."""
    try:
        return pb.EdgeMessage.FromString(data).HasField("following")
    except DecodeError:
        return False
