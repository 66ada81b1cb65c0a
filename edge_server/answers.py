"""What the edge says to a user, one message at a time."""

from torch import Tensor

from edge_server.plan import RunPlan
from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.sender import Sender


def welcome(plan: RunPlan, k: int) -> pb.EdgeMessage:
    """Answers user k's Join: the run's size, and what it will want back; what is asked first is yet to be said."""
    shape = plan.users[k].output_shape
    remember = [pb.Key(round=t, slot=i) for t, i in plan.wanted_back(k)]
    said = pb.Welcome(protocol=PROTOCOL, rounds=plan.rounds, slots=plan.slots, output_shape=shape, remember=remember)
    return pb.EdgeMessage(welcome=said)


def serving(t: int, i: int, outputs: Tensor, sender: Sender, closed: pb.EdgeMessage | None) -> pb.EdgeMessage:
    """Slot i's outputs [B, ...output_shape] of one user, as `sender` packs them; in one message with `closed`.

    closed: what ends the slot before for this user.
    """
    message = closed or pb.EdgeMessage()
    said = message.following if closed else message.outputs
    said.key.round, said.key.slot = t, i
    sender.pack(outputs, said.outputs, t, i)
    return message


def round_end(t: int, *, here: bool, last: bool) -> pb.EdgeMessage:
    """Round t is over; here: the user takes part in the next one, unless this was the last."""
    message = pb.EdgeMessage()
    message.round_end.round = t
    message.round_end.next.ask = pb.Next.LEAVE if last else pb.Next.FEATURES if here else pb.Next.WAIT
    if here and not last:
        message.round_end.next.key.round = t + 1
    return message


def asking() -> pb.EdgeMessage:
    """Asks a user that was not in the slot that is over; what, is yet to be said."""
    return pb.EdgeMessage(asked=pb.Next())


def leave(answer: pb.Next) -> None:
    """Tells to leave in the place of what was asked."""
    answer.ask = pb.Next.LEAVE
    answer.ClearField("key")


def closing(t: int, i: int, rejected: pb.Rejected | None, gradient: Tensor | None, sender: Sender) -> pb.EdgeMessage:
    """Slot i is over for a user: why it was rejected, or its acknowledgement, with its gradient if it wants one."""
    message = pb.EdgeMessage()
    if rejected is not None:
        message.rejected.CopyFrom(rejected)
    elif gradient is not None:
        sender.pack(gradient, message.acknowledgement.feature_gradient, t, i)
        sender.settle()
    key = message.acknowledgement.key if rejected is None else message.rejected.key
    key.round, key.slot = t, i
    return message
