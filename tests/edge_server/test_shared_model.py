import hashlib
import math

import pytest
import torch
from torch import Tensor, nn

from edge_server import config
from edge_server.encoders import build_encoder
from edge_server.shared_model import SharedModel, _groups

F64 = torch.float64
MLP = config.Mlp(kind="mlp", hidden=(6,), width=3)
GENERATOR = torch.Generator().manual_seed(5)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=F64)


def encoder() -> nn.Module:
    return build_encoder(MLP, (4,), F64, 2)


def by_hand(features: list[Tensor], gradients: list[Tensor], weights: list[float]) -> Tensor:
    """sum_k |w_k| J_k^T g_k, user by user, on a plain copy of the encoder."""
    plain = encoder()
    for x, g, w in zip(features, gradients, weights, strict=True):
        plain(x).backward(abs(w) * g)
    return torch.cat([p.grad.reshape(-1) for p in plain.parameters()])


def test_forward_gives_every_user_its_own_rows() -> None:
    features = [noise(2, 4), None, noise(3, 4)]
    outputs = SharedModel(encoder(), False).forward(features)
    assert outputs[1] is None
    for x, y in zip(features, outputs, strict=True):
        assert x is None or torch.allclose(y, encoder()(x), rtol=1e-12)
    assert not any(y.requires_grad for y in outputs if y is not None)


def test_backward_is_the_weighted_sum_over_users() -> None:
    features, gradients = [noise(2, 4), noise(5, 4)], [noise(2, 3), noise(5, 3)]
    model = SharedModel(encoder(), False)
    model.forward(features)
    found = model.backward(gradients, torch.tensor([-0.25, -2.0], dtype=F64))
    assert torch.allclose(found, by_hand(features, gradients, [-0.25, -2.0]), rtol=1e-12)
    assert model.feature_gradients() == [None, None]


def test_absent_and_dropped_users_contribute_nothing_whatever_their_weight() -> None:
    features, gradients = [noise(2, 4), None, noise(2, 4)], [noise(2, 3), None, None]
    model = SharedModel(encoder(), True)
    model.forward(features)
    found = model.backward(gradients, torch.tensor([-0.5, math.nan, math.nan], dtype=F64))
    assert torch.allclose(found, by_hand(features[:1], gradients[:1], [-0.5]), rtol=1e-12)
    assert [g is None for g in model.feature_gradients()] == [False, True, True]


def test_feature_gradients_are_unweighted() -> None:
    features, gradients = [noise(2, 4), noise(3, 4)], [noise(2, 3), noise(3, 3)]
    model = SharedModel(encoder(), True)
    model.forward(features)
    model.backward(gradients, torch.tensor([-1e-3, -3.0], dtype=F64))
    for x, g, found in zip(features, gradients, model.feature_gradients(), strict=True):
        leaf = x.clone().requires_grad_()
        encoder()(leaf).backward(g)
        assert torch.allclose(found, leaf.grad, rtol=1e-12)
    assert not any(x.requires_grad for x in features)


def test_one_user_keeps_its_features_untouched() -> None:
    x = noise(2, 4)
    model = SharedModel(encoder(), True)
    model.forward([x])
    model.backward([noise(2, 3)], torch.tensor([-1.0], dtype=F64))
    assert not x.requires_grad
    assert x.grad is None


def test_gradients_do_not_pile_up_over_slots() -> None:
    features, gradients, w = [noise(2, 4)], [noise(2, 3)], torch.tensor([-1.0], dtype=F64)
    model = SharedModel(encoder(), False)
    found = []
    for _ in range(2):
        model.forward(features)
        found.append(model.backward(gradients, w).clone())
    assert torch.equal(found[0], found[1])


def test_a_weight_above_zero_steps_against_its_user() -> None:
    features, gradients = [noise(2, 4), noise(3, 4)], [noise(2, 3), noise(3, 3)]
    model = SharedModel(encoder(), True)
    model.forward(features)
    found = model.backward(gradients, torch.tensor([-2.0, 0.5], dtype=F64))
    expected = by_hand(features[:1], gradients[:1], [2.0]) - by_hand(features[1:], gradients[1:], [0.5])
    assert torch.allclose(found, expected, rtol=1e-12)
    leaf = features[1].clone().requires_grad_()
    encoder()(leaf).backward(gradients[1])
    assert torch.allclose(model.feature_gradients()[1], leaf.grad, rtol=1e-12)


