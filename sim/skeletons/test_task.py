from pathlib import Path

import torch

from sim.skeletons.task import DriftingLine
from user_client.tasks.base import Place

PLACE = Place("a", index=0, users=2, rounds=2, slots=5, seed=5, shared_seed=6, folder=Path())


def test_the_order_of_calls_changes_nothing() -> None:
    one, other = DriftingLine(PLACE), DriftingLine(PLACE)
    later, _ = one.job(1, 2), one.job(0, 0)
    assert torch.equal(later.x, other.job(1, 2).x)
    assert torch.equal(later.y, other.job(1, 2).y)


def test_least_squares_finds_the_slope_of_the_slot() -> None:
    task = DriftingLine(PLACE, first=0.5, last=2.5, batch=4000)
    for slot, slope in enumerate([0.5, 1.0, 1.5, 2.0, 2.5]):
        x, y = task.job(0, slot)
        line = torch.linalg.lstsq(x, y.unsqueeze(1)).solution.flatten()
        torch.testing.assert_close(line, torch.tensor([slope, 0.0], dtype=torch.float64), rtol=0, atol=0.05)
