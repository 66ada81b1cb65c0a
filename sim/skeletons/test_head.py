import torch

from sim.skeletons.head import Bounded
from user_client.config import CustomHead
from user_client.models import build_head


def test_it_passes_the_checks_of_the_user_and_stays_within_its_bounds() -> None:
    config = CustomHead(kind="sim.skeletons.head:Bounded", args={"limit": 0.5})
    head = build_head(config, (4, 2), 3, torch.float64, seed=1)
    assert isinstance(head, Bounded)
    outputs = torch.linspace(-1000, 1000, 40, dtype=torch.float64).reshape(5, 4, 2)
    assert head(outputs).shape == (5, 3)
    assert float(head(outputs).detach().abs().max()) <= 0.5


def test_far_within_its_bounds_it_is_linear() -> None:
    head = Bounded((2,), 1, limit=1e6)
    x = torch.tensor([[0.5, -0.25]])
    torch.testing.assert_close(head(x), head.linear(x))
