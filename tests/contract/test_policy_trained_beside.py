"""Power from the policy that the run itself trains: the same numbers everywhere, however fast the trainer is."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

import runs
from edge_server.power_config import RoutedMtl
from edge_server.radio.power import Downlink, Routed
from edge_server.record import RoundRecord
from edge_server.routed_mtl.policy import Policy
from edge_server.routed_mtl.publishing import publish
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.training import Trainer
from edge_server.server_tasks import beside as beside_slots
from sim.caller import BadScenario, Result, RunError, Watcher
from sim.local import run_in_memory
from sim.planning import blueprint
from sim.price import numbers
from sim.scenario import ScenarioErrors, compared, load
from sim.step import Step

RHO, P_TOT, BAND, USERS, SLOTS, STEPS = 10.0, 10.0, 1e6, 4, 3, 5
TASK: dict[str, Any] = {
    "kind": "routed_mtl",
    "problems": {"p3": {"rho": RHO}},
    "tasks": [{"problem": "p3", "users": [2, 4]}],
    "samples": {"train": 100, "test": 20, "violation": 20},
    "places": 4, "batch": 8, "stages": [12, 14], "every": 10, "rate": 0.05, "inputs": "log_gain", "skip": True,
}  # fmt: skip
AIR: dict[str, Any] = {
    "kind": "rayleigh",
    "loss_db": [0.0, 0.0, 6.0, 12.0],
    "user_power": 10.0,
    "bits": {"features": 1000, "outputs": 100_000},
    "power": {"kind": "routed_mtl", "steps_per_round": STEPS},
}


def beside(rounds: int = 7, deadline: float | None = 0.1, **task: Any) -> runs.Tree:
    """Round 6 would be after 30 steps, but the trainer has 26."""
    tree = runs.digits(many=USERS, rounds=rounds, slots=SLOTS, radio=AIR, deadline=deadline)
    return runs.changed(tree, edge__server_tasks=[{**TASK, **task}])


def radio_rows(folder: Path) -> dict[str, np.ndarray]:
    """Columns of radio.parquet as [T, m, K]."""
    table = pq.read_table(folder / "radio.parquet")
    return {name: table[name].to_numpy(zero_copy_only=False).reshape(-1, SLOTS, USERS) for name in table.column_names}


def in_use(folder: Path) -> list[tuple[int, int | None]]:
    return [(event["round"], event["step"]) for event in runs.events(folder, "policy_in_use")]


def trainer(folder: Path) -> psutil.Process:
    """Of the run that writes there."""
    (begun,) = runs.events(folder, "server_task_started")
    return psutil.Process(begun["pid"])


def after(step: int, seed: int = 7) -> Policy:
    """The policy after so many steps, trained here."""
    task = RoutedMtl.model_validate(TASK)
    tasks = task.built_tasks()
    alone = Trainer(tasks, task.design(seed), draw_samples(tasks, task.samples.train, seed, task.places))
    alone.train(step)
    return publish(alone)


def same_numbers(one: Result, other: Result) -> bool:
    tables = [pq.read_table(result.folder / "radio.parquet") for result in (one, other)]
    return one.digest == other.digest and tables[0].equals(tables[1]) and in_use(one.folder) == in_use(other.folder)


def check_powers(folder: Path) -> None:
    """Every slot's power is that of the policy in use."""
    rows = radio_rows(folder)
    for t, step in in_use(folder):
        policy = Routed(Downlink(P_TOT, BAND), None if step is None else after(step))
        for i in range(SLOTS):
            watts, bits = rows["outputs_w"][t, i], rows["outputs_bits"][t, i]
            served = watts > 0
            np.testing.assert_array_equal(watts[served], policy.power(RHO * rows["gain"][t, i][served], bits[served]))


def test_every_transport_gives_the_same_numbers(tmp_path: Path, run_on_ray) -> None:
    tree = beside()
    tree["users"] = [{**user, "presence": {"churn": 0.3}} if k else user for k, user in enumerate(tree["users"])]
    found = [run_on_ray(tmp_path / name, tree, name) for name in ("memory", "grpc", "ray")]
    assert same_numbers(found[0], found[1])
    assert same_numbers(found[0], found[2])
    assert found[0].summary["late"] > 0
    check_powers(found[0].folder)
    served = (radio_rows(found[0].folder)["outputs_w"] > 0).sum(axis=2)
    assert len({*served.ravel()}) > 1
    assert found[0].digest != run_on_ray(tmp_path / "equal", runs.changed(tree, radio__power="equal"), "memory").digest