@pytest.mark.parametrize("tiny", [0.0, -0.0, 1e-300])
def test_feature_gradients_survive_a_weight_of_zero(tiny: float) -> None:
    features, gradients = [noise(2, 4), noise(3, 4), None], [noise(2, 3), noise(3, 3), None]
    model = SharedModel(encoder(), True)
    model.forward(features)
    found = model.backward(gradients, torch.tensor([-1.0, -tiny, -1.0], dtype=F64))
    assert torch.allclose(found, by_hand(features[:1], gradients[:1], [1.0]), rtol=1e-12)
    for x, g, slope in zip(features[:2], gradients[:2], model.feature_gradients()[:2], strict=True):
        leaf = x.clone().requires_grad_()
        encoder()(leaf).backward(g)
        assert torch.allclose(slope, leaf.grad, rtol=1e-12)
    assert model.feature_gradients()[2] is None


def test_nobody_there() -> None:
    model = SharedModel(encoder(), True)
    assert model.forward([None, None]) == [None, None]
    assert model.evaluate([None]) == [None]
    assert not model.backward([None, None], torch.tensor([-1.0, -1.0], dtype=F64)).any()
    assert model.feature_gradients() == [None, None]


def test_load_reaches_the_layers_and_theta_is_a_copy() -> None:
    shared = encoder()
    model = SharedModel(shared, False)
    theta = model.theta
    model.load(theta + 1)
    assert torch.equal(torch.cat([p.detach().reshape(-1) for p in shared.parameters()]), theta + 1)
    assert torch.equal(theta, SharedModel(encoder(), False).theta)
    with pytest.raises(ValueError, match=r"theta has shape \[3\]"):
        model.load(torch.zeros(3))


def test_parameters_and_gradients_share_one_flat_memory() -> None:
    shared = encoder()
    model = SharedModel(shared, False)
    memories = {p.untyped_storage().data_ptr() for p in shared.parameters()}
    slopes = {p.grad.untyped_storage().data_ptr() for p in shared.parameters()}
    model.forward([noise(1, 4)])
    model.backward([noise(1, 3)], torch.ones(1, dtype=F64))
    assert len(memories) == len(slopes) == 1
    assert {p.grad.untyped_storage().data_ptr() for p in shared.parameters()} == slopes


def test_backward_needs_a_forward_that_no_load_has_overtaken() -> None:
    model = SharedModel(encoder(), False)
    g, w = [noise(1, 3)], -torch.ones(1, dtype=F64)
    model.forward([noise(1, 4)])
    model.load(model.theta)
    with pytest.raises(RuntimeError, match="needs a forward pass"):
        model.backward(g, w)
    model.forward([noise(1, 4)])
    model.backward(g, w)
    with pytest.raises(RuntimeError, match="needs a forward pass"):
        model.backward(g, w)


@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (2, 3, 1)])
def test_a_gradient_of_the_wrong_shape_names_the_user(shape: tuple[int, ...]) -> None:
    model = SharedModel(encoder(), False)
    model.forward([noise(2, 4), noise(2, 4)])
    with pytest.raises(ValueError, match=r"user 1: output gradient has shape .*outputs \[2, 3\]"):
        model.backward([noise(2, 3), noise(*shape)], torch.ones(2, dtype=F64))


def test_evaluate_leaves_the_slot_under_way_alone() -> None:
    x, g, w = [noise(2, 4)], [noise(2, 3)], -torch.ones(1, dtype=F64)
    model = SharedModel(encoder(), False)
    outputs = model.forward(x)
    assert torch.equal(model.evaluate(x)[0], outputs[0])
    model.evaluate([noise(5, 4)])
    assert torch.allclose(model.backward(g, w), by_hand(x, g, [1.0]), rtol=1e-12)


def test_digest_hashes_little_endian_parameters() -> None:
    linear = build_encoder(config.Linear(kind="linear"), (2,), F64, 0)
    model = SharedModel(linear, False)
    model.load(torch.tensor([1.0, -2.0]))
    expected = bytes.fromhex("000000000000f03f00000000000000c0")
    assert model.digest() == hashlib.sha256(expected).digest()


