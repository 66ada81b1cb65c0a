"""A user's side of the conversation, without an edge: what it answers to every message, and what is an error."""

import pytest
import torch
from places import place, user_config

import user_client.session
from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.tensors import BadTensor, NotFinite, Spec, pack, unpack
from user_client.session import ProtocolError, Session
from user_client.user import User

KERNEL = {"kind": "kernel_regression", "batch": 2}
RAINBOW = {"kind": "rainbow", "digits": "bundled", "batch": 3, "validation": 4}
CONV = {"kind": "conv_pool", "channels": 2, "trainable": True}


def regression() -> Session:
    return Session(User(user_config(KERNEL, {"kind": "linear"}), place(), (1,)), "a", "r", (1,))


def digits() -> Session:
    return Session(User(user_config(RAINBOW, {"kind": "linear"}, CONV), place(), (5,)), "a", "r", (5,))


def edge(**kind: object) -> bytes:
    return pb.EdgeMessage(**kind).SerializeToString()  # type: ignore[arg-type]


def ask(what: pb.Next.Ask, slot: int = 0) -> pb.Next:
    return pb.Next(ask=what, key=pb.Key(round=0, slot=slot))


def welcome(shape: tuple[int, ...], following: pb.Next | None = None, **changes: int) -> bytes:
    said = {"protocol": PROTOCOL, "rounds": 4, "slots": 6, **changes}
    return edge(welcome=pb.Welcome(output_shape=shape, next=following or ask(pb.Next.FEATURES), **said))


def outputs(values: torch.Tensor, slot: int = 0) -> bytes:
    message = pb.EdgeMessage()
    message.outputs.key.slot = slot
    pack(values, message.outputs.outputs)
    return message.SerializeToString()


def answers(session: Session, data: bytes) -> list[pb.UserMessage]:
    return [pb.UserMessage.FromString(answer) for answer in session.react(data)]


def said(session: Session, data: bytes) -> pb.UserMessage:
    (answer,) = answers(session, data)
    return answer


def test_join_states_the_sizes() -> None:
    join = pb.UserMessage.FromString(digits().join()).join
    assert join == pb.Join(
        protocol=PROTOCOL, run="r", user="a", dtype=pb.FLOAT32, feature_shape=[2, 12, 12], batch=3, validation_batch=4,
        wants_feature_gradient=True,
    )  # fmt: skip


@pytest.mark.parametrize(("front", "ahead"), [("none", True), ({**CONV, "trainable": False}, True), (CONV, False)])
def test_whose_front_is_frozen_says_that_it_sends_ahead(front: dict | str, ahead: bool) -> None:
    session = Session(User(user_config(RAINBOW, {"kind": "linear"}, front), place(), (5,)), "a", "r", (5,))
    join = pb.UserMessage.FromString(session.join()).join
    assert join.sends_ahead == ahead
    assert join.wants_feature_gradient == (not ahead)


def test_with_a_trainable_front_a_slot_is_features_feedback_and_the_next_features_when_asked() -> None:
    session = digits()
    first = said(session, welcome((5,))).features
    assert first.key == pb.Key(round=0, slot=0)
    assert unpack(first.features, Spec(torch.float32, (3, 2, 12, 12))).shape == (3, 2, 12, 12)
    feedback = said(session, outputs(torch.zeros(3, 5))).feedback
    assert feedback.key == first.key
    assert feedback.loss > 0
    message = pb.EdgeMessage()
    message.acknowledgement.next.CopyFrom(ask(pb.Next.FEATURES, 1))
    pack(torch.ones(3, 2, 12, 12), message.acknowledgement.feature_gradient)
    assert said(session, message.SerializeToString()).features.key == pb.Key(round=0, slot=1)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """All features count as large: they go in a message of their own."""
    monkeypatch.setattr(user_client.session, "RIDING", 0)


def test_small_features_ride_with_the_feedback_and_outputs_with_what_ends_the_slot() -> None:
    session, apart = regression(), regression()
    first = said(session, welcome((1,))).features
    zeros = torch.zeros(2, 1, dtype=torch.float64)
    both = said(session, outputs(zeros))
    assert (both.feedback.key, both.ahead.key) == (first.key, pb.Key(round=0, slot=1))
    message = pb.EdgeMessage(acknowledgement=pb.Acknowledgement(key=first.key, next=ask(pb.Next.WAIT)))
    message.following.key.slot = 1
    pack(zeros, message.following.outputs)
    second = said(session, message.SerializeToString())
    assert (second.feedback.key, second.ahead.key) == (pb.Key(round=0, slot=1), pb.Key(round=0, slot=2))
    said(apart, welcome((1,)))
    said(apart, outputs(zeros))
    answers(apart, edge(acknowledgement=message.acknowledgement))
    assert said(apart, outputs(zeros, slot=1)) == second
    assert session.user.digest() == apart.user.digest()


