"""`equiran serve` and `equiran join` as three real processes: the digest of one process, and how they end."""

import json
import random
import re
import shlex
import shutil
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import apart
import proxy
import runs
from apart import Apart, Running
from sim.apart import edge
from sim.apart.common import Address, load_apart
from sim.apart.edge import Served, serve_run
from sim.caller import BadScenario, Watcher
from sim.certificate_folder import issue
from sim.cross import Here
from sim.resume import resume_run
from sim.runner import run

SECRET = "a-token-that-nobody-guesses-0123456789"
PEOPLE = [{"name": name, "task": {"kind": "kernel_regression"}, "head": {"kind": "linear"}} for name in ("u0", "u1")]
LONG = runs.changed(
    runs.kernel(rounds=100_000, slots=3, users=PEOPLE, patience=10),
    edge__encoder={"kind": "linear", "outputs": 3, "initial": "default"},
    edge__primal={"step": 0.05},
)
EDGE = Here(users=frozenset())


def digest_of(folder: Path, scenario: Path) -> str:
    """In memory, with everybody's data in one place."""
    result = runs.run_loaded(runs.load(scenario, transport="memory"), folder / "memory", None, Watcher())
    return str(result.digest)


def ends_well(served: Running, folder: Path) -> str:
    served.ends(0)
    told = json.loads(served.out)
    assert told["status"] == "done"
    assert runs.read_json(folder / "manifest.json")["digest"] == told["digest"]
    return str(told["digest"])


def under_way(served: Running, folder: Path, rounds: int = 3) -> None:
    """Returns once some rounds are over."""
    file = folder / "slots.arrows"
    served.until(lambda: file.exists() and file.stat().st_size > 3000 * rounds)


def saved_since(folder: Path, kind: str) -> int:
    """Checkpoints after the first event of this kind, as far as they are written down."""
    file = folder / "events.jsonl"
    kinds = re.findall(r'"event": "(\w+)"', file.read_text()) if file.exists() else []
    return kinds[kinds.index(kind) :].count("checkpoint") if kind in kinds else 0


def test_the_page_s_commands_give_the_digest_of_one_process(tmp_path: Path) -> None:
    here = apart.free_address()
    with apart.apart() as ours:
        started = {}
        for who in ("ann", "edge", "bob"):
            folder = tmp_path / who
            folder.mkdir()
            (folder / "scenario.yaml").write_text(apart.page_scenario())
            if who != "edge":
                apart.page_data(folder, who)
            words = shlex.split(apart.page_command(who).replace("10.213.7.1:7700", here))
            assert words[0] == "equiran"
            started[who] = ours.start(folder, *words[1:], *(["--json", "--quiet"] if who == "edge" else []))
        digest = ends_well(started["edge"], tmp_path / "edge/run")
        assert started["edge"].err == ""
        for who in ("ann", "bob"):
            started[who].ends(0)
            assert started[who].out == f"{who}: goodbye after 20 of 20 rounds\n"
            apart.page_data(tmp_path / "all", who)
    (tmp_path / "all/scenario.yaml").write_text(apart.page_scenario())
    assert digest == digest_of(tmp_path, tmp_path / "all/scenario.yaml")
    columns = runs.rounds(tmp_path / "edge/run")
    assert set(columns) == set(runs.rounds(tmp_path / "memory"))


def test_a_pause_longer_than_anybody_s_patience_changes_nothing(tmp_path: Path) -> None:
    scenario = runs.write(tmp_path, runs.changed(LONG, rounds=400, patience=2))
    with apart.apart() as ours:
        served, at = ours.serve(tmp_path / "edge", scenario, "--out", "run", "--json")
        joined = ours.join(tmp_path / "users", scenario, at, "u0,u1")
        folder = tmp_path / "edge/run"
        under_way(served, folder)
        (folder / "pause").touch()
        served.until(lambda: "paused" in (folder / "events.jsonl").read_text())
        time.sleep(4)
        assert "continued" not in (folder / "events.jsonl").read_text()
        (folder / "pause").unlink()
        digest = ends_well(served, folder)
        joined.ends(0)
    assert (len(runs.events(folder, "paused")), len(runs.events(folder, "continued"))) == (1, 1)
    assert digest == digest_of(tmp_path, scenario)


