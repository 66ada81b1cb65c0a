"""What the edge and a user have said, over streams that break: nothing is lost, and nothing is said twice."""

import pytest

from edge_server.attendance import Refused
from edge_server.conversation import Conversation
from protos import edge_pb2 as pb


class Line:
    def __init__(self) -> None:
        self.said: list[pb.EdgeMessage] = []
        self.ended: list[str] = []

    def send(self, data: bytes) -> None:
        self.said.append(pb.EdgeMessage.FromString(data))

    def end(self, error: Refused) -> None:
        self.ended.append(str(error))


def asked() -> pb.EdgeMessage:
    return pb.EdgeMessage(asked=pb.Next(ask=pb.Next.WAIT))


def round_end(round_: int) -> pb.EdgeMessage:
    return pb.EdgeMessage(round_end=pb.RoundEnd(round=round_))


def back(talk: Conversation, incarnation: int, heard: int) -> list[pb.EdgeMessage]:
    """What a user is told that comes back."""
    line = Line()
    talk.resume(pb.Join(user="a", incarnation=incarnation, heard=heard), line)
    return line.said


def test_of_the_ends_of_rounds_in_a_row_the_last_one_is_said_and_counted_once() -> None:
    """The user that is back has heard two messages, not three, and says so when it comes back again."""
    talk = Conversation(pb.Join(user="a"), Line())
    talk.send(asked())
    talk.prove()
    for message in (asked(), round_end(0), round_end(1)):
        talk.send(message)
    resumed, first, second = back(talk, 1, heard=1)
    assert (first, second) == (asked(), round_end(1))
    assert resumed.resumed == pb.Resumed(taken=0, before=1)
    assert back(talk, 2, heard=2)[1:] == [round_end(1)]
    assert back(talk, 3, heard=3)[1:] == []
    talk.prove()
    assert back(talk, 4, heard=3)[1:] == []


def test_who_has_heard_nothing_counts_from_its_welcome() -> None:
    talk = Conversation(pb.Join(user="a"), Line())
    for message in (asked(), round_end(0), round_end(1)):
        talk.send(message)
    assert back(talk, 1, heard=0) == [asked(), round_end(1)]
    assert back(talk, 2, heard=2)[1:] == []
    talk.send(round_end(2))
    assert back(talk, 3, heard=2)[1:] == [round_end(2)]


@pytest.mark.parametrize(("heard", "knows"), [(0, "1 to 2"), (3, "1 to 2")])
def test_who_remembers_too_little_or_too_much_is_another_process(heard: int, knows: str) -> None:
    talk = Conversation(pb.Join(user="a"), Line())
    talk.send(asked())
    talk.prove()
    talk.send(asked())
    with pytest.raises(Refused, match=f"it has heard {knows}"):
        back(talk, 1, heard)


def test_the_stream_of_before_ends_when_its_user_comes_over_another_one() -> None:
    line = Line()
    talk = Conversation(pb.Join(user="a"), line)
    talk.send(asked())
    with pytest.raises(Refused, match="has joined already"):
        back(talk, 0, heard=0)
    assert line.ended == []
    back(talk, 2, heard=1)
    assert line.ended == ["stale epoch: incarnation 0 of user 'a', the edge knows 2"]
    with pytest.raises(Refused, match="stale epoch: incarnation 1 of user 'a', the edge knows 2"):
        back(talk, 1, heard=1)


def test_an_answer_that_comes_too_late_shows_that_its_question_was_heard_and_no_more() -> None:
    """So the memory of a user that is always late stays small."""
    question = pb.EdgeMessage(asked=pb.Next(ask=pb.Next.FEATURES))
    talk = Conversation(pb.Join(user="a"), Line())
    for message in (asked(), question, round_end(0), pb.EdgeMessage(asked=pb.Next(ask=pb.Next.LEAVE))):
        talk.send(message)
    talk.prove_asked()
    with pytest.raises(Refused, match="it has heard 2 to 4"):
        back(talk, 1, heard=1)
    assert [said.WhichOneof("kind") for said in back(talk, 1, heard=2)] == ["resumed", "round_end", "asked"]
