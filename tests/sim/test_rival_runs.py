"""Whole runs under every rival: on the kernel task, with trainable fronts, with absent users and with errors."""

import re
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import runs
from edge_server import config
from edge_server.aggregators import build_aggregator
from sim.caller import RunError
from sim.planning import check

ROOT = Path(__file__).parents[2]
GRAMIAN = ("mgda", "pcgrad", "cagrad", "nash_mtl", "fairgrad", "imtl_g", "aligned_mtl", "upgrad")
RIVALS = ("scale_invariant", "q_ffl", "afl", *GRAMIAN)
SIGNED = ("imtl_g", "aligned_mtl")
BUILT_IN = {
    kind: model for model in get_args(config.BuiltIn) for kind in get_args(model.model_fields["kind"].annotation)
}


def under(kind: str, tree: runs.Tree) -> runs.Tree:
    scores = {key: tree["edge"]["aggregator"][key] for key in ("alpha", "u_min", "u_max")}
    return {**tree, "edge": {**tree["edge"], "aggregator": {"kind": kind, **scores}}}


@pytest.mark.parametrize("kind", RIVALS)
def test_a_rival_runs_and_its_weights_add_up(tmp_path: Path, kind: str) -> None:
    result = runs.run(tmp_path, under(kind, runs.kernel(many=6, slots=6)))
    slots, rounds = runs.slots(result.folder), runs.rounds(result.folder)
    weight = slots["weight"].reshape(2, 6, 6)
    assert np.isfinite(weight).all()
    assert kind in SIGNED or (weight >= 0).all()
    assert np.abs(weight).sum(axis=2).mean(axis=1) == pytest.approx(rounds["sum_w"][::6])
    assert np.abs(weight).mean(axis=1).ravel() == pytest.approx(rounds["w_mean"])
    assert runs.run(tmp_path / "again", under(kind, runs.kernel(many=6, slots=6))).digest == result.digest


@pytest.mark.parametrize("kind", GRAMIAN)
def test_trainable_fronts_learn_whatever_the_weights(tmp_path: Path, kind: str) -> None:
    result = runs.run(tmp_path, under(kind, runs.digits(rounds=1)))
    assert np.isfinite(runs.slots(result.folder)["loss"]).all()


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_pcgrad_draws_the_same_orders_over_every_transport(tmp_path: Path, transport: str) -> None:
    tree = under("pcgrad", runs.digits(rounds=1))
    plain = runs.run(tmp_path / "plain", tree)
    assert runs.run(tmp_path / "other", tree, transport).digest == plain.digest
    assert runs.run(tmp_path / "seed", {**tree, "seed": 8}).digest != plain.digest


def test_the_step_taken_is_the_weighted_gradient_of_the_rule(tmp_path: Path) -> None:
    """One user, one sample: nash_mtl's step has length sqrt(K) = 1 whatever the gradient."""
    tree = under("nash_mtl", runs.kernel(many=1, rounds=1, record={"parameters": True}))
    del tree["edge"]["primal"]["domain"]
    theta = np.load(runs.run(tmp_path, tree).folder / "parameters.npz")["theta"][0]
    assert np.linalg.norm(np.diff(theta, axis=0), axis=1) == pytest.approx([0.05] * 4)


def test_a_rule_without_an_answer_ends_the_run_with_round_and_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_server.aggregators.bargaining._STEPS", 1)
    with pytest.raises(RunError, match=r"edge.aggregator has no weights in round 0, slot 0: no bargain .* norms"):
        runs.run(tmp_path, under("nash_mtl", runs.kernel()))


def test_missing_torchjd_is_found_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = runs.loaded(tmp_path, under("upgrad", runs.kernel()))
    assert check(loaded) == []
    monkeypatch.delitem(sys.modules, "edge_server.aggregators.from_torchjd", raising=False)
    monkeypatch.delattr("edge_server.aggregators.from_torchjd", raising=False)
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    (error,) = check(loaded)
    assert error.endswith("edge.aggregator: upgrad needs TorchJD: pip install 'equiran[rivals]'")


def test_the_page_lists_every_rule_with_its_cost_and_its_options() -> None:
    page = (ROOT / "docs/aggregators.md").read_text(encoding="utf-8")
    rows = {row[1]: row[0] for row in re.findall(r"^(\| `(\w+)` \|.*)$", page, re.MULTILINE)}
    assert rows.keys() == BUILT_IN.keys()
    for kind, model in BUILT_IN.items():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", rows[kind])[1:-1]]
        rule = build_aggregator(model.model_validate({"kind": kind, "u_max": 4.0}))
        assert cells[3] == rule.cost, kind
        own = model.model_fields.keys() - config.Scoring.model_fields.keys() - {"kind"}
        assert {*re.findall(r"`(\w+)`", cells[4])} == own, kind
