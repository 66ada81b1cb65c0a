"""docs/protocol.md is enough to write a user: its example shares nothing with ours but the generated messages."""

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import runs
from edge_server.cell import Cell
from edge_server.compute import OneThread
from edge_server.service import serve
from protos import edge_pb2 as pb
from sim.blueprint import Blueprint
from sim.build import build_rounds, build_session
from sim.caller import Watcher
from sim.local import Hooks, Outcome, host
from sim.planning import blueprint
from sim.recorder import Recorder
from sim.runner import Way, claim, finished, parts_of
from sim.step import Step

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/example_user.py"
METHOD = "/equiran.v1.Edge/Live"
SLOTS = 3
Data = dict[str, np.ndarray]


def data(user: int) -> Data:
    """Two rounds of three slots, B = 2, V = 4, three features."""
    rng = np.random.default_rng([1, user])
    shapes = {"x": (2, SLOTS, 2, 3), "y": (2, SLOTS, 2), "x_val": (2, 4, 3), "y_val": (2, 4)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def tree(folder: Path) -> runs.Tree:
    for user in range(3):
        np.savez(folder / f"u{user}.npz", **data(user))  # type: ignore[arg-type]
    task = {"kind": "arrays", "loss": "squared"}
    users = [
        {"name": f"u{k}", "task": {**task, "path": str(folder / f"u{k}.npz")}, "head": {"kind": "identity"}}
        for k in range(3)
    ]
    return runs.kernel(rounds=2, slots=SLOTS, users=users)


def join(**changes: Any) -> bytes:
    said = {"protocol": 3, "run": "kernel", "user": "u0", "dtype": 2, "feature_shape": [3], "batch": 2}
    return pb.UserMessage(join=pb.Join(**{**said, "validation_batch": 4, **changes})).SerializeToString()


def against_an_edge(design: Blueprint, test: Callable[[str, Cell], Awaitable[None]]) -> None:
    async def go() -> None:
        cell = Cell(design.plan, lambda _event: None, lambda: False)
        server = await serve(cell, "127.0.0.1")
        try:
            await asyncio.wait_for(test(server.address, cell), 20)
        finally:
            await server.stop()

    asyncio.run(go())


async def beside_the_example(design: Blueprint, step: Step, hooks: Hooks, file: Path) -> Outcome:
    """u0 is the example's process, u1 and u2 are ours."""
    cell = Cell(design.plan, hooks.on_event, hooks.stop)
    rounds = build_rounds(design, step, cell, OneThread(1), hooks.on_round, hooks.on_event)
    server = await serve(cell, "127.0.0.1")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [EXAMPLE, server.address, design.plan.run, "u0", file]
    example = await asyncio.create_subprocess_exec(sys.executable, *words, env=environment)
    try:
        ours = host([build_session(design, k) for k in (1, 2)], server.address, design.plan)
        async with asyncio.timeout(60):
            users, _, code = await asyncio.gather(rounds.run(), ours, example.wait())
        assert code == 0
    finally:
        await server.stop()
    return Outcome(rounds.model.digest(), users, cell.stopping)


def test_the_example_of_the_page_trains_beside_ours_to_the_digest_of_ours_alone(tmp_path: Path) -> None:
    scenario = tree(tmp_path)
    expected = runs.run(tmp_path, scenario)
    part = parts_of(runs.loaded(tmp_path, scenario, "grpc"), tmp_path / "beside")[0]
    claim(part.folder)

    def go(design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
        return asyncio.run(beside_the_example(design, step, hooks, tmp_path / "u0.npz"))

    result = finished(part, Recorder(part.folder, part.name, part.design), Way(go), Watcher())
    assert result.digest == expected.digest
    assert result.digest is not None
    ours, theirs = runs.rounds(expected.folder), runs.rounds(part.folder)
    np.testing.assert_allclose(theirs["val_loss"], ours["val_loss"], rtol=1e-12)
    assert runs.slots(part.folder)["weight"].std() > 0


def test_the_example_has_a_hundred_lines_and_nothing_of_ours_but_the_messages() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    imported = {name.partition(".")[0] for name in re.findall(r"^(?:from|import) ([\w.]+)", text, re.MULTILINE)}
    assert imported - sys.stdlib_module_names == {"grpc", "numpy", "protos"}
    assert re.findall(r"^from protos.*", text, re.MULTILINE) == ["from protos import edge_pb2 as pb"]


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
