"""Who is here and who has answered: any order of arrival, and nothing unasked but what is ahead by right."""

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

SLOTS = 3
KINDS = ("features", "feedback", "report", "leave")
ASKS = st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, SLOTS)).map(
    lambda ask: ("leave", 0, 0) if ask[0] == "leave" else ask
)


def message(kind: str, round_: int = 0, slot: int = 0) -> pb.UserMessage:
    made = pb.UserMessage()
    getattr(made, kind).SetInParent()
    if kind != "leave":
        getattr(made, kind).key.round, getattr(made, kind).key.slot = round_, slot
    return made


def behind(ask: tuple | None) -> tuple | None:
    """What may follow an answer to `ask` unasked: the features of the next slot of the same round behind a feedback."""
    if ask is None or ask[0] != "feedback" or ask[2] + 1 >= SLOTS:
        return None
    return ("features", ask[1], ask[2] + 1)


class Conversation(RuleBasedStateMachine):
    """A model of what may be answered, beside the real thing."""

    @initialize(count=st.integers(1, 5), data=st.data())
    def begin(self, count: int, data: st.DataObject) -> None:
        self.names = [f"u{k}" for k in range(count)]
        self.attendance = Attendance(self.names, SLOTS)
        self.senders = data.draw(st.sets(st.integers(0, count - 1)))
        self.attendance.ahead |= self.senders
        self.joined: set[int] = set()
        self.ever: set[int] = set()
        self.last: dict[int, list[tuple]] = {}
        self.asked: tuple | None = None
        self.before_leaving: tuple | None = None
        self.open: set[int] = set()
        self.answers: dict[int, tuple] = {}
        self.early: dict[int, tuple] = {}
        self.owed: dict[int, list[tuple]] = {}
        self.sent = 0

    @rule(k=st.integers(0, 6))
    def join(self, k: int) -> None:
        name = f"u{k}"
        if name not in self.names:
            with pytest.raises(Refused, match="no user 'u") as refused:
                self.attendance.find(name)
            assert refused.value.code == "NOT_FOUND"
        else:
            assert self.attendance.find(name) == k
            self.attendance.join(k)
            self.joined.add(k)
            self.ever.add(k)

    @precondition(lambda self: self.joined)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        k = data.draw(st.sampled_from(sorted(self.joined)))
        self.attendance.lose(k)
        self.joined.discard(k)

    @rule(ask=ASKS, data=st.data())
    def expect(self, ask: tuple, data: st.DataObject) -> None:
        self.turn_to(ask, data)

    @rule(round_=st.integers(0, 2), slot=st.integers(0, SLOTS - 2), data=st.data())
    def expect_feedback_that_is_not_the_last(self, round_: int, slot: int, data: st.DataObject) -> None:
        self.turn_to(("feedback", round_, slot), data)

    @precondition(lambda self: behind(self.asked))
    @rule(data=st.data())
    def expect_what_follows(self, data: st.DataObject) -> None:
        self.turn_to(behind(self.asked), data)

    @precondition(lambda self: behind(self.asked))
    @rule(data=st.data())
    def tell_all_to_leave(self, data: st.DataObject) -> None:
        self.turn_to(("leave", 0, 0), data)

    def turn_to(self, ask: tuple, data: st.DataObject) -> None:
        filed = self.early if ask == self.due else {}
        self.open = data.draw(st.sets(st.sampled_from(range(len(self.names)))))
        if ask == self.due:
            for k in (self.answers.keys() & self.senders) - self.early.keys() - self.open:
                self.owed.setdefault(k, []).append(ask)
        if ask[0] == "leave":
            self.before_leaving = self.due
        else:
            self.early = {}
        self.asked = ask
        self.answers = {k: said for k, said in filed.items() if k in self.open}
        self.attendance.expect(ask, self.open)

    @property
    def due(self) -> tuple | None:
        """What senders may send unasked at this moment."""
        return self.before_leaving if self.asked and self.asked[0] == "leave" else behind(self.asked)

    @rule(said=ASKS, data=st.data())
    def receive_anything(self, said: tuple, data: st.DataObject) -> None:
        self.receive(data.draw(st.integers(0, len(self.names) - 1)), said)

    @precondition(lambda self: self.asked and self.open)
    @rule(data=st.data())
    def receive_what_was_asked(self, data: st.DataObject) -> None:
        self.receive(data.draw(st.sampled_from(sorted(self.open))), self.asked)

    @precondition(lambda self: hasattr(self, "names") and self.due)
    @rule(data=st.data())
    def receive_what_follows(self, data: st.DataObject) -> None:
        self.receive(data.draw(st.integers(0, len(self.names) - 1)), self.due)

    def receive(self, k: int, said: tuple) -> None:
        made = message(*said)
        self.sent += 1
        if said == self.asked and k in self.open and k not in self.answers:
            self.answers[k] = (k, made, self.sent)
            receipt = "last" if len(self.answers) == len(self.open) else "filed"
            assert self.attendance.receive(k, made, self.sent) == receipt
        elif said in self.owed.get(k, [])[:1]:
            del self.owed[k][0]
            if said == self.due:
                self.early[k] = (k, made, self.sent)
            assert self.attendance.receive(k, made, self.sent) == ("filed" if said == self.due else "late")
        elif self.by_right(k, said):
            self.early[k] = (k, made, self.sent)
            assert self.attendance.receive(k, made, self.sent) == "filed"
        elif said in self.last.get(k, []):
            assert self.attendance.receive(k, made, self.sent) == "again"
            return
        else:
            with pytest.raises(OutOfOrder, match=f"user 'u{k}' sent {said[0]}"):
                self.attendance.receive(k, made, self.sent)
            return
        self.last[k] = [*self.last.get(k, []), said][-3:]

    def by_right(self, k: int, said: tuple) -> bool:
        """Once, from a sender, behind its feedback; when all were told to leave, from one that has not left yet."""
        behind_it = k not in self.answers if self.asked and self.asked[0] == "leave" else k in self.answers
        return k in self.senders and said == self.due and k not in self.early and behind_it

    @rule(k=st.integers(0, 4))
    def receive_nonsense(self, k: int) -> None:
        for nonsense in (pb.UserMessage(), pb.UserMessage(join=pb.Join(user="u0"))):
            with pytest.raises(OutOfOrder, match="where an answer was due"):
                self.attendance.receive(k % len(self.names), nonsense, 0)

    @invariant()
    def everything_agrees(self) -> None:
        if not hasattr(self, "names"):
            return
        found = self.attendance
        assert found.answers == [self.answers[k] for k in sorted(self.answers)]
        assert found.missing == [f"u{k}" for k in sorted(self.open - self.answers.keys())]
        assert found.complete == (self.answers.keys() == self.open)
        assert found.leaving == (self.asked is not None and self.asked[0] == "leave")
        assert (found.present, found.joined) == (self.joined, self.ever)
        assert found.assembled == (len(self.ever) == len(self.names))


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
    attendance = Attendance(["a", "b"], slots=5)
    attendance.expect(("features", 1, 2), [0, 1])
    with pytest.raises(OutOfOrder, match=reason):
        attendance.receive(0, message(*said), 9)


