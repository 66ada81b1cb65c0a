"""`equiran serve --metrics`: what Prometheus's own parser reads is what the records add up to."""

import signal
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

import apart
import runs
from sim.apart.metrics import Metrics
from sim.caller import Watcher
from sim.cli import app

Values = dict[tuple[str, ...], float]
PEOPLE = [{"name": name, "task": {"kind": "kernel_regression"}, "head": {"kind": "linear"}} for name in ("u0", "u1")]
SERVED = runs.changed(
    runs.kernel(rounds=100_000, slots=3, users=PEOPLE, patience=60),
    edge__encoder={"kind": "linear", "outputs": 3, "initial": "default"},
    edge__primal={"step": 0.05},
)


def read(text: str) -> Values:
    """By name, user, kind and bound."""
    return {
        (
            sample.name,
            *(sample.labels[label] for label in ("user", "kind", "le") if label in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def asked(url: str) -> Values:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return read(answer.read().decode())


def check_sums(found: Values, slots: dict[str, np.ndarray], users: tuple[str, ...]) -> None:
    """Against the rows of these rounds."""
    for user in users:
        mine = slots["user"] == user
        for kind in ("applied", "late", "rejected", "absent"):
            count = ((slots["status"] == kind) & mine).sum()
            assert found["equiran_user_slots_total", user, kind] == count
        for way in ("up", "down"):
            assert found["equiran_bytes_total", user, way] == slots[f"bytes_{way}"][mine].sum()
    seconds = slots["t_slot"][slots["user"] == users[0]]
    assert found["equiran_slots_total",] == found["equiran_slot_seconds_count",] == len(seconds)
    assert found["equiran_slot_seconds_sum",] == pytest.approx(seconds.sum())
    for bound in (0.001, 0.01, 1.0):
        assert found["equiran_slot_seconds_bucket", str(bound)] == (seconds <= bound).sum()


def test_sums_and_gauges_are_those_of_the_records(tmp_path: Path) -> None:
    metrics, users = Metrics(["u0", "u1", "u2"]), ("u0", "u1", "u2")
    faults = [{"at": {"round": 1, "slot": 2}, "user": "u1", "kind": "nan"}]
    folder = runs.run(tmp_path, runs.digits(rounds=2, faults=faults), None, metrics.told_by(Watcher())).folder
    registry = CollectorRegistry()
    registry.register(metrics)
    found = read(generate_latest(registry).decode())
    check_sums(found, runs.slots(folder), users)
    assert found["equiran_user_slots_total", "u1", "rejected"] == 1
    assert found["equiran_events_total", "u1", "rejected"] == 1
    rounds = runs.rounds(folder)
    for k, user in enumerate(users):
        assert found["equiran_utility", user] == rounds["mean_utility"].reshape(2, 3)[-1, k]
        assert found["equiran_weight", user] == rounds["w_mean"].reshape(2, 3)[-1, k]
    assert found["equiran_fairness",] == rounds["fairness"][-1]
    assert (found["equiran_rounds_total",], found["equiran_users",], found["equiran_users_here",]) == (2, 3, 3)


def test_an_edge_is_asked_while_it_waits_and_while_it_runs(tmp_path: Path) -> None:
    scenario = runs.write(tmp_path, {**SERVED, "on_user_failure": "drop"})
    with apart.apart() as ours:
        served, at = ours.serve(tmp_path / "edge", scenario, "--out", "run", "--metrics", "0")
        url = served.says(r"metrics: (http://127.0.0.1:\S+/metrics)\n")
        waiting = asked(url)
        assert (waiting["equiran_users",], waiting["equiran_users_here",]) == (2, 0)
        ours.join(tmp_path / "u0", scenario, at, "u0")
        served.until(lambda: asked(url)["equiran_users_here",] == 1)
        other = ours.join(tmp_path / "u1", scenario, at, "u1")
        served.until(lambda: asked(url)["equiran_rounds_total",] > 2)
        assert asked(url)["equiran_users_here",] == 2
        other.send(signal.SIGKILL)
        served.until(lambda: asked(url).get(("equiran_events_total", "u1", "lost")) == 1)
        last = asked(url)
        assert last["equiran_users_here",] == 1
        served.send(signal.SIGTERM)
        served.ends(143)
    slots = runs.slots(tmp_path / "edge/run")
    before = slots["round"] < last["equiran_rounds_total",]
    check_sums(last, {name: values[before] for name, values in slots.items()}, ("u0", "u1"))


@pytest.mark.parametrize(
    ("metrics", "code", "said"),
    [("elsewhere:x", 2, "give HOST:PORT"), ("203.0.113.1:9464", 1, "--metrics 203.0.113.1:9464: ")],
)
def test_an_address_that_is_none_is_one_line(tmp_path: Path, metrics: str, code: int, said: str) -> None:
    words = ["serve", str(runs.write(tmp_path, SERVED)), "--out", str(tmp_path / "out"), "--metrics", metrics]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == code
    assert said in told.stderr
    assert told.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
