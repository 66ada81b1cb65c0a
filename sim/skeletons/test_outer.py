import torch

from sim.skeletons.outer import HeavyBall


def test_two_rounds_by_hand() -> None:
    start = HeavyBall(torch.zeros(1, dtype=torch.float64), step=0.5, momentum=0.5)
    first = start.next(torch.ones(1, dtype=torch.float64))
    second = first.next(torch.ones(1, dtype=torch.float64))
    assert (start.x.item(), first.x.item(), second.x.item()) == (0.0, 0.5, 1.0)


def test_it_comes_to_rest_where_rounds_end() -> None:
    rule = HeavyBall(torch.zeros(2, dtype=torch.float64))
    goal = torch.tensor([1.0, -2.0], dtype=torch.float64)
    for _ in range(100):
        rule = rule.next(goal)
    torch.testing.assert_close(rule.x, goal)