def test_round_t_has_the_policy_after_its_steps_and_the_last_one_once_it_is_there(tmp_path: Path) -> None:
    result = runs.run(tmp_path, beside(deadline=None))
    assert in_use(result.folder) == [(0, None), (1, 5), (2, 10), (3, 15), (4, 20), (5, 25), (6, 26)]
    check_powers(result.folder)
    arrays, about = after(26).packed()
    assert (result.folder / "policy.safetensors").read_bytes() == arrays
    assert runs.read_json(result.folder / "policy.json") == json.loads(json.dumps(about))
    plain = runs.changed(beside(deadline=None), radio=None, edge__server_tasks=[])
    assert result.digest == runs.run(tmp_path / "plain", plain).digest


@contextmanager
def halting(folder: Path) -> Iterator[None]:
    """The trainer of the run in this folder halts for most of the time once a policy of its own is in use."""
    over = threading.Event()

    def halt() -> None:
        events = folder / "events.jsonl"
        while not over.wait(0.05):
            if events.exists() and len(in_use(folder)) > 1:
                with suppress(psutil.NoSuchProcess):
                    trainer(folder).suspend()
                    over.wait(0.15)
                    trainer(folder).resume()

    thread = threading.Thread(target=halt)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_the_numbers_do_not_depend_on_who_is_faster(tmp_path: Path) -> None:
    with halting(tmp_path / "behind" / "memory"):
        behind = runs.run(tmp_path / "behind", beside(), "memory")

    def wait(_record: RoundRecord) -> None:
        """Until the trainer is done."""
        deadline = monotonic() + 60
        with suppress(psutil.NoSuchProcess):
            while trainer(tmp_path / "ahead" / "memory").status() != psutil.STATUS_ZOMBIE:
                assert monotonic() < deadline
                sleep(0.02)

    ahead = runs.run(tmp_path / "ahead", beside(), "memory", Watcher(on_round=wait))
    assert same_numbers(behind, ahead)
    assert behind.summary["late"] > 0


def test_a_trainer_that_diverges_ends_the_run_where_its_policy_is_missed(tmp_path: Path) -> None:
    tree = beside(rate=1e30, stages=[0, 500], skip=False)
    with pytest.raises(
        RunError, match=r"^digits: radio: round 1 needs the power policy after 5 steps, but its .* loss is"
    ):
        runs.run(tmp_path, tree, "grpc")
    summary = runs.read_json(tmp_path / "grpc" / "summary.json")
    assert (summary["rounds"], summary["server_tasks"][0]["status"]) == (1, "failed")


class Assassin(Watcher):
    """Sends the trainer a signal when round 2 is over; wants the run to stop some time later."""

    def __init__(self, folder: Path, number: signal.Signals, patience: float) -> None:
        super().__init__(on_round=self._look, stop=lambda: monotonic() > self._stop_at)
        self._stop_at, self._folder, self._number, self._patience = inf, folder, number, patience

    def _look(self, record: RoundRecord) -> None:
        if record.round == 2:
            os.kill(trainer(self._folder).pid, self._number)
            self._stop_at = monotonic() + self._patience


def test_a_killed_trainer_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    tree = beside(rounds=1000, stages=[10**7, 0])
    with pytest.raises(RunError) as raised:
        runs.run(tmp_path, tree, "memory", Assassin(tmp_path / "memory", signal.SIGKILL, patience=60))
    assert "but its trainer failed: killed by SIGKILL; a network trained before can be given as radio." in str(
        raised.value
    )
    assert runs.read_json(tmp_path / "memory" / "manifest.json")["status"] == "failed"
    assert (tmp_path / "memory" / "policy.safetensors").is_file()


