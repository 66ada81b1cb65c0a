"""Privacy, attacks, robust rules and meters give the same bits on every transport, and after a stop."""

from pathlib import Path

import numpy as np
import pytest

import runs
from sim.caller import Watcher
from sim.resume import resume_run
from sim.runner import run as run_scenario

ELSEWHERE = [{"name": "memory", "transport": "memory"}, {"name": "grpc", "transport": "grpc"}]
MEASURES = ("norm_auc", "direction_auc", "label_error", "distance_correlation", "held_back")
RULES = {
    "norm_clip": {"kind": "norm_clip", "at": 0.05},
    "median": {"kind": "median"},
    "multi_krum": {"kind": "multi_krum", "byzantine": 1},
}


def guarded(rule: str) -> runs.Tree:
    tree = runs.digits(many=5, rounds=4, slots=3, record={"privacy": True})
    tree["users"][0]["privacy"] = {"clip": 0.05, "noise": 0.5}
    tree["users"][2]["adversary"] = {"kind": "gradient", "attack": "random", "factor": 3.0}
    tree["users"][3]["presence"] = {"churn": 0.4}
    tree["users"][4]["head"] = {"kind": "identity"}
    tree["edge"] |= {"encoder": {"kind": "lenet", "width": 10}, "robust": RULES[rule]}
    return tree


def same(ours: Path, theirs: Path) -> None:
    first, second = runs.rounds(ours), runs.rounds(theirs)
    for name in MEASURES:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_every_transport(tmp_path: Path, run_on_ray) -> None:
    result = run_on_ray(tmp_path, {**guarded("norm_clip"), "transport": "ray", "hosts": 2, "compare": ELSEWHERE})
    assert {one.digest for one in result.compared} == {result.digest}
    for one in result.compared:
        assert result.summary["leaks"]
        assert one.summary["leaks"] == result.summary["leaks"]
        same(one.folder, result.folder)


@pytest.mark.parametrize("rule", RULES)
def test_stopped_and_resumed(tmp_path: Path, rule: str) -> None:
    whole = runs.run(tmp_path / "whole", guarded(rule))
    run_scenario(runs.loaded(tmp_path, guarded(rule)), tmp_path / "out", None, Watcher(), 2)
    again = resume_run(tmp_path / "out", None, None, Watcher())
    assert again.digest == whole.digest
    assert again.summary["leaks"] == whole.summary["leaks"]
    same(again.folder, whole.folder)
