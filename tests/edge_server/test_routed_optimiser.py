import torch
from torch import Tensor, nn

from edge_server.routed_mtl.optimiser import adam, adam_state, descend

NAMES = ("weight", "bias", "unused")


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4, 5), (4,), (2,))]


def loss_of(given: list[nn.Parameter], x: Tensor) -> Tensor:
    """The weight's gradient comes back transposed, as from the network's own layers."""
    weight, bias, _ = given
    return torch.baddbmm(bias.expand(3, 1, 4), x, weight.mT).square().sum()


def test_a_descent_has_the_bits_of_torchs_own_three_calls() -> None:
    ours, theirs = parameters(), parameters()
    mine, plain = adam(ours, 0.1), adam(theirs, 0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        x = torch.randn((3, 6, 5), generator=generator)
        descend(mine, loss_of(ours, x))
        plain.zero_grad()
        torch.autograd.backward(loss_of(theirs, x))
        plain.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
    found, expected = adam_state(mine, NAMES), adam_state(plain, NAMES)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any("unused" in name for name in found)
