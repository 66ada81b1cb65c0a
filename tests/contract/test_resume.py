"""A run that was stopped, interrupted or killed ends at the bits of one that was not, on any transport."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from test_end_to_end_reference import BASE, data, edge

import runs
from edge_server.aggregators.base import Slot, State
from edge_server.fairness import AlphaFair
from sim import checkpoints
from sim.actors import EdgeActor, HostActor, News
from sim.caller import BadScenario, Result, RunError, Watcher
from sim.planning import blueprint
from sim.recipe import to_recipe
from sim.recorder import Recorder
from sim.resume import resume_run
from sim.runner import run as run_scenario
from sim.step import Step

ROOT = Path(__file__).parents[2]
TIMES = {"t_slot", "t_user", "t_edge"}
EAGER = "from sim import checkpoints; checkpoints.LEAST = 0; from sim.cli import main; main()"
"""The command, which may take all its time for checkpoints."""
ROUNDS: runs.Tree = {"seconds": 0, "slots": 1000}
SLOTS: runs.Tree = {"seconds": 0}
"""A checkpoint after every round, or slot."""


def deep(**changes: Any) -> runs.Tree:
    """Trainable fronts, an adversary, users that come and go."""
    tree = runs.digits(many=3, rounds=5, slots=3, **changes)
    tree["users"][2]["presence"] = {"churn": 0.5}
    return tree


def on_air(**changes: Any) -> runs.Tree:
    radio = {"kind": "jakes", "doppler": 0.05, "loss_db": [0.0, 0.0, 6.0], "user_power": [1.0, 1.0, 0.4]}
    return deep(**{"radio": radio, "deadline": 0.35, "on_user_failure": "stale", **changes})


def learned() -> runs.Tree:
    tree = runs.kernel(many=3, rounds=5, slots=4)
    tree["edge"] |= {
        "aggregator": {"kind": "parameter_free", "alpha": 1.0, "u_min": 1.0, "u_max": 4.0},
        "primal": {"step": "free", "domain": {"box": 1.0}},
        "meta": {"rule": "learned", "target": "oracle"},
    }
    return tree


def theory(folder: Path, step: str = "theory") -> runs.Tree:
    x, y = data(5, 3, 2)
    edge_ = edge(BASE) | {"primal": {"step": step, "domain": {"box": 1.0}}, "meta": {"target": "oracle"}}
    return runs.arrays(folder, x, y, edge=edge_, record={"parameters": True})


TOP = {"kind": "top_k", "share": 0.2}
TREES: dict[str, runs.Tree] = {
    "deep": deep(),
    "running mean": runs.changed(deep(), edge__meta={"rule": "running_mean", "target": "average"}),
    "dual over the run": runs.changed(deep(), edge__aggregator__horizon="run"),
    "afl": runs.changed(deep(), edge__aggregator__kind="afl"),
    "compressed": deep(compression={"outputs": "int8", "feedback": TOP, "acknowledgement": TOP}),
    "on air": on_air(),
    "learned": learned(),
}


def stopped(folder: Path, tree: runs.Tree, rounds: int, transport: str = "memory") -> Result:
    result = run_scenario(runs.loaded(folder, tree, transport), folder / "out", None, Watcher(), rounds)
    assert (result.status, result.digest) == ("stopped", None)
    return result


def same(folder: Path, whole: Path) -> None:
    """Everything but times of day and of the machine."""
    for path in whole.glob("*.parquet"):
        ours, theirs = (pq.read_table(place / path.name) for place in (folder, whole))
        assert ours.drop_columns([*TIMES & {*ours.column_names}]).equals(
            theirs.drop_columns([*TIMES & {*theirs.column_names}])
        ), path.name
    ours, theirs = (runs.read_json(place / "summary.json") for place in (folder, whole))
    for key in theirs.keys() - {"wall_seconds", "slots_per_second", "events"}:
        assert ours[key] == theirs[key], key
    if (whole / "parameters.npz").exists():
        with np.load(whole / "parameters.npz") as theirs, np.load(folder / "parameters.npz") as ours:
            assert {*ours} == {*theirs}
            for name in theirs:
                np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("name", TREES)
def test_stopped_after_a_round_and_resumed_it_ends_at_the_same_bits(tmp_path: Path, name: str) -> None:
    tree = TREES[name]
    whole = runs.run(tmp_path / "whole", tree)
    stopped(tmp_path, tree, 2)
    result = resume_run(tmp_path / "out", "grpc", None, Watcher())
    assert (result.status, result.digest) == ("done", whole.digest)
    same(result.folder, whole.folder)
    assert not (result.folder / "checkpoints/rows.f64").exists()


def fresh() -> runs.Tree:
    """Heads that begin anew in every round."""
    tree = deep(record={"parameters": True})
    for user in tree["users"]:
        user["head"] = {"kind": "linear", "step": 0.1, "start": "fresh"}
    return tree


IN_A_ROUND = {
    **TREES,
    "fresh heads": fresh(),
    "on air, recorded": on_air(record={"parameters": True}),
    "frozen, drawn by slot": runs.kernel(many=5, rounds=5, slots=4, participation={"users": 3, "per": "slot"}),
    "ahead": runs.changed(learned(), trunk=True),
    "metered": deep(record={"privacy": True}),
    "metered by labels solved for": runs.kernel(many=3, rounds=5, slots=4, record={"privacy": True}),
}


@pytest.mark.parametrize("name", IN_A_ROUND)
def test_stopped_in_a_round_it_goes_on_at_its_slot(tmp_path: Path, name: str) -> None:
    """Again and again, on one transport after the other, so that every kind of slot is a last one."""
    tree = IN_A_ROUND[name]
    whole = runs.run(tmp_path / "whole", tree)
    slots = tree["slots"]
    run_scenario(runs.loaded(tmp_path, tree), tmp_path / "out", None, Watcher(stop=stop_after(slots + 1)))
    for transport, more in (("grpc", 1), ("memory", 2), ("grpc", slots), ("memory", slots - 1)):
        result = resume_run(tmp_path / "out", transport, None, Watcher(stop=stop_after(more)))
        assert result.status == "stopped"
    result = resume_run(tmp_path / "out", "grpc", None, Watcher())
    places = [(event["round"], event["slot"]) for event in runs.events(result.folder, "resumed")]
    done = np.cumsum([slots + 1, 1, 2, slots, slots - 1]).tolist()
    assert places == [divmod(count, slots) if count % slots else (count // slots - 1, slots) for count in done]
    assert result.digest == whole.digest
    same(result.folder, whole.folder)


def stop_after(slots: int) -> Callable[[], bool]:
    """A wish to stop at the end of so many slots; it is asked for once in each."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked >= slots

    return stop


