"""A stream that breaks costs nothing but time: its user comes back, and every bit is that of a quiet run."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import protos
import proxy
import runs
import sim.local
import user_client.link
from edge_server.cell import Cell
from edge_server.record import RoundRecord
from edge_server.service import EdgeServer, serve
from sim.caller import Result, RunError, Watcher
from sim.resume import resume_run

SLOTS = runs.kernel(many=3, rounds=4, slots=30)
TRUNK = runs.kernel(many=3, rounds=4, slots=30, trunk=True)
FRONTS = runs.digits(rounds=2, slots=10)
CROWD = runs.kernel(many=6, rounds=30, slots=10, participation={"users": 2, "per": "round"})
DRAWN = runs.kernel(many=6, rounds=6, slots=10, participation={"users": 2, "per": "slot"})

SHORT, LONG = (2_000, 12_000), (50_000, 400_000)
"""Bytes that a connection lives, all its users together."""


@contextmanager
def behind(monkeypatch: pytest.MonkeyPatch, weather: proxy.Weather) -> Iterator[list[proxy.Proxy]]:
    """Every edge of a run over grpc is reached through a proxy of its own."""
    made: list[proxy.Proxy] = []

    async def serve_behind(cell: Cell, *rest, **more) -> EdgeServer:
        server = await serve(cell, *rest, **more)
        made.append(proxy.Proxy(server.address, weather))
        server.address = made[-1].address
        return server

    monkeypatch.setattr(sim.local, "serve", serve_behind)
    try:
        yield made
    finally:
        for one in made:
            one.stop()


def lost_and_found(result: Result) -> tuple[int, int]:
    names = [event["event"] for event in runs.events(result.folder)]
    return names.count("lost"), names.count("returned")


@pytest.mark.parametrize(
    ("tree", "lives"),
    [(SLOTS, SHORT), (TRUNK, SHORT), (FRONTS, LONG), (CROWD, SHORT), (DRAWN, SHORT)],
    ids=["streams", "trunk", "trained fronts", "crowd", "drawn"],
)
def test_cut_connections_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: runs.Tree, lives: tuple[int, int]
) -> None:
    quiet = runs.run(tmp_path / "quiet", tree, "memory")
    with behind(monkeypatch, proxy.Weather(latency=0.002, lives=lives)) as proxies:
        cut = runs.run(tmp_path / "cut", tree, "grpc")
    lost, returned = lost_and_found(cut)
    assert proxies[0].connections > 5
    assert lost > 0
    assert returned > 5
    assert cut.digest == quiet.digest is not None


def test_a_stop_does_not_wait_for_who_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot at hand is given up after a few seconds; the last whole round is saved, and goes on to the same bits."""
    tree = runs.kernel(many=2, rounds=60, slots=10)
    quiet = runs.run(tmp_path / "quiet", tree, "memory")
    stop = threading.Event()
    with behind(monkeypatch, proxy.Weather(latency=0.002)) as proxies:

        def leave(record: RoundRecord) -> None:
            if record.round == 5:
                proxies[0].stop()
                stop.set()

        started = time.monotonic()
        left = runs.run(tmp_path, tree, "grpc", Watcher(on_round=leave, stop=stop.is_set))
    assert time.monotonic() - started < 15
    assert left.status == "stopped"
    assert resume_run(left.folder, "memory", None, Watcher()).digest == quiet.digest is not None


def test_a_bad_network_only_takes_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 Mbit/s, 20 +- 5 ms, 1 % loss."""
    tree = runs.kernel(many=3, rounds=2, slots=10)
    quiet = runs.run(tmp_path / "quiet", tree, "memory")
    weather = proxy.Weather(latency=0.015, jitter=0.01, rate=1.25e6, loss=0.01)
    with behind(monkeypatch, weather):
        slow = runs.run(tmp_path / "slow", tree, "grpc")
    assert slow.digest == quiet.digest is not None
    assert lost_and_found(slow) == (0, 0)


def test_who_stays_away_costs_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = runs.kernel(many=2, rounds=100_000, slots=10, patience=1.0)
    gone: list[float] = []
    with behind(monkeypatch, proxy.Weather()) as proxies:

        def leave(_record: RoundRecord) -> None:
            proxies[0].stop()
            gone.append(time.monotonic())

        with pytest.raises(RunError, match=r"within patience \(1 s\)|UNAVAILABLE"):
            runs.run(tmp_path, tree, "grpc", Watcher(on_round=leave))
    assert time.monotonic() - gone[0] < 5


@pytest.mark.parametrize(
    "tree",
    [runs.kernel(many=2, rounds=30, slots=10), runs.kernel(many=150, rounds=10, slots=10, trunk=True)],
    ids=["streams", "a trunk whose users take two frames to join"],
)
def test_a_black_hole_is_noticed_by_keepalive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: runs.Tree) -> None:
    """Nothing arrives and nobody is told; after the pings have gone unanswered, users come back on a new connection."""
    quick = {"grpc.keepalive_time_ms": 10_000, "grpc.keepalive_timeout_ms": 500, "grpc.http2.ping_timeout_ms": 500}
    monkeypatch.setattr(user_client.link, "KEEPALIVE", tuple({**dict(protos.KEEPALIVE), **quick}.items()))
    quiet = runs.run(tmp_path / "quiet", tree, "memory")
    hole = proxy.Weather(latency=0.002)
    with behind(monkeypatch, hole) as proxies:

        def swallow(record: RoundRecord) -> None:
            if record.round == 1:
                proxies[0].weather = proxy.Weather()
                hole.silent = True

        found = runs.run(tmp_path / "hole", tree, "grpc", Watcher(on_round=swallow))
        assert proxies[0].connections >= 2
    assert lost_and_found(found)[1] >= len(quiet.summary["bytes"])
    assert found.digest == quiet.digest is not None
