"""A user's side of the conversation: what it answers to each message of the edge. No socket, no clock."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.codings import WHOLE, Codings
from protos.sender import Sender
from protos.tensors import Spec, unpack, wire_dtype
from user_client.user import User


class ProtocolError(Exception):
    """The edge said something that this user cannot follow."""


_FEATURES, _FEEDBACK = 0, 2
"""Places of a user's own tensors among the four of a slot."""


_OWED = "owed"


class Kept(NamedTuple):
    """A user's state at a round's boundary: before `round`, by name."""

    round: int
    state: dict[str, Tensor]


class Session:
    """One user in one run. `done` once the edge has said goodbye. kept: its state at the last round's end.

    codings: how tensors travel, both ways. rounding_seed: of what is rounded at random on its way up. ahead: whether
    features may go up before they are asked for, where the front is frozen.
    """

    def __init__(
        self,
        user: User,
        name: str,
        run: str,
        output_shape: tuple[int, ...],
        codings: Codings = WHOLE,
        rounding_seed: int = 0,
        *,
        ahead: bool = True,
    ):
        self.name = name
        self.done = False
        self._user = user
        self._ahead = ahead and not user.trainable_front
        self._run = run
        self._slots = 0
        self._outputs = output_shape
        outputs, features = (user.batch, *output_shape), (user.batch, *user.feature_shape)
        self._slot_features = Spec(user.dtype, features, codings.features)
        self._slot_outputs = Spec(user.dtype, outputs, codings.outputs)
        self._gradient = Spec(user.dtype, outputs, codings.feedback)
        self._feature_gradient = Spec(user.dtype, features, codings.acknowledgement)
        self._validation_outputs = Spec(user.dtype, (user.validation_batch, *output_shape), codings.outputs)
        self.kept: Kept | None = None
        self._features = Sender(codings.features, (rounding_seed, _FEATURES))
        self._gradients = Sender(codings.feedback, (rounding_seed, _FEEDBACK))

    def join(self) -> bytes:
        """The first message of the stream."""
        user = self._user
        join = pb.Join(
            protocol=PROTOCOL,
            run=self._run,
            user=self.name,
            dtype=wire_dtype(user.dtype),
            feature_shape=user.feature_shape,
            batch=user.batch,
            validation_batch=user.validation_batch,
            wants_feature_gradient=user.trainable_front,
            sends_ahead=self._ahead,
            codings=self._described(),
        )
        return pb.UserMessage(join=join).SerializeToString()

    def _described(self) -> pb.Codings | None:
        """How its tensors travel; nothing where all travel whole."""
        specs = (self._slot_features, self._slot_outputs, self._gradient, self._feature_gradient)
        features, outputs, feedback, acknowledgement = (spec.described for spec in specs)
        said = pb.Codings(features=features, outputs=outputs, feedback=feedback, acknowledgement=acknowledgement)
        return said if any(spec.coding.kind != "full" for spec in specs) else None

    def react(self, data: bytes) -> Iterator[bytes]:
        """The answers to one message of the edge, each as soon as it is known; often one, sometimes none.

        Raises ProtocolError for a message that fits nothing, BadTensor for one whose tensor does not fit.
        """
        message = pb.EdgeMessage.FromString(data)
        kind = message.WhichOneof("kind")
        if kind == "outputs":
            yield from self._on_outputs(message.outputs)
        elif kind == "acknowledgement":
            self._on_acknowledgement(message.acknowledgement)
            yield from self._on_next(message.acknowledgement.next)
        elif kind == "rejected":
            self._user.drop()
            yield from self._on_next(message.rejected.next)
        elif kind == "round_end":
            self.kept = Kept(message.round_end.round + 1, self._state())
            yield from self._on_next(message.round_end.next)
        elif kind == "asked":
            yield from self._on_next(message.asked)
        elif kind == "welcome":
            yield from self._on_welcome(message.welcome)
        elif kind == "goodbye":
            self.done = True
        else:
            raise ProtocolError(f"user {self.name!r}: the edge sent a message of no known kind")

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `kept` once held. Raises ValueError when it is another user's."""
        own = dict(state)
        owed = own.pop(_OWED, None)
        self._gradients.owed = None if owed is None else owed.numpy().copy()
        self._user.load(own)

    def _state(self) -> dict[str, Tensor]:
        """What the user remembers, and what its gradients owe: [B, ...output_shape]."""
        owed = self._gradients.owed
        return self._user.state() | ({} if owed is None else {_OWED: torch.from_numpy(owed.copy())})

    def _on_welcome(self, welcome: pb.Welcome) -> Iterator[bytes]:
        if welcome.protocol != PROTOCOL:
            raise ProtocolError(f"the edge speaks protocol {welcome.protocol}, this user {PROTOCOL}")
        if tuple(welcome.output_shape) != self._outputs:
            raise ProtocolError(
                f"user {self.name!r}: the edge's outputs are {list(welcome.output_shape)} per sample, "
                f"the head expects {list(self._outputs)}"
            )
        self._slots = welcome.slots
        yield from self._on_next(welcome.next)

    def _on_next(self, asked: pb.Next) -> Iterator[bytes]:
        t, i = asked.key.round, asked.key.slot
        if asked.ask == pb.Next.FEATURES:
            yield self._up(t, i, self._user.features(t, i))
        elif asked.ask == pb.Next.VALIDATION:
            yield self._up(t, i, self._user.validation_features(t))
        elif asked.ask == pb.Next.LEAVE:
            yield pb.UserMessage(leave=pb.Leave(parameters_sha256=self._user.digest())).SerializeToString()
        elif asked.ask != pb.Next.WAIT:
            raise ProtocolError(f"user {self.name!r}: the edge asks for {asked.ask}, which is nothing known")

    def _on_outputs(self, message: pb.Outputs) -> Iterator[bytes]:
        t, i = message.key.round, message.key.slot
        if i == self._slots:
            yield self._report(message)
            return
        yield self._feedback(message)
        if self._ahead and i + 1 < self._slots:
            yield self._up(t, i + 1, self._user.features(t, i + 1))

    def _feedback(self, message: pb.Outputs) -> bytes:
        feedback = self._user.feedback(unpack(message.outputs, self._slot_outputs))
        answer = pb.UserMessage()
        answer.feedback.key.CopyFrom(message.key)
        answer.feedback.loss = feedback.loss
        self._gradients.pack(feedback.gradient, answer.feedback.gradient, message.key.round, message.key.slot)
        return answer.SerializeToString()

    def _report(self, message: pb.Outputs) -> bytes:
        validation = self._user.validate(unpack(message.outputs, self._validation_outputs))
        answer = pb.UserMessage()
        answer.report.key.CopyFrom(message.key)
        answer.report.loss = validation.loss
        if validation.accuracy is not None:
            answer.report.accuracy = validation.accuracy
        return answer.SerializeToString()

    def _on_acknowledgement(self, message: pb.Acknowledgement) -> None:
        gradient = None
        if message.HasField("feature_gradient"):
            gradient = unpack(message.feature_gradient, self._feature_gradient)
        self._user.apply(gradient)
        self._gradients.settle()

    def _up(self, t: int, i: int, features: Tensor) -> bytes:
        answer = pb.UserMessage()
        answer.features.key.round, answer.features.key.slot = t, i
        self._features.pack(features, answer.features.features, t, i)
        return answer.SerializeToString()
