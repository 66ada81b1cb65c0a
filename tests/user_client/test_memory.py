"""A user that goes back to what it was before an earlier slot, where the run follows one in which a process died."""

import pytest
import torch
from places import place, user_config

from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.tensors import pack
from user_client.session import ProtocolError, Session
from user_client.user import User

TASK = {"kind": "rainbow", "digits": "bundled", "batch": 3, "validation": 4}


def welcomed(*remember: tuple[int, int], start: str = "carried") -> Session:
    """A user that sends nothing ahead, in its first slot."""
    head = {"kind": "linear", "start": start}
    session = Session(User(user_config(TASK, head), place(), (5,)), "a", "r", (5,), ahead=False)
    said = pb.Welcome(protocol=PROTOCOL, rounds=4, slots=3, output_shape=(5,), next=pb.Next(ask=pb.Next.FEATURES))
    said.remember.extend(pb.Key(round=t, slot=i) for t, i in remember)
    hear(session, pb.EdgeMessage(welcome=said))
    return session


def hear(session: Session, message: pb.EdgeMessage) -> None:
    list(session.react(message.SerializeToString()))


def following(t: int, i: int, back_to: tuple[int, int] | None = None) -> pb.Next:
    asked = pb.Next(ask=pb.Next.FEATURES, key=pb.Key(round=t, slot=i))
    if back_to:
        asked.back_to.CopyFrom(pb.Key(round=back_to[0], slot=back_to[1]))
    return asked


def slot(session: Session, t: int, i: int, following: pb.Next) -> bytes:
    """The user's part in it; its parameters afterwards."""
    message = pb.EdgeMessage(outputs=pb.Outputs(key=pb.Key(round=t, slot=i)))
    pack(torch.full((3, 5), 1.0 + i), message.outputs.outputs)
    hear(session, message)
    end = pb.Acknowledgement(key=pb.Key(round=t, slot=i), next=following)
    hear(session, pb.EdgeMessage(acknowledgement=end))
    return session.user.digest()


def test_it_is_what_it_was_and_goes_on_from_there() -> None:
    session = welcomed((0, 1))
    before = slot(session, 0, 0, following(0, 1))
    assert slot(session, 0, 1, following(0, 2)) != before
    assert slot(session, 0, 2, following(1, 0, back_to=(0, 1))) == before
    assert slot(session, 1, 0, following(1, 1, back_to=(0, 1))) == before, "as often as it is told"
    assert slot(session, 1, 1, following(1, 2)) != before


def test_what_is_kept_of_it_remembers_too() -> None:
    session = welcomed((0, 1))
    before = slot(session, 0, 0, following(0, 1))
    slot(session, 0, 1, following(0, 2))
    again = welcomed()
    again.restore(session.state())
    said = pb.Welcome(protocol=PROTOCOL, rounds=4, slots=3, output_shape=(5,), next=following(0, 2, back_to=(0, 1)))
    said.remember.append(pb.Key(round=0, slot=1))
    hear(again, pb.EdgeMessage(welcome=said))
    assert again.user.digest() == before
    assert session.user.digest() != before


def test_where_no_step_was_taken_since_it_stays_what_it_is() -> None:
    session = welcomed((0, 1))
    before = slot(session, 0, 0, following(0, 1))
    hear(session, pb.EdgeMessage(asked=following(0, 2, back_to=(0, 1))))
    assert session.user.digest() == before


def test_a_head_that_is_fresh_in_every_round_is_so_behind_a_step_back() -> None:
    """As that of a process that begins anew in this round, with a state of the one before."""
    session = welcomed((0, 0), start="fresh")
    first = session.user.digest()
    for i in range(2):
        slot(session, 0, i, following(0, i + 1))
    hear(session, pb.EdgeMessage(rejected=pb.Rejected(key=pb.Key(slot=2), next=following(1, 0, back_to=(0, 0)))))
    assert session.user.digest() == first
    alone = welcomed(start="fresh")
    assert slot(session, 1, 0, following(1, 1)) == slot(alone_in(alone, 1), 1, 0, following(1, 1))


def alone_in(session: Session, t: int) -> Session:
    """Asked for the first slot of a later round."""
    hear(session, pb.EdgeMessage(asked=following(t, 0)))
    return session


def test_what_a_fresh_head_had_learned_before_is_there_again() -> None:
    """Where it takes part no more: a process that begins anew has it, too."""
    session = welcomed((1, 0), start="fresh")
    learned = slot(session, 0, 0, pb.Next(ask=pb.Next.WAIT))
    hear(session, pb.EdgeMessage(asked=following(1, 0)))
    assert session.user.digest() != learned, "fresh again"
    slot(session, 1, 0, following(1, 1))
    hear(session, pb.EdgeMessage(asked=pb.Next(ask=pb.Next.WAIT, back_to=pb.Key(round=1))))
    assert session.user.digest() == learned


def test_a_state_that_was_never_named_is_an_error_and_changes_nothing() -> None:
    session = welcomed((0, 1))
    before = slot(session, 0, 0, following(0, 1))
    with pytest.raises(ProtocolError, match="wants back the state before round 0, slot 2, which it never named"):
        slot(session, 0, 1, following(0, 2, back_to=(0, 2)))
    assert session.user.digest() == before