@pytest.mark.parametrize("step", ["theory", "guess"])
def test_what_the_theory_learned_goes_on(tmp_path: Path, step: str) -> None:
    tree = theory(tmp_path / "data", step)
    whole = runs.run(tmp_path / "whole", tree)
    stopped(tmp_path, tree, 1)
    result = resume_run(tmp_path / "out", None, None, Watcher())
    assert result.digest == whole.digest
    same(result.folder, whole.folder)


def test_on_ray_with_other_hosts(tmp_path: Path, run_on_ray) -> None:
    tree = on_air(compression={"feedback": TOP, "acknowledgement": TOP})
    whole = run_on_ray(tmp_path / "whole", tree, "memory")
    stopped(tmp_path, {**tree, "hosts": 1}, 2, "ray")
    scenario = tmp_path / "out/scenario.yaml"
    scenario.write_text(scenario.read_text().replace("hosts: 1", "hosts: 3"))
    result = resume_run(tmp_path / "out", "ray", None, Watcher())
    assert result.digest == whole.digest
    same(result.folder, whole.folder)


def test_stopped_again_and_again(tmp_path: Path) -> None:
    tree = on_air(record={"parameters": True})
    whole = runs.run(tmp_path / "whole", tree)
    stopped(tmp_path, tree, 1)
    for transport in ("grpc", "memory", "grpc"):
        asked = 0

        def stop() -> bool:
            nonlocal asked
            asked += 1
            return asked > 3

        assert resume_run(tmp_path / "out", transport, None, Watcher(stop=stop)).status == "stopped"
    result = resume_run(tmp_path / "out", None, None, Watcher())
    assert result.digest == whole.digest
    same(result.folder, whole.folder)


