"""A user's side of the conversation: what it answers to each message of the edge. No socket, no clock."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.codings import WHOLE, Codings
from protos.sender import Sender
from protos.sizes import RIDING
from protos.tensors import agreed, unpack, wire_dtype
from user_client.user import Feedback, User


class ProtocolError(Exception):
    """The edge said something that this user cannot follow."""


_FEATURES, _FEEDBACK = 0, 2
"""Places of a user's own tensors among the four of a slot."""


_OWED = "owed"


class Kept(NamedTuple):
    """A user's state at a round's boundary: before `round`, by name."""

    round: int
    state: dict[str, Tensor]


class Heard(NamedTuple):
    """What a message of the edge led to: answers, and outputs of a slot that are still to get their feedback."""

    answers: list[bytes]
    due: pb.Outputs | None = None


class Session:
    """One user in one run. `done` once the edge has said goodbye. kept: its state at the last round's end.

    codings: how tensors travel, both ways. rounding_seed: of what is rounded at random on its way up. ahead: whether
    features may go up before they are asked for, where the front is frozen. outputs: what a slot's outputs must be.
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
        self.user = user
        self._ahead = ahead and not user.trainable_front
        self._run = run
        self._slots = 0
        self._output_shape = output_shape
        outputs, features = (user.batch, *output_shape), (user.batch, *user.feature_shape)
        self._slot_features = agreed(user.dtype, features, codings.features)
        self.outputs = agreed(user.dtype, outputs, codings.outputs)
        self._gradient = agreed(user.dtype, outputs, codings.feedback)
        self._feature_gradient = agreed(user.dtype, features, codings.acknowledgement)
        self._validation_outputs = agreed(user.dtype, (user.validation_batch, *output_shape), codings.outputs)
        self.kept: Kept | None = None
        self._features = Sender(codings.features, (rounding_seed, _FEATURES))
        self._gradients = Sender(codings.feedback, (rounding_seed, _FEEDBACK))

    def join(self) -> bytes:
        """The first message of the stream."""
        user = self.user
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
        specs = (self._slot_features, self.outputs, self._gradient, self._feature_gradient)
        features, outputs, feedback, acknowledgement = (spec.described for spec in specs)
        said = pb.Codings(features=features, outputs=outputs, feedback=feedback, acknowledgement=acknowledgement)
        return said if any(spec.coding.kind != "full" for spec in specs) else None

    @property
    def together(self) -> bool:
        """It may answer with others of its host (`together.react_together`)."""
        return self.user.together

    def react(self, data: bytes) -> Iterator[bytes]:
        """The answers to one message of the edge, each as soon as it is known; often one, sometimes none.

        Raises ProtocolError for a message that fits nothing, BadTensor for one whose tensor does not fit.
        """
        answers, due = self.hear(data)
        yield from answers
        if due is not None:
            yield from self.answer(due, self.feedback(due))

    def hear(self, data: bytes) -> Heard:
        """Takes in one message of the edge; feedback is left to be given. Raises as `react`."""
        message = pb.EdgeMessage.FromString(data)
        kind = message.WhichOneof("kind")
        if kind == "outputs":
            return self._on_outputs(message.outputs)
        if kind == "acknowledgement":
            self._on_acknowledgement(message.acknowledgement)
            return self._after_slot(message, message.acknowledgement.next)
        if kind == "rejected":
            self.user.drop()
            return self._after_slot(message, message.rejected.next)
        if kind == "round_end":
            self.kept = Kept(message.round_end.round + 1, self._state())
            return Heard(self._on_next(message.round_end.next))
        if kind == "asked":
            return Heard(self._on_next(message.asked))
        if kind == "welcome":
            return Heard(self._on_welcome(message.welcome))
        if kind != "goodbye":
            raise ProtocolError(f"user {self.name!r}: the edge sent a message of no known kind")
        self.done = True
        return Heard([])

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `kept` once held. Raises ValueError when it is another user's."""
        own = dict(state)
        owed = own.pop(_OWED, None)
        self._gradients.owed = None if owed is None else owed.numpy().copy()
        self.user.load(own)

    def _state(self) -> dict[str, Tensor]:
        """What the user remembers, and what its gradients owe: [B, ...output_shape]."""
        owed = self._gradients.owed
        return self.user.state() | ({} if owed is None else {_OWED: torch.from_numpy(owed.copy())})

    def _on_welcome(self, welcome: pb.Welcome) -> list[bytes]:
        if welcome.protocol != PROTOCOL:
            raise ProtocolError(f"the edge speaks protocol {welcome.protocol}, this user {PROTOCOL}")
        if tuple(welcome.output_shape) != self._output_shape:
            raise ProtocolError(
                f"user {self.name!r}: the edge's outputs are {list(welcome.output_shape)} per sample, "
                f"the head expects {list(self._output_shape)}"
            )
        self._slots = welcome.slots
        return self._on_next(welcome.next)

    def _on_next(self, asked: pb.Next) -> list[bytes]:
        t, i = asked.key.round, asked.key.slot
        if asked.ask == pb.Next.WAIT:
            return []
        if asked.ask == pb.Next.FEATURES:
            return [self._up(t, i, self.user.features(t, i))]
        if asked.ask == pb.Next.VALIDATION:
            return [self._up(t, i, self.user.validation_features(t))]
        if asked.ask != pb.Next.LEAVE:
            raise ProtocolError(f"user {self.name!r}: the edge asks for {asked.ask}, which is nothing known")
        return [pb.UserMessage(leave=pb.Leave(parameters_sha256=self.user.digest())).SerializeToString()]

    def _after_slot(self, message: pb.EdgeMessage, asked: pb.Next) -> Heard:
        answers = self._on_next(asked)
        return Heard(answers, message.following if message.HasField("following") else None)

    def _on_outputs(self, message: pb.Outputs) -> Heard:
        return Heard([self._report(message)]) if message.key.slot == self._slots else Heard([], message)

    def feedback(self, due: pb.Outputs) -> Feedback:
        """What the user makes of the outputs that were `due`. Raises BadTensor, or what the user raises."""
        return self.user.feedback(unpack(due.outputs, self.outputs))

    def answer(self, due: pb.Outputs, given: Feedback) -> Iterator[bytes]:
        """`given` for the outputs that were `due`, and the next slot's features where they go ahead."""
        t, i = due.key.round, due.key.slot
        answer = self._feedback(due.key, given)
        if not self._ahead or i + 1 == self._slots:
            yield answer.SerializeToString()
        elif self._slot_features.nbytes <= RIDING:
            self._pack(t, i + 1, self.user.features(t, i + 1), answer.ahead)
            yield answer.SerializeToString()
        else:
            yield answer.SerializeToString()
            yield self._up(t, i + 1, self.user.features(t, i + 1))

    def _feedback(self, key: pb.Key, given: Feedback) -> pb.UserMessage:
        answer = pb.UserMessage()
        answer.feedback.key.CopyFrom(key)
        answer.feedback.loss = given.loss
        self._gradients.pack(given.gradient, answer.feedback.gradient, key.round, key.slot)
        return answer

    def _report(self, message: pb.Outputs) -> bytes:
        validation = self.user.validate(unpack(message.outputs, self._validation_outputs))
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
        self.user.apply(gradient)
        self._gradients.settle()

    def _up(self, t: int, i: int, features: Tensor) -> bytes:
        answer = pb.UserMessage()
        self._pack(t, i, features, answer.features)
        return answer.SerializeToString()

    def _pack(self, t: int, i: int, features: Tensor, into: pb.Features) -> None:
        into.key.round, into.key.slot = t, i
        self._features.pack(features, into.features, t, i)
