import math

import pytest
import torch

from edge_server import config
from edge_server.build import build_domain, build_outer
from edge_server.domains import Ball, Box, Free
from edge_server.outer import OuterLoop, ServedMean


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def path(rule: str | float, *stars: float) -> list[float]:
    cfg = {"rule": {"step": rule} if isinstance(rule, float) else rule}
    loop, starts = build_outer(config.Meta.model_validate(cfg), tensor(1.0)), []
    for star in stars:
        loop = loop.next(tensor(star))
        starts.append(loop.x.item())
    return starts


def test_the_four_rules() -> None:
    assert path("running_mean", 4.0, 2.0, 0.0) == pytest.approx([4.0, 3.0, 2.0])
    assert path("continue", 4.0, 2.0) == [4.0, 2.0]
    assert path("scratch", 4.0, 2.0) == [1.0, 1.0]
    assert path(0.5, 4.0, 2.0) == pytest.approx([2.5, 2.25])


def test_the_domain_holds_the_start_and_every_step() -> None:
    loop = build_outer(config.Meta(domain=config.Box(box=0.5)), torch.tensor([3.0, -0.25]))
    assert loop.x.tolist() == [0.5, -0.25]
    assert loop.next(tensor(-9.0, 0.0)).x.tolist() == [-0.5, 0.0]
    assert OuterLoop("continue", Box(1.0), tensor(0.0)).next(tensor(2.0)).x.item() == 1.0


def test_state_is_float64_and_never_aliases_the_model() -> None:
    model = torch.tensor([1.0])
    loop = build_outer(config.Meta(), model)
    model.fill_(5.0)
    assert (loop.x.dtype, loop.x.item(), loop.t) == (torch.float64, 1.0, 0)
    assert loop.next(model).t == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", ["running_mean", "scratch"])
def test_a_target_that_is_not_finite_is_an_error(rule: str, bad: float) -> None:
    loop = build_outer(config.Meta.model_validate({"rule": rule}), tensor(1.0, 2.0))
    with pytest.raises(FloatingPointError, match=r"after round 0: 1 of 2 parameters"):
        loop.next(tensor(0.0, bad))
    assert loop.x.tolist() == [1.0, 2.0]


def test_served_mean() -> None:
    theta = torch.tensor([1.0, 2.0])
    mean = ServedMean().add(theta)
    theta.fill_(3.0)
    assert mean.add(theta).mean().tolist() == [2.0, 2.5]
    with pytest.raises(ValueError, match="at least one slot"):
        ServedMean().mean()


def test_build_domain() -> None:
    assert build_domain("none") == Free()
    assert build_domain(config.Box(box=2.0)) == Box(2.0)
    assert build_domain(config.Ball(ball=3.0)) == Ball(3.0)
