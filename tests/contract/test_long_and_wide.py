"""Long runs keep their memory, wide runs their streams."""

from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pytest

import runs
import sim.runner
from edge_server.record import RoundRecord
from sim.caller import Watcher

ROUNDS, SLOTS = 100, 100
MIB = 1 << 20


def slope(resident: list[int]) -> float:
    """Bytes per 1000 slots, once the first fifth is over."""
    warm = len(resident) // 5
    thousands = np.arange(warm, len(resident)) * SLOTS / 1000
    return float(np.polyfit(thousands, resident[warm:], 1)[0])


def long_run(folder: Path, transport: str) -> list[int]:
    """10,000 slots with edge and users in this process; its resident bytes after every round."""
    process, resident = psutil.Process(), []
    watcher = Watcher(on_round=lambda _record: resident.append(process.memory_info().rss))
    result = runs.run(folder, runs.kernel(rounds=ROUNDS, slots=SLOTS), transport, watcher)
    assert (result.status, result.summary["applied"]) == ("done", 2 * ROUNDS * SLOTS)
    return resident


@pytest.mark.parametrize("transport", [pytest.param("memory", marks=pytest.mark.slow), "grpc"])
def test_ten_thousand_slots_leave_memory_flat(tmp_path: Path, transport: str) -> None:
    """In a fresh process: in this one, what earlier tests freed could hide a leak."""
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        resident = fresh.submit(long_run, tmp_path, transport).result(400)
    assert len(resident) == ROUNDS
    assert slope(resident) < MIB


@pytest.mark.slow
def test_edge_and_host_processes_stay_flat_on_ray(tmp_path: Path, cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.runner, "_cluster", lambda _address: nullcontext(cluster))
    resident: dict[str, list[int]] = {"EdgeActor": [], "HostActor": []}
    found: dict[str, psutil.Process] = {}

    def look(_record: RoundRecord) -> None:
        if not found:
            for child in psutil.Process().children(recursive=True):
                found.update({name: child for name in resident if name in " ".join(child.cmdline())})
        for name, process in found.items():
            resident[name].append(process.memory_info().rss)

    runs.run(tmp_path, runs.kernel(rounds=ROUNDS, slots=SLOTS, hosts=1), "ray", Watcher(on_round=look))
    for name, values in resident.items():
        assert len(values) == ROUNDS
        assert slope(values) < MIB, name


@pytest.mark.parametrize("count", [129, 200])
def test_more_than_128_users_over_grpc(tmp_path: Path, count: int) -> None:
    tree = runs.kernel(many=count, rounds=1, slots=2, patience=20.0)
    grpc, memory = (runs.run(tmp_path, tree, transport) for transport in ("grpc", "memory"))
    assert grpc.summary["applied"] == 2 * count
    assert grpc.digest == memory.digest
