"""Runs on Ray in a process that knows Ray already, as a notebook may, or that has runs over gRPC beside."""

import subprocess
import sys
from pathlib import Path

import runs

ROOT = Path(__file__).parents[2]
AFTER_RAY = """
import ray, sim
digests = [sim.run({file!r}, transport=on, out={out!r} + on, quiet=True).digest for on in ("memory", "ray")]
assert digests[0] == digests[1] is not None, digests
ray.init(address="local", include_dashboard=False, log_to_driver=False)
try:
    sim.run({file!r}, transport="ray", out={out!r} + "_again", quiet=True)
except sim.RunError as error:
    print(error)
assert ray.is_initialized()
"""


def test_a_process_that_imported_ray_first_has_its_runs_on_ray_and_keeps_a_ray_of_its_own(tmp_path: Path) -> None:
    code = AFTER_RAY.format(file=str(runs.write(tmp_path, runs.kernel())), out=str(tmp_path / "out_"))
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "Ray is already up in this process: call ray.shutdown() before a run on Ray\n"


FORKS = """
import os, pathlib, subprocess, threading, time, sim
how = dict(transport="grpc", out={out!r}, quiet=True)
going = threading.Thread(target=sim.run, args=[{file!r}], kwargs=how, daemon=True)
going.start()
while not list(pathlib.Path({out!r}).glob("slots*")):
    time.sleep(.1)
print({{subprocess.call(["true"], preexec_fn=int) for _ in range(100)}}, going.is_alive(), flush=True)
os._exit(0)
"""


def test_a_fork_beside_grpc_harms_neither_side(tmp_path: Path) -> None:
    """Ray's start forks, as does `preexec_fn`: gRPC's own care for forks crashed 3 to 11 of 100 children, or us."""
    tree = runs.kernel(many=2, rounds=10**5, slots=20)
    code = FORKS.format(file=str(runs.write(tmp_path, tree)), out=str(tmp_path / "out"))
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.returncode) == ("{0} True\n", 0), ended.stderr
