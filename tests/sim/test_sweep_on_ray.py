"""`equiran sweep --address`: the runs go to whatever cores a Ray cluster has, and their folders come back."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import runs
from sim.cli import app
from sim.cluster import Cluster
from sim.cluster_tasks import Brought, Lost, Order, each
from sim.console import Screen
from sim.pool import Stopped
from sim.sweep.plan import is_done, plan
from sim.sweep.remote import run_on_cluster
from sim.sweep.run import Room, sweep

STEPS = "edge.primal.step=0.01,0.1"
HEAD = """\
import json, sys, ray
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[1])
print(json.dumps(ray.get_runtime_context().gcs_address), flush=True)
sys.stdin.read()
"""


def asked(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["sweep", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():  # by the tests of another folder, whose Ray lives as long as they do
        yield
        return
    with Cluster.start(None):
        yield


def test_runs_on_a_cluster_are_those_of_this_machine(tmp_path: Path, cluster: None) -> None:
    file = runs.write(tmp_path, runs.kernel(rounds=2, slots=4))
    planned = plan(file, [STEPS], 2, [], "memory")
    here = sweep(planned, tmp_path / "here", Room(1), Screen(True), lambda: False)
    ended: dict[int, str | None] = {}
    root = tmp_path / "there"
    run_on_cluster(planned.runs, root, None, lambda k, how: ended.update({k: how.error}), lambda: False)
    assert ended == dict.fromkeys(range(4))
    for one, row in zip(planned.runs, here.table.rows, strict=True):
        assert is_done(one, root)
        assert runs.read_json(root / one.run.name / "summary.json")["digest"] == row.digest
        assert not [*(root / one.run.name).parent.glob(".coming-*")]


def test_a_run_that_fails_there_says_why_and_the_others_go_on(tmp_path: Path, cluster: None) -> None:
    tree = runs.kernel(rounds=2, slots=4)
    tree["edge"]["primal"] = {"step": 0.1, "domain": "none"}
    planned = plan(runs.write(tmp_path, tree), ["edge.primal.step=0.1,1e200"], 1, [], "memory")
    ended: dict[int, str | None] = {}
    run_on_cluster(planned.runs, tmp_path / "there", 1, lambda k, how: ended.update({k: how.error}), lambda: False)
    assert ended[0] is None
    assert ended[1] is not None
    assert "\n" not in ended[1]
    assert "lower edge.primal.step" in ended[1]


def test_a_task_that_dies_or_raises_is_told_and_the_others_come_back(cluster: None) -> None:
    def half(order: bytes) -> tuple[bytes, bytes]:
        if order == b"die":
            os._exit(1)
        if order == b"raise":
            raise ValueError("no such order")
        return order, order * 2

    orders = [Order(content, 1) for content in (b"a", b"die", b"raise", b"b")]
    came = dict(each(half, orders, 2, lambda: False))
    assert (came[0], came[3]) == (Brought(b"a", b"aa"), Brought(b"b", b"bb"))
    died = came[1]
    assert isinstance(died, Lost)
    assert died.why.startswith("its process died twice: ")
    assert came[2] == Lost("ValueError: no such order")


def test_what_a_killed_process_left_is_put_away_by_the_next_run(tmp_path: Path, cluster: None) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = Path(tempfile.gettempdir()) / f"equiran-sweep-{ended.pid}-x"
    left.mkdir()
    planned = plan(runs.write(tmp_path, runs.kernel()), ["slots=2"], 1, [], "memory")
    run_on_cluster(planned.runs, tmp_path / "there", None, lambda _k, _how: None, lambda: False)
    assert not left.exists()


def test_more_cores_than_any_machine_has_are_a_failure(cluster: None) -> None:
    came = dict(each(lambda order: (order, order), [Order(b"a", 999), Order(b"b", 1)], None, lambda: False))
    assert isinstance(came[0], Lost)
    assert came[0].why.startswith("it asks for 999 cores (threads), the largest machine has ")
    assert came[1] == Brought(b"b", b"b")


def test_a_stop_gives_up_what_is_under_way(tmp_path: Path, cluster: None) -> None:
    planned = plan(runs.write(tmp_path, runs.kernel(rounds=100_000, slots=4)), [STEPS], 1, [], "memory")
    looks = iter([False, False, True, True, True])
    with pytest.raises(Stopped):
        run_on_cluster(planned.runs, tmp_path / "there", None, lambda _k, _how: None, lambda: next(looks))
    assert not (tmp_path / "there").exists()


def test_the_command_goes_to_the_cluster_at_its_address(tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel(rounds=2, slots=4))
    folder = tempfile.mkdtemp(prefix="equiran-test-", dir="/tmp")
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert head.stdout
        address = head.stdout.readline().strip().strip('"')
        options = ["--seeds", "1", "--out", tmp_path / "out"]
        told = subprocess.run(
            [sys.executable, "-m", "sim", "sweep", file, "--over", STEPS, "--address", address, *options],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        head.communicate()
        shutil.rmtree(folder, ignore_errors=True)
    assert told.returncode == 0, told.stderr
    assert f"2 runs, 0 of them there already; on the cluster at {address}" in told.stderr
    with (tmp_path / "out" / "sweep.csv").open(encoding="utf-8", newline="") as table:
        assert [row["status"] for row in csv.DictReader(table)] == ["done", "done"]


def test_nobody_at_the_address_is_one_line(tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel(rounds=2, slots=4))
    told = asked(file, "--over", STEPS, "--address", "127.0.0.1:1", "--out", tmp_path / "out")
    assert told.exit_code == 1
    assert told.stderr.strip().splitlines()[-1].startswith("cannot reach Ray at 127.0.0.1:1: ")


def test_a_cluster_and_a_ray_of_each_runs_own_do_not_go_together(tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel(rounds=2, slots=4))
    told = asked(file, "--over", STEPS, "--address", "127.0.0.1:1", "--transport", "ray", "--out", tmp_path / "out")
    assert told.exit_code == 2
    (line,) = told.stderr.splitlines()
    assert line.startswith("--address (or RAY_ADDRESS) spreads runs over a cluster: --transport memory or grpc")
    assert not (tmp_path / "out").exists()
