"""What a user that comes back is told again, and who may not come back."""

import asyncio
from typing import Any

import pytest
import torch

from edge_server.absence import Absence
from edge_server.attendance import Refused
from edge_server.cell import Cell
from edge_server.conversation import Conversation
from edge_server.judge import RunFailed
from edge_server.plan import RunPlan, UserPlan
from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.tensors import pack


class Kept:
    """A line that keeps what goes out on it."""

    def __init__(self) -> None:
        self.said: list[pb.EdgeMessage] = []
        self.ended: Refused | None = None

    def send(self, data: bytes) -> None:
        self.said.append(pb.EdgeMessage.FromString(data))

    def end(self, error: Refused) -> None:
        self.ended = error


def outputs(slot: int) -> pb.EdgeMessage:
    return pb.EdgeMessage(outputs=pb.Outputs(key=pb.Key(slot=slot)))


def round_end(t: int) -> pb.EdgeMessage:
    return pb.EdgeMessage(round_end=pb.RoundEnd(round=t))


def spoken(*messages: pb.EdgeMessage, proven: int = 0) -> tuple[Conversation, Kept]:
    """A conversation with these messages, of which the user has answered the first `proven`."""
    line = Kept()
    conversation = Conversation(pb.Join(user="a"), line)
    for number, message in enumerate(messages, start=1):
        conversation.send(message)
        if number == proven:
            conversation.prove()
    return conversation, line


def back(conversation: Conversation, incarnation: int, heard: int) -> Kept:
    line = Kept()
    conversation.resume(pb.Join(incarnation=incarnation, heard=heard), line)
    return line


def test_what_was_not_heard_is_said_again_in_order() -> None:
    conversation, _ = spoken(outputs(0), outputs(1), outputs(2), proven=1)
    conversation.taken = 5
    again = back(conversation, 1, heard=2)
    assert again.said == [pb.EdgeMessage(resumed=pb.Resumed(taken=5, before=2)), outputs(2)]
    assert back(conversation, 2, heard=3).said == [pb.EdgeMessage(resumed=pb.Resumed(taken=5, before=3))]


def test_who_has_heard_nothing_hears_all_without_a_preface() -> None:
    conversation, _ = spoken(outputs(0), outputs(1))
    assert back(conversation, 1, heard=0).said == [outputs(0), outputs(1)]


def test_what_is_said_to_nobody_waits() -> None:
    conversation, line = spoken(outputs(0), proven=1)
    conversation.break_off()
    conversation.send(outputs(1))
    assert line.said == [outputs(0)]
    assert back(conversation, 1, heard=1).said[1:] == [outputs(1)]


def test_of_ends_of_rounds_in_a_row_the_last_one_is_said() -> None:
    conversation, _ = spoken(outputs(0), *map(round_end, range(1000)), proven=1)
    again = back(conversation, 1, heard=3)
    assert again.said == [pb.EdgeMessage(resumed=pb.Resumed(taken=0, before=3)), round_end(999)]
    assert back(conversation, 2, heard=4).said == [pb.EdgeMessage(resumed=pb.Resumed(taken=0, before=4))]


@pytest.mark.parametrize("heard", [0, 1, 4])
def test_who_has_forgotten_or_made_up_something_may_not_go_on(heard: int) -> None:
    conversation, line = spoken(outputs(0), outputs(1), outputs(2), proven=2)
    with pytest.raises(Refused, match=f"comes back with {heard} messages of the edge in mind; it has heard 2 to 3"):
        back(conversation, 1, heard)
    assert line.ended is None
    assert conversation.is_on(line)


def test_a_later_stream_ends_the_one_before() -> None:
    conversation, line = spoken(outputs(0))
    new = back(conversation, 1, heard=1)
    assert line.ended is not None
    assert (line.ended.code, str(line.ended)) == (
        "FAILED_PRECONDITION",
        "stale epoch: incarnation 0 of user 'a', the edge knows 1",
    )
    assert conversation.is_on(new)
    assert not conversation.is_on(line)


