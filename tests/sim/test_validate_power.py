"""`equiran validate` on power scenarios: everything wrong at once, the whole scenario, and estimates that hold."""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from power_runs import BEST, loaded, written
from typer.testing import CliRunner, Result

import runs
from sim.cli import app
from sim.power_estimate import estimate_power
from sim.power_run import rehearse
from sim.power_scenario import load_power

FOLDER = runs.SCENARIOS / "power"
WIDTHS = (20, 20, 32, 32, 32, 32, 20, 20)


def validate(*words: object) -> Result:
    return CliRunner().invoke(app, ["validate", *map(str, words)])


def test_every_shipped_power_scenario_is_valid_beside_slots_or_alone() -> None:
    files = sorted(FOLDER.glob("*.yaml"))
    result = validate(*files, "--json")
    assert result.exit_code == 0, result.stderr
    assert [one["file"] for one in json.loads(result.stdout)["scenarios"]] == [str(file) for file in files]


@pytest.mark.parametrize("name", ["paper", "best"])
def test_what_it_tells_of_the_papers_network(name: str) -> None:
    file = FOLDER / f"{name}.yaml"
    told = json.loads(validate(file, "--json").stdout)
    assert (told["valid"], told["file"], told["notes"]) == (True, str(file), [])
    assert told["scenario"] == load_power(file).scenario.model_dump(mode="json", by_alias=True)
    estimate = told["estimate"]
    assert (estimate["tasks"], estimate["steps"]) == (14, 10_000)
    assert estimate["bdnn_parameters"] == sum(a * b + b for a, b in pairwise(WIDTHS)) + 14 * (name == "best")
    assert estimate["all_parameters"] == estimate["bdnn_parameters"] + estimate["rdnn_parameters"]
    assert estimate["training_samples"] == 14 * 30_000
    minutes = estimate["steps"] / estimate["steps_per_second_here"] / 60
    assert estimate["training_minutes_here"] == pytest.approx(minutes, abs=0.06)


def test_it_prints_a_scenario_that_runs_and_what_it_needs_as_comments(tmp_path: Path) -> None:
    file = written(tmp_path)
    result = validate(file)
    assert (result.exit_code, result.stderr) == (0, "")
    (tmp_path / "again.yaml").write_text(result.stdout)
    assert load_power(tmp_path / "again.yaml").scenario == load_power(file).scenario
    assert re.search(r"^# steps: 50$", result.stdout, re.MULTILINE)


def test_several_files_of_both_kinds_at_once(tmp_path: Path) -> None:
    both = validate(BEST, runs.GOLDEN, "--json")
    assert both.exit_code == 0, both.stderr
    told = json.loads(both.stdout)
    assert [one["scenario"]["name"] for one in told["scenarios"]] == ["power_best", "golden"]
    assert told["valid"] is True


def test_all_errors_of_all_files_come_at_once(tmp_path: Path) -> None:
    power = written(tmp_path / "a", w3=-1, batch=0, skp=True)
    slots = runs.write(tmp_path / "b", runs.changed(runs.kernel(), rounds=0))
    result = validate(power, slots, BEST, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    said = [line.split(": ")[:2] for line in result.stderr.splitlines()]
    lines = {key: power.read_text().splitlines().index(key) + 1 for key in ("    w3: -1", "    batch: 0")}
    task = "edge.server_tasks.0"
    assert [f"{power}:{lines['    w3: -1']}", f"{task}.w3"] in said
    assert [f"{power}:{lines['    batch: 0']}", f"{task}.batch"] in said
    assert [key for _, key in said] == [f"{task}.batch", f"{task}.w3", f"{task}.skp", "rounds"]


def test_a_problem_that_cannot_be_built_is_found(tmp_path: Path) -> None:
    result = validate(written(tmp_path, tasks=[{"problem": "nowhere:Own", "users": [2]}]))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{tmp_path / 'power.yaml'}:6: edge.server_tasks.0: problem nowhere:Own: cannot import")


def test_overrides_make_an_invalid_one(tmp_path: Path) -> None:
    result = validate(BEST, "--set", "edge.server_tasks.0.places=10")
    assert result.exit_code == 2
    assert "has more users than places (10); raise places" in result.stderr


@pytest.mark.parametrize("scheme", ["single", "naive", "zero_padding", "equivariant"])
def test_rivals_are_estimated_too(tmp_path: Path, scheme: str) -> None:
    scenario = loaded(tmp_path, scheme=scheme)
    found = estimate_power(scenario.scenario, rehearse(scenario))
    assert found["rdnn_parameters"] == 0
    assert found["all_parameters"] == found["bdnn_parameters"] * (3 if scheme == "single" else 1)
    assert found["steps_per_second_here"] > 0


def test_memory_grows_with_the_samples_and_is_that_of_a_process() -> None:
    small = load_power(BEST, ["edge.server_tasks.0.samples={train: 1, test: 1, violation: 1}"])
    large = load_power(BEST)
    found = [estimate_power(one.scenario, rehearse(one))["megabytes"] for one in (small, large)]
    code = "import sim.validation, psutil; print(psutil.Process().memory_info().rss)"
    fresh = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) / 1e6
    assert 0.5 * fresh < found[0] < 2 * fresh
    assert found[1] - found[0] == pytest.approx((2.2 * 4 * 21 * 30_000 * 20 + 12 * 8 * 20 * 400_000) / 1e6, abs=2)


def test_each_command_names_the_other_for_the_others_scenarios(tmp_path: Path) -> None:
    slots = CliRunner().invoke(app, ["train-power", str(runs.GOLDEN), "--out", str(tmp_path / "a")])
    power = CliRunner().invoke(app, ["run", str(BEST), "--out", str(tmp_path / "b")])
    assert (slots.exit_code, power.exit_code) == (2, 2)
    assert slots.stderr == f"{runs.GOLDEN}:{first_line(runs.GOLDEN)}: a scenario with slots; give it to `equiran run`\n"
    assert power.stderr.endswith(": no slots, only a server task; give it to `equiran train-power`\n")
    assert [*tmp_path.iterdir()] == []


def first_line(file: Path) -> int:
    """Of the mapping at the top."""
    node = yaml.compose(file.read_text())
    return int(node.start_mark.line) + 1


def test_a_scenario_with_slots_that_lacks_some_is_still_one_with_slots(tmp_path: Path) -> None:
    tree = runs.kernel()
    del tree["rounds"]
    result = CliRunner().invoke(app, ["train-power", str(runs.write(tmp_path, tree))])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.endswith("a scenario with slots; give it to `equiran run`")


def test_a_rehearsal_takes_no_step_of_the_run_itself(tmp_path: Path) -> None:
    """Timing a few steps must leave the rehearsed trainer, whose numbers are shown, as it was."""
    scenario = loaded(tmp_path)
    trainer = rehearse(scenario)
    estimate_power(scenario.scenario, trainer)
    assert (trainer.taken, trainer.design.stages) == (0, (20, 30))
