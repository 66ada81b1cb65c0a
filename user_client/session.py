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
from protos.wire import BadBytes, parsed
from user_client.memory import Memory
from user_client.user import Feedback, User


class ProtocolError(Exception):
    """The edge said something that this user cannot follow."""


_FEATURES, _FEEDBACK = 0, 2
"""Places of a user's own tensors among the four of a slot."""


_OWED = "owed"
_FIELDS = 16
"""Of a message of the edge, at most: ours has two."""


class Heard(NamedTuple):
    """What a message of the edge led to: answers, and outputs of a slot that are still to get their feedback."""

    answers: list[bytes]
    due: pb.Outputs | None = None


class Anew(NamedTuple):
    """A process in the place of an earlier one. process: its number. begins: the slot before which it has its state."""

    process: int
    begins: pb.Key


class Session:
    """One user in one run. `done` once the edge has said goodbye. settled: no slot waits for its end, so that `state`
    is that between two slots.

    codings: how tensors travel, both ways. rounding_seed: of what is rounded at random on its way up. ahead: whether
    features may go up before they are asked for, where the front is frozen. outputs: what a slot's outputs must be.
    heard: messages of the edge that were taken in, on all streams. rounds_over: as the edge said. anew: this process
    takes the place of another one.
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
        anew: Anew | None = None,
    ):
        self.name = name
        self.done = False
        self.settled = True
        self.user = user
        self._ahead, self._anew = ahead and not user.trainable_front, anew
        self._run = run
        self._rounds = self._slots = 0
        self.heard = self.rounds_over = 0
        self._streams = self._said = self._said_feedback = 0
        self._unproven: list[pb.UserMessage] = []
        self._memory = Memory()
        self._waits_for: tuple[int, int] | None = None
        self._given: tuple[int, int] | None = None
        self._left = False
        self._output_shape = output_shape
        outputs, features = (user.batch, *output_shape), (user.batch, *user.feature_shape)
        self._slot_features = agreed(user.dtype, features, codings.features)
        self.outputs = agreed(user.dtype, outputs, codings.outputs)
        self._gradient = agreed(user.dtype, outputs, codings.feedback)
        self._feature_gradient = agreed(user.dtype, features, codings.acknowledgement)
        self._validation_outputs = agreed(user.dtype, (user.validation_batch, *output_shape), codings.outputs)
        self._features = Sender(codings.features, (rounding_seed, _FEATURES))
        self._gradients = Sender(codings.feedback, (rounding_seed, _FEEDBACK))

    def join(self) -> bytes:
        """The first message of a stream; each stream but the first goes on where the last one broke."""
        user = self.user
        incarnation, self._streams = self._streams, self._streams + 1
        join = pb.Join(
            protocol=PROTOCOL,
            run=self._run,
            user=self.name,
            incarnation=incarnation,
            heard=self.heard,
            dtype=wire_dtype(user.dtype),
            feature_shape=user.feature_shape,
            batch=user.batch,
            validation_batch=user.validation_batch,
            wants_feature_gradient=user.trainable_front,
            sends_ahead=self._ahead,
            codings=self._described(),
            process=self._anew.process if self._anew else 0,
            begins=self._anew.begins if self._anew else None,
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
        message = self._parsed(data)
        kind = message.WhichOneof("kind")
        if kind == "resumed":
            return Heard(self._again(message.resumed))
        self.heard += 1
        return self._take_in(message, kind)

    def _take_in(self, message: pb.EdgeMessage, kind: str | None) -> Heard:
        if kind == "acknowledgement":
            self._look_ahead(message, message.acknowledgement.next)
            self._on_acknowledgement(message.acknowledgement)
            return self._after_slot(message, message.acknowledgement.next)
        if kind == "outputs":
            return self._on_outputs(message.outputs)
        if kind == "rejected":
            self._look_ahead(message, message.rejected.next)
            self._given = None
            self.user.drop()
            self.settled = True
            return self._after_slot(message, message.rejected.next)
        if kind == "round_end":
            self._require_sense(message.round_end.next)
            self.rounds_over = message.round_end.round + 1
            return Heard(self._on_next(message.round_end.next))
        if kind == "asked":
            return Heard(self._on_next(message.asked))
        if kind == "welcome":
            return Heard(self._on_welcome(message.welcome))
        if kind != "goodbye":
            raise self._wrong("sent a message of no known kind")
        if not self._left:
            raise self._wrong("says goodbye before this user's Leave")
        self.done = True
        return Heard([])

    def _parsed(self, data: bytes) -> pb.EdgeMessage:
        try:
            return parsed(pb.EdgeMessage, data, _FIELDS)
        except BadBytes as error:
            raise self._wrong(f"sent {error}") from error

    def _wrong(self, what: str) -> ProtocolError:
        return ProtocolError(f"user {self.name!r}: the edge {what}")

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` once gave. Raises ValueError when it is another user's."""
        self._become(self._memory.restore(state))

    def _become(self, state: Mapping[str, Tensor]) -> None:
        own = dict(state)
        owed = own.pop(_OWED, None)
        self._gradients.owed = None if owed is None else owed.numpy().copy()
        self.user.load(own)

    def state(self) -> dict[str, Tensor]:
        """A copy of what the user remembers, and of what its gradients owe: [B, ...output_shape]."""
        return self._now() | self._memory.state()

    def _now(self) -> dict[str, Tensor]:
        owed = self._gradients.owed
        return self.user.state() | ({} if owed is None else {_OWED: torch.from_numpy(owed.copy())})

    def _again(self, resumed: pb.Resumed) -> list[bytes]:
        """What the edge has not taken in."""
        self.heard = resumed.before
        lost, kept = self._said - resumed.taken, len(self._unproven)
        if not 0 <= lost <= kept:
            raise self._wrong(
                f"has taken in {resumed.taken} messages of {self._said}; the last {kept} can be said again"
            )
        return [said.SerializeToString() for said in self._unproven[kept - lost :]]

    def _say(self, message: pb.UserMessage) -> bytes:
        self._said += 1
        self._unproven.append(message)
        return message.SerializeToString()

    def _say_feedback(self, message: pb.UserMessage) -> bytes:
        said = self._say(message)
        self._said_feedback = self._said
        return said

    def _prove_feedback(self) -> None:
        """The edge has answered the last feedback: what was said up to it was heard."""
        unproven = self._said - self._said_feedback
        del self._unproven[: max(0, len(self._unproven) - unproven)]

    def _on_welcome(self, welcome: pb.Welcome) -> list[bytes]:
        if welcome.protocol != PROTOCOL:
            raise ProtocolError(f"the edge speaks protocol {welcome.protocol}, this user {PROTOCOL}")
        if tuple(welcome.output_shape) != self._output_shape:
            raise ProtocolError(
                f"user {self.name!r}: the edge's outputs are {list(welcome.output_shape)} per sample, "
                f"the head expects {list(self._output_shape)}"
            )
        self._rounds, self._slots = welcome.rounds, welcome.slots
        self._memory.keep(welcome.remember)
        return self._on_next(welcome.next)

    def _on_next(self, asked: pb.Next) -> list[bytes]:
        self._require_sense(asked)
        return self._obey(asked)

    def _obey(self, asked: pb.Next) -> list[bytes]:
        if asked.HasField("back_to") and (past := self._memory.take(asked.back_to)) is not None:
            self._become(past)
        t, i = asked.key.round, asked.key.slot
        if asked.ask == pb.Next.WAIT:
            return []
        if asked.ask == pb.Next.LEAVE:
            self._left = True
            return [self._say(pb.UserMessage(leave=pb.Leave(parameters_sha256=self.user.digest())))]
        self._unproven.clear()  # who is asked for features has been heard
        self._memory.before(asked.key, self._now)
        validates = asked.ask == pb.Next.VALIDATION
        return [self._up(t, i, self.user.validation_features(t) if validates else self.user.features(t, i))]

    def _require_sense(self, asked: pb.Next) -> None:
        """Raises ProtocolError if the edge asks for what this user does not have."""
        if asked.HasField("back_to") and not self._memory.has(asked.back_to):
            raise self._wrong(f"wants back the state before {_words(asked.back_to)}, which it never named")
        if asked.ask in (pb.Next.WAIT, pb.Next.LEAVE):
            return
        if asked.ask not in (pb.Next.FEATURES, pb.Next.VALIDATION):
            raise self._wrong(f"asks for {asked.ask}, which is nothing known")
        t, i = asked.key.round, asked.key.slot
        if asked.ask == pb.Next.FEATURES:
            there, what = i < self._slots, "features"
        else:
            there, what = i == self._slots and self.user.validation_batch > 0, "the validation"
        if not there or t >= self._rounds:
            of = f"of a run of {self._rounds} rounds of {self._slots} slots"
            raise self._wrong(f"asks for {what} of {_words(asked.key)} {of}")

    def _look_ahead(self, message: pb.EdgeMessage, asked: pb.Next) -> None:
        """What follows the end of a slot must make sense before the user takes its steps."""
        self._require_sense(asked)
        if message.HasField("following"):
            self._take(message.following.key)

    def _after_slot(self, message: pb.EdgeMessage, asked: pb.Next) -> Heard:
        answers = self._obey(asked)
        if not message.HasField("following"):
            return Heard(answers)
        self._unproven.clear()  # the features were said last
        return Heard(answers, message.following)

    def _take(self, key: pb.Key) -> None:
        """Outputs belong to the features that were made last; their labels are at hand."""
        if (key.round, key.slot) != self._waits_for:
            raise self._wrong(f"sent outputs of {_words(key)}, which are not due")
        self._waits_for = None

    def _on_outputs(self, message: pb.Outputs) -> Heard:
        self._take(message.key)
        self._unproven.clear()  # the features were said last
        return Heard([self._report(message)]) if message.key.slot == self._slots else Heard([], message)

    def feedback(self, due: pb.Outputs) -> Feedback:
        """What the user makes of the outputs that were `due`. Raises BadTensor, or what the user raises."""
        return self.user.feedback(unpack(due.outputs, self.outputs))

    def answer(self, due: pb.Outputs, given: Feedback) -> Iterator[bytes]:
        """`given` for the outputs that were `due`, and the next slot's features where they go ahead."""
        t, i = self._given = due.key.round, due.key.slot
        answer = self._feedback(due.key, given)
        if not self._ahead or i + 1 == self._slots:
            yield self._say_feedback(answer)
        elif self._slot_features.nbytes <= RIDING:
            self._pack(t, i + 1, self.user.features(t, i + 1), answer.ahead)
            yield self._say_feedback(answer)
        else:
            yield self._say_feedback(answer)
            yield self._up(t, i + 1, self.user.features(t, i + 1))

    def _feedback(self, key: pb.Key, given: Feedback) -> pb.UserMessage:
        answer = pb.UserMessage()
        answer.feedback.key.CopyFrom(key)
        answer.feedback.loss = given.loss
        self.settled = False
        self._gradients.pack(given.gradient, answer.feedback.gradient, key.round, key.slot)
        return answer

    def _report(self, message: pb.Outputs) -> bytes:
        validation = self.user.validate(unpack(message.outputs, self._validation_outputs))
        answer = pb.UserMessage()
        answer.report.key.CopyFrom(message.key)
        answer.report.loss = validation.loss
        if validation.accuracy is not None:
            answer.report.accuracy = validation.accuracy
        return self._say(answer)

    def _on_acknowledgement(self, message: pb.Acknowledgement) -> None:
        if (message.key.round, message.key.slot) != self._given:
            raise self._wrong(f"acknowledged {_words(message.key)}, which is not due")
        gradient = None
        if message.HasField("feature_gradient"):
            gradient = unpack(message.feature_gradient, self._feature_gradient)
        elif self.user.trainable_front:
            raise self._wrong("acknowledged without the gradient that a trainable front needs")
        self._given = None
        self._prove_feedback()
        self._memory.before(message.key, self._now)
        self.user.apply(gradient)
        self._gradients.settle()
        self.settled = True

    def _up(self, t: int, i: int, features: Tensor) -> bytes:
        answer = pb.UserMessage()
        self._pack(t, i, features, answer.features)
        return self._say(answer)

    def _pack(self, t: int, i: int, features: Tensor, into: pb.Features) -> None:
        into.key.round, into.key.slot = self._waits_for = t, i
        self._features.pack(features, into.features, t, i)


def _words(key: pb.Key) -> str:
    return f"round {key.round}, slot {key.slot}"
