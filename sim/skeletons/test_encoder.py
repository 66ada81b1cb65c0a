import torch

from edge_server.config import Custom
from edge_server.encoders import build_encoder
from sim.skeletons.encoder import Corrected

CONFIG = Custom(kind="sim.skeletons.encoder:Corrected", args={"inputs": 4, "outputs": 3})


def test_it_starts_linear_and_passes_the_checks_of_the_edge() -> None:
    encoder = build_encoder(CONFIG, (4,), torch.float64, seed=1)
    assert isinstance(encoder, Corrected)
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4)
    assert encoder(x).shape == (5, 3)
    torch.testing.assert_close(encoder(2 * x), 2 * encoder(x))


def test_equal_seeds_build_equal_encoders() -> None:
    one, same, other = (build_encoder(CONFIG, (4,), torch.float64, seed) for seed in (1, 1, 2))
    x = torch.ones(1, 4, dtype=torch.float64)
    assert torch.equal(one(x), same(x))
    assert not torch.equal(one(x), other(x))