def test_who_waits_for_a_trainer_can_be_stopped(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(beside_slots, "LAST_WORDS", 0.2)
    watcher = Assassin(tmp_path / "grpc", signal.SIGSTOP, patience=2.0)
    result = runs.run(tmp_path, beside(rounds=10**6, stages=[10**7, 0]), "grpc", watcher)
    assert result.status == "stopped"
    rounds = result.summary["rounds"]
    assert rounds >= 3
    assert len(pq.read_table(result.folder / "radio.parquet")) == rounds * SLOTS * USERS
    assert in_use(result.folder)[-1] == (rounds - 1, STEPS * (rounds - 1))
    assert [*runs.read_json(result.folder / "manifest.json")["parties"]["users"]] == ["u0", "u1", "u2", "u3"]


def test_a_pass_that_nobody_hears_of_trains_too(tmp_path: Path) -> None:
    """As those do that measure G."""
    design = blueprint(runs.loaded(tmp_path, beside(rounds=3)).scenario, "pass")
    outcome = run_in_memory(design, Step(0.1), runs.HOOKS)
    heard = runs.run(tmp_path, beside(rounds=3))
    assert outcome.edge.hex() == runs.read_json(heard.folder / "manifest.json")["parties"]["edge"]
    assert heard.summary["late"] > 0


def test_a_comparison_keeps_the_trainer_that_its_radio_needs(tmp_path: Path) -> None:
    entries = [
        {"name": "seed", "seed": 4},
        {"name": "equal", "radio.power": "equal"},
        {"name": "own", "radio.power.problem": "p3_delay", "edge.server_tasks.0.batch": 4},
    ]
    loaded = load(runs.write(tmp_path, {**beside(), "compare": entries}))
    tasks = {name: [task.batch for task in other.scenario.edge.server_tasks] for name, other in compared(loaded)}
    assert tasks == {"seed": [8], "equal": [], "own": [4]}


def test_other_training_is_other_numbers_where_the_radio_uses_it(tmp_path: Path) -> None:
    """So a run with alpha 0 and another trainer is no measure of the price of fairness."""
    for power, equal in ((AIR["power"], False), ("equal", True)):
        trees = [runs.changed(beside(batch=batch), radio__power=power) for batch in (8, 4)]
        one, other = (runs.loaded(tmp_path, tree).scenario for tree in trees)
        assert (numbers(one) == numbers(other)) == equal


def refusal(tmp_path: Path, tree: runs.Tree) -> str:
    with pytest.raises((ScenarioErrors, BadScenario)) as raised:
        runs.run(tmp_path, tree)
    assert not (tmp_path / "out").exists()
    return str(raised.value)


def line_of(tmp_path: Path, text: str) -> int:
    lines = (tmp_path / "in" / "scenario.yaml").read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_what_cannot_be_trained_for_the_radio_is_refused_at_its_line(tmp_path: Path) -> None:
    said = refusal(tmp_path, runs.changed(beside(), edge__server_tasks=[]))
    assert said.endswith(
        "there is nobody to train the policy: give edge.server_tasks a routed_mtl, or a path as policy"
    )
    assert f"scenario.yaml:{line_of(tmp_path, 'steps_per_round')}: radio.power.steps_per_round: " in said
    said = refusal(tmp_path, beside(device="cuda"))
    assert f"scenario.yaml:{line_of(tmp_path, 'device')}: edge.server_tasks.0.device: a GPU's bits differ" in said
    for power, why in [
        ({"kind": "routed_mtl"}, "give policy, the path of a trained network, or steps_per_round, to train one in"),
        ({"kind": "routed_mtl", "policy": "x", "steps_per_round": 5}, "give policy, the path of a trained network, or"),
        ({"kind": "routed_mtl", "steps_per_round": 0}, "radio.power.steps_per_round: must be at least 1, got 0"),
    ]:
        assert why in refusal(tmp_path, runs.changed(beside(), radio__power=power))
    entry = {"name": "without", "edge.server_tasks": []}
    said = refusal(tmp_path, {**beside(), "compare": [entry]})
    assert "compare.without.radio.power.steps_per_round: there is nobody to train the policy" in said


def test_a_trainer_that_does_not_serve_the_radio_is_refused_at_its_line(tmp_path: Path) -> None:
    said = refusal(tmp_path, beside(tasks=[{"problem": "p3", "users": [2, 3]}]))
    line = line_of(tmp_path, "steps_per_round") - 2
    assert f"scenario.yaml:{line}: radio.power: power policy: no policy for p3_delay with N = 4; " in said
    assert "; trained for N = 2, 3; steps_per_round takes what this run trains: give edge.server_tasks.0.tasks " in said
    assert said.endswith(" a group {problem: p3, users: [4]}")
    said = refusal(tmp_path, runs.changed(beside(), radio__power__problem="p3_min_max"))
    assert "no policy for problem 'p3_min_max'; it has p3_delay; " in said
    assert said.endswith("a group {problem: p3_min_max, users: [4]}")
