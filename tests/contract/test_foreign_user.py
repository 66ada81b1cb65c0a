"""docs/protocol.md is enough to write a user: this one shares nothing with ours but the generated messages."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import runs
from edge_server.cell import Cell
from edge_server.compute import OneThread
from edge_server.record import RoundRecord
from edge_server.service import serve
from protos import edge_pb2 as pb
from sim.build import Blueprint, blueprint, build_rounds
from sim.step import Step

METHOD = "/equiran.v1.Edge/Live"
SLOTS, STEP = 3, 0.05
Data = dict[str, np.ndarray]


def data(user: int) -> Data:
    """Two rounds of three slots, B = 2, V = 4, three features."""
    rng = np.random.default_rng([1, user])
    shapes = {"x": (2, SLOTS, 2, 3), "y": (2, SLOTS, 2), "x_val": (2, 4, 3), "y_val": (2, 4)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def tree(folder: Path) -> runs.Tree:
    for user in range(2):
        np.savez(folder / f"u{user}.npz", **data(user))  # type: ignore[arg-type]
    task = {"kind": "arrays", "loss": "squared"}
    users = [
        {"name": f"u{k}", "task": {**task, "path": str(folder / f"u{k}.npz")}, "head": {"kind": "identity"}}
        for k in range(2)
    ]
    return runs.kernel(rounds=2, slots=SLOTS, users=users)


def join(**changes: Any) -> bytes:
    said = {"protocol": 2, "run": "kernel", "user": "u0", "dtype": 2, "feature_shape": [3], "batch": 2}
    return pb.UserMessage(join=pb.Join(**{**said, "validation_batch": 4, **changes})).SerializeToString()


def tensor(values: np.ndarray) -> pb.Tensor:
    return pb.Tensor(dtype=pb.FLOAT64, shape=values.shape, data=values.astype("<f8").tobytes())


class Foreigner:
    """A linear user without front and head, in numpy."""

    def __init__(self, mine: Data):
        self._mine = mine

    def answer(self, message: pb.EdgeMessage) -> pb.UserMessage | None:
        kind = message.WhichOneof("kind")
        return self._judged(message.outputs) if kind == "outputs" else self._next(getattr(message, str(kind)).next)

    def _next(self, asked: pb.Next) -> pb.UserMessage | None:
        t, i = asked.key.round, asked.key.slot
        if asked.ask == pb.Next.LEAVE:
            return pb.UserMessage(leave=pb.Leave(parameters_sha256=bytes(32)))
        if asked.ask == pb.Next.WAIT:
            return None
        x = self._mine["x"][t, i] if asked.ask == pb.Next.FEATURES else self._mine["x_val"][t]
        return pb.UserMessage(features=pb.Features(key=asked.key, features=tensor(x)))

    def _judged(self, said: pb.Outputs) -> pb.UserMessage:
        t, i = said.key.round, said.key.slot
        error = np.frombuffer(said.outputs.data, "<f8") - (
            self._mine["y_val"][t] if i == SLOTS else self._mine["y"][t, i]
        )
        loss = float((error**2).mean())
        if i == SLOTS:
            return pb.UserMessage(report=pb.Report(key=said.key, loss=loss))
        gradient = tensor(2 * error[:, None] / len(error))
        return pb.UserMessage(feedback=pb.Feedback(key=said.key, loss=loss, gradient=gradient))


async def live(address: str, user: int) -> str:
    """The status that the stream ends with."""
    foreigner = Foreigner(data(user))
    async with grpc.aio.insecure_channel(address) as channel:
        stream: Any = channel.stream_stream(METHOD)()
        await stream.write(join(user=f"u{user}"))
        while not (message := pb.EdgeMessage.FromString(await stream.read())).HasField("goodbye"):
            if answer := foreigner.answer(message):
                await stream.write(answer.SerializeToString())
        await stream.done_writing()
        code: grpc.StatusCode = await stream.code()
        return code.name


def against_an_edge(design: Blueprint, test: Callable[[str, Cell], Awaitable[None]]) -> None:
    async def go() -> None:
        cell = Cell(design.plan, lambda _event: None, lambda: False)
        server = await serve(cell, "127.0.0.1")
        try:
            await asyncio.wait_for(test(server.address, cell), 20)
        finally:
            await server.stop()

    asyncio.run(go())


def test_a_user_written_from_the_page_takes_part(tmp_path: Path) -> None:
    scenario = tree(tmp_path)
    ours = runs.run(tmp_path, scenario).folder
    design = blueprint(runs.loaded(tmp_path, scenario).scenario, "kernel")
    records: list[RoundRecord] = []

    async def test(address: str, cell: Cell) -> None:
        rounds = build_rounds(design, Step(STEP), cell, OneThread(1), records.append, lambda _event: None)
        _, *ends = await asyncio.gather(rounds.run(), live(address, 0), live(address, 1))
        assert ends == ["OK", "OK"]

    against_an_edge(design, test)
    losses, weights = (np.concatenate([getattr(r, name) for r in records]).ravel() for name in ("loss", "weight"))
    np.testing.assert_allclose(losses, runs.slots(ours)["loss"], rtol=1e-12)
    np.testing.assert_allclose(weights, runs.slots(ours)["weight"], rtol=1e-12)
    validation = np.concatenate([record.val_loss for record in records])
    np.testing.assert_allclose(validation, runs.rounds(ours)["val_loss"], rtol=1e-12)


def too_large(design: Blueprint) -> bytes:
    return bytes(design.plan.largest_message + 1)


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (lambda _: join(protocol=1), "FAILED_PRECONDITION"),
        (lambda _: pb.UserMessage(features=pb.Features()).SerializeToString(), "FAILED_PRECONDITION"),
        (lambda _: join(run="another"), "NOT_FOUND"),
        (lambda _: join(user="stranger"), "NOT_FOUND"),
        (lambda _: join(batch=3), "INVALID_ARGUMENT"),
        (lambda _: b"\xff\xff", "INVALID_ARGUMENT"),
        (too_large, "RESOURCE_EXHAUSTED"),
    ],
    ids=["protocol", "no join", "run", "user", "sizes", "bytes", "cap"],
)
def test_strangers_are_told_the_status_on_the_page(
    tmp_path: Path, first: Callable[[Blueprint], bytes], status: str
) -> None:
    design = blueprint(runs.loaded(tmp_path, tree(tmp_path)).scenario, "kernel")

    async def test(address: str, _cell: Cell) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            stream: Any = channel.stream_stream(METHOD)()
            await stream.write(first(design))
            assert (await stream.code()).name == status

    against_an_edge(design, test)
