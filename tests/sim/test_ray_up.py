"""Runs on Ray in a process that knows Ray already, as a notebook may."""

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