@pytest.mark.parametrize(("name", "pace"), [("deep", ROUNDS), ("deep", SLOTS), ("ahead", SLOTS)])
def test_with_a_checkpoint_after_every_round_or_slot_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_on_ray, name: str, pace: runs.Tree
) -> None:
    monkeypatch.setattr(checkpoints, "LEAST", 0)
    tree = {**IN_A_ROUND[name], "rounds": 3, "checkpoints": pace}
    whole = runs.run(tmp_path / "whole", {**tree, "checkpoints": {}})
    found = [run_on_ray(tmp_path / transport, tree, transport) for transport in ("memory", "grpc", "ray")]
    places = [(t, i) for t in range(3) for i in range(tree["slots"] if pace == SLOTS else 1)][1:]
    for result in found:
        assert result.digest == whole.digest
        same(result.folder, whole.folder)
        assert [(event["round"], event["slot"]) for event in runs.events(result.folder, "checkpoint")] == places
    kept = [f"{t:05d}{i:07d}" for t, i in places[-3:]]
    for result in found:
        assert sorted(path.name for path in (result.folder / "checkpoints").iterdir()) == kept
    states = [(result.folder / f"checkpoints/{kept[-1]}/users.safetensors").read_bytes() for result in found]
    assert states[0] == states[1] == states[2]


def test_a_comparison_that_had_not_begun_is_run(tmp_path: Path) -> None:
    tree = deep(compare=[{"name": "equal", "edge.aggregator": {"kind": "constant", "weights": "equal"}}])
    whole = runs.run(tmp_path / "whole", tree)
    stopped(tmp_path, tree, 2)
    assert not (tmp_path / "out/equal").exists()
    result = resume_run(tmp_path / "out", None, None, Watcher())
    assert [one.digest for one in (result, *result.compared)] == [one.digest for one in (whole, *whole.compared)]


