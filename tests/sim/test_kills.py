"""SIGKILL at seeded moments: a run that waits for its users ends at the bits of one that nobody disturbed."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kills
import runs

MOMENTS = 5
SHARES = {"kind": "top_k", "share": 0.2}


def tree(*, realtime: bool = True) -> runs.Tree:
    """All that a run remembers: fronts and heads, users that come and go, debts of compression, a virtual clock.

    realtime: a fast machine does not end it before it is killed.
    """
    tree = runs.digits(many=3, rounds=30, slots=15, batch=3, hosts=2, checkpoints={"seconds": 0})
    tree["users"][2]["presence"] = {"churn": 0.5}
    air = {"kind": "jakes", "doppler": 0.05, "loss_db": [0.0, 0.0, 6.0], "user_power": [1.0, 1.0, 0.4]}
    tree["radio"] = {**air, "bandwidth": 5e6, "realtime": realtime}
    tree["compression"] = {"feedback": SHARES, "acknowledgement": SHARES}
    return tree


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """Of the undisturbed run."""
    return runs.run(tmp_path_factory.mktemp("whole"), tree(realtime=False)).digest


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]


@pytest.mark.parametrize("seed", SEEDS)
def test_edge_and_hosts_are_killed_at_five_moments_each(tmp_path: Path, digest: str, seed: int) -> None:
    rng = random.Random(seed)
    victims = [kills.EDGE, kills.HOST] * MOMENTS
    rng.shuffle(victims)
    with kills.started(tmp_path, tree(), "--transport", "ray") as running:
        for victim in victims:
            running.kill_one(victim, rng)
        code, said, complaint = running.ended()
    assert code == 0, complaint
    assert json.loads(said)["digest"] == digest
    reasons = [event["reason"] for event in runs.events(running.out, "recovered")]
    assert len(reasons) == len(victims)
    for victim, reason in zip(victims, reasons, strict=True):
        assert reason.startswith("the edge died: " if victim == kills.EDGE else "the host of users "), reason


@pytest.mark.parametrize("seed", SEEDS)
def test_the_driver_is_killed_at_five_moments(tmp_path: Path, digest: str, seed: int) -> None:
    """On one transport after the other; nothing stays behind, and the dead process's lock is taken over.

    A run that was killed before it had begun is begun again.
    """
    rng = random.Random(100 + seed)
    transports = ["ray", "grpc", "memory", "ray", "grpc"]
    out = tmp_path / "out"
    for moment in range(MOMENTS):
        options = "--transport", transports[moment]
        begun = (out / "manifest.json").exists()
        again = kills.resumed(out, *options) if begun else kills.started(tmp_path, tree(), *options)
        with again as running:
            family = running.kill(rng)
        assert running.owner() == running.process.pid
        assert kills.gone(family, within=20) == []
    with kills.resumed(out, "--transport", "ray") as running:
        code, said, complaint = running.ended()
    assert code == 0, complaint
    assert json.loads(said)["digest"] == digest
    assert not (out / "lock").exists()


def test_a_process_that_ray_kills_for_its_memory_is_named_with_the_threshold(tmp_path: Path) -> None:
    """Ray's own monitor, told that 2 % of this machine's memory is too much."""
    limits = {"RAY_memory_usage_threshold": "0.02", "RAY_memory_monitor_refresh_ms": "100"}
    file = runs.write(tmp_path, runs.kernel(rounds=1000, on_user_failure="fail"))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sim", "run", str(file), "--out", str(out), "--transport", "ray", "--quiet"]
    environment = {**os.environ, **limits, "PYTHONPATH": str(kills.ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(("kernel: the edge died: ", "kernel: the host of users "))
    assert "killed due to the node running low on memory" in line
    assert "exceeded threshold of " in line
    assert re.search(r"; killed: .*(Edge|Host)Actor [\d.]+GB", line), line
    assert line.endswith(f"; go on with: equiran resume {out}")
