"""`equiran train-power` from its file to its run directory: numbers, stops, failures, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from power_runs import SMALL, command, loaded, written
from safetensors.torch import load_file

import runs
import sim.power_table
from edge_server.routed_mtl.capacity_optimum import sum_capacity
from edge_server.routed_mtl.policy import load_policy
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.training import Trainer
from sim.power_run import PowerWatcher, train_power
from sim.power_scenario import LoadedPower, load_power

ROOT = Path(__file__).parents[2]
WIDTHS = (4, 20, 32, 32, 32, 32, 20, 4)


def trainer_of(scenario: LoadedPower) -> Trainer:
    task, seed = scenario.scenario.task, scenario.scenario.seed
    tasks = task.built_tasks()
    return Trainer(tasks, task.design(seed), draw_samples(tasks, task.samples.train, seed, task.places))


def test_a_run_leaves_what_the_contract_says(tmp_path: Path) -> None:
    result = command(written(tmp_path), tmp_path / "out", "--json", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert (told["status"], told["steps"], told["dir"]) == ("done", 50, str(tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "manifest.json", "scenario.yaml", "events.jsonl", "power.json", "progress.parquet",
        "policy.json", "policy.safetensors", "state.safetensors", "checkpoints",
    }  # fmt: skip
    power = runs.read_json(tmp_path / "out" / "power.json")
    assert told == {**told, **power}
    assert (power["scheme"], power["seeds"], power["steps"]) == ("routed", [5], 50)
    assert power["bdnn_parameters"] == sum(a * b + b for a, b in pairwise(WIDTHS))
    assert [(task["problem"], task["n"]) for task in power["tasks"]] == [("P3", 2), ("P3", 4), ("P4", 3)]
    assert [task["rate"] is None for task in power["tasks"]] == [True, True, False]
    assert [task["gap_mean"] is None for task in power["tasks"]] == [False, False, True]
    assert np.diag(power["mask_overlap"]).tolist() == [1.0, 1.0, 1.0]
    assert power["train_seconds"] > 0
    manifest = runs.read_json(tmp_path / "out" / "manifest.json")
    assert (manifest["status"], manifest["seed"], manifest["digest"]) == ("done", 5, told["digest"])


def test_the_scores_are_those_of_the_published_policy(tmp_path: Path) -> None:
    power = train_power(loaded(tmp_path, samples={**SMALL["samples"], "violation": 40_000}), tmp_path / "out", quiet())
    assert power.power is not None
    entry = power.power["tasks"][2]
    gains = np.random.default_rng(99).standard_exponential((40_000, 3))
    power_w = load_policy(tmp_path / "out" / "policy")("p4_capacity", gains)
    assert entry["rate"] == pytest.approx(float(sum_capacity(gains, power_w).mean()), abs=0.02)
    assert entry["violation_mean"] == pytest.approx(float(power_w.mean()) - 0.5, abs=0.005)
    assert entry["percent_of_optimum"] == pytest.approx(100 * entry["rate"] / entry["optimum"])


def test_progress_is_what_the_trainer_shows(tmp_path: Path) -> None:
    scenario = loaded(tmp_path)
    train_power(scenario, tmp_path / "out", quiet())
    rows = pq.read_table(tmp_path / "out" / "progress.parquet").to_pylist()
    trainer, expected = trainer_of(scenario), []
    trainer.train(on_progress=expected.append, every=10)
    assert [row["step"] for row in rows] == [step for step in (10, 20, 30, 40, 50) for _ in range(3)]
    for row, (progress, task) in zip(rows, [(p, t) for p in expected for t in p.tasks], strict=True):
        assert (row["loss"], row["stage"], row["task"]) == (progress.loss, progress.stage, task.task)
        assert (row["task_loss"] if task.kind == "supervised" else row["rate"]) == task.objective
        assert row["violation"] == (None if task.kind == "supervised" else task.violation)


def test_equal_seeds_give_equal_bits_also_from_the_effective_scenario(tmp_path: Path) -> None:
    first = train_power(loaded(tmp_path), tmp_path / "a", quiet())
    again = train_power(load_power(tmp_path / "a" / "scenario.yaml"), tmp_path / "b", quiet())
    other = train_power(load_power(written(tmp_path), seed=6), tmp_path / "c", quiet())
    assert first.digest == again.digest != other.digest
    assert (tmp_path / "a" / "policy.json").read_bytes() == (tmp_path / "b" / "policy.json").read_bytes()
    assert load_power(tmp_path / "a" / "scenario.yaml").scenario == loaded(tmp_path).scenario


def quiet(stop_at: int | None = None) -> PowerWatcher:
    """Asks for a stop once the progress has come to `stop_at`."""
    seen: list[int] = []
    return PowerWatcher(
        on_progress=lambda done, _numbers: seen.append(done),
        stop=lambda: stop_at is not None and max(seen, default=0) >= stop_at,
    )


def test_a_stopped_run_continues_to_the_same_bits(tmp_path: Path) -> None:
    scenario = loaded(tmp_path)
    stopped = train_power(scenario, tmp_path / "a", quiet(stop_at=30))
    assert (stopped.status, stopped.steps, stopped.power) == ("stopped", 30, None)
    assert runs.read_json(tmp_path / "a" / "manifest.json")["status"] == "stopped"
    assert pq.read_table(tmp_path / "a" / "progress.parquet").num_rows == 9
    assert not (tmp_path / "a" / "power.json").exists()
    trainer = trainer_of(scenario)
    trainer.load_state_dict(load_file(tmp_path / "a" / "state.safetensors"))
    trainer.train()
    train_power(scenario, tmp_path / "b", quiet())
    whole = load_file(tmp_path / "b" / "state.safetensors")
    state = trainer.state_dict()
    assert whole.keys() == state.keys()
    assert [name for name in whole if not torch.equal(whole[name], state[name])] == []


def test_a_stop_while_it_is_scored_keeps_the_state(tmp_path: Path) -> None:
    parts: list[str] = []
    watcher = PowerWatcher(on_start=lambda what, _total: parts.append(what), stop=lambda: len(parts) > 1)
    stopped = train_power(loaded(tmp_path), tmp_path / "out", watcher)
    assert (stopped.status, stopped.steps) == ("stopped", 50)
    assert int(load_file(tmp_path / "out" / "state.safetensors")["taken"]) == 50


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_a_step_and_saves(tmp_path: Path, number: signal.Signals, code: int) -> None:
    out = tmp_path / "out"
    file = written(tmp_path, stages=[10_000_000, 0])
    words = [sys.executable, "-m", "sim", "train-power", str(file), "--out", str(out), "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, cwd=ROOT, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 120
        while not ((out / "progress.arrows").exists() and (out / "progress.arrows").stat().st_size > 5000):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.1)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code, stderr
    told = json.loads(stdout)
    assert told["status"] == "stopped"
    assert int(load_file(out / "state.safetensors")["taken"]) == told["steps"] > 10
    assert not [*out.glob("*.arrows")]


def test_a_diverging_run_is_one_line_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    result = command(written(tmp_path, rate=1e38), tmp_path / "out", "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("small: routed_mtl: the loss is nan at step")
    manifest = runs.read_json(tmp_path / "out" / "manifest.json")
    assert manifest["status"] == "failed"
    assert manifest["error"] in line
    state = load_file(tmp_path / "out" / "state.safetensors")
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert not (tmp_path / "out" / "policy.json").exists()


def test_a_locked_task_is_named_and_a_missed_limit_too(tmp_path: Path) -> None:
    file = written(tmp_path, dual_rate=1000.0, stages=[200, 0])
    result = command(file, tmp_path / "out", "--json")
    assert result.exit_code == 0
    assert "note: p4_capacity/3 is locked: its rate is below that of constant power" in result.stderr
    assert "note: p4_capacity/3: the mean power misses its limit by -0." in result.stderr
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    assert [event["task"] for event in events if event["event"] == "locked"] == ["p4_capacity/3"]
    missed = {event["of"]: event for event in events if event["event"] == "violation"}["the mean power"]
    entry = json.loads(result.stdout)["tasks"][-1]
    assert (missed["task"], missed["watts"]) == ("p4_capacity/3", entry["violation_mean"])


@pytest.mark.parametrize(("watts", "noted"), [(0.101, True), (0.099, False)])
def test_one_user_far_above_its_limit_is_named_though_the_mean_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watts: float, noted: bool
) -> None:
    real = sim.power_table.score
    monkeypatch.setattr(
        sim.power_table, "score", lambda *args: {**real(*args), "violation_mean": 0.0, "violation_max": watts}
    )
    result = command(written(tmp_path), tmp_path / "out", "--json")
    assert ("p4_capacity/3: one user's mean power misses its limit by +0.1010 W" in result.stderr) == noted


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    assert command(written(tmp_path), tmp_path / "out", "--quiet").exit_code == 0
    again = command(written(tmp_path), tmp_path / "out", "--quiet")
    assert again.exit_code == 2
    assert "holds a run already; give another --out" in again.stderr


OWN = """
from dataclasses import dataclass
from typing import ClassVar
from edge_server.routed_mtl.p4_capacity import P4Capacity

