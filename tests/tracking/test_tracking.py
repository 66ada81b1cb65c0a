"""Runs told to TensorBoard and MLflow, read back with their own readers: the numbers of the records, each once."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

import runs
from live.growing import Growing
from sim.caller import BadScenario
from sim.cli import app
from sim.extras import require_package
from sim.tracking import numbers
from sim.tracking.following import Where, follow, goes_on
from sim.tracking.numbers import Numbers

ROOT = Path(__file__).parents[2]
WATCHED = """
import sys

def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        with open({file!r}, "a") as log:
            log.write(str(address[0] if isinstance(address, tuple) else address) + "\\n")

sys.addaudithook(hook)
"""
"""Makes every Python process write down to whom it opens a socket."""
Courses = dict[str, list[tuple[int, float]]]


def scalars(folder: Path) -> Courses:
    """As TensorBoard reads them; it keeps 32 bits."""
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def recorded(folder: Path, column: str, user: int, users: int) -> list[float]:
    values: list[float] = runs.rounds(folder)[column].reshape(-1, users)[:, user].tolist()
    return values


def compare(told: Courses, folder: Path, users: tuple[str, ...], rtol: float) -> None:
    for k, user in enumerate(users):
        for kind, column in (("utility", "mean_utility"), ("weight", "w_mean"), ("val_accuracy", "val_accuracy")):
            steps, values = zip(*told[f"{kind}/{user}"], strict=True)
            assert [*steps] == [*range(len(steps))]
            np.testing.assert_allclose(values, recorded(folder, column, k, len(users)), rtol=rtol)
    _, fairness = zip(*told["run/fairness"], strict=True)
    np.testing.assert_allclose(fairness, recorded(folder, "fairness", 0, len(users)), rtol=rtol)
    total = runs.read_json(folder / "summary.json")["fairness_mean"]
    assert told["summary/fairness_mean"][0][1] == pytest.approx(total, rel=max(rtol, 1e-12))


@pytest.fixture
def mlflow_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A store of MLflow in files."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlflow").as_uri()


def test_a_run_is_told_to_both_while_it_lives_with_all_that_it_is_compared_with(
    tmp_path: Path, mlflow_files: str
) -> None:
    tree = runs.digits(many=2, rounds=3, slots=3, compare=[{"name": "other", "edge.aggregator.alpha": 2.0}])
    file, out = runs.write(tmp_path, tree), tmp_path / "out"
    told = [sys.executable, "-m", "sim", "run", file, "--out", out, "--tensorboard", "--mlflow", mlflow_files]
    command = [*told, "--transport", "grpc", "--quiet", "--json"]
    addresses = tmp_path / "addresses"
    (tmp_path / "sitecustomize.py").write_text(WATCHED.format(file=str(addresses)))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {*addresses.read_text().split()} == {"127.0.0.1"}
    client = MlflowClient(mlflow_files)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    there = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {*there} == {"digits", "other"}
    for name, folder in (("digits", out), ("other", out / "other")):
        compare(scalars(folder), folder, ("u0", "u1"), rtol=1e-6)
        run = there[name]
        history = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        told = {key: sorted((one.step, one.value) for one in found) for key, found in history.items()}
        compare(told, folder, ("u0", "u1"), rtol=0)
        assert run.info.status == "FINISHED"
        assert run.data.tags["digest"] == runs.read_json(folder / "manifest.json")["digest"]
        assert (run.data.params["users"], run.data.params["edge.encoder.width"]) == ("2", "16")
        text = Path(client.download_artifacts(run.info.run_id, "scenario.yaml", str(tmp_path))).read_text()
        assert text == (folder / "scenario.yaml").read_text()
    assert there["other"].data.params["edge.aggregator.alpha"] == "2.0"
    assert json.loads(ran.stdout)["digest"] == there["digits"].data.tags["digest"]


def test_a_run_that_is_over_is_told_anew(tmp_path: Path) -> None:
    folder = runs.run(tmp_path, runs.digits(many=2, rounds=2, slots=3)).folder
    for _ in range(2):
        told = CliRunner().invoke(app, ["track", str(folder), "--tensorboard"])
        assert (told.exit_code, told.stdout) == (0, f"{folder}\n"), told.stderr
    compare(scalars(folder), folder, ("u0", "u1"), rtol=1e-6)


def test_a_directory_that_holds_a_run_is_not_told_of_when_another_one_is_refused(tmp_path: Path) -> None:
    tree = runs.kernel(rounds=1, slots=1)
    folder = runs.run(tmp_path, tree).folder
    words = ["run", str(runs.write(tmp_path, tree)), "--out", str(folder), "--tensorboard"]
    refused = CliRunner().invoke(app, words)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert not (folder / "tensorboard").exists()


def test_a_run_under_way_is_followed_to_its_end(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run", users=2)
    growing.grow(2)
    told: list[list[Path]] = []
    following = threading.Thread(
        target=lambda: told.append(follow(growing.folder, Where(tensorboard=True), lambda: goes_on(growing.folder)))
    )
    following.start()
    until = time.monotonic() + 60
    while not (growing.folder / "tensorboard").exists() or "run/fairness" not in scalars(growing.folder):
        assert time.monotonic() < until
        time.sleep(0.1)
    growing.grow(3)
    growing.tell("done")
    following.join(60)
    assert told == [[growing.folder]]
    assert [step for step, _ in scalars(growing.folder)["utility/user_00"]] == [*range(5)]


def test_a_round_that_is_done_again_is_told_once(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run", users=2)
    growing.grow(4)
    told = Numbers(growing.folder)
    first = [one.round for some in told.take() for one in some]
    again = Growing(tmp_path / "run", users=2)
    again.grow(6)
    later = [one.round for some in told.take() for one in some]
    assert (first, later) == ([0, 1, 2, 3], [4, 5])


def test_of_many_users_the_least_the_median_and_the_largest_are_told(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run", users=numbers.MOST_USERS + 1)
    growing.grow(3)
    (rounds,) = Numbers(growing.folder).take()
    growing.tell("done")
    kinds = {name for one in rounds for name in one.values if name.startswith("utility/")}
    assert kinds == {"utility/least", "utility/median", "utility/largest"}
    for one in rounds:
        record = growing.record(one.round)
        assert one.values["utility/least"] <= one.values["utility/median"] <= one.values["utility/largest"]
        assert record.mean_utility.shape == (numbers.MOST_USERS + 1,)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["RUN"], 2, "give --tensorboard or --mlflow URI"),
        (["nowhere", "--tensorboard"], 2, "nowhere is not a run: manifest.json is missing"),
        (["TRAINER", "--tensorboard"], 2, "is a trainer by itself"),
        (["RUN", "--mlflow", "http://127.0.0.1:1"], 1, "MLflow at http://127.0.0.1:1: "),
    ],
)
def test_what_cannot_be_told_is_one_line(
    tmp_path: Path, words: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = runs.run(tmp_path, runs.kernel(rounds=1, slots=1)).folder
    runs.write(tmp_path / "trainer", {"edge": {"server_tasks": [{"kind": "routed_mtl"}]}})
    places = {"RUN": folder, "TRAINER": tmp_path / "trainer"}
    told = CliRunner().invoke(app, ["track", *(str(places.get(word, word)) for word in words)])
    assert told.exit_code == code
    assert said in told.stderr
    assert told.stderr.count("\n") == 1


def test_a_package_that_is_missing_is_one_line_with_the_command_that_installs_it() -> None:
    with pytest.raises(BadScenario) as raised:
        require_package("--tensorboard", "a_package_that_nobody_has", "tensorboard")
    assert re.search(r"is not installed: \S+ -m pip install 'equiran\[tensorboard\]'$", str(raised.value))
