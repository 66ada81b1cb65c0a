"""A Ray cluster of two machines (tests/two_hosts.py): same bits, and faults of machines and wires are told by name.

The tests share one cluster and run in this order: the last ones break it.
"""

import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
import two_hosts
from two_hosts import ADDRESS, NETWORK, ROOT, TwoHosts

HEAD, OTHER = f"{NETWORK}.1", f"{NETWORK}.2"
SLOW = 10e6
"""Bits per second."""

RAINBOW = runs.plain_yaml((runs.SCENARIOS / "cluster/rainbow.yaml").read_text()) | {"transport": "memory"}
SHORT = {**RAINBOW, "rounds": 1, "slots": 6}
TINY = runs.kernel(many=2, rounds=2, slots=4, hosts=1)
LONG = runs.kernel(many=4, rounds=50, slots=10, hosts=2)
FORKED = "Starting Ray client server failed"
_COUNT = itertools.count()
ENDLESS = {**LONG, "rounds": 1_000_000, "hosts": 1}

WHY = two_hosts.cannot()
pytestmark = [pytest.mark.alone, pytest.mark.skipif(bool(WHY), reason=str(WHY))]


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    world = TwoHosts()
    try:
        yield world
    finally:
        world.close()


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> Callable[[runs.Tree], str]:
    """Of the scenario's run in memory."""
    found: dict[str, str] = {}

    def of(tree: runs.Tree) -> str:
        key = json.dumps(tree)
        found[key] = found.get(key) or str(runs.run(tmp_path_factory.mktemp("memory"), tree).digest)
        return found[key]

    return of


def wait_for(process: "subprocess.Popen[str]", what: Callable[[], Any]) -> None:
    """Returns once `what` is true while the process runs."""
    until = time.monotonic() + 60
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


class Going:
    """An `equiran` command on the cluster, and the directory of its run."""

    def __init__(self, hosts: TwoHosts, tree: runs.Tree, line: str = "", **more: Any) -> None:
        folder = hosts.folder / f"run{next(_COUNT)}"
        scenario, self.folder = runs.write(folder, tree), folder / "out"
        line = f"run {scenario} --out {self.folder} --transport ray --json --quiet {line}"
        self._process = hosts.equiran(line, **more)
        self._said: tuple[str, str] | None = None

    def under_way(self) -> None:
        """Returns once some rounds are over."""
        wait_for(self._process, lambda: (file := self.folder / "rounds.arrows").exists() and file.stat().st_size > 2000)

    def result(self, within: float = 60) -> dict[str, Any]:
        """What a command that ends well prints."""
        code, said, complaint = self._end(within)
        assert code == 0, complaint
        return dict(json.loads(said))

    def line(self, within: float = 30) -> str:
        """The one line of a command that fails."""
        code, said, complaint = self._end(within)
        assert (code, said) == (1, "")
        line, end, more = complaint.partition("\n")
        assert (end, more) == ("\n", "")
        return line

    def complaint(self) -> str:
        """What a command says on stderr when it ends."""
        return self._end(within=90)[2]

    def _end(self, within: float) -> tuple[int, str, str]:
        if self._said is None:
            try:
                self._said = self._process.communicate(timeout=within)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise
        return self._process.returncode, *self._said


def placed(folder: Path) -> dict[str, str]:
    """The node of each actor."""
    return {event["who"]: event["node"] for event in runs.events(folder, "placed")}


def left(machine: two_hosts.Machine) -> list[int]:
    """What still runs of a run."""
    return [process for name in ("HostActor", "EdgeActor") for process in machine.processes(name)]


def test_the_page_s_run_is_on_both_machines_and_its_digest_is_that_of_memory(hosts: TwoHosts, digest) -> None:
    followed = hosts.start(hosts.run, hosts.head)
    for machine in (hosts.head, hosts.other):
        wait_for(followed, lambda machine=machine: machine.processes("ray::HostActor"))
    said, complaint = followed.communicate(timeout=60)
    assert followed.returncode == 0, complaint
    folder = hosts.folder / "runs/cluster"
    assert said.count('"placed"') == 3
    assert placed(folder) == {"the edge": HEAD, "users 'clean'": OTHER, "users 'attacked'": HEAD}
    assert runs.read_json(folder / "manifest.json")["digest"] == digest({**RAINBOW, "rounds": 4})


def test_a_slow_wire_takes_time_and_changes_nothing(hosts: TwoHosts, digest) -> None:
    job = json.dumps({"runtime_env": {}, "metadata": {"job_submission_id": "raysubmit_1"}})
    with hosts.slow(f"{SLOW:g}bit"):  # the variables are those of `ray job submit`
        going = Going(hosts, SHORT, RAY_ADDRESS=ADDRESS, RAY_JOB_CONFIG_JSON_ENV_VAR=job)
        assert going.result()["digest"] == digest(SHORT)
    fast, slow = runs.slots(hosts.folder / "runs/cluster"), runs.slots(going.folder)
    away = slow["user"] == "clean"
    bits = 8 * max(slow["bytes_up"][away].mean(), slow["bytes_down"][away].mean())
    assert np.median(slow["t_slot"]) > 0.8 * bits / SLOW > np.median(fast["t_slot"])


