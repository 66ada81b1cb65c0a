import math

import torch

from edge_server.aggregators import Slot
from edge_server.fairness import AlphaFair
from sim.skeletons.aggregator import Smoothed, WorstMore

RULE = WorstMore(AlphaFair(alpha=1.0, u_min=1.0, u_max=4.0), power=1.0, rate=0.5)


def slot(*losses: float) -> Slot:
    return Slot.of(torch.tensor(losses, dtype=torch.float64), l_max=4.0)


def test_one_step_by_hand() -> None:
    state = RULE.step(RULE.start(2), slot(2.0, 0.0))
    torch.testing.assert_close(state.w, torch.tensor([-0.75, -0.25], dtype=torch.float64))


def test_an_absent_user_keeps_its_loss() -> None:
    state = RULE.step(RULE.start(3), slot(2.0, math.nan, 0.0))
    assert isinstance(state, Smoothed)
    torch.testing.assert_close(state.loss, torch.tensor([1.5, 1.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(state.w, torch.tensor([-0.5, -1 / 3, -1 / 6], dtype=torch.float64))
