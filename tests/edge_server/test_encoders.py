import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_server import config
from edge_server.encoders import EncoderError, build_encoder, output_shape

F32, F64 = torch.float32, torch.float64


def size(encoder: nn.Module) -> int:
    return sum(p.numel() for p in encoder.parameters())


def custom(name: str, **args: int | float | str | bool) -> config.Custom:
    return config.Custom(kind=f"{__name__}:{name}", args=args)


class Good(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Normed(Good):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


class Dropped(Good):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1))


class Centred(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x - x.mean(0, keepdim=True).detach())


class Leaking(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x.mean() * 1e-3


class Noisy(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + torch.rand(())


class Counting(Good):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x)


class Flat(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).sum(1)


class Broken(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) / 0


class Pair(Good):
    def forward(self, x: Tensor) -> Tensor:
        return (x, x)  # type: ignore[return-value]


class Deaf(Good):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Bare(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class NotAModule:
    pass


def test_lenet_has_the_papers_sizes() -> None:
    whole = build_encoder(config.Lenet(kind="lenet"), (3, 28, 28), F32, 0)
    behind = build_encoder(config.Lenet(kind="lenet"), (10, 12, 12), F32, 0)
    assert (size(whole), size(behind)) == (21_830, 21_070)
    assert output_shape(whole, (3, 28, 28), F32) == output_shape(behind, (10, 12, 12), F32) == (50,)


@pytest.mark.parametrize(("shape", "convolutions"), [((3, 28, 28), 2), ((1, 28, 28), 2), ((10, 12, 12), 1)])
def test_lenet_is_the_plain_network_however_its_images_lie(shape: tuple[int, ...], convolutions: int) -> None:
    lenet = build_encoder(config.Lenet(kind="lenet"), shape, F64, 0)
    parameters = [p.detach().clone().requires_grad_() for p in lenet.parameters()]
    images = torch.randn(5, *shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    plain = images.clone().requires_grad_()
    hidden = plain
    for weight, bias in zip(parameters[: 2 * convolutions : 2], parameters[1 : 2 * convolutions : 2], strict=True):
        hidden = functional.max_pool2d(functional.conv2d(hidden, weight, bias).relu(), 2)
    expected = functional.linear(hidden.flatten(1), *parameters[2 * convolutions :]).relu()
    outputs = lenet(images.requires_grad_())
    torch.testing.assert_close(outputs, expected)
    slopes = torch.autograd.grad(outputs.square().sum(), [images, *lenet.parameters()])
    torch.testing.assert_close(slopes, torch.autograd.grad(expected.square().sum(), [plain, *parameters]))


def test_linear_is_a_product_with_theta() -> None:
    encoder = build_encoder(config.Linear(kind="linear"), (4,), F64, 0)
    assert [p.tolist() for p in encoder.parameters()] == [[[0.0] * 4]]
    images = build_encoder(config.Linear(kind="linear", bias=True, initial="default", outputs=5), (2, 3), F32, 0)
    assert (size(images), output_shape(images, (2, 3), F32)) == (35, (5,))


def test_mlp_ends_in_a_relu() -> None:
    encoder = build_encoder(config.Mlp(kind="mlp", hidden=(7, 6), width=5), (2, 2), F64, 0)
    assert size(encoder) == 4 * 7 + 7 + 7 * 6 + 6 + 6 * 5 + 5
    assert bool((encoder(torch.randn(9, 2, 2, dtype=F64)) >= 0).all())


def test_initialisation_depends_on_the_seed_alone() -> None:
    def first(seed: int) -> Tensor:
        return next(build_encoder(config.Mlp(kind="mlp"), (4,), F32, seed).parameters()).detach()

    torch.manual_seed(1)
    a, drawn = first(3), torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    assert torch.equal(first(3), a)
    assert not torch.equal(first(4), a)


def test_your_own_class_with_its_arguments() -> None:
    encoder = build_encoder(custom("Good", width=6), (4,), F64, 0)
    assert output_shape(encoder, (4,), F64) == (6,)
    assert {p.dtype for p in encoder.parameters()} == {F64}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Normed", "layer layer.1 is a BatchNorm1d, which mixes samples"),
        ("Dropped", "layer layer.1 is a Dropout, which is random"),
        ("Centred", "depends on the others in the batch"),
        ("Leaking", "depends on the others in the batch"),
        ("Noisy", "equal features give different outputs"),
        ("Counting", "changes a buffer"),
        ("Flat", r"3 samples give an output of shape \[3\]"),
        ("Broken", "not finite"),
        ("Pair", "its output is a tuple"),
        ("Deaf", "do not depend on its parameters"),
        ("Bare", "no parameters"),
        ("NotAModule", r"is not a torch.nn.Module class"),
        ("Missing", "has no class 'Missing'"),
    ],
)
def test_unfit_encoders_are_refused_with_one_line(name: str, reason: str) -> None:
    with pytest.raises(EncoderError, match=reason) as caught:
        build_encoder(custom(name), (4,), F64, 0)
    assert "\n" not in str(caught.value)


def test_a_module_or_argument_that_does_not_exist() -> None:
    with pytest.raises(EncoderError, match="cannot import nowhere: ModuleNotFoundError"):
        build_encoder(config.Custom(kind="nowhere:Net"), (4,), F32, 0)
    with pytest.raises(EncoderError, match=r"its constructor failed with \{'depth': 2\}: TypeError"):
        build_encoder(custom("Good", depth=2), (4,), F32, 0)


def test_features_that_do_not_fit_are_named_with_their_shape() -> None:
    with pytest.raises(EncoderError, match=r"shape \[1, 8, 8\]; it takes \[C, 28, 28\]"):
        build_encoder(config.Lenet(kind="lenet"), (1, 8, 8), F32, 0)
    with pytest.raises(EncoderError, match=r"features of shape \[5\] do not fit"):
        build_encoder(custom("Good"), (5,), F32, 0)