def test_a_wire_that_is_cut_for_a_moment_changes_nothing(hosts: TwoHosts, digest) -> None:
    going = Going(hosts, LONG, RAY_ADDRESS="auto")
    going.under_way()
    hosts.cut()
    time.sleep(3)
    hosts.heal()
    assert going.result()["digest"] == digest(LONG)
    assert runs.slots(going.folder)["t_slot"].max() > 2.5


@pytest.mark.slow
def test_a_driver_outside_reaches_the_cluster_as_a_client(hosts: TwoHosts, digest) -> None:
    going = outside(hosts)
    if FORKED in going.complaint():  # by Ray's proxy while its gRPC was busy: rare, and a matter of luck
        going = outside(hosts)
    assert going.result()["digest"] == digest(TINY)
    assert placed(going.folder) == {"the edge": HEAD, "users 'user_00' to 'user_01'": OTHER}


def outside(hosts: TwoHosts) -> Going:
    return Going(hosts, TINY, f"--address ray://{HEAD}:10001", machine=hosts.laptop)


def test_a_file_that_one_node_lacks_is_named_with_user_and_node(hosts: TwoHosts) -> None:
    tree = runs.arrays(hosts.folder / "data", np.ones((2, 2, 2, 3, 4)), np.ones((2, 2, 2, 3)), hosts=1)
    there = hosts.private / "u0.npz"
    hosts.head.do(f"cp {hosts.folder}/data/u0.npz {there}")
    tree["users"][0]["task"]["path"] = str(there)
    line = Going(hosts, tree, f"--address {ADDRESS}").line()
    assert line.startswith(f"arrays: node {OTHER}: user 'u0' cannot be built: ")
    assert str(there) in line


def test_a_node_without_our_code_is_named(hosts: TwoHosts) -> None:
    hosts.other.do(f"mount -t tmpfs none {ROOT}/sim")
    try:
        line = Going(hosts, TINY, f"--address {ADDRESS}").line()
    finally:
        hosts.other.do(f"umount {ROOT}/sim")
    assert line.startswith(f"kernel: the host of users 'user_00' to 'user_01' on node {OTHER} cannot start: ")
    assert "ModuleNotFoundError: " in line or "ImportError: " in line  # where another version is installed, too
    assert line.endswith("; every node needs the same EquiRAN, or its folder as the job's working_dir")


def test_a_wire_that_stays_cut_ends_the_run(hosts: TwoHosts) -> None:
    going = Going(hosts, {**ENDLESS, "on_user_failure": "fail"}, f"--address {ADDRESS}")
    going.under_way()
    hosts.cut()
    line = going.line(within=30)
    assert line.startswith("kernel: user 'user_0")
    assert f"no answer from the host of users 'user_00' to 'user_03' on node {OTHER}" in line
    assert line.endswith(f"; go on with: equiran resume {going.folder}")
    assert not left(hosts.head)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"RAY_AUTH_TOKEN": "f" * 64},
            "asks for a token, and refuses the one in RAY_AUTH_TOKEN; set",
        ),
        ({"HOME": "/nowhere"}, "it asks for a token, and there is none here (no "),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "cannot read the token in /nowhere: No such file or directory"),
    ],
    ids=["wrong", "none", "unreadable"],
)
def test_a_token_that_does_not_fit_is_one_line(hosts: TwoHosts, changes: dict[str, str | None], said: str) -> None:
    line = Going(hosts, TINY, f"--address {ADDRESS}", **changes).line(within=10)
    assert said in line


@pytest.mark.slow
def test_behind_the_cut_nothing_is_left_either(hosts: TwoHosts) -> None:
    """Ray's own processes there give up first: a minute after they have noticed."""
    until = time.monotonic() + 180
    while left(hosts.other):
        assert time.monotonic() < until
        time.sleep(0.2)


def test_when_a_machine_dies_the_run_goes_on_elsewhere_by_itself(hosts: TwoHosts, digest) -> None:
    hosts.replace_other()
    going = Going(hosts, LONG, f"--address {ADDRESS}")
    going.under_way()
    hosts.other.die()
    assert going.result(within=90)["digest"] == digest(LONG)
    (event,) = runs.events(going.folder, "recovered")
    assert f"users 'user_00' to 'user_01' on node {OTHER}" in event["reason"]
    assert not left(hosts.head)
    assert {*placed(going.folder).values()} == {HEAD}