def test_lenet_runs_in_float32_with_float64_weights() -> None:
    lenet = build_encoder(config.Lenet(kind="lenet"), (3, 28, 28), torch.float32, 0)
    model = SharedModel(lenet, True)
    outputs = model.forward([torch.rand(2, 3, 28, 28), torch.rand(1, 3, 28, 28)])
    found = model.backward([torch.ones_like(y) for y in outputs], torch.tensor([-1.0, -0.5], dtype=F64))
    assert (found.dtype, found.shape, bool(found.any())) == (torch.float32, (21_830,), True)
    assert [g.shape for g in model.feature_gradients()] == [(2, 3, 28, 28), (1, 3, 28, 28)]


def test_the_gramian_is_that_of_the_unweighted_gradients() -> None:
    features, gradients = [noise(2, 4), None, noise(5, 4), noise(3, 4)], [noise(2, 3), None, noise(5, 3), None]
    model = SharedModel(encoder(), False)
    model.forward(features)
    jacobian = torch.stack([by_hand(features[k : k + 1], gradients[k : k + 1], [1.0]) for k in (0, 2)])
    expected = torch.zeros(4, 4, dtype=F64)
    expected[::2, ::2] = jacobian @ jacobian.T
    assert torch.allclose(model.gramian(gradients), expected, rtol=1e-12)


def test_the_gramian_changes_nothing_that_follows() -> None:
    features, gradients, w = [noise(2, 4), noise(2, 4)], [noise(2, 3), noise(2, 3)], -torch.ones(2, dtype=F64)
    found = []
    for look in (False, True):
        model = SharedModel(encoder(), True)
        model.forward(features)
        if look:
            model.gramian(gradients)
        found.append((model.backward(gradients, w).clone(), *model.feature_gradients()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_gramian_needs_a_forward_and_gradients_that_fit() -> None:
    model = SharedModel(encoder(), False)
    with pytest.raises(RuntimeError, match="Gramian needs a forward pass"):
        model.gramian([noise(2, 3)])
    model.forward([noise(2, 4)])
    with pytest.raises(ValueError, match="user 0: output gradient"):
        model.gramian([noise(3, 3)])
    assert not model.gramian([None]).any()


def test_the_gramian_is_computed_once_per_forward_pass() -> None:
    x, g, w = [noise(2, 4)], [noise(2, 3)], -torch.ones(1, dtype=F64)
    model = SharedModel(encoder(), False)
    model.forward(x)
    first = model.gramian(g)
    model.load(model.theta + model.backward(g, w))
    assert model.gramian(g) is first
    model.forward(x)
    assert not torch.equal(model.gramian(g), first)


def test_the_gramian_counts_a_parameter_that_the_outputs_do_not_use_as_zero() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Parameter(torch.ones(3, dtype=F64)), nn.Parameter(torch.ones(2, dtype=F64))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.used

    model = SharedModel(Half(), False)
    model.forward([torch.ones(1, 3, dtype=F64)])
    assert model.gramian([torch.ones(1, 3, dtype=F64)]).tolist() == [[3.0]]


@pytest.mark.parametrize("sizes", [[3], [7, 7, 7], [1, 16_000, 50, 5_000, 20], [4, 4, 3, 1]])
def test_groups_of_parameters_are_few_and_never_larger_than_the_largest_parameter(sizes: list[int]) -> None:
    parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
    groups = _groups(parameters)
    totals = [sum(p.numel() for p in group) for group in groups]
    assert sorted(p.numel() for group in groups for p in group) == sorted(sizes)
    assert max(totals) == max(sizes)
    assert len(groups) <= 2 * sum(sizes) / max(sizes)


@pytest.mark.parametrize("bias", [False, True])
def test_one_linear_layer_is_differentiated_to_the_same_bits_without_a_graph(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3, bias=bias, dtype=torch.float64)
    twin = nn.Sequential(nn.Linear(4, 3, bias=bias, dtype=torch.float64))
    twin[0].load_state_dict(layer.state_dict())
    features = [torch.randn(2, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)]
    slopes = [torch.randn(2, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)]
    quick, plain = SharedModel(layer, False), SharedModel(twin, False)
    for mine, its in zip(quick.forward(features), plain.forward(features), strict=True):
        assert torch.equal(mine, its)
    weights = -torch.tensor([0.3, 0.7], dtype=torch.float64)
    assert torch.equal(quick.backward(slopes, weights), plain.backward(slopes, weights))
