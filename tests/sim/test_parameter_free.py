"""The parameter-free rule, whole runs: against plain numpy, its certificate, and what scenarios may ask of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parameter_free_reference import play
from runs import Tree, digits, kernel, rounds, run
from sim.scenario import ScenarioErrors

ALPHAS = (0.0, 0.5, 1.0, 2.0)


def free(stream: str, alpha: float = 1.0, curvature: str = "joint", many: int = 7, **changes: Any) -> Tree:
    u_max = 5.0 if stream == "conflict" else 4.0
    tree = kernel(3 if stream == "conflict" else 2, many, 9, record={"parameters": True, "streams": True}, **changes)
    tree["users"]["template"]["task"]["stream"] = stream
    tree["edge"] |= {
        "aggregator": {"kind": "parameter_free", "alpha": alpha, "u_min": 1.0, "u_max": u_max},
        "primal": {"step": "free", "curvature": curvature, "domain": {"box": 1.0}},
        "meta": {"rule": "learned", "target": "oracle", "domain": {"box": 1.0}},
    }
    return tree


@pytest.mark.parametrize("curvature", ["joint", "exact"])
@pytest.mark.parametrize(
    ("stream", "alpha"), [*(("half", alpha) for alpha in ALPHAS), ("conflict", 1.0), ("sinusoid", 1.0)]
)
def test_agrees_with_plain_numpy(tmp_path: Path, stream: str, alpha: float, curvature: str) -> None:
    tree = free(stream, alpha, curvature)
    folder = run(tmp_path, tree).folder
    streams, found = np.load(folder / "streams.npz"), np.load(folder / "parameters.npz")
    names = sorted({key.split(".")[0] for key in streams.files})
    x = np.stack([streams[f"{name}.x"][:, :, 0] for name in names], axis=2)
    y = np.stack([streams[f"{name}.y"][:, :, 0] for name in names], axis=2)
    u_max = tree["edge"]["aggregator"]["u_max"]
    expected = play(x, y, found["theta_star"], alpha, u_max, curvature == "exact")
    np.testing.assert_allclose(found["theta"], expected.theta, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found["w"][:, :-1], expected.w, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found["x"], expected.x, rtol=0, atol=1e-8)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("aggregator", ["parameter_free", "owo_fmtl"])
def test_certificate_covers_the_regret(tmp_path: Path, aggregator: str, alpha: float) -> None:
    tree = free("half", alpha)
    tree["edge"]["aggregator"]["kind"] = aggregator
    found = rounds(run(tmp_path, tree).folder)
    total = found["primal_regret"] + found["dual_gap"] + found["drift"]
    assert (found["regret"] <= total + 1e-9).all()
    assert (found["dual_gap"] >= -1e-9).all()


def test_constant_weights_do_not_drift(tmp_path: Path) -> None:
    tree = free("half")
    tree["edge"]["aggregator"] = {"kind": "constant", "weights": [0.4, 0.6], "u_max": 4.0}
    found = rounds(run(tmp_path, tree).folder)
    np.testing.assert_allclose(found["drift"], 0.0, atol=1e-12)
    assert np.isfinite(found["primal_regret"]).all()


def test_no_certificate_for_weights_outside_the_dual_box(tmp_path: Path) -> None:
    tree = free("half")
    tree["edge"]["aggregator"] = {"kind": "constant", "weights": [3.0, 3.0], "u_max": 4.0}
    found = rounds(run(tmp_path, tree).folder)
    assert np.isnan(found["dual_gap"]).all()


def test_without_an_oracle_only_the_gap_is_known(tmp_path: Path) -> None:
    tree = free("half")
    tree["edge"]["meta"]["target"] = "last"
    found = rounds(run(tmp_path, tree).folder)
    assert np.isfinite(found["dual_gap"]).all()
    assert np.isnan(found["primal_regret"]).all()
    assert np.isnan(found["drift"]).all()


def test_learns_on_digits_and_all_deployments_agree(tmp_path: Path) -> None:
    """A deep encoder with fronts: finite, and the same digest over memory and gRPC."""
    tree = digits(rounds=3)
    tree["edge"] |= {
        "aggregator": {"kind": "parameter_free", "alpha": 1.0, "u_min": 1.0, "u_max": 3.3},
        "primal": {"step": "free"},
        "meta": {"rule": "learned"},
    }
    results = [run(tmp_path, tree, transport) for transport in ("memory", "grpc")]
    assert results[0].digest == results[1].digest
    found = rounds(results[0].folder)
    assert np.isfinite(found["eta"]).all()
    assert ((found["pull"] >= 0) & (found["pull"] <= 1)).all()
    assert np.isfinite(found["val_loss"]).all()


@pytest.mark.parametrize(
    ("edge", "expected"),
    [
        ({"meta": {"rule": "continue"}}, "edge.primal.step: free learns with the outer rule: set edge.meta.rule to"),
        ({"primal": {"step": 0.1}}, "edge.meta.rule: learned needs edge.primal.step: free"),
        (
            {"primal": {"step": 0.1, "curvature": "exact"}, "meta": {"rule": "continue"}},
            "edge.primal.curvature: exact is for step: free",
        ),
    ],
)
def test_half_a_rule_is_refused(tmp_path: Path, edge: Tree, expected: str) -> None:
    tree = free("half")
    tree["edge"] |= edge
    with pytest.raises(ScenarioErrors, match=expected):
        run(tmp_path, tree)
