"""A user whose process died, and began anew: when it is let in, what it hears, and where nobody is."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import torch
from test_coming_back import Kept, filled, joined

from edge_server.absence import Absence, Log, Return
from edge_server.attendance import OutOfOrder, Refused
from edge_server.cell import Cell
from edge_server.judge import Forgotten
from edge_server.plan import RunPlan, UserPlan
from protos import edge_pb2 as pb

Body = Callable[[Cell, Kept, Kept], Coroutine[None, None, None]]
ONE = torch.ones(1, 1, dtype=torch.float64)


def features(slot: int) -> bytes:
    return filled(pb.UserMessage(features=pb.Features(key=pb.Key(slot=slot))))


def feedback(slot: int) -> bytes:
    return filled(pb.UserMessage(feedback=pb.Feedback(key=pb.Key(slot=slot), loss=1.0)))


def anew(cell: Cell, process: int = 1, **more: Any) -> Kept:
    """The line of another process of b's, which was told to come."""
    cell.takes_anew("b", process)
    return joined(cell, "b", process=process, **more)


def kinds(line: Kept) -> list[str | None]:
    return [message.WhichOneof("kind") for message in line.said]


def in_a_cell(body: Body, policy: str = "drop", least: int = 1) -> Cell:
    """With users a and b, who may be gone."""
    users = [UserPlan(name, 4.0, torch.float64, (1,), (1,), 1, 0, trainable_front=False) for name in "ab"]
    absence = Absence(policy, None, least)  # type: ignore[arg-type]
    cell = Cell(RunPlan("r", 2, 2, tuple(users), 5.0, absence=absence), lambda event: None, lambda: False)

    async def go() -> None:
        await body(cell, joined(cell, "a"), joined(cell, "b"))

    asyncio.run(go())
    return cell


async def slot_of_a(cell: Cell, slot: int) -> None:
    """In which b is not heard."""
    cell.receive(0, features(slot))
    given = await cell.features(0, slot)
    answered = asyncio.create_task(cell.feedback(0, slot, [ONE, None if given[1] is None else ONE]))
    await asyncio.sleep(0)
    cell.receive(0, feedback(slot))
    await answered
    cell.acknowledge(0, slot)


def test_it_is_let_in_before_the_next_slot_and_asked_for_it() -> None:
    async def body(cell: Cell, _a: Kept, b: Kept) -> None:
        cell.receive(1, features(0))
        cell.receive(0, features(0))
        await cell.features(0, 0)
        cell.lose(1, "it died", b)
        comes = anew(cell)
        assert comes.said == [], "the slot that goes on is over first"
        with pytest.raises(OutOfOrder, match="user 'b' speaks before it is let in"):
            cell.receive(1, features(0))
        answered = asyncio.create_task(cell.feedback(0, 0, [ONE, ONE]))
        await asyncio.sleep(0)
        cell.receive(0, feedback(0))
        await answered
        cell.acknowledge(0, 0)
        assert kinds(comes) == []
        assert kinds(b)[-1:] == ["welcome"], "its old process hears nothing more"
        await slot_of_a(cell, 1)
        assert kinds(comes) == ["welcome"]
        assert comes.said[0].welcome.next.ask == pb.Next.WAIT
        cell.end_round(0)
        assert comes.said[1].round_end.next.ask == pb.Next.FEATURES
        cell.receive(1, filled(pb.UserMessage(features=pb.Features(key=pb.Key(round=1)))))

    assert in_a_cell(body).door.take() == (Return((0, 2), 1, (0, 0)),)


def test_where_too_few_are_there_it_is_asked_at_once() -> None:
    async def body(cell: Cell, _a: Kept, b: Kept) -> None:
        cell.receive(0, features(0))
        cell.lose(1, "it died", b)
        comes = anew(cell)
        assert kinds(comes) == ["welcome", "asked"]
        cell.receive(1, features(0))
        assert [x is None for x in await cell.features(0, 0)] == [False, False]

    assert in_a_cell(body, least=2).door.take() == (Return((0, 0), 1, (0, 0)),)


def test_a_slot_that_waits_for_what_it_has_forgotten_fails() -> None:
    async def body(cell: Cell, _a: Kept, b: Kept) -> None:
        cell.receive(0, features(0))
        cell.receive(1, features(0))
        await cell.features(0, 0)
        answered = asyncio.create_task(cell.feedback(0, 0, [ONE, ONE]))
        await asyncio.sleep(0)
        cell.lose(1, "it died", b)
        assert not cell.takes_anew("b", 1)
        with pytest.raises(Forgotten, match="user 'b' came back as a new process"):
            await answered

    in_a_cell(body, least=2)


def test_one_at_the_door_is_no_hope_for_a_slot_that_comes_to_wait_for_it() -> None:
    async def body(cell: Cell, _a: Kept, b: Kept) -> None:
        cell.receive(0, features(0))
        cell.receive(1, features(0))
        await cell.features(0, 0)
        cell.lose(1, "it died", b)
        assert kinds(anew(cell)) == []
        with pytest.raises(Forgotten, match="user 'b' came back as a new process"):
            await cell.feedback(0, 0, [ONE, ONE])

    in_a_cell(body, least=2)


