"""A user's side of the conversation: every message of the edge has one answer. No socket, no clock."""

from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.tensors import Spec, pack, unpack, wire_dtype
from user_client.user import User


class ProtocolError(Exception):
    """The edge said something that this user cannot follow."""


class Session:
    """One user in one run. `done` once the edge has said goodbye."""

    def __init__(self, user: User, name: str, run: str, output_shape: tuple[int, ...]):
        self.name = name
        self.done = False
        self._user = user
        self._run = run
        self._slots = 0
        self._outputs = output_shape
        self._slot_outputs = Spec(user.dtype, (user.batch, *output_shape))
        self._validation_outputs = Spec(user.dtype, (user.validation_batch, *output_shape))
        self._feature_gradient = Spec(user.dtype, (user.batch, *user.feature_shape))

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
        )
        return pb.UserMessage(join=join).SerializeToString()

    def react(self, data: bytes) -> bytes | None:
        """The answer to one message of the edge; None where there is nothing to say.

        Raises ProtocolError for a message that fits nothing, BadTensor for one whose tensor does not fit.
        """
        message = pb.EdgeMessage.FromString(data)
        kind = message.WhichOneof("kind")
        if kind == "outputs":
            return self._on_outputs(message.outputs)
        if kind == "acknowledgement":
            self._on_acknowledgement(message.acknowledgement)
            return self._on_next(message.acknowledgement.next)
        if kind == "rejected":
            self._user.drop()
            return self._on_next(message.rejected.next)
        if kind == "round_end":
            return self._on_next(message.round_end.next)
        if kind == "welcome":
            return self._on_welcome(message.welcome)
        if kind == "goodbye":
            self.done = True
            return None
        raise ProtocolError(f"user {self.name!r}: the edge sent a message of no known kind")

    def _on_welcome(self, welcome: pb.Welcome) -> bytes | None:
        if welcome.protocol != PROTOCOL:
            raise ProtocolError(f"the edge speaks protocol {welcome.protocol}, this user {PROTOCOL}")
        if tuple(welcome.output_shape) != self._outputs:
            raise ProtocolError(
                f"user {self.name!r}: the edge's outputs are {list(welcome.output_shape)} per sample, "
                f"the head expects {list(self._outputs)}"
            )
        self._slots = welcome.slots
        return self._on_next(welcome.next)

    def _on_next(self, asked: pb.Next) -> bytes | None:
        if asked.ask == pb.Next.WAIT:
            return None
        if asked.ask == pb.Next.LEAVE:
            return pb.UserMessage(leave=pb.Leave(parameters_sha256=self._user.digest())).SerializeToString()
        if asked.ask == pb.Next.FEATURES:
            features = self._user.features(asked.key.round, asked.key.slot)
        elif asked.ask == pb.Next.VALIDATION:
            features = self._user.validation_features(asked.key.round)
        else:
            raise ProtocolError(f"user {self.name!r}: the edge asks for {asked.ask}, which is nothing known")
        answer = pb.UserMessage()
        answer.features.key.CopyFrom(asked.key)
        pack(features, answer.features.features)
        return answer.SerializeToString()

    def _on_outputs(self, message: pb.Outputs) -> bytes:
        answer = pb.UserMessage()
        if message.key.slot < self._slots:
            feedback = self._user.feedback(unpack(message.outputs, self._slot_outputs))
            answer.feedback.key.CopyFrom(message.key)
            answer.feedback.loss = feedback.loss
            pack(feedback.gradient, answer.feedback.gradient)
        else:
            validation = self._user.validate(unpack(message.outputs, self._validation_outputs))
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
