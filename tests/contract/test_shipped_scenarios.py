"""Every scenario in the repository runs, shortened; those over MNIST run where it is, and say so where it is not."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import runs
from sim.cli import app
from sim.power_scenario import load_power
from sim.scenario import load
from user_client.datasets import mnist_is_here

FILES = sorted(path.relative_to(runs.SCENARIOS).as_posix() for path in runs.SCENARIOS.rglob("*.yaml"))
POWER = [name for name in FILES if "\nrounds:" not in (runs.SCENARIOS / name).read_text()]
SHIPPED = [name for name in FILES if name not in POWER]
PROMISED = {
    "quickstart.yaml", "owo_fmtl/golden.yaml", "owo_fmtl/fig2_stochastic.yaml", "owo_fmtl/fig2_alternate.yaml",
    "owo_fmtl/fig2_random.yaml", "stress/conflict.yaml", "stress/half.yaml", "stress/pingpong_64_users.yaml",
    "stress/crowd_of_many.yaml", "stress/chaos.yaml",
    "cluster/rainbow.yaml", "cluster/ten_thousand.yaml", "power/beside_slots.yaml", "radio/trained_beside.yaml",
    "radio/compressed.yaml", "radio/deadline_pingpong.yaml",
}  # fmt: skip
POLICY = ["radio/crowd.yaml", "radio/policies.yaml"]
"""They take a network that `equiran train-power` left."""
MANY = "cluster/ten_thousand.yaml"
MNIST = [name for name in SHIPPED if "digits: mnist" in (runs.SCENARIOS / name).read_text()]


def short_run(name: str, out: Path) -> Result:
    full = load(runs.SCENARIOS / name).scenario
    sets = [f"rounds={min(full.rounds, 3)}", f"slots={min(full.slots, 4)}"]
    if name == MANY:
        sets.append("users.count=100")
    options = [word for text in sets for word in ("--set", text)]
    command = ["run", str(runs.SCENARIOS / name), "--transport", "memory", "--out", str(out), "--json", "--quiet"]
    return CliRunner().invoke(app, [*command, *options])


def short_training(name: str, out: Path) -> Result:
    """The scenario as it is, with fewer steps and samples."""
    task = "edge.server_tasks.0"
    sets = [f"{task}.stages=[6, 6]", f"{task}.samples={{train: 40, test: 20, violation: 50}}"]
    options = [word for text in sets for word in ("--set", text)]
    command = ["train-power", str(runs.SCENARIOS / name), "--out", str(out), "--json", "--quiet"]
    return CliRunner().invoke(app, [*command, *options])


def test_what_was_promised_is_there() -> None:
    assert {*POWER} >= {"power/paper.yaml", "power/best.yaml", "power/radio.yaml"}
    assert {*SHIPPED} >= PROMISED
    assert any(name.startswith("owo_fmtl/fig3_") for name in MNIST)
    assert any(name.startswith("owo_fmtl/fig4_") for name in MNIST)


@pytest.mark.parametrize("name", POLICY)
def test_without_its_network_it_names_the_command(tmp_path: Path, name: str) -> None:
    (line,) = short_run(name, tmp_path / "out").stderr.splitlines()
    assert line.startswith(str(runs.SCENARIOS / name) + ":")
    assert line.endswith("`equiran train-power` trains one, and leaves it at DIR/policy, to be named without an ending")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in POLICY])
def test_it_runs_shortened(tmp_path: Path, name: str) -> None:
    result = short_run(name, tmp_path / "out")
    if name in MNIST and not mnist_is_here():
        assert result.exit_code == 2
        assert "MNIST is not here" in result.stderr
        return
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    everyone = [told, *told.get("compare", ())]
    assert [one["status"] for one in everyone] == ["done"] * len(everyone)
    assert len({one["digest"] for one in everyone}) == len(everyone)
    for one in everyone:
        assert (Path(one["dir"]) / "rounds.parquet").is_file()
        assert one["rejected"] == 0 or "fault" in one["events"]


@pytest.mark.parametrize("name", POWER)
def test_it_trains_shortened(tmp_path: Path, name: str) -> None:
    result = short_training(name, tmp_path / "out")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["status"], told["steps"]) == ("done", 12)
    assert told["bdnn_parameters"] <= 6000
    given = load_power(runs.SCENARIOS / name).scenario.task.tasks
    assert [task["n"] for task in told["tasks"]] == [users for group in given for users in group.users]
    assert (tmp_path / "out" / "policy.safetensors").is_file()


@pytest.mark.parametrize("name", MNIST)
def test_without_mnist_it_names_the_command_and_starts_nothing(tmp_path: Path, name: str, monkeypatch) -> None:
    monkeypatch.setenv("EQUIRAN_DATA", str(tmp_path / "nothing"))
    result = short_run(name, tmp_path / "out")
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert 'run "equiran data fetch mnist"' in line
    assert line.startswith(str(runs.SCENARIOS / name) + ":")
    assert not (tmp_path / "out").exists()


def test_the_quickstart_runs_on_ray_to_the_bits_of_memory(tmp_path: Path, run_on_ray) -> None:
    text = (runs.SCENARIOS / "quickstart.yaml").read_text()
    tree = runs.plain_yaml(text) | {"rounds": 2, "slots": 4}
    first = run_on_ray(tmp_path, tree, "ray")
    second = run_on_ray(tmp_path, tree, "memory")
    assert [one.digest for one in (first, *first.compared)] == [one.digest for one in (second, *second.compared)]
