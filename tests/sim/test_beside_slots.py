"""A power trainer beside the slots: the slots keep their bits, and the run directory gets what the trainer learned."""

import os
import signal
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from power_runs import SMALL, command, written
from test_cli_interrupt import Running, start  # noqa: F401 - `start` is a fixture
from typer.testing import CliRunner

import runs
from edge_server.record import RoundRecord
from edge_server.routed_mtl.policy import load_policy
from sim.caller import Result, Watcher
from sim.cli import app
from sim.scenario import ScenarioErrors, compared, load

FILES = {"policy.json", "policy.safetensors", "power.json", "progress.parquet", "state.safetensors"}
PATIENCE = 120.0
BREATH = 0.02
"""Seconds of each round that the slots leave to the trainer, also on a machine with one core to spare for both."""
ENDLESS = {**SMALL, "stages": [5, 10**7]}


def beside(tree: runs.Tree, **changes: Any) -> runs.Tree:
    return runs.changed(tree, edge__server_tasks=[{**SMALL, **changes}])


class Patient(Watcher):
    """Asks the run to stop in the first round after an event of this kind, or lets it end where it does."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(on_round=self._look, stop=lambda: self.seen)
        self._file, self._kind, self.seen = folder / "events.jsonl", f'"{kind}"', False
        self._deadline = monotonic() + PATIENCE

    def _look(self, _record: RoundRecord) -> None:
        assert monotonic() < self._deadline, self._file.read_text()
        sleep(BREATH)
        self.seen = self.seen or self._kind in self._file.read_text()


def until(folder: Path, kind: str, tree: runs.Tree, transport: str) -> Result:
    """Slots without an end, stopped after an event of this kind."""
    many = {**tree, "rounds": 1_000_000, "record": {"slots": False}}
    return runs.run(folder, many, transport, Patient(folder / transport, kind))


def test_one_that_ends_before_the_slots_is_the_trainer_alone(tmp_path: Path) -> None:
    result = until(tmp_path, "server_task_finished", beside(runs.kernel(seed=5)), "memory")
    assert command(written(tmp_path / "alone"), tmp_path / "alone" / "out").exit_code == 0
    for name in ("state.safetensors", "policy.safetensors", "policy.json"):
        assert (result.folder / name).read_bytes() == (tmp_path / "alone" / "out" / name).read_bytes(), name
    table = pq.read_table(result.folder / "progress.parquet")
    assert table.equals(pq.read_table(tmp_path / "alone" / "out" / "progress.parquet"))
    assert result.summary["server_tasks"][0]["status"] == "finished"
    assert [event["step"] for event in runs.events(result.folder, "masks_hardened")] == [20]
    published = runs.events(result.folder, "policy_published")
    assert published[-1]["step"] == 50
    assert all(0 <= event["round"] < result.summary["rounds"] for event in published)
    assert not (result.folder / "power.json").exists()


def test_a_killed_trainer_leaves_the_slots_running(tmp_path: Path) -> None:
    class Killer(Patient):
        """Kills the trainer once it has published, then waits for the event."""

        def _look(self, record: RoundRecord) -> None:
            text = self._file.read_text()
            if '"policy_published"' in text and '"server_task_failed"' not in text:
                (begun,) = runs.events(self._file.parent, "server_task_started")
                if psutil.pid_exists(begun["pid"]):
                    os.kill(begun["pid"], signal.SIGKILL)
            super()._look(record)

    tree = {**beside(runs.kernel(), **ENDLESS), "rounds": 1_000_000, "record": {"slots": False}}
    result = runs.run(tmp_path, tree, "memory", Killer(tmp_path / "memory", "server_task_failed"))
    (event,) = runs.events(result.folder, "server_task_failed")
    assert event["reason"] == "killed by SIGKILL"
    assert result.summary["server_tasks"][0]["status"] == "failed"
    assert result.summary["rounds"] > 1
    assert load_policy(result.folder / "policy").tasks


def test_a_trainer_that_fails_does_not_change_how_the_run_ends(tmp_path: Path) -> None:
    tree = beside(runs.kernel(rounds=3), rate=1e30, stages=[0, 500])
    result = runs.run(tmp_path, tree, "memory")
    assert result.status == "done"
    assert result.digest == runs.run(tmp_path / "plain", runs.kernel(rounds=3), "memory").digest
    assert result.summary["server_tasks"][0]["status"] in ("failed", "stopped")


@pytest.mark.parametrize(("transport", "number"), [("grpc", signal.SIGINT), ("memory", signal.SIGKILL)])
def test_nothing_of_it_outlives_the_run(start, transport: str, number: signal.Signals) -> None:  # noqa: F811
    tree = beside(runs.kernel(many=2, rounds=1_000_000, slots=20), **ENDLESS)
    running: Running = start(tree, "--transport", transport)
    events = running.out / "events.jsonl"
    running.until(lambda: events.exists() and "server_task_started" in events.read_text(), 120)
    assert any("edge_server.server_tasks.worker" in process.cmdline() for process in running.family.values())
    running.process.send_signal(number)
    assert running.finish(60)[0] == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert running.survivors() == []
    if number == signal.SIGINT:
        assert {"state.safetensors", "policy.safetensors"} <= {path.name for path in running.out.iterdir()}
        assert not (running.out / "power.json").exists()
        assert runs.read_json(running.out / "summary.json")["server_tasks"][0]["status"] == "stopped"


def test_the_command_says_where_the_policy_is(tmp_path: Path) -> None:
    file = runs.write(tmp_path, beside(runs.kernel(rounds=2)))
    result = CliRunner().invoke(app, ["run", str(file), "--out", str(tmp_path / "out"), "--quiet"])
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("routed_mtl: ")]
    kind = "untrained policy" if " 0 of 50 " in line else "policy"
    assert line.endswith(f" of 50 steps, {kind} in {tmp_path / 'out' / 'policy.safetensors'}")


def test_at_most_one_and_every_error_at_its_line(tmp_path: Path) -> None:
    tree = runs.changed(runs.kernel(), edge__server_tasks=[SMALL, SMALL])
    with pytest.raises(ScenarioErrors) as raised:
        load(runs.write(tmp_path, tree))
    (error,) = raised.value.errors
    assert error.endswith("edge.server_tasks.1: a run trains at most one; give it its own scenario")
    file = runs.write(tmp_path, beside(runs.kernel(), device="cuda:0"), "gpu.yaml")
    line = 1 + file.read_text().splitlines().index("  server_tasks:")
    said = CliRunner().invoke(app, ["validate", str(file)])
    if said.exit_code:  # this machine has no GPU
        assert said.exit_code == 2
        assert said.stderr.startswith(f"{file}:{line + 1}: edge.server_tasks.0: design: device is 'cuda:0', but torch")
    assert CliRunner().invoke(app, ["validate", str(runs.write(tmp_path, beside(runs.kernel())))]).exit_code == 0


def test_only_a_comparison_that_names_the_tasks_has_any(tmp_path: Path) -> None:
    entries = [{"name": "none", "seed": 4}, {"name": "own", "edge.server_tasks.0.batch": 4}]
    loaded = load(runs.write(tmp_path, {**beside(runs.kernel()), "compare": entries}))
    tasks = {name: other.scenario.edge.server_tasks for name, other in compared(loaded)}
    assert tasks["none"] == ()
    assert [task.batch for task in tasks["own"]] == [4]
