"""A user's side of the conversation, without an edge: every message has one answer, and nonsense is an error."""

import pytest
import torch
from places import place, user_config

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


def said(answer: bytes | None) -> pb.UserMessage:
    assert answer is not None
    return pb.UserMessage.FromString(answer)


def test_join_states_the_sizes() -> None:
    join = said(digits().join()).join
    assert join == pb.Join(
        protocol=PROTOCOL, run="r", user="a", dtype=pb.FLOAT32, feature_shape=[2, 12, 12], batch=3, validation_batch=4,
        wants_feature_gradient=True,
    )  # fmt: skip


def test_a_slot_is_features_feedback_and_the_next_features() -> None:
    session = regression()
    first = said(session.react(welcome((1,)))).features
    assert first.key == pb.Key(round=0, slot=0)
    assert unpack(first.features, Spec(torch.float64, (2, 4))).shape == (2, 4)
    feedback = said(session.react(outputs(torch.zeros(2, 1, dtype=torch.float64)))).feedback
    assert feedback.key == first.key
    assert feedback.loss > 0
    assert unpack(feedback.gradient, Spec(torch.float64, (2, 1))).shape == (2, 1)
    done = edge(acknowledgement=pb.Acknowledgement(key=first.key, next=ask(pb.Next.FEATURES, 1)))
    assert said(session.react(done)).features.key == pb.Key(round=0, slot=1)


def test_validation_is_answered_by_a_report() -> None:
    session = digits()
    asked = said(session.react(welcome((5,), ask(pb.Next.VALIDATION, 6)))).features
    assert asked.features.shape[0] == 4
    report = said(session.react(outputs(torch.zeros(4, 5), slot=6))).report
    assert report.key == pb.Key(round=0, slot=6)
    assert report.loss > 0
    assert 0 <= report.accuracy <= 1


def test_waiting_says_nothing_and_leaving_gives_the_hash() -> None:
    session = regression()
    assert session.react(welcome((1,), ask(pb.Next.WAIT))) is None
    leave = said(session.react(edge(round_end=pb.RoundEnd(round=0, next=ask(pb.Next.LEAVE))))).leave
    assert leave.parameters_sha256 == session._user.digest()
    assert len(leave.parameters_sha256) == 32
    assert not session.done
    assert session.react(edge(goodbye=pb.Goodbye())) is None
    assert session.done


def test_a_rejected_slot_takes_no_step_and_goes_on() -> None:
    session = digits()
    session.react(welcome((5,)))
    session.react(outputs(torch.ones(3, 5)))
    before = session._user.digest()
    rejected = pb.Rejected(code=pb.Rejected.NOT_FINITE, field="loss", next=ask(pb.Next.FEATURES, 1))
    assert said(session.react(edge(rejected=rejected))).features.key.slot == 1
    assert session._user.digest() == before


def test_an_applied_slot_takes_a_step() -> None:
    session = digits()
    session.react(welcome((5,)))
    session.react(outputs(torch.ones(3, 5)))
    before = session._user.digest()
    message = pb.EdgeMessage()
    message.acknowledgement.next.CopyFrom(ask(pb.Next.FEATURES, 1))
    pack(torch.ones(3, 2, 12, 12), message.acknowledgement.feature_gradient)
    session.react(message.SerializeToString())
    assert session._user.digest() != before


@pytest.mark.parametrize(
    ("data", "said_"),
    [
        (welcome((1,), protocol=9), "the edge speaks protocol 9, this user 1"),
        (welcome((2,)), r"user 'a': the edge's outputs are \[2\] per sample, the head expects \[1\]"),
        (edge(), "the edge sent a message of no known kind"),
        (welcome((1,), pb.Next()), "which is nothing known"),
    ],
)
def test_an_edge_that_makes_no_sense_is_an_error(data: bytes, said_: str) -> None:
    with pytest.raises(ProtocolError, match=said_):
        regression().react(data)


@pytest.mark.parametrize(
    ("values", "error", "reason"),
    [
        (torch.zeros(3, 1, dtype=torch.float64), BadTensor, r"shape is \[3, 1\], expected \[2, 1\]"),
        (torch.zeros(2, 1), BadTensor, "dtype is torch.float32, expected torch.float64"),
        (torch.full((2, 1), torch.nan, dtype=torch.float64), NotFinite, "nan at index"),
    ],
)
def test_outputs_that_do_not_fit_are_an_error(values: torch.Tensor, error: type[Exception], reason: str) -> None:
    session = regression()
    session.react(welcome((1,)))
    with pytest.raises(error, match=reason):
        session.react(outputs(values))


def test_a_trainable_front_needs_its_gradient() -> None:
    session = digits()
    session.react(welcome((5,)))
    session.react(outputs(torch.ones(3, 5)))
    with pytest.raises(ValueError, match="feature gradient: a trainable front needs"):
        session.react(edge(acknowledgement=pb.Acknowledgement(next=ask(pb.Next.FEATURES, 1))))
