"""A trainer beside the slots is saved with the run, and goes on with it."""

from pathlib import Path

from safetensors.torch import load, load_file
from test_policy_trained_beside import beside, in_use, radio_rows
from test_trainer_beside_slots import TASK

import runs
from sim import checkpoints
from sim.caller import Watcher
from sim.resume import resume_run
from sim.runner import run as run_scenario


def stopped(folder: Path, tree: runs.Tree, rounds: int, transport: str) -> Path:
    result = run_scenario(runs.loaded(folder, tree, transport), folder / "out", None, Watcher(), rounds)
    assert result.status == "stopped"
    return result.folder


def test_it_goes_on_where_the_slots_do(tmp_path: Path, run_on_ray) -> None:
    tree = runs.changed(runs.digits(many=2, rounds=8), edge__server_tasks=[TASK])
    plain = run_on_ray(tmp_path / "plain", runs.digits(many=2, rounds=8), "memory")
    folder = stopped(tmp_path, tree, 4, "ray")
    (at,) = (folder / "checkpoints").glob("0*")
    saved = int(load((at / "server_task.safetensors").read_bytes())["taken"])
    assert saved == int(load_file(folder / "state.safetensors")["taken"])
    result = resume_run(folder, "memory", None, Watcher())
    assert result.digest == plain.digest
    (task,) = result.summary["server_tasks"]
    assert task["steps_taken"] >= saved
    assert int(load_file(folder / "state.safetensors")["taken"]) == task["steps_taken"]
    steps = {*runs._columns(folder / "progress.parquet")["step"].tolist()}
    assert all(step <= task["steps_taken"] for step in steps)
    assert len(runs.events(folder, "server_task_started")) == 2


def test_at_a_pace_the_power_is_the_same_to_the_bit(tmp_path: Path, run_on_ray) -> None:
    """Rounds 3 to 6 take policies that were trained after the stop, from the state of round 2."""
    tree = beside()
    whole = run_on_ray(tmp_path / "whole", tree, "memory")
    folder = stopped(tmp_path, tree, 3, "ray")
    result = resume_run(folder, "grpc", None, Watcher())
    assert result.digest == whole.digest
    ours, theirs = radio_rows(folder), radio_rows(whole.folder)
    for name, column in theirs.items():
        assert (ours[name] == column).all(), name
    assert dict(in_use(folder)) == dict(in_use(whole.folder))


def test_stopped_in_the_middle_of_a_round_at_a_pace(tmp_path: Path, monkeypatch) -> None:
    """A checkpoint of every slot; the run is stopped in the middle of a round, while the trainer is ahead."""
    monkeypatch.setattr(checkpoints, "LEAST", 0)
    tree = {**beside(), "checkpoints": {"seconds": 0}}
    whole = runs.run(tmp_path / "whole", tree)
    seen = 0

    def stop() -> bool:
        nonlocal seen
        seen += 1
        return seen > 14

    result = run_scenario(runs.loaded(tmp_path, tree), tmp_path / "out", None, Watcher(stop=stop))
    assert result.status == "stopped"
    assert 0 < len({*runs.rounds(result.folder)["round"]}) < 7
    result = resume_run(tmp_path / "out", None, None, Watcher())
    assert result.digest == whole.digest