@dataclass(frozen=True)
class Tight(P4Capacity):
    p_av: float = 0.25
    name: ClassVar[str] = "tight"
"""


def test_a_problem_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_problem.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    groups = [{"problem": "own_problem:Tight", "args": {"p_tot": 2.0}, "users": [2]}, {"problem": "p4", "users": [2]}]
    result = command(written(tmp_path, tasks=groups, calibrate=True), tmp_path / "out", "--json", "--quiet")
    assert result.exit_code == 0, result.stderr
    tasks = json.loads(result.stdout)["tasks"]
    assert [task["problem"] for task in tasks] == ["tight", "P4"]
    gains = np.random.default_rng(1).standard_exponential((20_000, 2))
    policy = load_policy(tmp_path / "out" / "policy")
    assert float(policy("tight", gains).mean()) == pytest.approx(0.25, abs=0.05)
    assert float(policy("tight", gains).max()) <= 2.0


BROKEN = """
from edge_server.routed_mtl.p4_capacity import P4Capacity

class Broken(P4Capacity):
    def objective(self, gains, power, mask):
        if power.requires_grad:
            raise RuntimeError("out of luck")
        return super().objective(gains, power, mask)
"""
"""It passes the trial, and breaks in training."""


def test_a_problem_that_breaks_is_one_line_and_its_traceback_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_problem.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    file = written(tmp_path, tasks=[{"problem": "broken_problem:Broken", "users": [2]}])
    result = command(file, tmp_path / "out", "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line == f"small: RuntimeError: out of luck; {tmp_path / 'out' / 'events.jsonl'} says where"
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["traceback", "failed"]
    assert "broken_problem.py" in events[0]["text"]
