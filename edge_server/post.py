"""What goes out to users: a line to each, and what its tensors owe."""

from collections.abc import Mapping

import torch
from torch import Tensor

from edge_server.answers import closing, serving
from edge_server.conversation import Conversation
from edge_server.plan import RunPlan
from edge_server.record import ACKNOWLEDGEMENT, OUTPUTS
from protos import edge_pb2 as pb
from protos.sender import Sender


class Post:
    """Sends messages to users, indices k. What ends a slot may wait, to go out in one message with the next outputs.

    conversations: with those who have joined.
    """

    def __init__(self, plan: RunPlan):
        self._plan = plan
        self.conversations: dict[int, Conversation] = {}
        self._outputs = [Sender(u.codings.outputs, (u.rounding_seed, OUTPUTS)) for u in plan.users]
        self._returns = [Sender(u.codings.acknowledgement, (u.rounding_seed, ACKNOWLEDGEMENT)) for u in plan.users]
        self._held: dict[int, pb.EdgeMessage] = {}

    def send(self, k: int, message: pb.EdgeMessage) -> int:
        """Bytes of the message, which is on its way."""
        return self.conversations[k].send(message)

    def begin(self, k: int, conversation: Conversation) -> None:
        """User k is talked to anew: what was held is for nobody."""
        self.conversations[k] = conversation
        self._held.pop(k, None)
        self.forget(k)

    def forget(self, k: int) -> None:
        """Nothing is owed to user k any more, which goes back to an earlier state."""
        self._returns[k].owed = None

    def closing(self, k: int, t: int, i: int, rejected: pb.Rejected | None, gradient: Tensor | None) -> pb.EdgeMessage:
        """What ends slot i for user k, as `answers.closing`; what comes next is still to be said."""
        return closing(t, i, rejected, gradient, self._returns[k])

    def hold(self, k: int, closed: pb.EdgeMessage) -> int:
        """Bytes of what ends a slot; it waits for `serve` or `let_go`."""
        self._held[k] = closed
        return closed.ByteSize()

    def serve(self, k: int, t: int, i: int, outputs: Tensor) -> int:
        """Bytes of user k's outputs, which take with them what was held."""
        closed = self._held.pop(k, None)
        before = closed.ByteSize() if closed else 0
        return self.send(k, serving(t, i, outputs, self._outputs[k], closed)) - before

    def let_go(self) -> None:
        """Sends what is still held: there are no outputs for these users."""
        for k, closed in self._held.items():
            self.send(k, closed)
        self._held.clear()

    @property
    def owed(self) -> dict[str, Tensor]:
        """What feature gradients owe to users, by name: [B, ...feature_shape]."""
        found = {user.name: line.owed for user, line in zip(self._plan.users, self._returns, strict=True)}
        return {name: torch.from_numpy(values) for name, values in found.items() if values is not None}

    def owe(self, owed: Mapping[str, Tensor]) -> None:
        """Goes on with what `owed` once was."""
        for user, line in zip(self._plan.users, self._returns, strict=True):
            line.owed = owed[user.name].numpy().copy() if user.name in owed else None