@pytest.mark.parametrize(
    ("incarnation", "there", "code", "reason"),
    [
        (3, True, "ALREADY_EXISTS", "user 'a' has joined already"),
        (3, False, "FAILED_PRECONDITION", "stale epoch: incarnation 3 of user 'a', the edge knows 3"),
        (2, True, "FAILED_PRECONDITION", "stale epoch: incarnation 2"),
        (2, False, "FAILED_PRECONDITION", "stale epoch: incarnation 2"),
    ],
)
def test_a_process_that_does_not_count_on_is_refused(incarnation: int, there: bool, code: str, reason: str) -> None:
    conversation, _ = spoken(outputs(0))
    back(conversation, 3, heard=1)
    if not there:
        conversation.break_off()
    with pytest.raises(Refused, match=reason) as refused:
        back(conversation, incarnation, heard=1)
    assert refused.value.code == code


def filled(message: pb.UserMessage) -> bytes:
    """With a tensor of one number."""
    held = message.features.features if message.HasField("features") else message.feedback.gradient
    pack(torch.ones(1, 1, dtype=torch.float64), held)
    return message.SerializeToString()


def joined(cell: Cell, name: str, **more: Any) -> Kept:
    """The line of a user who is there now."""
    line, dtype = Kept(), pb.FLOAT64
    join = pb.Join(protocol=PROTOCOL, run="r", user=name, dtype=dtype, feature_shape=[1], batch=1, **more)
    cell.join(pb.UserMessage(join=join).SerializeToString(), line)
    return line


def test_a_slot_whose_features_are_gathered_asks_nobody_for_more() -> None:
    """Not even where all whose features it has are lost while the edge computes, and another one comes back then."""
    users = [UserPlan(name, 4.0, torch.float64, (1,), (1,), 1, 0, trainable_front=False) for name in "ab"]
    plan = RunPlan("r", 1, 3, tuple(users), 5.0, absence=Absence("drop", None, 1))

    def features(slot: int) -> bytes:
        return filled(pb.UserMessage(features=pb.Features(key=pb.Key(slot=slot))))

    async def go() -> None:
        cell = Cell(plan, lambda event: None, lambda: False)
        a, b = joined(cell, "a"), joined(cell, "b")
        cell.lose(1, "its connection broke", b)
        cell.receive(0, features(0))
        assert [x is None for x in await cell.features(0, 0)] == [False, True]
        answered = asyncio.create_task(cell.feedback(0, 0, [torch.ones(1, 1, dtype=torch.float64), None]))
        await asyncio.sleep(0)
        cell.receive(0, filled(pb.UserMessage(feedback=pb.Feedback(loss=1.0))))
        await answered
        cell.acknowledge(0, 0)
        cell.receive(0, features(1))
        await cell.features(0, 1)
        cell.lose(0, "its connection broke", a)
        back = joined(cell, "b", incarnation=1, heard=1)
        cell.receive(1, features(0))
        assert [message.WhichOneof("kind") for message in back.said] == ["resumed", "rejected"]

    asyncio.run(go())


@pytest.mark.parametrize("policy", ["wait", "drop", "fail"])
@pytest.mark.parametrize("noticed", [True, False])
def test_who_is_back_before_the_break_is_noticed_was_lost_all_the_same(policy: Any, noticed: bool) -> None:
    """What a run counts, and whether it goes on, does not hang on which of two streams the edge hears of first."""
    user = UserPlan("a", 4.0, torch.float64, (1,), (1,), 1, 0, trainable_front=False)
    other = UserPlan("b", 4.0, torch.float64, (1,), (1,), 1, 0, trainable_front=False)
    plan = RunPlan("r", 1, 3, (user, other), 5.0, absence=Absence(policy, None, 1))
    told: list[str] = []

    async def go() -> None:
        cell = Cell(plan, lambda event: told.append(event["event"]), lambda: False)
        first = joined(cell, "a")
        joined(cell, "b")
        if noticed:
            cell.lose(0, "its connection broke", first)
        joined(cell, "a", incarnation=1, heard=1)
        cell.lose(0, "its connection broke", first)
        if policy == "fail":
            with pytest.raises(RunFailed, match="user 'a' was lost"):
                await cell.features(0, 0)

    asyncio.run(go())
    assert told == ["join", "join", "lost", "returned"]
