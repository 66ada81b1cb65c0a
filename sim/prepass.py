"""All rounds of a convex run at once, to see how large its weighted gradients get.

With theta*_t as the target, the theta*s alone say where every round starts. So all rounds can take their slots side by
side, m steps in all, without a message. It gives what a pass over messages gives, up to rounding.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edge_server.aggregators import Aggregator, Slot, State, build_aggregator
from edge_server.build import build_domain, build_outer
from edge_server.config import Constant, Linear, OwoFmtl
from edge_server.primal_dual import primal_step
from sim.blueprint import Blueprint
from sim.hindsight import Hindsights
from sim.seeds import stream_seed
from user_client.tasks.base import held_out
from user_client.user import exact

_LARGEST = 1 << 30
"""Bytes of samples above which rounds are not held in memory together."""


def fits(design: Blueprint) -> bool:
    """Rounds are independent of each other, users alike in size and honest, and all samples fit in memory."""
    scenario, plan = design.scenario, design.plan
    edge, rule = scenario.edge, scenario.edge.aggregator
    by_round = isinstance(rule, Constant) or (
        isinstance(rule, OwoFmtl) and rule.horizon != "run" and rule.index == "slot" and rule.scale == "none"
    )
    samples = {user.features.nbytes for user in plan.users}
    everybody = plan.draw is None and not any(user.away for user in plan.users)
    alike = len(samples) == 1 and everybody
    honest = all(held_out(user.task) == 0 and exact(user) for user in scenario.users)
    plain = edge.primal.cap is None and isinstance(edge.encoder, Linear) and edge.encoder.initial == "zeros"
    size = scenario.rounds * scenario.slots * sum(user.features.nbytes for user in plan.users)
    return by_round and alike and honest and plain and edge.meta.target == "oracle" and size <= _LARGEST


class Prepass:
    """The samples and starts of all rounds. x [T, K, m, B, d], y [T, K, m, B], start [T, d]; float64."""

    def __init__(self, design: Blueprint, oracle: Hindsights):
        scenario = design.scenario
        samples = [oracle.samples(t) for t in range(scenario.rounds)]
        self._x = torch.from_numpy(np.stack([np.stack(x) for x, _ in samples]))
        self._y = torch.from_numpy(np.stack([np.stack(y) for _, y in samples]))
        self._start = _starts(design, [oracle.theta(t) for t in range(scenario.rounds)])
        self._l_max = torch.tensor([user.l_max for user in design.plan.users], dtype=torch.float64)
        self._aggregator = build_aggregator(scenario.edge.aggregator)
        self._domain = build_domain(scenario.edge.primal.domain)

    def largest_gradient(self, eta: float) -> float:
        """G: the largest ||sum_k w_k grad loss_k|| of any slot when every round steps with eta."""
        rounds, users, slots, batch, _ = self._x.shape
        theta, state, largest = self._start, _begin(self._aggregator, rounds, users), 0.0
        for i in range(slots):
            x = self._x[:, :, i]
            error = torch.einsum("tkbd,td->tkb", x, theta) - self._y[:, :, i]
            slot = Slot.of(error.square().mean(-1).flatten(), self._l_max.repeat(rounds))
            w = self._aggregator.weights(state, slot).view(rounds, users)
            gradient = torch.einsum("tk,tkb,tkbd->td", -w, error * (2 / batch), x)
            largest = max(largest, float(torch.linalg.vector_norm(gradient, dim=1).max()))
            theta = primal_step(theta, gradient, eta, self._domain)
            state = self._aggregator.step(state, slot)
        return largest


def _starts(design: Blueprint, thetas: Sequence[Tensor]) -> Tensor:
    """x_t of every round [T, d], from the outer rule and the theta*s; the first is 0."""
    scenario = design.scenario
    outer = build_outer(scenario.edge.meta, torch.zeros_like(thetas[0]), stream_seed(scenario.seed, "outer"))
    starts = []
    for theta in thetas:
        starts.append(outer.x)
        outer = outer.next(theta)
    return torch.stack(starts)


def _begin(aggregator: Aggregator, rounds: int, users: int) -> State:
    """Every round's first state: the users of all rounds as one row [T K]."""
    return State.of(aggregator.start(users).w.repeat(rounds))