@pytest.mark.slow
def test_with_a_token_and_one_process_for_all_users(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / "wrong").write_text(SECRET[::-1])
    tree = runs.digits(
        many=3, rounds=2, slots=3, patience=120, security={"kind": "token", "file": str(tmp_path / "token")}
    )
    scenario = runs.write(tmp_path, tree)
    with apart.apart() as ours:
        served, at = ours.serve(tmp_path / "edge", scenario, "--out", "run", "--json")
        wrong = ours.start(
            tmp_path / "c", "join", scenario, "--edge", at, "--users", "u0", "--set", "security.file=wrong"
        )
        wrong.ends(1)
        assert wrong.err == f"digits: the edge at {at} says UNAUTHENTICATED: no token, or not the right one\n"
        joined = ours.start(tmp_path / "b", "join", scenario, "--edge", at, "--users", "u2,u0,u1", "--json", "--quiet")
        digest = ends_well(served, tmp_path / "edge/run")
        joined.ends(0)
        told = json.loads(joined.out)
        assert (told["status"], told["rounds"], told["users"]) == ("done", 2, ["u2", "u0", "u1"])
        assert SECRET not in served.err + joined.err + wrong.err
    assert digest == digest_of(tmp_path, scenario)


def test_with_certificates_of_which_everybody_has_its_own(tmp_path: Path) -> None:
    issue(tmp_path / "certs", ["127.0.0.1"], ["u0"], {"rack": ["u1", "u2"]})
    tree = runs.digits(
        many=3, rounds=2, slots=3, patience=120, trunk=True, security={"kind": "mtls", "folder": "certs"}
    )
    parts = {
        "edge": ("ca.pem", "edge.pem", "edge.key", "revoked.txt"),
        "one": ("ca.pem", "users/u0.pem", "users/u0.key"),
        "two": ("ca.pem", "hosts/rack.pem", "hosts/rack.key"),
    }
    for who, files in parts.items():
        runs.write(tmp_path / who, tree)
        for file in files:
            (tmp_path / who / "certs" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "certs" / file, tmp_path / who / "certs" / file)
    with apart.apart() as ours:
        served, at = ours.serve(tmp_path / "edge", "scenario.yaml", "--out", "run", "--json")
        one = ours.start(tmp_path / "one", "join", "scenario.yaml", "--edge", at, "--users", "u0")
        two = ours.start(tmp_path / "two", "join", "scenario.yaml", "--edge", at, "--users", "u1,u2")
        digest = ends_well(served, tmp_path / "edge/run")
        for joined in (one, two):
            joined.ends(0)
    assert digest == digest_of(tmp_path, runs.write(tmp_path / "all", {**tree, "security": None}))


def both(ours: Apart, folder: Path, scenario: Path, at: str) -> list[Running]:
    """Two processes, a user each, who keep their state."""
    return [ours.join(folder / user, scenario, at, user) for user in ("u0", "u1")]


def test_cut_and_killed_users_and_a_killed_edge_come_back_to_the_same_digest(tmp_path: Path) -> None:
    scenario = runs.write(tmp_path, {**LONG, "rounds": 60, "checkpoints": {"seconds": 0}})
    folder = tmp_path / "edge/run"
    with apart.apart(eager=True) as ours, ExitStack() as stack:
        served, at = ours.serve(tmp_path / "edge", scenario, "--out", "run")
        wire = stack.enter_context(proxy.before(at))
        stays, dies = (
            ours.join(tmp_path / "u0", scenario, wire.address, "u0"),
            ours.join(tmp_path / "u1", scenario, at, "u1"),
        )
        served.until(lambda: saved_since(folder, "join") > 3)
        assert wire.cut() == 2, "its own stream, and the one beside it"
        served.until(lambda: saved_since(folder, "returned") > 3)
        dies.send(signal.SIGKILL)
        comes = ours.join(tmp_path / "u1", scenario, at, "u1")
        served.until(lambda: saved_since(folder, "recovered") > 3)
        served.send(signal.SIGKILL)
        served, _ = ours.serve(tmp_path / "edge", "--resume", "run", "--json", listen=at)
        digest = ends_well(served, folder)
        for user in (stays, comes):
            user.ends(0)
            assert "goodbye after 60 of 60 rounds" in user.out
            assert len(re.findall(r"in run kernel-\w+ at \S+ from round \d+", user.err)) == 2
    assert [event["reason"] for event in runs.events(folder, "recovered")] == ["user 'u1' came back as a new process"]
    assert runs.events(folder, "resumed")[0]["round"] > runs.events(folder, "recovered")[0]["round"] > 0
    assert digest == digest_of(tmp_path, scenario)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["wait", "drop"])