def test_a_run_that_is_done_is_told_again(tmp_path: Path) -> None:
    whole, notes = runs.run(tmp_path, deep()), list[str]()
    before = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*")}
    result = resume_run(whole.folder, None, None, Watcher(on_note=notes.append))
    assert (result.status, result.digest) == ("done", whole.digest)
    assert notes == [f"{whole.folder} is done already"]
    assert {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*") if path.name != "lock"} == before


@contextmanager
def started(file: Path, out: Path, transport: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", EAGER, "run", str(file), "--out", str(out), "--transport", transport, "--quiet"]
    where = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=where, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(out: Path, rounds: int) -> None:
    deadline = time.monotonic() + 60
    while all(int(path.name) // 10**7 < rounds for path in (out / "checkpoints").glob("0*")):
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.005)


LONG = 40


@pytest.mark.parametrize("moment", [0.0, 0.013, 0.037, 0.071, 0.11])
def test_killed_it_ends_at_the_same_bits(tmp_path: Path, moment: float) -> None:
    tree = runs.changed(on_air(record={"parameters": True}, checkpoints=SLOTS), rounds=LONG)
    whole = runs.run(tmp_path / "whole", tree)
    with started(runs.write(tmp_path, tree), tmp_path / "out", "memory") as process:
        wait_for(tmp_path / "out", 3)
        time.sleep(moment)
        process.kill()
    result = resume_run(tmp_path / "out", None, None, Watcher())
    (event,) = runs.events(result.folder, "resumed")
    assert 3 <= event["round"] < LONG
    assert result.digest == whole.digest
    same(result.folder, whole.folder)


def test_interrupted_it_keeps_its_last_slot(tmp_path: Path) -> None:
    tree = runs.changed(on_air(checkpoints=ROUNDS), rounds=LONG)
    whole = runs.run(tmp_path / "whole", tree)
    with started(runs.write(tmp_path, tree), tmp_path / "out", "grpc") as process:
        wait_for(tmp_path / "out", 2)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with: equiran resume {tmp_path / 'out'}" in said
    rounds = len({*runs.rounds(tmp_path / "out")["round"]})
    saved = sorted((tmp_path / "out/checkpoints").glob("0*"))
    assert int(saved[-1].name) // 10**7 == rounds
    result = resume_run(tmp_path / "out", "memory", None, Watcher())
    assert result.digest == whole.digest
    same(result.folder, whole.folder)


@pytest.mark.parametrize("who", [pytest.param("ray::HostActor", marks=pytest.mark.slow), "ray::EdgeActor"])
def test_a_process_of_ray_is_killed(tmp_path: Path, who: str) -> None:
    """The run ends with one line that names who died, and goes on from its last checkpoint."""
    tree = runs.changed(deep(checkpoints=ROUNDS, on_user_failure="fail"), rounds=60)
    with started(runs.write(tmp_path, tree), tmp_path / "out", "ray") as process:
        wait_for(tmp_path / "out", 3)
        os.kill(_descendant(process.pid, who), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.count("\n") == 1, said
    whole = runs.run(tmp_path / "whole", tree)
    result = resume_run(tmp_path / "out", "memory", None, Watcher())
    assert result.digest == whole.digest


def _descendant(parent: int, name: str) -> int:
    """A process below `parent` whose command line begins with `name`."""
    children: dict[int, list[int]] = {}
    named: dict[int, str] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid = int(stat.parent.name)
            above = int(stat.read_text().rpartition(")")[2].split()[1])
            named[pid] = (stat.parent / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        children.setdefault(above, []).append(pid)
    below, found = [parent], []
    while below:
        at = below.pop()
        below += children.get(at, [])
        found += [at] if named.get(at, "").startswith(name) else []
    return found[0]


def damaged(folder: Path, name: str, number: int | None = None) -> Path:
    """One bit of a checkpoint's file is flipped; the newest one's, unless told otherwise."""
    at = sorted((folder / "checkpoints").glob("0*"))[-1 if number is None else number] / name
    content = bytearray(at.read_bytes())
    content[len(content) // 2] ^= 1
    at.write_bytes(content)
    return at


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LEAST", 0)
    tree = deep(checkpoints=ROUNDS)
    whole, notes = runs.run(tmp_path / "whole", tree), list[str]()
    stopped(tmp_path, tree, 3)
    at = damaged(tmp_path / "out", "users.safetensors")
    result = resume_run(tmp_path / "out", None, None, Watcher(on_note=notes.append))
    assert notes[0].startswith(f"note: {at} is damaged: its SHA-256")
    assert runs.events(result.folder, "resumed")[0]["round"] == 2
    assert result.digest == whole.digest
    same(result.folder, whole.folder)


def test_with_every_checkpoint_damaged_it_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path, deep(), 3)
    damaged(tmp_path / "out", "edge.safetensors")
    with pytest.raises(BadScenario, match=r"no checkpoint in .* is whole: .*edge.safetensors is damaged"):
        resume_run(tmp_path / "out", None, None, Watcher())


def test_a_checkpoint_of_another_scenario_is_refused_by_its_field(tmp_path: Path) -> None:
    stopped(tmp_path, deep(), 3)
    scenario = tmp_path / "out/scenario.yaml"
    scenario.write_text(scenario.read_text().replace("seed: 7", "seed: 8"))
    with pytest.raises(BadScenario, match=r"is not of this run: scenario.seed is 8 here and 7 in the checkpoint"):
        resume_run(tmp_path / "out", None, None, Watcher())


def test_records_that_are_gone_are_said(tmp_path: Path) -> None:
    stopped(tmp_path, deep(), 3)
    rows = tmp_path / "out/checkpoints/rows.f64"
    rows.write_bytes(rows.read_bytes()[:-8])
    with pytest.raises(BadScenario, match=r"rows.f64 has 640 bytes, 3 rounds need 648"):
        resume_run(tmp_path / "out", None, None, Watcher())


def test_two_processes_cannot_go_on_with_one_run(tmp_path: Path) -> None:
    from sim.run_lock import locked

    stopped(tmp_path, deep(), 3)
    with locked(tmp_path / "out"), pytest.raises(BadScenario, match=f"is in use by process {os.getpid()} on "):
        resume_run(tmp_path / "out", None, None, Watcher())


def test_an_edited_scenario_is_refused_also_without_a_checkpoint(tmp_path: Path) -> None:
    """Killed before the first checkpoint, in a comparison, or with another list of comparisons."""
    entry = {"name": "equal", "edge.aggregator": {"kind": "constant", "weights": "equal"}}
    stopped(tmp_path, deep(compare=[entry]), 2)
    scenario = tmp_path / "out/scenario.yaml"
    before = scenario.read_text()
    for there, here in (("weights: equal", "weights: [1.0, 1.0, 2.0]"), ("alpha: 1.0", "alpha: 2.0")):
        assert there in before
        scenario.write_text(before.replace(there, here))
        with pytest.raises(BadScenario, match=r"set it back, or start a new run with it"):
            resume_run(tmp_path / "out", None, None, Watcher())
    scenario.write_text(before.replace("patience: 60.0", "patience: 30.0"))
    assert resume_run(tmp_path / "out", None, None, Watcher()).status == "done"


def test_rows_that_are_damaged_are_said(tmp_path: Path) -> None:
    stopped(tmp_path, deep(), 3)
    rows = tmp_path / "out/checkpoints/rows.f64"
    content = bytearray(rows.read_bytes())
    content[100] ^= 1
    rows.write_bytes(content)
    with pytest.raises(BadScenario, match=r"rows.f64 is damaged: its SHA-256"):
        resume_run(tmp_path / "out", None, None, Watcher())


def test_data_that_were_changed_are_refused(tmp_path: Path) -> None:
    tree = theory(tmp_path / "data")
    stopped(tmp_path, tree, 1)
    x, y = data(6, 3, 2)
    runs.arrays(tmp_path / "data", x, y)
    with pytest.raises(BadScenario, match=r"the scenario, or a file that it names, was changed after the run began"):
        resume_run(tmp_path / "out", None, None, Watcher())


def test_killed_while_it_writes_its_end_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is there but the last word: the rows stay until the manifest says done."""
    tree = deep(checkpoints=ROUNDS)
    whole = runs.run(tmp_path / "whole", tree)
    real = Recorder._manifest

    def cut(self: Recorder, status: str, *args: Any) -> None:
        if status == "done":
            raise SystemExit(9)
        real(self, status, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_manifest", cut)
        with pytest.raises(SystemExit):
            run_scenario(runs.loaded(tmp_path, tree), tmp_path / "out", None, Watcher())
    result = resume_run(tmp_path / "out", None, None, Watcher())
    assert result.digest == whole.digest
    same(result.folder, whole.folder)


@pytest.mark.parametrize("transport", ["memory", "grpc", "ray"])
def test_a_user_that_dies_at_a_boundary_ends_the_run(tmp_path: Path, run_on_ray, transport: str) -> None:
    """On the last acknowledgement of a round, a gradient that bfloat16 cannot hold, while the round is to be saved."""
    x, y = np.ones((3, 1, 2, 2, 3)), np.zeros((3, 1, 2, 2))
    y[:, :, 0] = 1e150
    edge_ = edge(BASE) | {"encoder": {"kind": "linear", "initial": "default"}, "meta": {"rule": "continue"}}
    tree = runs.arrays(
        tmp_path, x, y, edge=edge_, compression={"acknowledgement": "bfloat16"}, patience=5.0, checkpoints=ROUNDS
    )
    for user in tree["users"]:
        user["front"] = {"kind": "mlp", "width": 3, "step": 1e-300}
    for _ in range(3):
        with pytest.raises(RunError, match=r"user 'u0' (failed: NotFinite: -?inf at index|was lost in )"):
            run_on_ray(tmp_path / os.urandom(4).hex(), tree, transport)


class Counting:
    """An aggregator of one's own whose state has all sorts of parts."""

    cost = "scalars"

    def __init__(self, fairness: AlphaFair) -> None:
        self.fairness = fairness

    def start(self, users: int) -> "Kept":
        plain = State.of(torch.full((users,), -1.0 / users, dtype=torch.float64))
        return Kept(**vars(plain), before=None, pair=(0, torch.zeros(users)), seen={"slots": 0}, even=True)

    def begin_round(self, state: State) -> State:
        return replace(state, slot=0, rounds=state.rounds + 1)

    def weights(self, state: State, slot: Slot) -> torch.Tensor:
        before = getattr(state, "before", None)
        return state.w if before is None else state.w * (1 + 0.1 * torch.tanh(before))

    def step(self, state: State, slot: Slot) -> State:
        assert isinstance(state, Kept)
        count, total = state.pair
        return replace(
            state, slot=state.slot + 1, before=slot.losses.nan_to_num(), even=not state.even,
            pair=(count + 1, total + 1), seen={"slots": state.seen["slots"] + 1},
        )  # fmt: skip


@dataclass(frozen=True)
class Kept(State):
    before: torch.Tensor | None
    pair: tuple[int, torch.Tensor]
    seen: dict[str, int]
    even: bool


def test_an_aggregator_of_ones_own_goes_on_with_its_state(tmp_path: Path) -> None:
    own = {"kind": f"{__name__}:Counting", "u_min": 1.0, "u_max": 3.3}
    tree = runs.changed(deep(), edge__aggregator=own)
    whole = runs.run(tmp_path / "whole", tree)
    stopped(tmp_path, tree, 2)
    assert resume_run(tmp_path / "out", None, None, Watcher()).digest == whole.digest


class Hoarding(Counting):
    """An aggregator of one's own whose state holds, from the third slot on, what no checkpoint can."""

    def step(self, state: State, slot: Slot) -> State:
        after = super().step(state, slot)
        assert isinstance(after, Kept)
        late = after.seen["slots"] > 2
        return replace(after, seen={**after.seen, "who": {"u0"}}) if late else after  # type: ignore[dict-item]


def hoarded() -> runs.Tree:
    own = {"kind": f"{__name__}:Hoarding", "u_min": 1.0, "u_max": 3.3}
    return runs.changed(deep(checkpoints=ROUNDS), edge__aggregator=own)


def check_not_saved(events: list[dict[str, Any]]) -> None:
    told = [event for event in events if event["event"] == "not_saved"]
    assert told[0]["round"] == 1
    assert told[0]["reason"] == "state 'edge.duals.seen.who': a set cannot be saved; keep numbers, tensors and arrays"
    assert not [event for event in events if event["event"] == "checkpoint"]


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_state_that_cannot_be_saved_is_an_event_and_the_run_goes_on(tmp_path: Path, transport: str) -> None:
    result = runs.run(tmp_path, hoarded(), transport)
    assert result.status == "done"
    check_not_saved(runs.events(result.folder))


def test_so_it_is_at_the_edge_of_a_cluster(tmp_path: Path) -> None:
    """The actors as plain classes, over a socket."""
    recipe = to_recipe(blueprint(runs.loaded(tmp_path, hoarded()).scenario, "run"), Step(0.1))

    async def lived() -> News:
        edge, users = EdgeActor(recipe), HostActor(recipe, [0, 1, 2])
        address = await edge.listen("127.0.0.1")
        assert await users.prepare() == b""
        said, _ = await asyncio.gather(users.live(address), edge.run())
        assert said == b""
        assert edge._server
        await edge._server.stop()
        return News.unpack(await edge.news())

    news = asyncio.run(lived())
    assert news.outcome is not None
    assert len(news.rounds) == 5
    check_not_saved(news.events)


def test_a_host_whose_users_are_gone_waits_for_no_boundary(tmp_path: Path) -> None:
    """`states` of users that wait for the end of a slot, and will never hear of it, is empty at once."""
    recipe = to_recipe(blueprint(runs.loaded(tmp_path, deep()).scenario, "run"), Step(0.1))

    async def states() -> bytes:
        users = HostActor(recipe, [0, 1])
        await users.prepare()
        users._sessions[1].settled = False
        waiting = asyncio.create_task(users.states())
        assert b"failed" in await users.live("127.0.0.1:1")
        return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(states()) == b""
