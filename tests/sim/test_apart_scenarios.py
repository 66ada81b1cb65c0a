"""What `serve` and `join` ask of a scenario and of its files, before anybody listens."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import runs
from sim.apart.common import Address, load_apart
from sim.caller import BadScenario
from sim.certificate_folder import issue
from sim.cli import app
from sim.cross import Here
from sim.identity import shared
from sim.planning import planned, sizes_of
from sim.scenario import ScenarioErrors

EDGE = Here(users=frozenset())


def of(*users: str) -> Here:
    return Here(edge=False, users=frozenset(users))


CONVEX = runs.changed(runs.kernel(), edge__meta__target="oracle")


@pytest.mark.parametrize("here", [EDGE, of("user_0")], ids=["serve", "join"])
@pytest.mark.parametrize(
    ("tree", "key"),
    [
        (CONVEX, "edge.meta.target: oracle"),
        (runs.changed(CONVEX, edge__primal__step="theory"), "edge.primal.step: theory"),
        (runs.changed(runs.kernel(), edge__primal__step="guess"), "edge.primal.step: guess"),
        (runs.kernel(record={"streams": True}), "record.streams: true"),
    ],
    ids=["target", "theory", "guess", "streams"],
)
def test_what_needs_everybody_s_data_is_refused_with_its_line(
    tmp_path: Path, tree: runs.Tree, key: str, here: Here
) -> None:
    file = runs.write(tmp_path, tree)
    with pytest.raises(BadScenario) as refused:
        load_apart(file, [], here)
    line = next(line for line in str(refused.value).splitlines() if key in line)
    assert line.startswith(f"{file}:")
    assert line.endswith(f": {key} needs every user's data in one place: for `equiran run`, not for serve and join")


@pytest.mark.parametrize(
    ("security", "told"), [({"kind": "token"}, "give file or env"), ({"kind": "mtls"}, "give folder, see `equiran cer")]
)
def test_secrets_made_up_for_one_process_are_refused(tmp_path: Path, security: runs.Tree, told: str) -> None:
    with pytest.raises(BadScenario, match=rf"scenario\.yaml:\d+: security: .* made up for one process.*: {told}"):
        load_apart(runs.write(tmp_path, runs.kernel(security=security)), [], EDGE)


def test_faults_are_for_one_command(tmp_path: Path) -> None:
    tree = runs.kernel(faults=[{"kind": "hang", "for": 0.1, "user": "user_00", "at": {"round": 0, "slot": 1}}])
    with pytest.raises(BadScenario, match=r"scenario\.yaml:\d+: faults: for `equiran run`"):
        load_apart(runs.write(tmp_path, tree), [], EDGE)


def test_each_side_needs_its_own_files_alone(tmp_path: Path) -> None:
    tree = runs.arrays(tmp_path / "data", np.ones((2, 4, 2, 3, 4)), np.ones((2, 4, 2, 3)))
    for user in tree["users"]:
        user["task"]["path"] = f"../data/{user['name']}.npz"
    file = runs.write(tmp_path / "in", {**tree, "security": {"kind": "mtls", "folder": "certs"}})
    issue(tmp_path / "in/certs", ["127.0.0.1"], ["u0", "u1"], {})
    (tmp_path / "data/u1.npz").unlink()
    mine = load_apart(file, [], of("u0")).scenario
    design = planned(load_apart(file, [], EDGE).scenario, "r", [sizes_of(mine, 0), sizes_of(mine, 0)])
    assert design.plan.users[1].feature_shape == (4,)
    with pytest.raises(ScenarioErrors, match=r"users\.1\.task\.path: no such file"):
        load_apart(file, [], of("u1"))
    (tmp_path / "in/certs/edge.key").unlink()
    assert load_apart(file, [], of("u0")).scenario == mine
    with pytest.raises(ScenarioErrors, match=r"certs has no edge\.key"):
        load_apart(file, [], EDGE)


def test_both_sides_agree_wherever_their_files_lie(tmp_path: Path) -> None:
    tree = runs.arrays(tmp_path / "a", np.ones((2, 4, 1, 3, 4)), np.ones((2, 4, 1, 3)))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    there = runs.changed(tree, users__0__task__path=str(tmp_path / "b/u0.npz"), patience=9.0, record={"slots": False})
    here, other = (
        load_apart(runs.write(tmp_path / n, t), [], of("u0")).scenario for n, t in (("a", tree), ("b", there))
    )
    assert shared(here) == shared(other)
    assert str(tmp_path) not in str(shared(here))
    changed = load_apart(tmp_path / "a/scenario.yaml", ["edge.primal.step=0.06", "seed=4"], of("u0")).scenario
    assert {key for key, value in shared(changed).items() if value != shared(here)[key]} == {"edge.primal", "seed"}


@pytest.mark.parametrize("said", ["7700", ":7700", "host:", "host:port", "host:70000"])
def test_an_address_is_a_host_and_a_port(said: str) -> None:
    with pytest.raises(BadScenario, match=f"--listen {said}: give HOST:PORT"):
        Address.of("--listen", said)


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    """gRPC's own words about it are not printed beside ours."""
    file = str(runs.write(tmp_path, runs.kernel()))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "sim", "serve", file, "--listen", address, "--out", str(tmp_path / "out")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"cannot listen on {address}: the port is taken" in line


def test_an_address_is_written_as_it_was_read() -> None:
    assert Address.of("--listen", "[::1]:7") == ("[::1]", 7)
    assert str(Address.of("--edge", "[::1]:7")) == "[::1]:7"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["serve"], "give a SCENARIO, or --resume DIR alone"),
        (["serve", "SCENARIO", "--resume", "."], "give a SCENARIO, or --resume DIR alone"),
        (["serve", "--resume", "."], "--resume .: no run of `equiran serve`; others go on with: equiran resume ."),
        (["serve", "SCENARIO", "--listen", "nowhere"], "--listen nowhere: give HOST:PORT"),
        (["join", "SCENARIO", "--edge", "h:1", "--users", "user_2"], "has no user 'user_2'; did you mean \"user_"),
        (["join", "SCENARIO", "--edge", "h:1", "--users", "user_00", "--state", "SCENARIO"], "File exists"),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_code_2(tmp_path: Path, words: list[str], told: str) -> None:
    file = str(runs.write(tmp_path, runs.kernel()))
    result = CliRunner().invoke(app, [file if word == "SCENARIO" else word for word in words])
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