@pytest.mark.usefixtures("large")
def test_without_one_the_next_features_follow_the_feedback_unasked() -> None:
    session = regression()
    first = said(session, welcome((1,))).features
    assert unpack(first.features, Spec(torch.float64, (2, 4))).shape == (2, 4)
    feedback, following = answers(session, outputs(torch.zeros(2, 1, dtype=torch.float64)))
    assert feedback.feedback.key == first.key
    assert unpack(feedback.feedback.gradient, Spec(torch.float64, (2, 1))).shape == (2, 1)
    assert following.features.key == pb.Key(round=0, slot=1)
    done = edge(acknowledgement=pb.Acknowledgement(key=first.key, next=ask(pb.Next.WAIT)))
    assert answers(session, done) == []


@pytest.mark.usefixtures("large")
def test_the_feedback_goes_out_before_the_next_features_are_made() -> None:
    session = regression()
    said(session, welcome((1,)))
    asked_for: list[tuple[int, int]] = []
    job = session.user.task.job

    def note(round_: int, slot: int):
        asked_for.append((round_, slot))
        return job(round_, slot)

    session.user.task.job = note  # type: ignore[method-assign]
    going = session.react(outputs(torch.zeros(2, 1, dtype=torch.float64)))
    assert pb.UserMessage.FromString(next(going)).HasField("feedback")
    assert asked_for == []
    assert pb.UserMessage.FromString(next(going)).HasField("features")
    assert asked_for == [(0, 1)]


@pytest.mark.usefixtures("large")
def test_features_made_ahead_are_those_that_would_have_been_asked_for() -> None:
    ahead, asked = regression(), regression()
    for session in (ahead, asked):
        said(session, welcome((1,)))
    zeros = outputs(torch.zeros(2, 1, dtype=torch.float64))
    _, following = answers(ahead, zeros)
    next(asked.react(zeros))
    done = edge(acknowledgement=pb.Acknowledgement(next=ask(pb.Next.FEATURES, 1)))
    assert said(asked, done) == following


def test_nothing_is_sent_ahead_of_the_last_slot_of_a_round() -> None:
    session = regression()
    said(session, welcome((1,), ask(pb.Next.FEATURES, 5)))
    assert said(session, outputs(torch.zeros(2, 1, dtype=torch.float64), slot=5)).HasField("feedback")


def test_validation_is_answered_by_a_report() -> None:
    session = digits()
    asked = said(session, welcome((5,), ask(pb.Next.VALIDATION, 6))).features
    assert asked.features.shape[0] == 4
    report = said(session, outputs(torch.zeros(4, 5), slot=6)).report
    assert report.key == pb.Key(round=0, slot=6)
    assert report.loss > 0
    assert 0 <= report.accuracy <= 1


def test_waiting_says_nothing_and_leaving_gives_the_hash() -> None:
    session = regression()
    assert answers(session, welcome((1,), ask(pb.Next.WAIT))) == []
    leave = said(session, edge(round_end=pb.RoundEnd(round=0, next=ask(pb.Next.LEAVE)))).leave
    assert leave.parameters_sha256 == session.user.digest()
    assert len(leave.parameters_sha256) == 32
    assert not session.done
    assert answers(session, edge(goodbye=pb.Goodbye())) == []
    assert session.done


def test_a_rejected_slot_takes_no_step_and_goes_on() -> None:
    session = digits()
    said(session, welcome((5,)))
    said(session, outputs(torch.ones(3, 5)))
    before = session.user.digest()
    rejected = pb.Rejected(code=pb.Rejected.NOT_FINITE, field="loss", next=ask(pb.Next.FEATURES, 1))
    assert said(session, edge(rejected=rejected)).features.key.slot == 1
    assert session.user.digest() == before


@pytest.mark.usefixtures("large")
def test_a_rejected_slot_of_a_user_that_sent_ahead_takes_no_step_and_the_next_one_does() -> None:
    session = regression()
    said(session, welcome((1,)))
    ones = torch.ones(2, 1, dtype=torch.float64)
    answers(session, outputs(ones))
    before = session.user.digest()
    rejected = pb.Rejected(code=pb.Rejected.NOT_FINITE, field="loss", next=ask(pb.Next.WAIT))
    assert answers(session, edge(rejected=rejected)) == []
    feedback, _ = answers(session, outputs(ones, slot=1))
    assert feedback.feedback.key.slot == 1
    assert session.user.digest() == before
    applied = pb.Acknowledgement(key=pb.Key(slot=1), next=ask(pb.Next.WAIT))
    assert answers(session, edge(acknowledgement=applied)) == []
    assert session.user.digest() != before


