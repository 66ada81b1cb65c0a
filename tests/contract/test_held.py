"""A run whose users are elsewhere is held between two slots, and goes on to the same bits."""

import threading
import time
from pathlib import Path

import pytest

import runs
from sim.pause_file import FILE

LONGER_THAN_PATIENCE = 2.0


@pytest.mark.parametrize("transport", ["grpc", pytest.param("ray", marks=pytest.mark.slow)])
def test_users_who_wait_lose_no_patience(tmp_path: Path, transport: str, request: pytest.FixtureRequest) -> None:
    tree = runs.kernel(many=3, rounds=40, slots=10, patience=1.0)
    quiet = runs.run(tmp_path / "quiet", tree)
    out = tmp_path / transport
    threading.Thread(target=hold_when_it_runs, args=(out,), daemon=True).start()
    run = request.getfixturevalue("run_on_ray") if transport == "ray" else runs.run
    held = run(tmp_path, tree, transport)
    assert (held.status, held.digest) == ("done", quiet.digest)
    (continued,) = runs.events(out, "continued")
    assert continued["seconds"] > 1.2


def hold_when_it_runs(out: Path) -> None:
    while not (out / "rounds.arrows").exists() or (out / "rounds.arrows").stat().st_size < 10_000:
        time.sleep(0.005)
    (out / FILE).touch()
    time.sleep(LONGER_THAN_PATIENCE)
    (out / FILE).unlink()
