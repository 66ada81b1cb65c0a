"""Whole runs, from files to parameters.npz, against the independent numpy implementation, to 1e-8."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import reference as ref
import runs

BASE = ref.Setting(alpha=1.0, u_min=1.0, u_max=4.0, l_max=4.0, eta=0.05, theta_box=1.0, x_box=1.0)
ALPHAS = (0.0, 0.5, 1.0, 1.5, 3.0)
USERS_AND_TARGETS = ((2, 3, "last"), (3, 1, "average"), (4, 2, "oracle"))
CASES = [
    replace(BASE, alpha=alpha, dual=dual, target=target)
    for alpha, dual, (_, _, target) in product(ALPHAS, ("ogd", "follow_the_leader"), USERS_AND_TARGETS)
]
SIZES = {target: (users, batch) for users, batch, target in USERS_AND_TARGETS}
CHANGES = [
    {"horizon": "slot"},
    {"horizon": "run"},
    {"index": "round"},
    {"scale": "mean"},
    {"scale": 1.5},
    {"rule": "continue"},
    {"rule": "scratch"},
    {"rule": 0.3},
    {"constant": (0.2, 0.5, 1.0)},
    {"theta_box": 0.2, "x_box": 0.1},
    {"l_max": 3.0},
    {"u_min": 0.5, "u_max": 2.0, "l_max": 2.0},
]


def data(seed: int, users: int, batch: int) -> tuple[ref.Array, ref.Array]:
    rng = np.random.default_rng([seed, users, batch])
    x = rng.normal(0, 0.7, (3, 7, users, batch, 3))
    noise = rng.normal(0, 0.6, x.shape[:-1])
    return x, x @ rng.normal(0, 0.8, 3) + noise + np.linspace(-0.5, 0.5, users)[:, None]


def edge(s: ref.Setting) -> runs.Tree:
    scores = {"alpha": s.alpha, "u_min": s.u_min, "u_max": s.u_max}
    scale = s.scale if isinstance(s.scale, str) else {"sum": s.scale}
    owo = {"kind": "owo_fmtl", **scores, "dual": s.dual, "horizon": s.horizon, "index": s.index, "scale": scale}
    return {
        "encoder": {"kind": "linear"},
        "aggregator": owo if s.constant is None else {"kind": "constant", "weights": list(s.constant), **scores},
        "primal": {"step": s.eta, "domain": {"box": s.theta_box}},
        "meta": {
            "rule": s.rule if isinstance(s.rule, str) else {"step": s.rule},
            "target": s.target,
            "domain": {"box": s.x_box},
        },
    }


def agree(folder: Path, s: ref.Setting, x: ref.Array, y: ref.Array) -> None:
    tree = runs.arrays(folder, x, y, edge=edge(s), record={"parameters": True})
    for user in tree["users"]:
        user["l_max"] = s.l_max
    out = runs.run(folder, tree).folder
    expected = ref.reference_run(x, y, s)
    with np.load(out / "parameters.npz") as found:
        for name in ("theta", "x", "w"):
            np.testing.assert_allclose(found[name], getattr(expected, name), rtol=0, atol=1e-8, err_msg=name)
        assert ("theta_star" in found.files) == (s.target == "oracle")
        if s.target == "oracle":
            np.testing.assert_allclose(found["theta_star"], expected.theta_star, rtol=0, atol=1e-8)
    regret = runs.rounds(out)["regret"][:: x.shape[2]]
    if s.target == "oracle":
        np.testing.assert_allclose(regret, expected.regret, rtol=0, atol=1e-8)
    else:
        assert np.isnan(regret).all()
    rows = runs.slots(out)
    losses = np.array(
        [
            [ref.losses(theta, xi, yi) for theta, xi, yi in zip(path, xt, yt, strict=False)]
            for path, xt, yt in zip(expected.theta, x, y, strict=True)
        ]
    )
    np.testing.assert_allclose(rows["loss"], losses.ravel(), rtol=0, atol=1e-8)
    np.testing.assert_allclose(rows["utility"], s.l_max - losses.ravel(), rtol=0, atol=1e-8)
    np.testing.assert_allclose(rows["weight"], -expected.w[:, :-1].ravel(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("s", CASES, ids=lambda s: f"{s.alpha:g}-{s.dual}-{s.target}")
def test_alphas_duals_targets_users_and_batches(tmp_path: Path, s: ref.Setting) -> None:
    agree(tmp_path, s, *data(1, *SIZES[s.target]))


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_every_option(tmp_path: Path, change: dict, alpha: float) -> None:
    agree(tmp_path, replace(BASE, alpha=alpha, **change), *data(2, 3, 2))
