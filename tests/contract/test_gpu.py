"""`edge.device: cuda`: what crosses, that nothing else changes, and what is said where there is no GPU."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import runs
from pretend_gpu import Crossings, pretend_gpu
from sim.caller import RunError
from sim.cli import app
from sim.planning import blueprint
from sim.scenario import load
from sim.theory import resolve_step

TASK = {"kind": "routed_mtl", "device": "cuda", "stages": [1, 1]}
NO_GPU = "device is 'cuda', but torch sees no GPU here; use 'cpu'"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
needs_none = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")


def on_gpu(tree: runs.Tree, **changes: object) -> runs.Tree:
    return runs.changed(tree, edge__device="cuda", **changes)


def pretended(folder: Path, tree: runs.Tree) -> Crossings:
    """What crossed in a run whose digest is that of the CPU's: the pretended GPU computes with its operations."""
    plain = runs.run(folder / "cpu", tree)
    with pretend_gpu() as crossings:
        result = runs.run(folder / "cuda", on_gpu(tree))
    assert result.digest == plain.digest
    assert runs.read_json(result.folder / "manifest.json")["device"] == "cuda"
    return crossings


def frozen(many: int) -> runs.Tree:
    """Digits whose raw inputs go up, five a user, in four slots; nothing is validated."""
    tree = runs.digits(many=many, rounds=1)
    for user in tree["users"]:
        user["front"], user["task"]["validation"] = "none", 0
    return tree


@pytest.mark.parametrize("many", [2, 4])
def test_a_slot_is_two_blocks_up_and_one_down_however_many_users_there_are(tmp_path: Path, many: int) -> None:
    crossings = pretended(tmp_path, frozen(many))
    features, outputs = (5 * many, 3, 28, 28), (5 * many, 16)
    first = crossings.up.index(features)
    assert crossings.up[first:] == [features, outputs] * 4
    in_slots = [shape for shape in crossings.down if shape == outputs or not shape]
    assert in_slots == [outputs, (), ()] * 4  # the gradient's norm, and whether theta is finite
    assert not {features, outputs} & {*crossings.unpinned}


def test_theta_and_its_gradient_stay_there_while_slots_go_on(tmp_path: Path) -> None:
    crossings = pretended(tmp_path, frozen(2))
    first, *_, last = (place for place, shape in enumerate(crossings.down) if shape == (10, 16))
    assert all(len(shape) != 1 for shape in crossings.down[first:last])


def test_trainable_fronts_get_their_gradients_in_one_block_more(tmp_path: Path) -> None:
    crossings = pretended(tmp_path, runs.digits(rounds=2, slots=4, batch=5))
    features = (15, 4, 12, 12)
    assert crossings.down.count(features) == crossings.up.count(features) == 8
    assert features not in crossings.unpinned


@pytest.mark.parametrize("kind", ["mgda", "cagrad"])
def test_rules_by_the_gramian_send_the_gradients_once_more(tmp_path: Path, kind: str) -> None:
    tree = runs.kernel(many=3, rounds=1, slots=4)
    tree["edge"]["aggregator"]["kind"] = kind
    assert pretended(tmp_path, tree).up.count((3, 1)) == 8


@pytest.mark.parametrize("curvature", ["joint", "exact"])
def test_a_learned_step_is_learned_on_the_cpu(tmp_path: Path, curvature: str) -> None:
    tree = runs.kernel(many=3)
    tree["edge"] |= {"primal": {"step": "free", "curvature": curvature}, "meta": {"rule": "learned"}}
    pretended(tmp_path, tree)


@pytest.mark.parametrize("meta", [{"target": "average"}, {"target": "last", "domain": {"ball": 0.5}}])
def test_other_targets_and_domains(tmp_path: Path, meta: runs.Tree) -> None:
    tree = runs.kernel()
    tree["edge"]["meta"] |= meta
    tree["edge"]["primal"] = {"step": 0.5, "domain": {"ball": 0.5}, "cap": 1.0}
    pretended(tmp_path, {**tree, "record": {"parameters": True}, "participation": {"users": 1, "per": "slot"}})


def test_a_step_by_the_theory_is_measured_on_the_cpu(tmp_path: Path) -> None:
    tree = runs.changed(runs.kernel(), edge__primal__step="guess")
    steps = [_step(tmp_path / name, one) for name, one in (("cpu", tree), ("cuda", on_gpu(tree, transport="ray")))]
    assert steps[0] == steps[1]


def _step(folder: Path, tree: runs.Tree) -> float:
    design = blueprint(load(runs.write(folder, tree)).scenario, "run")
    return resolve_step(design, lambda _text: None, lambda: False).eta


@needs_none
def test_validate_and_run_say_in_one_line_that_there_is_none(tmp_path: Path) -> None:
    file = runs.write(tmp_path, on_gpu(runs.kernel()))
    line = 1 + file.read_text().splitlines().index("  device: cuda")
    for command in (["validate", str(file)], ["run", str(file), "--out", str(tmp_path / "out")]):
        said = CliRunner().invoke(app, command)
        assert (said.exit_code, said.stderr) == (2, f"{file}:{line}: edge.device: {NO_GPU}\n")


def test_with_ray_it_is_looked_for_where_the_edge_is(tmp_path: Path) -> None:
    file = runs.write(tmp_path, on_gpu(runs.kernel(), transport="ray", edge__server_tasks=[TASK]))
    said = CliRunner().invoke(app, ["validate", str(file)])
    assert said.exit_code == 0, said.output


@needs_none
def test_on_ray_the_edges_node_must_have_one(tmp_path: Path, run_on_ray: Callable[..., object]) -> None:
    told = r"kernel: the edge is to use a GPU, but Ray knows of none on node [\d.]+, where it would go; "
    for tree in (on_gpu(runs.kernel()), runs.changed(runs.kernel(), edge__server_tasks=[TASK])):
        with pytest.raises(RunError, match=told):
            run_on_ray(tmp_path / tree["edge"].get("device", "task"), tree, "ray")


@needs_gpu
@pytest.mark.parametrize("tree", [runs.kernel(), runs.digits()], ids=["kernel", "digits"])
def test_on_a_gpu_runs_repeat_and_stay_near_the_cpus(tmp_path: Path, tree: runs.Tree) -> None:
    first, second = (runs.run(tmp_path / name, on_gpu(tree)) for name in ("first", "second"))
    assert first.digest == second.digest
    assert runs.run(tmp_path / "grpc", on_gpu(tree), "grpc").digest == first.digest
    plain = runs.run(tmp_path / "cpu", tree)
    losses = [runs.slots(result.folder)["loss"] for result in (first, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
