"""Slots wait until everybody has joined, also where few of them take part."""

import asyncio
from pathlib import Path

import pytest

import runs
import sim.local
from sim.caller import RunError
from user_client.link import live


@pytest.mark.parametrize("per", ["round", "slot"])
def test_a_user_that_joins_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per: str) -> None:
    async def slow(session, *rest) -> None:
        await asyncio.sleep(0.5 if session.name == "user_11" else 0.0)
        await live(session, *rest)

    tree = runs.kernel(many=12, rounds=3, slots=3, participation={"users": 1, "per": per})
    memory = runs.run(tmp_path / "memory", tree, "memory")
    monkeypatch.setattr(sim.local, "live", slow)
    grpc = runs.run(tmp_path / "grpc", tree, "grpc")
    assert grpc.digest == memory.digest is not None


def test_who_does_not_join_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(session, *rest) -> None:
        await (asyncio.sleep(60) if session.name == "user_11" else live(session, *rest))

    monkeypatch.setattr(sim.local, "live", never)
    tree = runs.kernel(many=12, rounds=3, slots=3, participation={"users": 1, "per": "slot"}, patience=0.5)
    with pytest.raises(RunError, match=r"no answer from 'user_11' in round 0, slot 0 within patience \(0.5 s\)"):
        runs.run(tmp_path, tree, "grpc")
