from pathlib import Path

import torch

from sim.skeletons.adversary import Shuffled
from user_client.config import KernelRegression
from user_client.tasks import build_task
from user_client.tasks.base import Place

PLACE = Place("a", index=0, users=2, rounds=5, slots=20, seed=5, shared_seed=6, folder=Path())
HONEST = build_task(KernelRegression(kind="kernel_regression", batch=6), PLACE)


def hostile_slots(share: float) -> int:
    attacked, hostile = Shuffled(HONEST, PLACE, seed=7, share=share), 0
    for round_ in range(PLACE.rounds):
        for slot in range(PLACE.slots):
            honest, found = HONEST.job(round_, slot), attacked.job(round_, slot)
            assert torch.equal(found.x, honest.x)
            assert torch.equal(found.y.sort().values, honest.y.sort().values)
            hostile += not torch.equal(found.y, honest.y)
    return hostile


def test_labels_change_places_in_about_so_many_slots() -> None:
    assert hostile_slots(0.0) == 0
    assert 30 <= hostile_slots(0.5) <= 70
    assert hostile_slots(1.0) >= 95