@pytest.mark.parametrize("seed", range(5))
def test_ten_kills_at_random_moments_change_nothing(tmp_path: Path, seed: int, policy: str) -> None:
    """Of what the attendance says, where slots go on without users."""
    rng = random.Random(seed)
    rounds, pace = (900, 0.0) if policy == "wait" else (2500, 0.3)
    changes = {"rounds": rounds, "on_user_failure": policy, "checkpoints": {"seconds": pace, "slots": 2}}
    scenario = runs.write(tmp_path, {**LONG, **changes, "patience": 60})
    folder = tmp_path / "edge/run"
    with apart.apart(eager=True) as ours:
        served, at = ours.serve(tmp_path / "edge", scenario, "--out", "run", "--json")
        joined = both(ours, tmp_path, scenario, at)
        served.until(lambda: saved_since(folder, "join") > 1)
        for _ in range(10):
            time.sleep(rng.uniform(0, 3))
            victim = rng.randrange(3)
            if victim == 2:
                served.send(signal.SIGKILL)
                served, _at = ours.serve(tmp_path / "edge", "--resume", "run", "--json", listen=at)
            else:
                joined[victim].send(signal.SIGKILL)
                joined[victim] = ours.join(tmp_path / f"u{victim}", scenario, at, f"u{victim}")
        digest = ends_well(served, folder)
        for user in joined:
            user.ends(0)
    loaded, follows = runs.load(scenario, transport="memory"), folder if policy == "drop" else None
    assert run(loaded, tmp_path / "again", None, Watcher(), attendance=follows).digest == digest


@pytest.mark.parametrize("policy", [pytest.param("wait", marks=pytest.mark.slow), "drop"])
def test_a_process_that_sleeps_costs_time_or_slots_and_is_taken_back(tmp_path: Path, policy: str) -> None:
    """Three times the deadline; whoever follows the attendance gets the same bits."""
    changes = {"deadline": 0.3, "rounds": 700} if policy == "drop" else {"rounds": 50}
    scenario, folder = runs.write(tmp_path, {**LONG, **changes}), tmp_path / "edge/run"
    with apart.apart() as ours:
        served, at = ours.serve(tmp_path / "edge", scenario, "--out", "run", "--json")
        joined = both(ours, tmp_path, scenario, at)
        under_way(served, folder)
        joined[1].send(signal.SIGSTOP)
        time.sleep(0.9)
        joined[1].send(signal.SIGCONT)
        digest = ends_well(served, folder)
        for user in joined:
            user.ends(0)
    loaded = runs.load(scenario, transport="memory")
    follows = folder if policy == "drop" else None
    assert run(loaded, tmp_path / "again", None, Watcher(), attendance=follows).digest == digest
    status = runs.slots(folder)["status"][1::2].tolist()
    assert status[-1] == "applied"
    assert ("late" in status, "absent" in status) == (policy == "drop",) * 2


def returns(folder: Path) -> list[runs.Tree]:
    return [event for event in runs.events(folder) if event["event"] in ("began_anew", "recovered")]


@pytest.mark.parametrize(("min_users", "rounds", "deaths"), [(1, 400, 1), (2, 400, 2)])
def test_where_slots_go_on_a_user_that_dies_begins_anew_from_what_was_kept(
    tmp_path: Path, min_users: int, rounds: int, deaths: int
) -> None:
    """Slots go on meanwhile, or wait; whoever follows the attendance takes the same steps back.

    While the process starts, the other user sleeps, for the run to be short. A slot that waits for what only the dead
    process knew takes the run back.
    """
    changes = {"on_user_failure": "drop", "min_users": min_users, "rounds": rounds, "patience": 60}
    scenario = runs.write(tmp_path, {**LONG, **changes, "checkpoints": {"seconds": 0.1, "slots": 2}})
    folder = tmp_path / "edge/run"
    with apart.apart(eager=True) as ours:
        served, at = ours.serve(tmp_path / "edge", scenario, "--out", "run", "--json")
        stays, dies = both(ours, tmp_path, scenario, at)
        comes = ["join"]
        for death in range(deaths):
            served.until(lambda: saved_since(folder, comes[-1]) > 3)
            dies.send(signal.SIGKILL)
            served.until(lambda death=death: len(runs.events(folder, "lost")) > death)
            if min_users == 1:
                time.sleep(0.3)
                stays.send(signal.SIGSTOP)
            dies = ours.join(tmp_path / "u1", scenario, at, "u1")
            dies.says(r"(in run)")
            stays.send(signal.SIGCONT)
            served.until(lambda death=death: len(returns(folder)) > death)
            comes.append(returns(folder)[-1]["event"])
        digest = ends_well(served, folder)
        for user in (stays, dies):
            user.ends(0)
    assert len(returns(folder)) == deaths
    assert all(event["user"] == "u1" and event["of_round"] > 0 for event in runs.events(folder, "began_anew"))
    assert ("absent" in runs.slots(folder)["status"].tolist()) == (min_users == 1)
    loaded = runs.load(scenario, transport="memory")
    assert run(loaded, tmp_path / "again", None, Watcher(), attendance=folder).digest == digest