def test_an_applied_slot_takes_a_step() -> None:
    session = digits()
    said(session, welcome((5,)))
    said(session, outputs(torch.ones(3, 5)))
    before = session.user.digest()
    message = pb.EdgeMessage()
    message.acknowledgement.next.CopyFrom(ask(pb.Next.FEATURES, 1))
    pack(torch.ones(3, 2, 12, 12), message.acknowledgement.feature_gradient)
    said(session, message.SerializeToString())
    assert session.user.digest() != before


@pytest.mark.parametrize(
    ("data", "said_"),
    [
        (welcome((1,), protocol=9), "the edge speaks protocol 9, this user 3"),
        (welcome((2,)), r"user 'a': the edge's outputs are \[2\] per sample, the head expects \[1\]"),
        (edge(), "the edge sent a message of no known kind"),
        (welcome((1,), pb.Next()), "which is nothing known"),
    ],
)
def test_an_edge_that_makes_no_sense_is_an_error(data: bytes, said_: str) -> None:
    with pytest.raises(ProtocolError, match=said_):
        answers(regression(), data)


@pytest.mark.parametrize(
    ("values", "error", "reason"),
    [
        (torch.zeros(3, 1, dtype=torch.float64), BadTensor, r"shape is \[3, 1\], expected \[2, 1\]"),
        (torch.zeros(2, 1), BadTensor, "dtype is float32, expected float64"),
        (torch.full((2, 1), torch.nan, dtype=torch.float64), NotFinite, "nan at index"),
    ],
)
def test_outputs_that_do_not_fit_are_an_error(values: torch.Tensor, error: type[Exception], reason: str) -> None:
    session = regression()
    said(session, welcome((1,)))
    with pytest.raises(error, match=reason):
        answers(session, outputs(values))


def test_a_trainable_front_needs_its_gradient() -> None:
    session = digits()
    said(session, welcome((5,)))
    said(session, outputs(torch.ones(3, 5)))
    with pytest.raises(ProtocolError, match="acknowledged without the gradient that a trainable front needs"):
        answers(session, edge(acknowledgement=pb.Acknowledgement(next=ask(pb.Next.FEATURES, 1))))


ZEROS = torch.zeros(2, 1, dtype=torch.float64)
ACKNOWLEDGED = edge(acknowledgement=pb.Acknowledgement(next=ask(pb.Next.WAIT)))


@pytest.mark.parametrize(
    ("before", "data", "reason"),
    [
        ([], b"\xff\xff", "sent 2 bytes that are no EdgeMessage"),
        ([], edge(goodbye=pb.Goodbye()), "goodbye before this user's Leave"),
        ([], outputs(ZEROS), "sent outputs of round 0, slot 0, which are not due"),
        ([welcome((1,))], outputs(ZEROS, slot=1), "sent outputs of round 0, slot 1, which are not due"),
        ([welcome((1,))], ACKNOWLEDGED, "acknowledged round 0, slot 0, which is not due"),
        ([welcome((1,)), outputs(ZEROS), ACKNOWLEDGED], ACKNOWLEDGED, "which is not due"),
        ([], welcome((1,), ask(pb.Next.FEATURES, 6)), "round 0, slot 6 of a run of 4 rounds of 6 slots"),
        ([], welcome((1,), ask(pb.Next.VALIDATION, 6)), "asks for the validation of round 0, slot 6"),
    ],
)
def test_what_is_not_due_is_an_error_and_changes_nothing(before: list[bytes], data: bytes, reason: str) -> None:
    session = regression()
    for one in before:
        answers(session, one)
    digest = session.user.digest()
    with pytest.raises(ProtocolError, match=f"user 'a': the edge .*{reason}"):
        answers(session, data)
    assert session.user.digest() == digest


def test_what_a_user_keeps_to_say_again_does_not_grow_with_slots_in_which_it_is_rejected() -> None:
    session = regression()
    said(session, welcome((1,)))
    for i in range(1, 6):
        said(session, edge(rejected=pb.Rejected(key=pb.Key(round=0, slot=i - 1), next=ask(pb.Next.FEATURES, i))))
    again = edge(resumed=pb.Resumed(taken=5, before=session.heard))
    assert said(session, again).features.key == pb.Key(round=0, slot=5)
    with pytest.raises(ProtocolError, match="has taken in 4 messages of 6; the last 1 can be said again"):
        answers(session, edge(resumed=pb.Resumed(taken=4, before=session.heard)))
