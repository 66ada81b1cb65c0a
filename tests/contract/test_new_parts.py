"""`equiran new`: parts of every kind, made in an empty folder, work as they are on every transport, and resume."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import runs
from sim.caller import Result as RunResult
from sim.caller import Watcher
from sim.cli import app
from sim.new import KINDS
from sim.power_resume import resume_power
from sim.power_run import PowerWatcher, train_power
from sim.power_scenario import load_power
from sim.resume import resume_run
from sim.runner import run as run_loaded
from sim.scenario import load

ROOT = Path(__file__).parents[2]
SLOTTED = [kind for kind in KINDS if kind != "problem"]
MATTERS = {
    "task": "users.0.task.args.last=0.5",
    "adversary": "users.1.adversary.args.share=0.0",
    "front": "users.*.front.args.limit=1.0",
    "head": "users.*.head.args.limit=1.0",
    "encoder": "edge.encoder.args.hidden=4",
    "aggregator": "edge.aggregator.args.power=0.0",
    "outer": "edge.meta.rule.args.momentum=0.0",
    "channel": "radio.args.sigma_db=0.0",
    "policy": "radio.power.args.share=0.0",
}
"""One argument of each part, which must change the run."""


def equiran(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def name_of(kind: str) -> str:
    return f"my_own_{kind}"


@pytest.fixture(scope="module")
def made(parts: Path) -> Path:
    """The folder, with a part of every kind."""
    assert not [*parts.iterdir()]
    for kind in KINDS:
        result = equiran("new", kind, name_of(kind), "--to", parts, "--json")
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        expected = [f"{name_of(kind)}.py", f"test_{name_of(kind)}.py", f"{name_of(kind)}.yaml"]
        assert told["files"] == [str(parts / name) for name in expected]
        assert told["class"].startswith(f"{name_of(kind)}:MyOwn")
        assert told["next"][0] == f"cd {parts}"
    return parts


def go(made: Path, out: Path, kind: str, transport: str, *sets: str) -> RunResult:
    loaded = load(made / f"{name_of(kind)}.yaml", sets, transport=transport)
    return run_loaded(loaded, out, None, Watcher())


def test_their_tests_pass_where_nothing_else_is(made: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
    where = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=made, env=where, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    for kind in KINDS:
        assert f"test_{name_of(kind)}.py::" in done.stdout
    assert "warning" not in done.stdout


def test_nothing_of_the_skeletons_is_left_in_them(made: Path) -> None:
    files = [*made.glob("*.py"), *made.glob("*.yaml")]
    assert len(files) == 3 * len(KINDS)
    for file in files:
        assert "skeleton" not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", SLOTTED)
def test_it_runs_in_memory_and_over_grpc_and_matters(made: Path, tmp_path: Path, kind: str) -> None:
    memory, grpc = (go(made, tmp_path / transport, kind, transport) for transport in ("memory", "grpc"))
    assert memory.status == grpc.status == "done"
    assert memory.digest == grpc.digest
    other = go(made, tmp_path / "other", kind, "memory", MATTERS[kind])
    if kind == "policy":
        assert other.summary["virtual_seconds"] > memory.summary["virtual_seconds"]
    else:
        assert other.digest != memory.digest


@pytest.mark.parametrize("kind", ["task", "aggregator", "channel"])
def test_it_runs_on_ray(made: Path, tmp_path: Path, kind: str, run_on_ray) -> None:
    tree = runs.plain_yaml((made / f"{name_of(kind)}.yaml").read_text(encoding="utf-8"))
    assert (
        run_on_ray(tmp_path, tree | {"hosts": 1}, "ray").digest == go(made, tmp_path / "memory", kind, "memory").digest
    )


@pytest.mark.parametrize("kind", ["aggregator", "outer"])
@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_its_state_survives_a_stop(made: Path, tmp_path: Path, kind: str, transport: str) -> None:
    whole = go(made, tmp_path / "whole", kind, "memory")
    loaded = load(made / f"{name_of(kind)}.yaml", transport=transport)
    assert run_loaded(loaded, tmp_path / "out", None, Watcher(), stop_after=2).status == "stopped"
    resumed = resume_run(tmp_path / "out", None, None, Watcher())
    assert (resumed.status, resumed.digest) == ("done", whole.digest)


def test_a_problem_is_learned_and_goes_on_after_a_stop(made: Path, tmp_path: Path) -> None:
    loaded = load_power(made / f"{name_of('problem')}.yaml")
    whole = train_power(loaded, tmp_path / "whole", PowerWatcher())
    gaps = [task["gap_mean"] for task in runs.read_json(tmp_path / "whole" / "power.json")["tasks"]]
    assert max(gaps) < 0.05
    assert train_power(loaded, tmp_path / "out", PowerWatcher(), stop_after=400).status == "stopped"
    assert resume_power(tmp_path / "out", PowerWatcher()).digest == whole.digest


def test_a_problem_is_learned_beside_the_slots(made: Path, tmp_path: Path) -> None:
    tree = runs.plain_yaml((made / f"{name_of('problem')}.yaml").read_text(encoding="utf-8"))
    (task,) = tree["edge"]["server_tasks"]
    short = {**task, "stages": [2, 2], "samples": {"train": 20, "test": 10, "violation": 10}}
    alone = runs.run(tmp_path, runs.kernel(rounds=2), "memory")
    beside = runs.run(tmp_path, runs.changed(runs.kernel(rounds=2), edge__server_tasks=[short]), "grpc")
    assert beside.digest == alone.digest
    assert (beside.folder / "power.json").exists()
    assert not runs.events(beside.folder, "server_task_failed")


def test_where_the_module_is_not_it_is_one_line(made: Path, tmp_path: Path) -> None:
    """As on a machine that has the scenario, and not the parts: before anybody is reached."""
    commands = {
        "task": ("join", "--edge", "127.0.0.1:9", "--users", "drifting", "--state"),
        "outer": ("serve", "--out"),
    }
    for kind, (command, *options) in commands.items():
        text = (made / f"{name_of(kind)}.yaml").read_text(encoding="utf-8").replace(f"{name_of(kind)}:", "gone:")
        file = tmp_path / f"{kind}.yaml"
        file.write_text(text, encoding="utf-8")
        result = equiran(command, file, *options, tmp_path / "left")
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.splitlines()
        at = next(number for number, said in enumerate(text.splitlines(), 1) if "gone:" in said)
        assert line.startswith(f"{file}:{at}: ")
        assert "cannot import gone: ModuleNotFoundError: No module named 'gone'; its folder must be" in line
        assert line.endswith("on every machine where this part runs")


REFUSED = [
    ("aggregater", "mine", "no kind 'aggregater' of part; did you mean \"aggregator\"?"),
    ("task", "My-Task", "'My-Task' is no name: give a Python module's name in small letters"),
    ("task", "class", "'class' is no name"),
    ("task", "test_mine", "'test_mine' is no name"),
    ("task", "../mine", "'../mine' is no name"),
    ("task", "torch", "'torch' would hide the module of that name, "),
    ("aggregator", "slot", "'slot': its class would be Slot, a name that its files have a use for; take another"),
]


@pytest.mark.parametrize(("kind", "name", "said"), REFUSED, ids=[row[2][:30] for row in REFUSED])
def test_a_bad_kind_or_name_is_one_line_and_nothing_is_written(tmp_path: Path, kind: str, name: str, said: str) -> None:
    result = equiran("new", kind, name, "--to", tmp_path / "there")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(said)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("there", ["mine.py", "test_mine.py", "mine.yaml"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("dear", encoding="utf-8")
    result = equiran("new", "task", "mine", "--to", tmp_path)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{tmp_path / there} is there already, and nothing was written: ")
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [(there, "dear")]


def test_a_part_may_be_called_what_its_skeleton_is(tmp_path: Path) -> None:
    assert equiran("new", "channel", "walking", "--to", tmp_path).exit_code == 0
    assert "class Walking:" in (tmp_path / "walking.py").read_text(encoding="utf-8")


def test_two_problems_have_two_names(tmp_path: Path) -> None:
    """By which a scenario's tasks, and a policy's networks, are told apart."""
    for name in ("mine", "yours"):
        assert equiran("new", "problem", name, "--to", tmp_path).exit_code == 0
        assert f'name: ClassVar[str] = "{name}"' in (tmp_path / f"{name}.py").read_text(encoding="utf-8")
        assert f"name: {name}\n" in (tmp_path / f"{name}.yaml").read_text(encoding="utf-8")


def test_the_help_lists_every_kind_and_examples() -> None:
    said = equiran("new", "--help").stdout
    for kind, about in KINDS.items():
        assert f"{kind:11} {about}" in said
    assert "equiran new aggregator worst_first" in said
