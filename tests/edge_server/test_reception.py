"""Who may come to a run, and what they are told: real sockets on both sides, and the rules by themselves."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from edge_server.absence import Absence
from edge_server.attendance import Refused
from edge_server.credentials import OPEN, ByCertificate, ByToken, Guard
from edge_server.listening import Limits, PortTaken, listening
from edge_server.plan import RunPlan, Sizes, UserPlan
from edge_server.reception import LARGEST, Place, Reception
from edge_server.reception_service import Beside, NobodyCame, WaitingRoom
from protos import LARGEST_INTRODUCTION, MOST_GUESTS, PROTOCOL
from protos import edge_pb2 as edge
from protos import reception_pb2 as pb
from sim.certificates import Authority
from user_client import reception as users
from user_client.credentials import NOTHING, Certificate, Credentials, Token
from user_client.reception import NotThere, TurnedAway

SCENARIO = {"seed": "3", "rounds": "7", "edge.primal": "#abc"}
RUN = "tiny-1"
FIRST: Place = (4, 2)


def guest(name: str = "a", **changes: Any) -> pb.Guest:
    said = {"user": name, "dtype": edge.FLOAT64, "feature_shape": [3], "batch": 2, "validation_batch": 0}
    return pb.Guest(**{**said, **changes})


def said(*names: str, **changes: Any) -> pb.Introduction:
    content: dict[str, Any] = {"protocol": PROTOCOL, "scenario": SCENARIO, "guests": [guest(name) for name in names]}
    return pb.Introduction(**{**content, "keeps": True, "process": "one", **changes})


def keys(*places: Place) -> list[edge.Key]:
    return [edge.Key(round=round_, slot=slot) for round_, slot in places]


def test_all_are_there_in_scenario_order_whoever_came_first() -> None:
    reception = Reception(["a", "b", "c"], SCENARIO)
    assert reception.waits_for == "'a', 'b', 'c'"
    others = said("c", "a", keeps=False)
    reception.enter(others)
    reception.enter(said("b", guests=[guest("b", batch=5)]))
    assert (reception.complete, reception.waits_for) == (True, "")
    assert reception.sizes[1] == Sizes(torch.float64, (3,), 5, 0)
    assert reception.forgetful == ["a", "c"]
    reception.enter(said("a", "c"))
    reception.leave(others)
    assert (reception.complete, reception.forgetful) == (True, []), "the same process had come again"
    reception.leave(reception.here["a"].said)
    assert (reception.waits_for, reception.forgetful) == ("'a', 'c'", [])


@pytest.mark.parametrize(
    ("introduction", "code", "why"),
    [
        (said("a", protocol=99), "FAILED_PRECONDITION", f"protocol 99, but this edge speaks {PROTOCOL}"),
        (said("a", scenario={**SCENARIO, "seed": "4"}), "FAILED_PRECONDITION", "seed (3 at the edge, 4 here)"),
        (said("a", scenario={**SCENARIO, "edge.primal": "#def"}), "FAILED_PRECONDITION", "the scenarios differ: edge"),
        (said("a", scenario={}), "FAILED_PRECONDITION", "the scenarios differ: edge.primal, rounds, seed"),
        (said("stranger"), "NOT_FOUND", "no user 'stranger' in this scenario"),
        (said(), "INVALID_ARGUMENT", "0 users"),
        (said("a", "a"), "INVALID_ARGUMENT", "2 users, each of another name"),
        (said("here", process="two"), "ALREADY_EXISTS", "user 'here' has joined already"),
        (said("a", process=""), "INVALID_ARGUMENT", "names its process"),
        (said("a", run="other-1"), "FAILED_PRECONDITION", "state of run other-1, but this run is a new one"),
        (said(guests=[guest(dtype=edge.INT8)]), "INVALID_ARGUMENT", "dtype 5"),
        (said(guests=[guest(batch=0)]), "INVALID_ARGUMENT", "batch 0"),
        (said(guests=[guest(feature_shape=[])]), "INVALID_ARGUMENT", "feature_shape []"),
        (said(guests=[guest(feature_shape=[3, 0])]), "INVALID_ARGUMENT", "feature_shape [3, 0]"),
        (said(guests=[guest(feature_shape=[1] * 9)]), "INVALID_ARGUMENT", "axes 1 to 8"),
        (said(guests=[guest(feature_shape=[2**31] * 8)]), "INVALID_ARGUMENT", f"limit {LARGEST:,}"),
        (said(guests=[guest(validation_batch=2**30)]), "INVALID_ARGUMENT", f"limit {LARGEST:,}"),
    ],
)
def test_who_is_refused_is_told_why_and_takes_no_place(introduction: pb.Introduction, code: str, why: str) -> None:
    reception = Reception(["a", "b", "here"], SCENARIO)
    reception.enter(said("here"))
    with pytest.raises(Refused) as refused:
        reception.enter(introduction)
    assert refused.value.code == code
    assert why in str(refused.value)
    reception.enter(said("a", "b"))
    assert reception.complete


def test_a_run_goes_on_where_edge_and_all_users_can() -> None:
    reception = Reception(["a", "b"], SCENARIO, RUN, [(8, 0), (5, 2), (5, 0)])
    for run in ("", "other-2"):
        with pytest.raises(Refused, match=f"run {RUN} goes on"):
            reception.enter(said("a", run=run))
    reception.enter(said("a", run=RUN, places=keys((9, 0), (8, 0), (5, 2))))
    reception.enter(said("b", run=RUN, places=keys((8, 1), (5, 2), (5, 0))))
    assert reception.first == (5, 2)
    nothing = Reception(["a"], SCENARIO, RUN, [(8, 0)])
    nothing.enter(said("a", run=RUN, places=keys((9, 0))))
    assert nothing.first == (0, 0)
    Reception(["a"], SCENARIO, RUN).enter(said("a"))


def test_the_largest_introduction_is_within_every_limit() -> None:
    largest = {"feature_shape": [2**31] * 8, "batch": 2**31, "validation_batch": 2**31}
    names = [f"{k:02d}" + 62 * "x" for k in range(MOST_GUESTS)]
    scenario = {f"{k:02d}.{25 * 'k'}": 64 * "v" for k in range(30)}
    found = said(scenario=scenario, guests=[guest(name, **largest) for name in names], run=90 * "r")
    found.places.extend(keys(*3 * [(2**31, 2**31)]))
    found.process = 16 * "p"
    assert pb.FromUsers(introduction=found).ByteSize() <= LARGEST_INTRODUCTION


# ------------------------------------------------------------ on sockets


def plan() -> RunPlan:
    sizes: Any = {"l_max": 4.0, "dtype": torch.float64, "feature_shape": (3,), "output_shape": (2, 1), "batch": 2}
    people = tuple(UserPlan(name=name, validation_batch=0, trainable_front=False, **sizes) for name in "ab")
    return RunPlan(RUN, rounds=7, slots=3, users=people, patience=5.0, first=FIRST[0], first_slot=FIRST[1])


def in_a_room(body: Callable[[str, WaitingRoom], Awaitable[None]], guard: Guard = OPEN) -> Reception:
    reception = Reception(["a", "b"], SCENARIO, RUN, [FIRST])

    async def go() -> None:
        room = WaitingRoom(reception, guard, 5.0)
        address = await room.open("127.0.0.1", 0)
        async with asyncio.timeout(20):
            try:
                await body(address, room)
            finally:
                await room.close()

    asyncio.run(go())
    return reception


async def come(
    address: str,
    *names: str,
    wait: float = 5.0,
    shown: Credentials = NOTHING,
    on_wait: Callable[[str], None] = lambda _whom: None,
    **more: Any,
) -> users.Beside:
    introduction = said(*names, **{"run": RUN, "places": keys(FIRST), **more})
    return await users.introduce(address, shown, introduction, wait, on_wait)


def test_guests_wait_for_each_other_and_then_find_the_run() -> None:
    waited: list[str] = []

    async def body(address: str, room: WaitingRoom) -> None:
        first = asyncio.create_task(come(address, "a", on_wait=waited.append))
        while not waited:
            await asyncio.sleep(0.01)
        with pytest.raises(TurnedAway, match=f"the edge at {address} says ALREADY_EXISTS: user 'a' has joined already"):
            await come(address, "a", process="two")
        second = asyncio.create_task(come(address, "b"))
        await room.everybody(5)
        room.end()
        await room.close()
        await asyncio.sleep(0.3)
        assert not first.done()
        assert not second.done()
        async with beside_at(address) as beside:
            await both_keep(beside, await first, await second)

    in_a_room(body)
    assert waited == ["'b'"]


@asynccontextmanager
async def beside_at(address: str, policy: Any = "wait", news: list[str] | None = None) -> AsyncIterator[Beside]:
    """Beside a run that goes on there."""
    reception = Reception(["a", "b"], SCENARIO, RUN, [FIRST])
    attempt = replace(plan(), run=f"{RUN}.1", absence=Absence(policy))
    told: list[str] = [] if news is None else news

    def goes_on(user: str, _process: int) -> bool:
        told.append(user)
        return policy == "drop"

    beside = Beside(reception, OPEN, RUN, attempt, goes_on)
    host, _, port = address.rpartition(":")
    limits = Limits(LARGEST_INTRODUCTION, 4, 5.0)
    listener = await listening(beside.methods, OPEN, host, int(port), limits)
    try:
        yield beside
    finally:
        await listener.stop(1)


async def save(beside: Beside, at: Place) -> None:
    """Once the edge, too, knows that everybody is there: guests hear the terms a moment before."""
    async with asyncio.timeout(5):
        while why := await beside.keep(at):
            assert "cannot be reached now" in why
            await asyncio.sleep(0.01)


async def both_keep(beside: Beside, *guests: users.Beside) -> None:
    kept: list[Place] = []

    async def keep(at: edge.Key) -> str:
        kept.append((at.round, at.slot))
        return "the disk is full" if at.round == 6 else ""

    terms = pb.Terms(run=RUN, output_shape=[2, 1], first=edge.Key(round=4, slot=2), attempt=f"{RUN}.1")
    assert [guest.terms for guest in guests] == [terms] * 2
    keeping = [asyncio.create_task(guest.keep(keep)) for guest in guests]
    await save(beside, (5, 1))
    assert kept == [(5, 1)] * 2
    assert await beside.keep((6, 0)) == "the disk is full"
    await guests[0].close()
    await asyncio.wait(keeping[:1])
    assert "user 'a'" in await beside.keep((7, 0))
    beside.end("user 'b' was lost", again=False)
    assert await keeping[1] == ("failed", "user 'b' was lost")
    await guests[1].close()


async def nothing_to_keep(_at: edge.Key) -> str:
    return ""


def test_a_stream_that_broke_is_opened_again_and_another_process_takes_the_run_back() -> None:
    news: list[str] = []

    async def body(address: str, room: WaitingRoom) -> None:
        await room.close()
        async with beside_at(address, news=news) as beside:
            a, b = await come(address, "a"), await come(address, "b")
            cut = asyncio.create_task(a.keep(nothing_to_keep))
            again = await come(address, "a")
            assert (await cut).kind != "again"
            assert again.terms == a.terms, "the same process goes on"
            with pytest.raises(
                TurnedAway, match="ALREADY_EXISTS: user 'a' has joined already; if that process is gone"
            ):
                await come(address, "a", process="two")
            await again.close()
            with pytest.raises(
                TurnedAway, match=r"no state, but run tiny-1 goes on; join with the state that was kept"
            ):
                await come(address, "a", process="two", run="", places=[])
            assert not news
            returned = asyncio.create_task(come(address, "a", process="two"))
            while not news:
                await asyncio.sleep(0.01)
            beside.end("user 'a' came back as a new process", again=True)
            assert await b.keep(nothing_to_keep) == ("again", "")
            returned.cancel()

    in_a_room(body)
    assert news == ["a"]


def test_a_run_that_goes_on_without_a_user_lets_another_process_in_with_what_was_kept_last() -> None:
    news: list[str] = []

    async def body(address: str, room: WaitingRoom) -> None:
        await room.close()
        async with beside_at(address, "drop", news) as beside:
            first, b = await come(address, "a"), await come(address, "b")
            keeping = [asyncio.create_task(guest.keep(nothing_to_keep)) for guest in (first, b)]
            await save(beside, (5, 1))
            await first.close()
            await asyncio.wait(keeping[:1])
            with pytest.raises(TurnedAway, match="'a': no state before round 5, slot 1, where the run goes on"):
                await come(address, "a", process="two")
            second = await come(address, "a", process="two", places=keys(FIRST, (5, 1)))
            assert (second.terms.first, second.terms.process) == (edge.Key(round=5, slot=1), 1)
            again = await come(address, "a", process="two", places=[])
            assert again.terms == second.terms, "it knows how the run goes on"
            await again.close()
            await asyncio.sleep(0.1)
            with pytest.raises(TurnedAway, match="stale epoch: a later process of user 'a' has taken its place"):
                await come(address, "a", places=keys((5, 1)))
            third = await come(address, "a", process="three", places=keys((5, 1)))
            assert third.terms.process == 2
            keeping += [asyncio.create_task(third.keep(nothing_to_keep))]
            await save(beside, (6, 0))
            beside.end("", again=False)
            assert await keeping[-1] == ("over", "")

    in_a_room(body)
    assert news == ["a"] * 3


def test_where_a_lost_user_ends_the_run_no_other_process_may_come() -> None:
    async def body(address: str, room: WaitingRoom) -> None:
        await room.close()
        async with beside_at(address, "fail"):
            await (await come(address, "a")).close()
            await asyncio.sleep(0.1)
            with pytest.raises(TurnedAway, match="user 'a' was lost, and the run ends by it"):
                await come(address, "a", process="two")

    in_a_room(body)


def test_who_does_not_come_is_named_to_all() -> None:
    async def body(address: str, room: WaitingRoom) -> None:
        first = asyncio.create_task(come(address, "a"))
        with pytest.raises(NobodyCame, match=r"^no word from 'b' within 0\.5 s$") as nobody:
            await room.everybody(0.5)
        room.end(Refused("ABORTED", f"the run does not begin: {nobody.value}"))
        with pytest.raises(TurnedAway, match="says ABORTED: the run does not begin: no word from 'b' within"):
            await first

    in_a_room(body)


def test_who_leaves_before_the_run_can_come_again() -> None:
    async def body(address: str, room: WaitingRoom) -> None:
        first = asyncio.create_task(come(address, "a"))
        with pytest.raises(NobodyCame, match="'b'"):
            await room.everybody(0.5)
        first.cancel()
        await asyncio.wait([first])
        with pytest.raises(NobodyCame, match="'a', 'b'"):
            await room.everybody(0.5)
        coming = asyncio.create_task(come(address, "a", "b"))
        await room.everybody(5)
        coming.cancel()

    in_a_room(body)


def test_a_stranger_and_one_without_the_token_are_turned_away() -> None:
    async def body(address: str, _room: WaitingRoom) -> None:
        with pytest.raises(TurnedAway, match="UNAUTHENTICATED: no token, or not the right one"):
            await come(address, "a", shown=Token("wrong-wrong-wrong-wrong"))
        with pytest.raises(TurnedAway, match="NOT_FOUND: no user 'x'"):
            await come(address, "x", shown=Token("right-right-right-right"))

    assert in_a_room(body, ByToken("right-right-right-right")).waits_for == "'a', 'b'"


def test_certificates_say_for_whom_one_may_speak() -> None:
    ours, theirs = Authority.create(), Authority.create()
    guard = ByCertificate(ours.pair.chain, *ours.edge(["127.0.0.1"]))

    def of(authority: Authority, *names: str) -> Certificate:
        return Certificate(authority.pair.chain, *authority.speaker("someone", names))

    async def body(address: str, room: WaitingRoom) -> None:
        with pytest.raises(TurnedAway, match="PERMISSION_DENIED: the certificate of 'a' does not speak for user 'b'"):
            await come(address, "a", "b", shown=of(ours, "a"))
        started = time.monotonic()
        with pytest.raises(NotThere, match=r"^no TLS with .*; is `security` the same on both sides"):
            await come(address, "a", shown=of(theirs, "a"), wait=60)
        assert time.monotonic() - started < 5, "it is not tried for long"
        with pytest.raises(NotThere, match=r"within 0\.5 s: .* is `equiran serve` running there, with the same `sec"):
            await come(address, "a", wait=0.5)
        coming = asyncio.create_task(come(address, "a", "b", shown=of(ours, "b", "a")))
        await room.everybody(5)
        coming.cancel()

    in_a_room(body, guard)


@pytest.mark.parametrize("silent", [False, True], ids=["nobody listens", "somebody listens and says nothing"])
def test_an_edge_that_is_not_there_is_told_within_seconds(silent: bool) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:
            listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(NotThere, match=f"^no edge at {address} within 1 s: .*is `equiran serve` running there"):
            asyncio.run(come(address, "a", wait=1.0))
    assert time.monotonic() - started < 1 + 5


def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(NotThere, match=r"^no edge at no\.such\.host\.invalid:1 within 0\.2 s: "):
        asyncio.run(come("no.such.host.invalid:1", "a", wait=0.2))


def test_a_port_that_is_taken_is_told() -> None:
    async def body(address: str, _room: WaitingRoom) -> None:
        with pytest.raises(PortTaken, match=f"^cannot listen on {address}: the port is taken"):
            await WaitingRoom(Reception(["a"], SCENARIO), OPEN, 5.0).open("127.0.0.1", int(address.split(":")[1]))

    in_a_room(body)
