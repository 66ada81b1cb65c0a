"""The parameter-free rule, whole runs: against plain numpy, its certificate, and what scenarios may ask of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parameter_free_reference import play
from runs import Tree, kernel, rounds, run

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
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("stream", ["half", "conflict", "sinusoid"])
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
@pytest.mark.parametrize("stream", ["half", "conflict"])
def test_certificate_covers_the_regret(tmp_path: Path, stream: str, aggregator: str, alpha: float) -> None:
    tree = free(stream, alpha)
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