def test_a_user_that_was_not_asked_is_told_so() -> None:
    attendance = Attendance(["a", "b"], slots=5)
    attendance.expect(("features", 0, 0), [0])
    assert attendance.receive(0, message("features"), 9) == "last"
    assert attendance.receive(0, message("features"), 9) == "again"
    with pytest.raises(OutOfOrder, match="the edge asked for nothing from it now"):
        attendance.receive(1, message("features"), 9)


def asked_for_feedback(slot: int = 0) -> Attendance:
    """a may send ahead, b may not; both are asked for the feedback of a round of 3 slots."""
    attendance = Attendance(["a", "b"], slots=3)
    attendance.ahead.add(0)
    attendance.expect(("feedback", 1, slot), [0, 1])
    return attendance


def test_features_sent_ahead_are_there_when_they_are_asked_for() -> None:
    attendance = asked_for_feedback()
    assert attendance.receive(0, message("feedback", 1, 0), 20) == "filed"
    assert attendance.receive(0, message("features", 1, 1), 30) == "filed"
    assert attendance.receive(1, message("feedback", 1, 0), 20) == "last"
    assert [said.size for said in attendance.answers] == [20, 20]
    attendance.expect(("features", 1, 1), [0, 1])
    assert attendance.missing == ["b"]
    assert attendance.receive(1, message("features", 1, 1), 31) == "last"
    assert [(said.k, said.size) for said in attendance.answers] == [(0, 30), (1, 31)]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([("features", 1, 1)], "asked for feedback of round 1, slot 0"),
        ([("feedback", 1, 0), ("features", 1, 2)], "sent features of round 1, slot 2"),
        ([("feedback", 1, 0), ("features", 2, 1)], "sent features of round 2, slot 1"),
        ([("feedback", 1, 0), ("feedback", 1, 1)], "sent feedback of round 1, slot 1"),
        ([("feedback", 1, 0), ("features", 1, 1), ("features", 1, 0)], "which it has sent"),
    ],
    ids=["before its feedback", "two slots on", "of another round", "feedback", "of a slot before"],
)
def test_what_is_not_ahead_by_right_is_out_of_order(said: list[tuple], reason: str) -> None:
    attendance = asked_for_feedback()
    for one in said[:-1]:
        attendance.receive(0, message(*one), 9)
    with pytest.raises(OutOfOrder, match=reason):
        attendance.receive(0, message(*said[-1]), 9)