def test_a_stopped_edge_and_its_users_keep_the_same_place(tmp_path: Path) -> None:
    scenario = runs.write(tmp_path, LONG)
    with apart.apart() as ours:
        served, at = ours.serve(tmp_path / "edge", scenario, "--out", "run")
        joined = ours.start(tmp_path, "join", scenario, "--edge", at, "--users", "u0,u1", "--state", "state")
        under_way(served, tmp_path / "edge/run")
        served.send(signal.SIGINT)
        served.ends(130, seconds=20)
        joined.ends(0)
    assert "go on with: equiran serve --resume run\n" in served.out
    assert "rounds; the edge stopped, and `equiran serve --resume` goes on" in joined.out
    (saved,) = (tmp_path / "edge/run/checkpoints").glob("0*")
    assert [path.name for path in (tmp_path / "state/checkpoints").glob("0*")] == [saved.name]
    assert runs.read_json(tmp_path / "edge/run/manifest.json")["status"] == "stopped"
    with pytest.raises(BadScenario, match="whose users keep their own state; go on with: equiran serve --resume"):
        resume_run(tmp_path / "edge/run", None, None, Watcher())


@pytest.mark.slow
def test_who_joins_twice_is_refused_and_who_leaves_is_named(tmp_path: Path) -> None:
    scenario = runs.write(tmp_path, {**LONG, "patience": 3})
    with apart.apart() as ours:
        served, at = ours.serve(tmp_path / "edge", scenario, "--out", "run")
        joined = both(ours, tmp_path, scenario, at)
        under_way(served, tmp_path / "edge/run")
        again = ours.start(tmp_path / "again", "join", scenario, "--edge", at, "--users", "u0")
        again.ends(1)
        assert "ALREADY_EXISTS: user 'u0' has joined already; if that process is gone" in again.err.splitlines()[-1]
        joined[1].send(signal.SIGTERM)
        joined[1].ends(143, seconds=20)
        assert joined[1].err.splitlines()[-1] == f"u1: left {at}"
        served.ends(1)
        *_, name, line = served.err.splitlines()
        assert name == "kernel: 100000 rounds"
        assert "'u1'" in line
        joined[0].ends(1)
        reason = line.removeprefix("kernel: ").partition("; go on with")[0]
        assert joined[0].err.splitlines()[-1] == f"kernel at {at}: the edge ended the run: {reason}"


def test_an_edge_that_waits_for_a_silent_user_still_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "_GRACE", 1.5)
    scenario = runs.write(tmp_path, {**LONG, "patience": 60})
    address, stop, healths = apart.free_address(), threading.Event(), []
    what = Served(load_apart(scenario, [], EDGE), Address.of("--listen", address), tmp_path / "run", 60)

    def look_after(joined: Running) -> None:
        try:
            under_way(joined, tmp_path / "run")
            healths.append(health(address))
            joined.send(signal.SIGSTOP)
        finally:
            stop.set()
        time.sleep(0.8)
        healths.append(health(address))

    with apart.apart() as ours:
        joined = ours.start(tmp_path / "users", "join", scenario, "--edge", address, "--users", "u0,u1")
        looking = threading.Thread(target=look_after, args=(joined,))
        looking.start()
        result = serve_run(what, Watcher(stop=stop.is_set))
        looking.join()
    assert (result.status, healths) == ("stopped", ["SERVING", "NOT_SERVING"])


def health(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        asked = health_pb2.HealthCheckRequest(service="equiran.v1.Edge")
        status = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=5).status
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
