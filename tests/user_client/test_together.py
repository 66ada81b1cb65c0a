"""Users of a host who answer together say what each says alone, bit for bit; and who fails is named."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import place, user_config

import user_client.together
from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.tensors import BadTensor, pack
from user_client.losses import squared_together
from user_client.session import ProtocolError, Session
from user_client.together import Message, Turn, UserFailed, react_together
from user_client.user import User

SLOTS = 4


def session(name: str, batch: int = 2, head: str = "identity") -> Session:
    task = {"kind": "kernel_regression", "batch": batch}
    shape = (1,) if head == "identity" else (3,)
    user = User(user_config(task, {"kind": head}, "none"), place(name=name, seed=len(name)), shape)
    return Session(user, name, "r", shape)


def welcome(shape: tuple[int, ...] = (1,)) -> bytes:
    said = pb.Welcome(protocol=PROTOCOL, rounds=3, slots=SLOTS, output_shape=shape)
    said.next.ask = pb.Next.FEATURES
    return pb.EdgeMessage(welcome=said).SerializeToString()


def outputs(i: int, values: torch.Tensor, closed: bool = False) -> bytes:
    message = pb.EdgeMessage()
    if closed:
        message.acknowledgement.key.slot = i - 1
        message.acknowledgement.next.ask = pb.Next.WAIT
    said = message.following if closed else message.outputs
    said.key.slot = i
    pack(values, said.outputs)
    return message.SerializeToString()


def crew(*make: Callable[[], Session]) -> tuple[list[Session], list[Session]]:
    """The same sessions twice, welcomed."""
    both = [one() for one in make], [one() for one in make]
    for sessions in both:
        for one in sessions:
            list(one.react(welcome(one.outputs.shape[1:])))
    return both


MIXED = (
    lambda: session("a"), lambda: session("bb"), lambda: session("ccc", batch=5), lambda: session("dddd"),
    lambda: session("eeeee", head="linear"), lambda: session("ffffff", batch=5),
)  # fmt: skip


def test_who_may_answer_together() -> None:
    assert session("a").together
    assert not session("a", head="linear").together


def test_together_they_say_what_each_says_alone() -> None:
    together, alone = crew(*MIXED)
    rng = torch.Generator().manual_seed(3)
    for i in range(SLOTS):
        said = [outputs(i, torch.randn(one.outputs.shape, dtype=torch.float64, generator=rng), i > 0) for one in alone]
        given = react_together([Message(one, data) for one, data in zip(together, said, strict=True)])
        assert given == [[*one.react(data)] for one, data in zip(alone, said, strict=True)]
    assert [one.user.digest() for one in together] == [one.user.digest() for one in alone]


@settings(deadline=None, max_examples=200)
@given(n=st.integers(1, 70), batch=st.integers(1, 300), seed=st.integers(0, 2**32 - 1), double=st.booleans())
def test_losses_and_slopes_have_the_bits_that_they_have_alone(n: int, batch: int, seed: int, double: bool) -> None:
    dtype = torch.float64 if double else torch.float32
    rng = torch.Generator().manual_seed(seed)
    predictions = torch.randn(n, batch, 1, dtype=dtype, generator=rng)
    labels = torch.randn(n, batch, dtype=dtype, generator=rng)
    found = squared_together(predictions, labels)
    for k in (0, n // 2, n - 1):
        (alone,) = squared_together(predictions[k : k + 1].clone(), labels[k : k + 1].clone())
        assert found[k].loss == alone.loss
        assert torch.equal(found[k].gradient, alone.gradient)
        error = (predictions[k, :, 0] - labels[k]).double().numpy()
        np.testing.assert_allclose(alone.loss, np.mean(error**2), rtol=1e-12 if double else 1e-5)
        np.testing.assert_allclose(alone.gradient[:, 0], 2 * error / batch, rtol=1e-12 if double else 1e-5)


def test_a_user_whose_outputs_are_bad_is_named() -> None:
    together, _ = crew(*MIXED[:4])
    good = torch.zeros(2, 1, dtype=torch.float64)
    said = [outputs(0, good), outputs(0, good * torch.nan), outputs(0, torch.zeros(5, 1, dtype=torch.float64))]
    with pytest.raises(UserFailed, match="bb") as caught:
        react_together([Message(one, data) for one, data in zip(together, said, strict=False)])
    assert isinstance(caught.value.__cause__, BadTensor)


def test_a_user_that_cannot_follow_is_named() -> None:
    together, _ = crew(*MIXED[:2])
    with pytest.raises(UserFailed, match="bb") as caught:
        react_together(
            [Message(together[0], outputs(0, torch.zeros(2, 1, dtype=torch.float64))), Message(together[1], b"")]
        )
    assert isinstance(caught.value.__cause__, ProtocolError)


def test_what_comes_in_one_turn_is_answered_in_it_and_a_failure_reaches_its_own_user() -> None:
    together, alone = crew(*MIXED[:4])
    good = outputs(0, torch.zeros(2, 1, dtype=torch.float64))

    async def go() -> None:
        turn = Turn()
        first, second = await asyncio.gather(*(turn.answers(one, good) for one in together[:2]))
        assert [first, second] == [[*one.react(good)] for one in alone[:2]]
        waiting = [
            asyncio.create_task(turn.answers(one, data)) for one, data in ((together[2], b""), (together[3], good))
        ]
        with pytest.raises(ProtocolError, match="'ccc'"):
            await waiting[0]
        waiting[1].cancel()

    asyncio.run(go())


def test_a_user_whose_own_code_fails_is_named_and_the_others_are_not() -> None:
    together, _ = crew(MIXED[2], MIXED[5])
    together[1].user.labels = torch.zeros(3, dtype=torch.float64)
    good = outputs(0, torch.zeros(5, 1, dtype=torch.float64))
    with pytest.raises(UserFailed, match="ffffff") as caught:
        react_together([Message(one, good) for one in together])
    assert "size" in str(caught.value.__cause__)


def test_batches_that_torch_would_share_out_among_threads_are_answered_alone() -> None:
    assert session("a", batch=32_767).together
    assert not session("a", batch=32_768).together


def test_a_failure_that_is_nobodys_reaches_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("not a user's")

    together, _ = crew(*MIXED[:2])
    good = outputs(0, torch.zeros(2, 1, dtype=torch.float64))
    monkeypatch.setattr(user_client.together, "feedback_together", broken)

    async def go() -> list[list[bytes] | BaseException]:
        turn = Turn()
        return await asyncio.gather(*(turn.answers(one, good) for one in together), return_exceptions=True)

    assert [str(one) for one in asyncio.run(go())] == ["not a user's"] * 2
