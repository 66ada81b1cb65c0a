"""Who is here and who has answered: any order of arrival, and nothing that was not asked for."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edge_server.attendance import Attendance, OutOfOrder, Refused
from protos import edge_pb2 as pb

KINDS = ("features", "feedback", "report", "leave")
ASKS = st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 2)).map(
    lambda ask: ("leave", 0, 0) if ask[0] == "leave" else ask
)


def message(kind: str, round_: int = 0, slot: int = 0) -> pb.UserMessage:
    made = pb.UserMessage()
    getattr(made, kind).SetInParent()
    if kind != "leave":
        getattr(made, kind).key.round, getattr(made, kind).key.slot = round_, slot
    return made


class Conversation(RuleBasedStateMachine):
    """A model of what may be answered, beside the real thing."""

    @initialize(count=st.integers(1, 5))
    def begin(self, count: int) -> None:
        self.names = [f"u{k}" for k in range(count)]
        self.attendance = Attendance(self.names)
        self.joined: set[int] = set()
        self.over: set[int] = set()
        self.asked: tuple | None = None
        self.open: set[int] = set()
        self.answers: dict[int, pb.UserMessage] = {}

    @rule(k=st.integers(0, 6))
    def join(self, k: int) -> None:
        name = f"u{k}"
        if name not in self.names:
            with pytest.raises(Refused, match="no user 'u") as refused:
                self.attendance.join(name)
            assert refused.value.code == "NOT_FOUND"
        elif k in self.joined or k in self.over:
            with pytest.raises(Refused, match="has joined already") as refused:
                self.attendance.join(name)
            assert refused.value.code == "ALREADY_EXISTS"
        else:
            assert self.attendance.join(name) == k
            self.joined.add(k)

    @precondition(lambda self: self.joined)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        k = data.draw(st.sampled_from(sorted(self.joined)))
        self.attendance.lose(k)
        self.joined.discard(k)
        self.over.add(k)

    @rule(ask=ASKS, data=st.data())
    def expect(self, ask: tuple, data: st.DataObject) -> None:
        self.open = data.draw(st.sets(st.sampled_from(range(len(self.names)))))
        self.asked, self.answers = ask, {}
        self.attendance.expect(ask, self.open)

    @rule(said=ASKS, data=st.data())
    def receive_anything(self, said: tuple, data: st.DataObject) -> None:
        self.receive(data.draw(st.integers(0, len(self.names) - 1)), said)

    @precondition(lambda self: self.asked and self.open)
    @rule(data=st.data())
    def receive_what_was_asked(self, data: st.DataObject) -> None:
        self.receive(data.draw(st.sampled_from(sorted(self.open))), self.asked)

    def receive(self, k: int, said: tuple) -> None:
        made = message(*said)
        if said == self.asked and k in self.open and k not in self.answers:
            self.answers[k] = made
            assert self.attendance.receive(k, made) == (len(self.answers) == len(self.open))
        else:
            with pytest.raises(OutOfOrder, match=f"user 'u{k}' sent {said[0]}"):
                self.attendance.receive(k, made)

    @rule(k=st.integers(0, 4))
    def receive_nonsense(self, k: int) -> None:
        for nonsense in (pb.UserMessage(), pb.UserMessage(join=pb.Join(user="u0"))):
            with pytest.raises(OutOfOrder, match="where an answer was due"):
                self.attendance.receive(k % len(self.names), nonsense)

    @invariant()
    def everything_agrees(self) -> None:
        if not hasattr(self, "names"):
            return
        found = self.attendance
        assert found.answers == sorted(self.answers.items(), key=lambda answer: answer[0])
        assert found.missing == [f"u{k}" for k in sorted(self.open - self.answers.keys())]
        assert found.complete == (self.answers.keys() == self.open)
        assert found.leaving == (self.asked is not None and self.asked[0] == "leave")
        assert (found.present, found.gone) == (self.joined, self.over)


def test_any_conversation() -> None:
    run_state_machine_as_test(Conversation)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (("feedback", 1, 2), "sent feedback of round 1, slot 2, but the edge asked for features of round 1, slot 2"),
        (("features", 1, 3), "sent features of round 1, slot 3, but the edge asked for features of round 1, slot 2"),
        (("leave", 0, 0), "sent leave, but the edge asked for features of round 1, slot 2"),
    ],
)
def test_the_error_says_what_was_asked(said: tuple, reason: str) -> None:
    attendance = Attendance(["a", "b"])
    attendance.expect(("features", 1, 2), [0, 1])
    with pytest.raises(OutOfOrder, match=reason):
        attendance.receive(0, message(*said))


def test_a_duplicate_and_a_user_that_was_not_asked_are_told_so() -> None:
    attendance = Attendance(["a", "b"])
    attendance.expect(("features", 0, 0), [0])
    assert attendance.receive(0, message("features"))
    with pytest.raises(OutOfOrder, match="which it has sent"):
        attendance.receive(0, message("features"))
    with pytest.raises(OutOfOrder, match="the edge asked for nothing from it now"):
        attendance.receive(1, message("features"))
