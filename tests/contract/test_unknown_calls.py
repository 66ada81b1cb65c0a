"""Strangers who call what nobody serves are counted among a run's events, wherever its edge is."""

from pathlib import Path
from threading import Event, Thread

import grpc
import psutil
import pytest

import runs
from sim.caller import Watcher


def ports(process: psutil.Process) -> set[int]:
    return {one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}


def edges(transport: str) -> list[psutil.Process]:
    """This process; on Ray those of its actors."""
    here = psutil.Process()
    if transport == "grpc":
        return [here]
    return [one for one in here.children(recursive=True) if "ray::EdgeActor" in " ".join(one.cmdline())]


def steal(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/equiran.v1.Edge/Steal")(b"", timeout=2)  # type: ignore[call-arg]


@pytest.mark.parametrize("transport", ["grpc", "ray"])
def test_they_are_told_at_the_end(tmp_path: Path, run_on_ray, transport: str) -> None:
    begun, asked = Event(), Event()
    before = ports(psutil.Process())

    def stranger() -> None:
        begun.wait(60)
        for process in edges(transport):
            for port in sorted(ports(process) - before):
                steal(port)
        asked.set()

    thread = Thread(target=stranger)
    thread.start()
    watcher = Watcher(on_round=lambda _: begun.set(), stop=asked.is_set)
    result = run_on_ray(tmp_path, runs.kernel(rounds=100_000), transport, watcher)
    thread.join()
    assert result.status == "stopped"
    assert [event["calls"] for event in runs.events(result.folder, "unknown_calls")] == [1]
