"""`on_user_failure: drop`: slots go on without users who are late or gone, and take them back when they are there."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import proxy
import runs
import sim.local
from protos import edge_pb2 as pb
from sim.build import build_session
from sim.caller import RunError
from user_client.session import Session

APPLIED, LATE, ABSENT = "applied", "late", "absent"


class Slow(Session):
    """Takes its time over the outputs of some slots, and over being asked for the features of some."""

    together = False
    slow: dict[tuple[int, int], float]
    asked: dict[tuple[int, int], float]

    def hear(self, data: bytes) -> Any:
        message = pb.EdgeMessage.FromString(data)
        for said in (message.outputs, message.following):
            time.sleep(self.slow.get((said.key.round, said.key.slot), 0.0) if said.HasField("outputs") else 0.0)
        for asked in (message.acknowledgement.next, message.asked, message.round_end.next):
            wanted = asked.ask == pb.Next.FEATURES
            time.sleep(self.asked.get((asked.key.round, asked.key.slot), 0.0) if wanted else 0.0)
        return super().hear(data)


def slowly(
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    slow: dict[tuple[int, int], float],
    asked: dict[tuple[int, int], float] | None = None,
) -> None:
    """The user is a process's only one, on a thread of its own, so that nobody waits with it."""

    def build(design: Any, k: int) -> Session:
        session = build_session(design, k)
        if k == user:
            session.__class__ = Slow
            session.slow, session.asked = slow, asked or {}
        return session

    monkeypatch.setattr(sim.local, "build_session", build)
    real = sim.local.host

    async def apart(sessions: list[Session], *rest: Any) -> None:
        mine = [session for session in sessions if isinstance(session, Slow)]
        others = [session for session in sessions if not isinstance(session, Slow)]
        alone = asyncio.to_thread(lambda: asyncio.run(real(mine, *rest[:2])))
        await asyncio.gather(real(others, *rest[:2]), alone)

    monkeypatch.setattr(sim.local, "host", apart)


def statuses(folder: Path, user: str) -> list[str]:
    rows = runs.slots(folder)
    mine = np.array([str(name) for name in rows["user"]]) == user
    order = np.lexsort((rows["slot"][mine], rows["round"][mine]))
    return [str(status) for status in rows["status"][mine][order]]


@pytest.mark.parametrize("front", ["none", "trainable"])
def test_who_misses_the_deadline_is_out_of_the_slot_and_back_in_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, front: str
) -> None:
    tree = runs.digits(many=3, rounds=60, slots=8, deadline=0.3)
    if front == "none":
        for user in tree["users"]:
            user["front"] = "none"
    slowly(monkeypatch, 1, {(1, 2): 0.5})
    first, name = (user["name"] for user in tree["users"][:2])
    result = runs.run(tmp_path, tree, "grpc")
    said = statuses(result.folder, name)
    assert said[:10] == [APPLIED] * 10
    assert said[10] == LATE
    assert ABSENT in said[11:]
    assert said[-1] == APPLIED
    assert statuses(result.folder, first).count(APPLIED) > 0.9 * 480
    late = runs.events(result.folder, "late")[0]
    assert (late["user"], late["round"], late["slot"], late["of"]) == (name, 1, 2, "feedback")
    assert late["reason"] == "beyond the slot's deadline (0.3 s)"
    assert runs.events(result.folder, "came_late")[0]["user"] == name
    assert result.status == "done"
    assert result.digest is not None
    held = runs.slots(result.folder)["weight"]
    assert np.isfinite(held[runs.slots(result.folder)["status"] == APPLIED]).all()


def test_who_never_comes_back_is_missed_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = sim.local.live

    async def leaves(session: Session, *rest: Any) -> None:
        await live(Ends(session) if session.name == "user_01" else session, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sim.local, "live", leaves)
    tree = runs.kernel(many=3, rounds=3, slots=5, on_user_failure="drop")
    result = runs.run(tmp_path, tree, "grpc")
    assert result.status == "done"
    said = statuses(result.folder, "user_01")
    assert said[:2] == [APPLIED] * 2
    assert said[2] == LATE
    assert {*said[3:]} == {ABSENT}
    (lost,) = runs.events(result.folder, "lost")
    assert lost["user"] == "user_01"
    assert result.digest is None
    assert any("user_01" in event.get("reason", "") for event in runs.events(result.folder, "no_digest"))


class Ends:
    """A session that closes its stream at the outputs of slot 2."""

    together = False

    def __init__(self, session: Session):
        self._session, self.name, self.done = session, session.name, False

    @property
    def heard(self) -> int:
        return self._session.heard

    def join(self) -> bytes:
        return self._session.join()

    def react(self, data: bytes) -> Iterator[bytes]:
        message = pb.EdgeMessage.FromString(data)
        served = message.outputs if message.HasField("outputs") else message.following
        self.done = served.key.slot == 2
        if not self.done:
            yield from self._session.react(data)


def test_too_few_are_waited_for_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = sim.local.live

    async def leaves(session: Session, *rest: Any) -> None:
        await live(Ends(session) if session.name == "user_01" else session, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sim.local, "live", leaves)
    tree = runs.kernel(many=3, rounds=3, slots=5, on_user_failure="drop", min_users=3, patience=0.5)
    with pytest.raises(RunError, match=r"no answer from 'user_01' in round 0, slot 2 within patience \(0.5 s\)"):
        runs.run(tmp_path, tree, "grpc")


@pytest.mark.parametrize("min_users", [1, 3])
@pytest.mark.parametrize("front", ["none", "trainable"])
def test_cut_connections_cost_slots_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, min_users: int, front: str
) -> None:
    from test_returning_users import LONG, behind

    tree = runs.digits(many=3, rounds=6, slots=20, on_user_failure="drop", min_users=min_users)
    if front == "none":
        for user in tree["users"]:
            user["front"] = "none"
    with behind(monkeypatch, proxy.Weather(latency=0.002, lives=LONG)) as proxies:
        result = runs.run(tmp_path, tree, "grpc")
    assert result.status == "done"
    assert proxies[0].connections > 5
    rows = runs.slots(result.folder)
    used = rows["status"] == APPLIED
    per_slot = [used[(rows["round"] == t) & (rows["slot"] == i)].sum() for t in range(6) for i in range(20)]
    assert min(per_slot) >= min_users


@pytest.mark.parametrize("policy", ["wait", "stale"])
def test_a_real_deadline_needs_drop_or_fail(tmp_path: Path, policy: str) -> None:
    from sim.scenario import ScenarioErrors

    tree = runs.kernel(many=2, deadline=1.0, on_user_failure=policy)
    with pytest.raises(ScenarioErrors, match=f"on_user_failure: {policy} needs a radio"):
        runs.loaded(tmp_path, tree)


def test_a_missed_deadline_fails_a_run_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, 1, {(0, 2): 1.0})
    tree = runs.kernel(many=3, rounds=1, slots=5, deadline=0.2, on_user_failure="fail", patience=2.0)
    with pytest.raises(RunError, match=r"no answer from 'user_01' in round 0, slot 2 within the slot's deadline"):
        runs.run(tmp_path, tree, "grpc")
