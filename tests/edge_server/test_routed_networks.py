import pytest
import torch
from torch import Tensor

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.masks import Router, harden, overlap, straight_through
from edge_server.routed_mtl.networks import ArchitectureError, TaskNetwork, Trunk, mask_bits, parameter_count
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.rivals import build_network
from edge_server.routed_mtl.tasks import Tasks

TASKS = Tasks.grid([P3Delay(), P4Capacity()])
SMALL = Tasks.grid([P3Delay(), P4Capacity()], [3, 5])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(tasks: Tasks, places: int = 20, batch: int = 4) -> tuple[Tensor, Tensor]:
    presence = tasks.presence(places).unsqueeze(1)
    return torch.rand(len(tasks), batch, places, generator=generator(5)) * presence, presence


def alone(network: TaskNetwork, row: int, x: Tensor) -> Tensor:
    """Eq. (14) for one task, written with one matrix per layer: the oracle of the batched pass."""
    weights = [w if w.dim() == 2 else w[row] for w in network.trunk.weights]
    biases = [b if b.dim() == 1 else b[row] for b in network.trunk.biases]
    if network.code is not None:
        x = torch.cat([x, network.code[row].expand(len(x), -1)], dim=1)
    masks = network.routing()
    at = 0
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if masks is not None and 0 < layer < 6:
            weight = weight * masks[row, at : at + weight.numel()].view_as(weight)
            at += weight.numel()
        x = x @ weight.T + bias
        x = x if layer == 6 else x.clamp(min=0)
    return x


def test_sizes_are_the_papers() -> None:
    trunk = Trunk(20, 20, generator())
    assert [tuple(weight.shape) for weight in trunk.weights] == [
        (20, 20),
        (32, 20),
        (32, 32),
        (32, 32),
        (32, 32),
        (20, 32),
        (20, 20),
    ]
    assert mask_bits(trunk) == 4352
    assert parameter_count(build_network(TASKS, Design()), 14) == 5340


@pytest.mark.parametrize(
    ("design", "size"),
    [
        (Design(scheme="single"), 5340),
        (Design(scheme="naive"), 5360),
        (Design(scheme="naive", index="one_hot", skip=True), 5634),
        (Design(scheme="zero_padding"), 5760),
        (Design(scheme="equivariant"), 5001),
    ],
)
def test_rivals_have_the_same_budget(design: Design, size: int) -> None:
    assert parameter_count(build_network(TASKS, design), 14) == size


def test_xavier_bounds_and_spread() -> None:
    weight = Trunk(20, 20, generator()).weights[2]
    bound = (6 / 64) ** 0.5
    assert weight.abs().max() <= bound
    assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)


def test_masks_start_near_tanh_one_with_a_slope() -> None:
    router = Router(14, 4352, generator())
    soft = router()
    torch.testing.assert_close(soft, torch.full_like(soft, torch.tanh(torch.tensor(1.0)).item()), rtol=0, atol=0.03)
    soft.sum().backward()
    slope = router.last_bias.grad
    assert slope is not None
    torch.testing.assert_close(slope / 14, torch.full_like(slope, 2.1), rtol=0.05, atol=0)


def test_the_router_is_the_dense_network_on_one_hot_vectors() -> None:
    router = Router(5, 12, generator())
    hidden = (torch.eye(5) @ router.first + router.first_bias).clamp(min=0)
    expected = torch.tanh(5 * (hidden @ router.last.T + router.last_bias)).clamp(min=0)
    torch.testing.assert_close(router(), expected)
    torch.testing.assert_close(router(torch.tensor([3, 1])), expected[[3, 1]])


def test_hardening_is_equation_15() -> None:
    soft = torch.tensor([0.0, 0.2, 0.5, 0.500001, 0.99])
    expected = torch.sign(torch.relu(soft - 0.5))
    assert torch.equal(harden(soft), expected)


def test_straight_through_is_hard_in_value_and_soft_in_gradient() -> None:
    soft = torch.tensor([0.2, 0.7], requires_grad=True)
    hard = straight_through(soft)
    (hard * torch.tensor([3.0, 4.0])).sum().backward()
    assert hard.tolist() == [0.0, 1.0]
    assert soft.grad is not None
    assert soft.grad.tolist() == [3.0, 4.0]


