"""Our modules, put together by hand, against the independent numpy implementation: theta, x, w, theta*, regret."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import reference as ref
from edge_server import config
from edge_server.aggregators import Aggregator, ConstantWeights, OwoFmtl, Slot
from edge_server.domains import Box, Domain, Free
from edge_server.encoders import build_encoder
from edge_server.fairness import AlphaFair
from edge_server.outer import OuterLoop, ServedMean
from edge_server.primal_dual import primal_step
from edge_server.shared_model import SharedModel
from sim.oracle import Oracle

F64 = torch.float64


def domain(half_width: float | None) -> Domain:
    return Free() if half_width is None else Box(half_width)


def rule_of(s: ref.Setting) -> Aggregator:
    fairness = AlphaFair(s.alpha, s.u_min, s.u_max)
    if s.constant is not None:
        return ConstantWeights(fairness, s.constant)
    return OwoFmtl(fairness, s.dual, s.horizon, s.index, s.scale)  # type: ignore[arg-type]


class Ours:
    """Algorithm 1 in memory, users included."""

    def __init__(self, s: ref.Setting, d: int, users: int) -> None:
        self.s, self.rule = s, rule_of(s)
        self.model = SharedModel(build_encoder(config.Linear(kind="linear"), (d,), F64, 0), False)
        self.outer = OuterLoop(s.rule, domain(s.x_box), self.model.theta)  # type: ignore[arg-type]
        self.state = self.rule.start(users)
        self.oracle = Oracle(self.rule.fairness, np.full(users, s.l_max), domain(s.theta_box))

    def run(self, x: ref.Array, y: ref.Array) -> ref.Trace:
        starts, rounds = [self.outer.x], []
        for t in range(len(x)):
            rounds.append(self.round(t, torch.from_numpy(x[t]), torch.from_numpy(y[t])))
            starts.append(self.outer.x)
        theta, w, stars, regret = (np.stack(column) for column in zip(*rounds, strict=True))
        return ref.Trace(theta, torch.stack(starts).numpy(), w, stars, regret)

    def round(self, t: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        self.model.load(self.outer.x)
        self.state = self.rule.begin_round(self.state)
        path, weights, utilities, mean = [self.model.theta], [], [], ServedMean()
        for xi, yi in zip(x, y, strict=True):
            mean = mean.add(self.model.theta)
            w, u = self.slot(xi, yi)
            path.append(self.model.theta)
            weights.append(w)
            utilities.append(u)
        last = self.rule.weights(self.state, Slot.of(torch.full_like(weights[0], torch.nan), 0.0))
        users = range(x.shape[1])
        best = self.oracle.solve(t, [x[:, k].numpy() for k in users], [y[:, k].numpy() for k in users]).hindsight
        star = {"last": path[-1], "average": mean.mean(), "oracle": best.theta}[self.s.target]
        self.outer = self.outer.next(star)
        score = self.rule.fairness.extended
        regret = score(best.utilities.mean(0)) - score(torch.stack(utilities).mean(0))
        return torch.stack(path), torch.stack([*weights, last]), star, regret

    def slot(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model.forward(list(x))
        errors = [f.squeeze(-1) - yk for f, yk in zip(outputs, y, strict=True)]
        u = self.s.l_max - torch.stack([(e**2).mean() for e in errors])
        slot = Slot.of(-u, 0.0)
        w = self.rule.weights(self.state, slot)
        gradient = self.model.backward([2 * e[:, None] / len(e) for e in errors], w)
        self.model.load(primal_step(self.model.theta, gradient, self.s.eta, domain(self.s.theta_box)))
        self.state = self.rule.step(self.state, slot)
        return w, u


def data(
    seed: int, users: int, rounds: int = 4, slots: int = 9, batch: int = 2, d: int = 3
) -> tuple[ref.Array, ref.Array]:
    rng = np.random.default_rng([seed, users])
    x = rng.normal(0, 0.7, (rounds, slots, users, batch, d))
    y = x @ rng.normal(0, 0.8, d) + rng.normal(0, 0.6, x.shape[:-1]) + np.linspace(-0.5, 0.5, users)[:, None]
    return x, y


def agree(s: ref.Setting, x: ref.Array, y: ref.Array, tolerance: float = 1e-8) -> None:
    ours, theirs = Ours(s, x.shape[-1], x.shape[2]).run(x, y), ref.reference_run(x, y, s)
    for name, a, b in zip(ref.Trace._fields, ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=name)


BASE = ref.Setting(alpha=1.0, u_min=1.0, u_max=4.0, l_max=4.0, eta=0.05, theta_box=1.0, x_box=1.0)


def test_golden_trace() -> None:
    ours = Ours(ref.GOLDEN, 2, 2).run(ref.GOLDEN_X, ref.GOLDEN_Y)
    half_digit = {"rtol": 0, "atol": 5.1e-7}
    np.testing.assert_allclose(ours.theta[:, :3], ref.GOLDEN_THETA, **half_digit)
    np.testing.assert_allclose(ours.w[:, :3], ref.GOLDEN_W, **half_digit)
    np.testing.assert_allclose(ours.theta_star, ref.GOLDEN_STARS, **half_digit)
    np.testing.assert_allclose(ours.x[2], ref.GOLDEN_X3, **half_digit)
    agree(ref.GOLDEN, ref.GOLDEN_X, ref.GOLDEN_Y)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("dual", ["ogd", "follow_the_leader"])
@pytest.mark.parametrize(("users", "target"), [(2, "last"), (3, "average"), (4, "oracle")])
def test_alphas_duals_users_and_targets(alpha: float, dual: str, users: int, target: str) -> None:
    agree(replace(BASE, alpha=alpha, dual=dual, target=target), *data(11, users))


@pytest.mark.parametrize(
    "change",
    [
        {"horizon": "slot"},
        {"horizon": "run"},
        {"horizon": "run", "dual": "follow_the_leader"},
        {"index": "round"},
        {"scale": "mean"},
        {"scale": 1.5},
        {"rule": "continue"},
        {"rule": "scratch"},
        {"rule": 0.3},
        {"constant": (0.2, 0.5, 1.0)},
        {"theta_box": None, "x_box": None},
        {"theta_box": 0.2, "x_box": 0.1},
        {"u_min": 0.5, "u_max": 2.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_every_option(change: dict[str, object], alpha: float) -> None:
    agree(replace(BASE, alpha=alpha, **change), *data(12, 3))  # type: ignore[arg-type]
