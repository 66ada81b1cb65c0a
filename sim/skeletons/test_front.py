import torch

from sim.skeletons.front import Calibration
from user_client.config import CustomFront
from user_client.models import build_front


def test_it_passes_the_checks_of_the_user_and_bounds_what_goes_up() -> None:
    config = CustomFront(kind="sim.skeletons.front:Calibration", args={"limit": 0.5})
    front = build_front(config, (3, 2), torch.float64, seed=1)
    assert isinstance(front, Calibration)
    x = torch.linspace(-100, 100, 24, dtype=torch.float64).reshape(4, 3, 2)
    assert front(x).shape == x.shape
    assert float(front(x).detach().abs().max()) <= 0.5


def test_without_calibration_small_inputs_pass_as_they_are() -> None:
    x = torch.linspace(-0.01, 0.01, 6).reshape(2, 3)
    torch.testing.assert_close(Calibration((3,))(x), x, rtol=1e-4, atol=0)