def test_overlap_by_hand() -> None:
    masks = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    expected = torch.tensor([[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    torch.testing.assert_close(overlap(masks), expected)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(
    "design",
    [
        Design(),
        Design(scheme="single"),
        Design(scheme="naive"),
        Design(scheme="naive", index="one_hot"),
        Design(scheme="zero_padding"),
    ],
)
def test_the_batched_pass_is_a_loop_over_tasks(design: Design, hard: bool) -> None:
    network = build_network(TASKS, design)
    assert isinstance(network, TaskNetwork)
    if hard and network.router is None:
        with pytest.raises(ArchitectureError, match="no rDNN"):
            network.harden_masks()
        return
    if hard:
        assert network.router is not None
        torch.nn.init.normal_(network.router.last, 0.05, 0.02, generator=generator(3))
        network.harden_masks()
        assert 0.05 < float(network.masks.mean()) < 0.95  # type: ignore[union-attr]
    x, presence = features(TASKS)
    expected = torch.stack([alone(network, row, x[row]) for row in range(len(TASKS))])
    torch.testing.assert_close(network(x, None, presence, None), expected, rtol=1e-6, atol=1e-6)
    some = torch.tensor([2, 7, 9])
    torch.testing.assert_close(network(x[some], None, presence[some], some), expected[some], rtol=1e-6, atol=1e-6)


def test_gradients_equal_those_of_a_loop_over_tasks() -> None:
    network = build_network(TASKS, Design())
    assert isinstance(network, TaskNetwork)
    x, presence = features(TASKS)
    parameters = list(network.parameters())
    batched = torch.autograd.grad(network(x, None, presence, None).square().sum(), parameters)
    looped = torch.autograd.grad(sum(alone(network, k, x[k]).square().sum() for k in range(14)), parameters)  # type: ignore[arg-type]
    for ours, theirs in zip(batched, looped, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_masked_weight_of_a_task_has_no_gradient_from_it() -> None:
    network = build_network(SMALL, Design(places=5))
    assert isinstance(network, TaskNetwork)
    network.harden_masks()
    masks = network.masks
    assert masks is not None
    masks[0, 7] = 0.0
    x, presence = features(SMALL, places=5)
    logits = network(x, None, presence, None)
    used = torch.autograd.grad(logits[1].sum(), network.trunk.weights[1], retain_graph=True)[0]
    cut = torch.autograd.grad(logits[0].sum(), network.trunk.weights[1])[0]
    assert cut.flatten()[7] == 0
    assert used.shape == cut.shape


def test_the_skip_adds_a_multiple_of_the_log_gain() -> None:
    network = build_network(SMALL, Design(skip=True))
    assert network.skip is not None
    x, presence = features(SMALL)
    log_gain = torch.randn(x.shape, generator=generator(8)) * presence
    plain = network(x, log_gain, presence, None).detach()
    with torch.no_grad():
        network.skip.copy_(torch.tensor([1.0, -2.0, 0.5, 0.0]))
    expected = plain + network.skip.view(4, 1, 1) * log_gain
    torch.testing.assert_close(network(x, log_gain, presence, None), expected)


def test_reinitialising_draws_the_bdnn_and_leaves_the_masks() -> None:
    network = build_network(SMALL, Design())
    assert isinstance(network, TaskNetwork)
    network.harden_masks()
    masks, before = network.masks, [weight.detach().clone() for weight in network.trunk.weights]
    network.reinitialise(generator(9))
    assert network.masks is masks
    assert all(not torch.equal(a, b) for a, b in zip(before, network.trunk.weights, strict=True))
    assert network.trunk.weights[2].abs().max() <= (6 / 64) ** 0.5
    assert len(network.trainable()) == 14


def test_the_deep_set_is_equivariant_and_ignores_padding() -> None:
    network = build_network(SMALL, Design(scheme="equivariant"))
    x, presence = features(SMALL)
    logits = network(x, None, presence, None)
    order = torch.tensor([2, 0, 1, *range(3, 20)])
    moved = network(x[..., order], None, presence[..., order], None)
    torch.testing.assert_close(moved[0, :, :3], logits[0][:, order][:, :3])
    filled = torch.where(presence, x, torch.full_like(x, 7.0))
    torch.testing.assert_close(network(filled, None, presence, None)[0, :, :3], logits[0, :, :3])


def test_init_is_the_seeds_alone() -> None:
    torch.manual_seed(1)
    one = build_network(SMALL, Design(seed=4))
    torch.manual_seed(2)
    same, other = build_network(SMALL, Design(seed=4)), build_network(SMALL, Design(seed=5))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(next(iter(one.parameters())), next(iter(other.parameters())))


def test_impossible_designs_are_one_line() -> None:
    for wrong, match in [
        ({"scheme": "rooted"}, "scheme must be one of routed"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"w3": 0.0}, "w3 must be positive"),
        ({"stages": (0, 0)}, "stages must be"),
        ({"tasks_per_step": 0}, "tasks_per_step"),
    ]:
        with pytest.raises(ValueError, match=match):
            Design(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="10 places, but a task has 20 users; raise places"):
        build_network(TASKS, Design(places=10))


def test_tasks_are_checked() -> None:
    with pytest.raises(ValueError, match="users must be at least 1, got 0"):
        Tasks.of([(P3Delay(), 0)])
    with pytest.raises(ValueError, match="more than once: p4_capacity/5"):
        Tasks.of([(P4Capacity(), 5), (P4Capacity(), 5)])
    with pytest.raises(ValueError, match="none given"):
        Tasks.of([])
    assert [str(task) for task in SMALL] == ["p3_delay/3", "p3_delay/5", "p4_capacity/3", "p4_capacity/5"]