def test_where_users_are_waited_for_the_run_fails_to_be_taken_back() -> None:
    async def body(cell: Cell, _a: Kept, b: Kept) -> None:
        cell.lose(1, "it died", b)
        assert not cell.takes_anew("b", 1)
        with pytest.raises(Forgotten):
            await cell.features(0, 0)

    in_a_cell(body, policy="wait")


def test_a_later_process_takes_the_place_of_one_at_the_door_and_of_one_that_is_there() -> None:
    async def body(cell: Cell, _a: Kept, b: Kept) -> None:
        cell.receive(0, features(0))
        cell.receive(1, features(0))
        await cell.features(0, 0)
        second = anew(cell)
        assert str(b.ended) == "stale epoch: incarnation 0 of user 'b', the edge knows 0 of process 1"
        third = anew(cell, 2)
        assert str(second.ended) == "stale epoch: incarnation 0 of process 1 of user 'b', the edge knows 0 of process 2"
        for process in (0, 1):
            with pytest.raises(
                Refused, match=r"stale epoch: incarnation 7.* of user 'b', the edge knows 0 of process 2"
            ):
                joined(cell, "b", process=process, incarnation=7)
        cell.lose(1, "it died, too", third)
        again = joined(cell, "b", process=2, incarnation=1)
        await slot_of_a_behind(cell)
        assert (kinds(third), kinds(again)) == ([], ["welcome"])

    in_a_cell(body)


async def slot_of_a_behind(cell: Cell) -> None:
    """The end of the slot whose features are there, and one more."""
    answered = asyncio.create_task(cell.feedback(0, 0, [ONE, ONE]))
    await asyncio.sleep(0)
    cell.receive(0, feedback(0))
    await answered
    cell.acknowledge(0, 0)
    await slot_of_a(cell, 1)


@pytest.mark.parametrize(
    ("more", "said"),
    [({"heard": 3}, "begins anew, but has heard 3 messages"), ({"ahead": 1}, "another sends_ahead")],
)
def test_who_is_not_what_it_says_is_refused(more: dict[str, int], said: str) -> None:
    async def body(cell: Cell, _a: Kept, b: Kept) -> None:
        cell.lose(1, "it died", b)
        with pytest.raises(Refused, match=said):
            anew(cell, **{"sends_ahead" if k == "ahead" else k: v for k, v in more.items()})

    in_a_cell(body)


def test_who_was_not_told_to_come_is_refused_and_harms_nobody() -> None:
    async def body(cell: Cell, _a: Kept, _b: Kept) -> None:
        with pytest.raises(Refused, match="user 'b' begins anew, but was not told to"):
            joined(cell, "b", process=9)
        cell.receive(0, features(0))
        cell.receive(1, features(0))
        assert [x is None for x in await cell.features(0, 0)] == [False, False]

    for policy in ("drop", "wait"):
        in_a_cell(body, policy=policy)


def test_who_begins_with_what_is_to_come_is_refused() -> None:
    async def body(cell: Cell, _a: Kept, b: Kept) -> None:
        cell.lose(1, "it died", b)
        with pytest.raises(Refused, match="begins with its state of a slot that is to come"):
            anew(cell, begins=pb.Key(round=1))

    in_a_cell(body)


def test_who_comes_at_the_end_is_told_so() -> None:
    async def body(cell: Cell, _a: Kept, b: Kept) -> None:
        cell.receive(0, features(0))
        cell.receive(1, features(0))
        await cell.features(0, 0)
        cell.lose(1, "it died", b)
        waits = anew(cell)
        answered = asyncio.create_task(cell.feedback(0, 0, [ONE, ONE]))
        await asyncio.sleep(0)
        cell.receive(0, feedback(0))
        await answered
        cell.end_round(0, stop=True)
        cell.receive(0, pb.UserMessage(leave=pb.Leave(parameters_sha256=bytes(32))).SerializeToString())
        await cell.farewell()
        assert str(waits.ended) == "the run ended before this process could take part in a slot"
        with pytest.raises(Refused, match="the run ended before this process could take part"):
            anew(cell, 2)

    in_a_cell(body)


def test_who_began_anew_twice_before_a_slot_goes_back_as_the_first_time() -> None:
    """The second process began with what the first one kept there."""
    returns = [
        Return((2, 0), 0, (1, 1)),
        Return((2, 0), 0, (2, 0)),
        Return((2, 0), 1, (2, 0)),
        Return((3, 0), 0, (2, 1)),
    ]
    log = Log(4, (), tuple(returns))
    assert log.back_to((2, 0)) == {0: (1, 1), 1: (2, 0)}
    assert log.back_to((3, 0)) == {0: (2, 1)}
    assert log.back_to((2, 1)) == {}
