"""`tasks: common`: all users of a round see digits in one colour, size and turn, and each its own images."""

import torch
from places import task

COMMON = {"kind": "rainbow", "digits": "bundled", "tasks": "common", "batch": 4, "validation": 4}


def test_the_same_background_and_other_images() -> None:
    users = [task(COMMON, name=name, index=k, seed=20 + k) for k, name in enumerate("abc")]
    found = set()
    for round_ in range(4):
        colours = [user.job(round_, 1).x.amin((0, 2, 3)) for user in users]
        assert all(torch.equal(colour, colours[0]) for colour in colours)
        found.add(tuple(colours[0].tolist()))
        assert not torch.equal(users[0].job(round_, 1).x, users[1].job(round_, 1).x)
    assert len(found) > 1


def test_own_tasks_are_as_before() -> None:
    own = {**COMMON, "tasks": "own"}
    backgrounds = {tuple(task(own, seed=20 + k).job(0, 0).x.amin((0, 2, 3)).tolist()) for k in range(8)}
    assert len(backgrounds) > 1