def test_a_user_that_did_not_say_so_may_not_send_ahead() -> None:
    attendance = asked_for_feedback()
    attendance.receive(1, message("feedback", 1, 0), 9)
    with pytest.raises(OutOfOrder, match="user 'b' sent features of round 1, slot 1"):
        attendance.receive(1, message("features", 1, 1), 9)


def test_nothing_goes_ahead_of_a_rounds_last_slot() -> None:
    attendance = asked_for_feedback(slot=2)
    attendance.receive(0, message("feedback", 1, 2), 9)
    with pytest.raises(OutOfOrder, match="user 'a' sent features of round 1, slot 3"):
        attendance.receive(0, message("features", 1, 3), 9)


def test_features_on_their_way_when_all_are_told_to_leave_are_dropped_once() -> None:
    attendance = asked_for_feedback()
    for k in (0, 1):
        attendance.receive(k, message("feedback", 1, 0), 9)
    attendance.expect(("leave", 0, 0), [0, 1])
    assert attendance.receive(0, message("features", 1, 1), 9) == "filed"
    assert attendance.answers == []
    assert attendance.receive(0, message("features", 1, 1), 9) == "again"
    assert attendance.receive(0, message("leave"), 9) == "filed"
    assert attendance.receive(1, message("leave"), 9) == "last"
    assert [said.k for said in attendance.answers] == [0, 1]


def test_features_that_came_before_the_call_to_leave_do_not_count_again() -> None:
    attendance = asked_for_feedback()
    attendance.receive(0, message("feedback", 1, 0), 9)
    attendance.receive(0, message("features", 1, 1), 9)
    attendance.expect(("leave", 0, 0), [0, 1])
    assert attendance.receive(0, message("features", 1, 1), 9) == "again"
    assert attendance.answers == []


def test_nothing_follows_a_leave() -> None:
    attendance = asked_for_feedback()
    attendance.receive(0, message("feedback", 1, 0), 9)
    attendance.expect(("leave", 0, 0), [0, 1])
    attendance.receive(0, message("leave"), 9)
    with pytest.raises(OutOfOrder, match="user 'a' sent features of round 1, slot 1, but the edge asked for leave"):
        attendance.receive(0, message("features", 1, 1), 9)


def test_what_came_ahead_from_a_user_that_is_not_asked_after_all_does_not_count() -> None:
    attendance = asked_for_feedback()
    attendance.receive(0, message("feedback", 1, 0), 9)
    attendance.receive(0, message("features", 1, 1), 9)
    attendance.expect(("features", 1, 1), [1])
    assert attendance.answers == []
    assert attendance.missing == ["b"]


