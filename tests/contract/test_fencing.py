"""A user that was thought dead and comes to itself: its successor has taken its place, and it may not speak again."""

import asyncio
from typing import Any

import grpc
import pytest

import runs
from edge_server.cell import Cell
from edge_server.service import serve
from protos import LIVE
from protos import edge_pb2 as pb
from sim.blueprint import Blueprint
from sim.build import build_session
from sim.planning import blueprint

Talk = Any


async def welcomed(channel: grpc.aio.Channel, design: Blueprint, k: int, incarnation: int) -> Talk:
    """A stream on which this incarnation of user k has joined. Raises AioRpcError where it may not."""
    call: Any = channel.stream_stream(LIVE)()
    message = pb.UserMessage.FromString(build_session(design, k).join())
    message.join.incarnation = incarnation
    await call.write(message.SerializeToString())
    assert pb.EdgeMessage.FromString(await call.read()).HasField("welcome")
    return call


def said(caught: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> tuple[str, str]:
    return caught.value.code().name, caught.value.details() or ""


async def fenced(design: Blueprint, cell: Cell, address: str) -> None:
    stale = ("FAILED_PRECONDITION", "stale epoch: incarnation 0 of user 'user_00', the edge knows 1")
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(20):
        zombie = await welcomed(channel, design, 0, 0)
        successor = await welcomed(channel, design, 0, 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await zombie.read()
        assert said(caught) == stale
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await welcomed(channel, design, 0, 0)
        assert said(caught) == stale
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await welcomed(channel, design, 0, 1)
        assert said(caught) == ("ALREADY_EXISTS", "user 'user_00' has joined already")
        await welcomed(channel, design, 1, 0)
        assert not successor.done()
        cell.check()


def test_the_past_of_a_user_is_fenced_and_a_healthy_one_is_served_right_after(tmp_path) -> None:
    design = blueprint(runs.loaded(tmp_path, runs.kernel(many=2)).scenario, "r")
    events: list[dict[str, Any]] = []

    async def go() -> None:
        cell = Cell(design.plan, events.append, lambda: False)
        server = await serve(cell, "127.0.0.1")
        try:
            await fenced(design, cell, server.address)
        finally:
            await server.stop()

    asyncio.run(go())
    before_the_end = [(event["event"], event["user"]) for event in events][:4]
    of_the_first = [("join", "user_00"), ("lost", "user_00"), ("returned", "user_00")]
    assert before_the_end == [*of_the_first, ("join", "user_01")]
