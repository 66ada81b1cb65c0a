"""The theory's step eta = D*/(G sqrt m): D*, G and their fixed point found again by the independent implementation."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

import reference as ref
import runs
from sim.scenario import ScenarioErrors, load

BASE = ref.Setting(alpha=1.0, u_min=1.0, u_max=4.0, l_max=4.0, eta=0.0, theta_box=1.0, x_box=1.0, target="oracle")


def data(rounds: int = 5, slots: int = 9, users: int = 2) -> tuple[ref.Array, ref.Array]:
    """Well-conditioned rounds, so that theta*_t is one point."""
    rng = np.random.default_rng([4, slots])
    x = rng.normal(0, 0.8, (rounds, slots, users, 2, 3))
    truth = rng.uniform(-0.8, 0.8, (rounds, 3))
    return x, np.einsum("tikbd,td->tikb", x, truth) + rng.normal(0, 0.3, x.shape[:-1])


def largest_gradient(x: ref.Array, y: ref.Array, s: ref.Setting) -> float:
    trace = ref.reference_run(x, y, s)
    return max(
        float(np.linalg.norm(trace.w[t, i] @ ref.loss_gradients(trace.theta[t, i], x[t, i], y[t, i])))
        for t in range(len(x))
        for i in range(x.shape[1])
    )


def theory(x: ref.Array, y: ref.Array, s: ref.Setting) -> tuple[float, float, float]:
    """D*, G and eta by maths.md A1: start at D*/(10 sqrt m), then three passes."""
    stars = np.stack([ref.oracle(xt, yt, s) for xt, yt in zip(x, y, strict=True)])
    d_star = max(float(np.linalg.norm(a - b)) for a in stars for b in stars)
    eta, g, root = d_star / (10 * np.sqrt(x.shape[1])), 0.0, np.sqrt(x.shape[1])
    for _ in range(3):
        g = largest_gradient(x, y, ref.Setting(**{**s.__dict__, "eta": eta}))
        eta = d_star / (g * root)
    return d_star, g, eta


def tree(folder: Path, x: ref.Array, y: ref.Array, alpha: float, **changes) -> runs.Tree:
    edge = {
        "encoder": {"kind": "linear"},
        "aggregator": {"kind": "owo_fmtl", "alpha": alpha, "u_min": 1.0, "u_max": 4.0},
        "primal": {"step": "theory", "domain": {"box": 1.0}},
        "meta": {"rule": "running_mean", "target": "oracle", "domain": {"box": 1.0}},
    }
    return runs.arrays(folder, x, y, edge=edge, record={"parameters": True}, **changes)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_step_and_bound_are_those_of_the_formulas(tmp_path: Path, alpha: float) -> None:
    x, y = data()
    s = ref.Setting(**{**BASE.__dict__, "alpha": alpha})
    out = runs.run(tmp_path, tree(tmp_path, x, y, alpha)).folder
    d_star, g, eta = theory(x, y, s)
    assert runs.read_json(out / "summary.json")["step"] == pytest.approx(eta, rel=1e-7)
    rounds = runs.rounds(out)
    bound, residuals = rounds["bound"][::2], rounds["residual"][::2]
    mu, m, d = s.u_min ** (1 + alpha) / alpha, x.shape[1], 2 * np.sqrt(3)
    g_w = np.sqrt(2) * (s.u_max - s.u_min)
    for t in range(1, len(x) + 1):
        primal = (g * d_star + g * d**2 * (1 + np.log(t)) / (2 * d_star * t)) / np.sqrt(m)
        dual = g_w**2 * (1 + np.log(m)) / (2 * mu * m)
        assert bound[t - 1] == pytest.approx(primal + dual + residuals[:t].mean(), rel=1e-6)


def test_the_residual_is_that_of_the_formula(tmp_path: Path) -> None:
    x, y = data()
    out = runs.run(tmp_path, tree(tmp_path, x, y, 1.0)).folder
    with np.load(out / "parameters.npz") as found:
        w, stars = found["w"][:, :-1], found["theta_star"]
    for t, star in enumerate(stars):
        u = 4.0 - ref.losses(star, x[t], y[t])
        expected = float(np.mean(np.sum((w[t] - w[t].mean(0)) * u, axis=1)))
        assert runs.rounds(out)["residual"][2 * t] == pytest.approx(expected, abs=1e-9)


def test_the_bound_holds_on_a_short_fig2(tmp_path: Path) -> None:
    for name in ("stochastic", "alternate", "random"):
        short = load(runs.SCENARIOS / "owo_fmtl" / f"fig2_{name}.yaml", ["rounds=8", "slots=16"])
        out = runs.run_loaded(short, tmp_path / name, None, runs.Watcher()).folder
        rounds = runs.rounds(out)
        regret, bound = rounds["regret"][::2], rounds["bound"][::2]
        running = np.cumsum(regret) / np.arange(1, 9)
        assert np.isfinite(bound).all()
        assert (running <= bound).all()
        assert runs.read_json(out / "summary.json")["regret_mean"] == pytest.approx(regret.mean(), rel=1e-12)


def test_no_step_beats_theta_star(tmp_path: Path) -> None:
    """theta*_t against a solver that knows nothing of ours: objective values, as theta* may be flat."""
    short = load(
        runs.SCENARIOS / "owo_fmtl" / "fig2_alternate.yaml",
        ["rounds=3", "slots=16", "record.streams=true", "record.parameters=true"],
    )
    out = runs.run_loaded(short, tmp_path / "out", None, runs.Watcher()).folder
    with np.load(out / "streams.npz") as streams, np.load(out / "parameters.npz") as parameters:
        x = np.stack([streams["sine.x"], streams["cosine.x"]], axis=2)
        y = np.stack([streams["sine.y"], streams["cosine.y"]], axis=2)
        stars = parameters["theta_star"]
    for t, star in enumerate(stars):
        found = minimize(
            lambda v, t=t: -ref.objective(v, x[t], y[t], BASE), np.zeros(4), method="SLSQP", bounds=[(-1, 1)] * 4,
            options={"ftol": 1e-14, "maxiter": 1000},
        )  # fmt: skip
        assert ref.objective(star, x[t], y[t], BASE) >= -found.fun - 1e-9


def test_without_a_finite_theta_domain_the_step_is_refused_before_the_start(tmp_path: Path) -> None:
    x, y = data()
    bad = runs.changed(tree(tmp_path, x, y, 1.0), edge__primal__domain="none")
    with pytest.raises(ScenarioErrors, match=r"theory needs a convex problem on a box: give edge.primal.domain"):
        runs.run(tmp_path, bad)