def test_what_was_said_last_may_be_said_again_and_is_taken_once() -> None:
    attendance = asked_for_feedback()
    first, again = message("feedback", 1, 0), message("feedback", 1, 0)
    assert attendance.receive(0, first, 20) == "filed"
    assert attendance.receive(0, message("features", 1, 1), 30) == "filed"
    assert attendance.receive(0, again, 20) == "again"
    assert attendance.receive(1, message("feedback", 1, 0), 20) == "last"
    attendance.expect(("features", 1, 1), [0])
    assert attendance.receive(0, message("features", 1, 1), 30) == "again"
    attendance.expect(("feedback", 1, 1), [0])
    assert attendance.receive(0, message("features", 1, 1), 30) == "again"
    assert attendance.receive(0, message("feedback", 1, 1), 30) == "last"
    assert attendance.receive(0, message("feedback", 1, 0), 20) == "again"
    assert attendance.receive(0, message("features", 1, 2), 30) == "filed"
    with pytest.raises(OutOfOrder, match="user 'a' sent feedback of round 1, slot 0"):
        attendance.receive(0, message("feedback", 1, 0), 20)


def test_features_that_are_owed_when_all_are_told_to_leave_are_taken_once() -> None:
    attendance = asked_for_feedback()
    attendance.receive(1, message("feedback", 1, 0), 20)
    assert attendance.excuse() == [0]
    assert attendance.receive(0, message("feedback", 1, 0), 20) == "late"
    attendance.expect(("leave", 0, 0), [0, 1])
    assert attendance.receive(0, message("features", 1, 1), 30) == "filed"
    assert attendance.receive(0, message("features", 1, 1), 30) == "again"
    assert not attendance.owing


def both(t: int, i: int, then: int) -> pb.UserMessage:
    """Feedback of slot i with features of slot `then`."""
    said = message("feedback", t, i)
    said.ahead.CopyFrom(message("features", t, then).features)
    said.ahead.features.data = bytes(200)
    return said


def test_features_that_ride_with_feedback_are_filed_and_weighed_by_themselves() -> None:
    attendance = asked_for_feedback()
    said = both(1, 0, 1)
    parts = pb.UserMessage(feedback=said.feedback), pb.UserMessage(features=said.ahead)
    alone = [part.ByteSize() for part in parts]
    assert len(said.SerializeToString()) == sum(alone)
    assert attendance.receive(0, said, sum(alone)) == "filed"
    assert attendance.receive(1, message("feedback", 1, 0), 20) == "last"
    assert [one.size for one in attendance.answers] == [alone[0], 20]
    attendance.expect(("features", 1, 1), [0])
    assert attendance.complete
    assert [(one.k, one.size) for one in attendance.answers] == [(0, alone[1])]


def test_what_rides_completes_a_slot_only_once() -> None:
    attendance = Attendance(["a"], slots=3)
    attendance.ahead.add(0)
    attendance.expect(("feedback", 1, 0), [0])
    assert attendance.receive(0, both(1, 0, 1), 300) == "last"


@pytest.mark.parametrize(
    ("k", "said", "reason"),
    [
        (1, both(1, 0, 1), "user 'b' sent features of round 1, slot 1"),
        (0, both(1, 0, 2), "user 'a' sent features of round 1, slot 2"),
        (0, both(1, 1, 1), "user 'a' sent feedback of round 1, slot 1"),
    ],
    ids=["did not say so", "two slots on", "another slot's feedback"],
)
def test_what_may_not_ride_is_out_of_order(k: int, said: pb.UserMessage, reason: str) -> None:
    attendance = asked_for_feedback()
    before = attendance.answers, attendance.missing
    with pytest.raises(OutOfOrder, match=reason):
        attendance.receive(k, said, 300)
    assert (attendance.answers, attendance.missing) == before, "nothing of it is filed"


def test_nothing_rides_with_anything_but_feedback() -> None:
    attendance = Attendance(["a"], slots=3)
    attendance.ahead.add(0)
    attendance.expect(("features", 1, 0), [0])
    said = message("features", 1, 0)
    said.ahead.CopyFrom(message("features", 1, 1).features)
    with pytest.raises(OutOfOrder, match="user 'a' sent features ahead beside something that is no feedback"):
        attendance.receive(0, said, 30)
