import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from user_client import config as settings
from user_client.models import build_front, build_head, front_shape


def front(config):
    return TypeAdapter(settings.Front).validate_python(config)


def head(config):
    return TypeAdapter(settings.Head).validate_python(config)


def test_conv_pool_is_lenets_first_stage():
    config = front({"kind": "conv_pool"})
    module = build_front(config, (3, 28, 28), torch.float32, 1)
    x = torch.rand(2, 3, 28, 28)
    weight, bias = module.parameters()
    windows = x.unfold(2, 5, 1).unfold(3, 5, 1)
    filtered = torch.einsum("bcijuv,ocuv->boij", windows, weight) + bias[:, None, None]
    pooled = filtered.clamp(min=0).reshape(2, 10, 12, 2, 12, 2).amax((3, 5))
    assert front_shape(config, (3, 28, 28)) == (10, 12, 12)
    assert sum(p.numel() for p in module.parameters()) == 760
    torch.testing.assert_close(module(x), pooled)


@pytest.mark.parametrize("shape", [(1, 6, 6), (2, 9, 12), (3, 28, 28)])
def test_conv_pool_shape_is_what_comes_out(shape):
    config = front({"kind": "conv_pool", "channels": 4})
    module = build_front(config, shape, torch.float64, 1)
    assert module(torch.rand(3, *shape, dtype=torch.float64)).shape[1:] == front_shape(config, shape)


def test_mlp_front_is_positive_and_flattens():
    config = front({"kind": "mlp", "hidden": [7], "width": 5})
    module = build_front(config, (2, 3), torch.float64, 1)
    assert front_shape(config, (2, 3)) == (5,)
    assert [m.out_features for m in module if isinstance(m, nn.Linear)] == [7, 5]
    assert module(torch.randn(50, 2, 3, dtype=torch.float64)).min() == 0


def test_no_front():
    assert front_shape("none", (4,)) == (4,)
    assert build_front("none", (4,), torch.float32, 1) is None


def test_heads():
    linear = build_head(head({"kind": "linear"}), (50,), 10, torch.float32, 1)
    mlp = build_head(head({"kind": "mlp", "hidden": [8]}), (50,), 1, torch.float64, 1)
    wide = build_head(head({"kind": "linear", "outputs": 12}), (50,), 10, torch.float32, 1)
    assert [type(m) for m in linear] == [nn.Linear]
    assert sum(p.numel() for p in linear.parameters()) == 510
    assert [type(m) for m in mlp] == [nn.Linear, nn.ReLU, nn.Linear]
    assert mlp(torch.zeros(3, 50, dtype=torch.float64)).shape == (3, 1)
    assert wide(torch.zeros(3, 50)).shape == (3, 12)
    assert build_head(head({"kind": "identity"}), (1,), 1, torch.float32, 1) is None
    assert build_head(head({"kind": "identity"}), (12,), 10, torch.float32, 1) is None


def test_parameters_come_from_the_seed_alone():
    before = torch.random.get_rng_state()
    one, same, other = (
        build_head(head({"kind": "linear"}), (5,), 2, torch.float32, seed)[0].weight
        for seed in (2**64 - 1, 2**64 - 1, 3)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        ({"kind": "conv_pool"}, (4,), r"conv_pool needs images \[channels, >= 6, >= 6\], the task gives \[4\]"),
        ({"kind": "conv_pool"}, (3, 5, 28), r"the task gives \[3, 5, 28\]"),
    ],
)
def test_fronts_that_do_not_fit(config, shape, message):
    with pytest.raises(ValueError, match=message):
        front_shape(front(config), shape)
    with pytest.raises(ValueError, match=message):
        build_front(front(config), shape, torch.float32, 1)


@pytest.mark.parametrize(
    ("config", "shape", "outputs", "message"),
    [
        ({"kind": "identity"}, (50,), 1, r"head identity needs \[1\] from the encoder, it gives \[50\]"),
        ({"kind": "identity"}, (5,), 10, r"head identity needs \[at least 10\] from the encoder, it gives \[5\]"),
        ({"kind": "identity"}, (1, 1), 1, r"it gives \[1, 1\]"),
        ({"kind": "linear", "outputs": 9}, (50,), 10, "head outputs is 9, this task needs at least 10"),
        ({"kind": "mlp", "outputs": 2}, (50,), 1, "head outputs is 2, this task needs 1"),
    ],
)
def test_heads_that_do_not_fit(config, shape, outputs, message):
    with pytest.raises(ValueError, match=message):
        build_head(head(config), shape, outputs, torch.float32, 1)
