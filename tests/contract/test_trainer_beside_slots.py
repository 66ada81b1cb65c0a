"""A power trainer beside the slots, on every transport: the slots keep their bits, and what it learned comes home."""

from pathlib import Path

import numpy as np
import psutil
from safetensors.torch import load_file

import runs
from edge_server.routed_mtl.policy import load_policy
from sim.caller import Result

FILES = {"policy.json", "policy.safetensors", "power.json", "progress.parquet", "state.safetensors"}
TASK = {
    "kind": "routed_mtl",
    "tasks": [{"problem": "p3", "users": [2, 4]}, {"problem": "p4", "users": [3]}],
    "samples": {"train": 200, "test": 50, "violation": 3000},
    "places": 4, "batch": 8, "stages": [5, 10**7], "every": 10,
}  # fmt: skip


def test_digits_keep_their_bits_and_the_trainer_is_stopped_and_scored(tmp_path: Path, run_on_ray) -> None:
    tree = runs.changed(runs.digits(many=2, rounds=3), edge__server_tasks=[TASK])
    named = {"edge.server_tasks.0.batch": 4}
    entries = [
        {"name": "plain", "transport": "memory"},
        {"name": "memory", "transport": "memory", **named},
        {"name": "grpc", "transport": "grpc", **named},
    ]
    result = run_on_ray(tmp_path, {**tree, "compare": entries}, "ray")
    plain, *others = result.compared
    assert plain.summary["server_tasks"] == []
    assert not FILES & {path.name for path in plain.folder.iterdir()}
    for one in (result, *others):
        assert (one.status, one.digest) == ("done", plain.digest)
        check_directory(one)


def check_directory(result: Result) -> None:
    """Of a run whose trainer was stopped by the end of the slots."""
    assert {path.name for path in result.folder.iterdir()} >= FILES
    (task,) = result.summary["server_tasks"]
    assert (task["kind"], task["status"], task["steps"]) == ("routed_mtl", "stopped", 10**7 + 5)
    (event,) = runs.events(result.folder, "server_task_stopped")
    assert (event["step"], event["steps"]) == (task["steps_taken"], task["steps"])
    assert int(load_file(result.folder / "state.safetensors")["taken"]) == event["step"]
    power = runs.read_json(result.folder / "power.json")
    assert (power["steps"], power["steps_taken"]) == (task["steps"], task["steps_taken"])
    assert [entry["n"] for entry in power["tasks"]] == [2, 4, 3]
    policy = load_policy(result.folder / "policy")
    assert (policy("p3_delay", np.ones((5, 4))) > 0).all()
    (begun,) = runs.events(result.folder, "server_task_started")
    assert not psutil.pid_exists(begun["pid"])
